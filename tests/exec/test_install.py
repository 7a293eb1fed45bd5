"""podrail install and uninstall: what is put where, what is left alone, and what comes back."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni.cli.install.runtime import directories
from cni.protocol.registry import TYPES
from tests.support.world import GO_BIN, Answer, World, rail, run


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def podrail(world: World, *arguments: str | Path) -> Answer:
    command = ["ip", "netns", "exec", world.host.name, world.bin / "podrail", *arguments]
    done = subprocess.run(command, env=world.environment(""), capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return Answer(done.returncode, done.stdout, done.stderr)


def installed(world: World, bin_dir: Path, *arguments: str | Path) -> str:
    answer = podrail(world, "install", "--bin-dir", bin_dir, *arguments)
    assert answer.status == 0, answer
    return answer.stdout


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_plugin_is_installed_and_answers(world: World, bin_dir: Path) -> None:
    installed(world, bin_dir)
    assert names(bin_dir) == set(TYPES)
    for name in TYPES:
        answer = World(world.host, world.sandbox, world.state, bin=bin_dir).call("VERSION", b"", plugin=name)
        assert "1.1.0" in answer.json["supportedVersions"]
        assert (bin_dir / name).stat().st_mode & 0o777 == 0o755


def test_a_second_installation_changes_nothing(world: World, bin_dir: Path) -> None:
    installed(world, bin_dir)
    before = {path: (path.stat().st_ino, path.stat().st_ctime_ns) for path in bin_dir.iterdir()}
    assert installed(world, bin_dir).count("in place already") == len(TYPES)
    assert {path: (path.stat().st_ino, path.stat().st_ctime_ns) for path in bin_dir.iterdir()} == before


def test_a_file_of_another_make_stops_the_installation_before_it_begins(world: World, bin_dir: Path) -> None:
    run("cp", GO_BIN / "static", bin_dir / "static")
    answer = podrail(world, "install", "--bin-dir", bin_dir)
    assert answer.status == 1
    assert f"{bin_dir / 'static'}: another make's" in answer.stderr
    assert "--prefix podrail-" in answer.stderr
    assert "--replace" in answer.stderr
    assert names(bin_dir) == {"static"}
    assert world.records() == []


def test_a_replaced_file_comes_back(world: World, bin_dir: Path) -> None:
    run("cp", GO_BIN / "static", bin_dir / "static")
    original = (bin_dir / "static").read_bytes()
    installed(world, bin_dir, "--replace")
    installed(world, bin_dir, "--replace")
    assert (bin_dir / "static").read_bytes() != original
    assert podrail(world, "uninstall").status == 0
    assert names(bin_dir) == {"static"}
    assert (bin_dir / "static").read_bytes() == original
    assert world.records() == []


def test_names_of_our_own_work_in_every_configuration(world: World, bin_dir: Path) -> None:
    run("cp", GO_BIN / "macvlan", bin_dir / "macvlan")
    installed(world, bin_dir, "--prefix", "podrail-")
    assert names(bin_dir) == {"macvlan"} | {f"podrail-{name}" for name in TYPES}
    there = World(world.host, world.sandbox, world.state, bin=bin_dir, path=str(bin_dir))
    there.host.add_veth("eth0")
    ipam = {"type": "podrail-whereabouts", "range": "10.1.0.0/24"}
    conf = rail(type="podrail-macvlan", ipam=ipam)
    result = there.add(conf)
    assert result["ips"][0]["address"] == "10.1.0.1/24"
    assert there.call("CHECK", {**conf, "prevResult": result}).status == 0
    there.delete(conf)
    assert podrail(world, "uninstall").status == 0
    assert names(bin_dir) == {"macvlan"}


@pytest.fixture
def mounted(bin_dir: Path) -> Iterator[Path]:
    """The directory as a file system of its own."""
    run("mount", "-t", "tmpfs", "tmpfs", bin_dir)
    yield bin_dir
    run("umount", bin_dir)


def test_a_read_only_directory_that_is_right_already_is_accepted(world: World, mounted: Path) -> None:
    installed(world, mounted)
    run("mount", "-o", "remount,ro", mounted)
    assert installed(world, mounted).count("in place already") == len(TYPES)


def test_a_read_only_directory_is_told(world: World, mounted: Path) -> None:
    run("mount", "-o", "remount,ro", mounted)
    answer = podrail(world, "install", "--bin-dir", mounted)
    assert answer.status == 1
    assert "Read-only file system" in answer.stderr


def test_what_cannot_be_executed_is_not_installed(world: World, mounted: Path) -> None:
    run("mount", "-o", "remount,noexec", mounted)
    answer = podrail(world, "install", "--bin-dir", mounted)
    assert answer.status == 1
    assert "noexec" in answer.stderr
    assert names(mounted) == set()


def test_calls_that_run_meanwhile_all_answer(world: World, bin_dir: Path, tmp_path: Path) -> None:
    installed(world, bin_dir, "--types", "static")
    other = tmp_path / "other"
    other.write_bytes((bin_dir / "static").read_bytes() + b"\n")
    there = World(world.host, world.sandbox, world.state, bin=bin_dir)
    answers: list[Answer] = []

    def call() -> None:
        answers.append(there.call("VERSION", b"", plugin="static"))

    threads = [threading.Thread(target=call) for _ in range(50)]
    for index, thread in enumerate(threads):
        thread.start()
        if index % 10 == 0:  # each time another content
            client = ("--client", other) if index % 20 == 0 else ()
            installed(world, bin_dir, "--types", "static", *client)
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [0] * 50
    assert all("1.1.0" in answer.json["supportedVersions"] for answer in answers)


def network(folder: Path, **keys: Any) -> Path:
    path = folder / "10-rail.conflist"
    plugin = {"type": "macvlan", "master": "eth0", **keys}
    path.write_text(json.dumps({"cniVersion": "1.0.0", "name": "rail", "plugins": [plugin]}))
    return path


def test_a_network_is_installed_once_its_plugins_are_ready(
    world: World, bin_dir: Path, tmp_path: Path
) -> None:
    conf_dir = tmp_path / "net.d"
    conf_dir.mkdir()
    (conf_dir / "05-other.conf").write_text("{}")
    options = ("--conf", network(tmp_path), "--conf-dir", conf_dir, "--ready-within", "0")
    early = podrail(world, "install", "--bin-dir", bin_dir, *options)
    assert (early.status, names(conf_dir)) == (1, {"05-other.conf"})
    assert 'plugin "macvlan" is not ready' in early.stderr
    assert "eth0" in early.stderr
    world.host.add_veth("eth0")
    told = installed(world, bin_dir, *options)
    assert "05-other.conf sorts before it" in told
    assert json.loads((conf_dir / "10-rail.conflist").read_text())["name"] == "rail"
    assert podrail(world, "uninstall").status == 0
    assert (names(conf_dir), names(bin_dir)) == ({"05-other.conf"}, set())


def test_uninstall_refuses_while_there_are_attachments(world: World, bin_dir: Path) -> None:
    installed(world, bin_dir)
    world.host.add_veth("eth0")
    world.add(rail())
    answer = podrail(world, "uninstall")
    assert (answer.status, names(bin_dir)) == (1, set(TYPES))
    assert "1 attachments are left, such as net1 of container pod-1 on network rail" in answer.stderr
    assert podrail(world, "uninstall", "--wait", "0.1").status == 1
    world.delete(rail())
    assert podrail(world, "uninstall", "--wait", "30").status == 0
    assert names(bin_dir) == set()
    assert podrail(world, "uninstall").status == 0


CONTAINERD_2 = '[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "/x/bin"\nconf_dir = "/x/net.d"\n'
CONTAINERD_3 = (
    "[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/x/bin', '/y']\nconf_dir = '/x/net.d'\n"
)
CRIO = '[crio.network]\nnetwork_dir = "/x/net.d"\nplugin_dirs = ["/x/bin"]\n'


@pytest.mark.parametrize(
    ("file", "text"),
    [
        pytest.param("etc/containerd/config.toml", CONTAINERD_2, id="containerd-1"),
        pytest.param("etc/containerd/config.toml", CONTAINERD_3, id="containerd-2"),
        pytest.param("etc/crio/crio.conf", CRIO, id="cri-o"),
        pytest.param("etc/crio/crio.conf.d/10-net.conf", CRIO, id="a-fragment-of-cri-o"),
    ],
)
def test_the_runtime_is_asked_where_it_looks(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    found = directories(tmp_path)
    assert (str(found.binaries), str(found.networks)) == ("/x/bin", "/x/net.d")
    assert found.source == str(tmp_path / file)


@pytest.mark.parametrize("text", ["", "= broken", 'plugins = "none"'])
def test_without_a_word_of_the_runtime_the_usual_places_are_taken(tmp_path: Path, text: str) -> None:
    (tmp_path / "etc/containerd").mkdir(parents=True)
    (tmp_path / "etc/containerd/config.toml").write_text(text)
    found = directories(tmp_path)
    assert (str(found.binaries), str(found.networks)) == ("/opt/cni/bin", "/etc/cni/net.d")
