"""podrail install and uninstall: what is put where, what is left alone, and what comes back."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni.cli.install.runtime import directories
from cni.protocol.registry import TYPES
from tests.support.client import STATIC, built
from tests.support.sysfs_tree import SysfsTree
from tests.support.world import BIN, GO_BIN, Answer, World, rail, run


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


@pytest.mark.parametrize("make", ["script", "static-client"])
def test_calls_that_run_meanwhile_all_answer(world: World, bin_dir: Path, tmp_path: Path, make: str) -> None:
    one = built(STATIC) if make == "static-client" else BIN / "static"
    other = tmp_path / "other"
    other.write_bytes(one.read_bytes() + b"\n")
    installed(world, bin_dir, "--types", "static", "--client", one)
    there = World(world.host, world.sandbox, world.state, bin=bin_dir)
    answers: list[Answer] = []

    def call() -> None:
        answers.append(there.call("VERSION", b"", plugin="static"))

    threads = [threading.Thread(target=call) for _ in range(50)]
    for index, thread in enumerate(threads):
        thread.start()
        if index % 10 == 0:  # each time another content
            installed(world, bin_dir, "--types", "static", "--client", one if index % 20 else other)
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [0] * 50
    assert all("1.1.0" in answer.json["supportedVersions"] for answer in answers)


def test_all_are_put_in_place_or_none(world: World, bin_dir: Path, tmp_path: Path) -> None:
    installed(world, bin_dir)
    before = {path: path.read_bytes() for path in bin_dir.iterdir()}
    broken = tmp_path / "broken"
    versions = '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}'
    broken.write_text(f"#!/bin/sh\ncase $0 in *whereabouts*) exit 1 ;; esac\necho '{versions}'\n")
    answer = podrail(world, "install", "--bin-dir", bin_dir, "--client", broken)
    assert answer.status == 1
    assert "whereabouts does not answer VERSION" in answer.stderr
    assert {path: path.read_bytes() for path in bin_dir.iterdir()} == before


@pytest.mark.parametrize("is_on", [True, False])
def test_where_selinux_is_on_executables_are_labelled_as_such(
    world: World, bin_dir: Path, tmp_path: Path, is_on: bool
) -> None:
    """STAND-IN: a drawn /sys says that it is on; the label is real, and nobody enforces it."""
    tree = SysfsTree(tmp_path / "sys")
    (tree.root / "fs/selinux").mkdir(parents=True)
    if is_on:
        (tree.root / "fs/selinux/enforce").write_text("1")
    with tree.in_place_of_sys():
        command = [BIN / "podrail", "install", "--bin-dir", bin_dir, "--types", "static"]
        subprocess.run(command, env=world.environment(""), check=True)
    labels = [name for name in os.listxattr(bin_dir / "static") if name == "security.selinux"]
    assert labels == (["security.selinux"] if is_on else [])


def test_a_link_that_leads_nowhere_is_another_makes(world: World, bin_dir: Path) -> None:
    (bin_dir / "macvlan").symlink_to("/nowhere/macvlan")
    assert podrail(world, "install", "--bin-dir", bin_dir).status == 1
    installed(world, bin_dir, "--replace")
    assert podrail(world, "uninstall").status == 0
    assert names(bin_dir) == {"macvlan"}
    assert (bin_dir / "macvlan").readlink() == Path("/nowhere/macvlan")


def test_the_latest_file_of_another_make_comes_back(world: World, bin_dir: Path, tmp_path: Path) -> None:
    """Its package was updated over ours; then podrail was put in its place again."""
    run("cp", GO_BIN / "static", bin_dir / "static")
    installed(world, bin_dir, "--replace")
    later = tmp_path / "later"
    later.write_bytes((GO_BIN / "static").read_bytes() + b"later")
    run("mv", later, bin_dir / "static")
    assert podrail(world, "install", "--bin-dir", bin_dir).status == 1
    installed(world, bin_dir, "--replace")
    installed(world, bin_dir, "--replace")
    assert podrail(world, "uninstall").status == 0
    assert (bin_dir / "static").read_bytes().endswith(b"later")
    assert names(bin_dir) == {"static"}


def test_what_is_installed_is_brought_up_to_date(world: World, bin_dir: Path, tmp_path: Path) -> None:
    """After an upgrade: clients, scripts, and one that another make has replaced meanwhile."""
    older = tmp_path / "older"
    older.write_bytes(built(STATIC).read_bytes() + b"older")
    installed(world, bin_dir, "--types", "macvlan,static", "--client", older)
    installed(world, bin_dir, "--types", "sriov", "--prefix", "podrail-")
    (bin_dir / "podrail-sriov").write_bytes((BIN / "sriov").read_bytes() + b"# older\n")
    run("cp", GO_BIN / "static", bin_dir / "other")
    run("mv", bin_dir / "other", bin_dir / "static")
    assert "--client" in podrail(world, "install", "--refresh").stderr
    answer = podrail(world, "install", "--refresh", "--client", built(STATIC))
    assert answer.status == 0, answer
    assert f"{bin_dir / 'static'}: left alone: it is another make's" in answer.stdout
    assert (bin_dir / "macvlan").read_bytes() == built(STATIC).read_bytes()
    assert (bin_dir / "podrail-sriov").read_bytes() == (BIN / "sriov").read_bytes()
    assert names(bin_dir) == {"macvlan", "static", "podrail-sriov"}


def test_two_installations_at_once_are_both_remembered(world: World, tmp_path: Path) -> None:
    folders = [tmp_path / f"bin{number}" for number in range(4)]
    threads = [
        threading.Thread(target=installed, args=(world, each, "--types", "static")) for each in folders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [names(each) for each in folders] == [{"static"}] * 4
    assert podrail(world, "uninstall").status == 0
    assert [names(each) for each in folders] == [set()] * 4


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


@pytest.fixture
def attached(world: World, bin_dir: Path, tmp_path: Path) -> Path:
    """An installation with a network and a pod that is attached; the network's file."""
    world.host.add_veth("eth0")
    conf_dir = tmp_path / "net.d"
    installed(world, bin_dir, "--conf", network(tmp_path), "--conf-dir", conf_dir)
    world.add(rail())
    return conf_dir / "10-rail.conflist"


@pytest.mark.parametrize("options", [(), ("--wait", "0.1")])
def test_an_uninstall_that_refuses_has_changed_nothing(
    world: World, bin_dir: Path, attached: Path, options: tuple[str, ...]
) -> None:
    before = attached.read_text()
    answer = podrail(world, "uninstall", *options)
    assert (answer.status, names(bin_dir)) == (1, set(TYPES))
    assert "1 attachment is left, such as net1 of container pod-1 on network rail" in answer.stderr
    assert (names(attached.parent), attached.read_text()) == ({attached.name}, before)
    world.delete(rail())
    assert podrail(world, "uninstall").status == 0
    assert (names(bin_dir), names(attached.parent)) == (set(), set())
    assert podrail(world, "uninstall").status == 0


def test_an_uninstall_that_waits_lets_no_new_pod_in(world: World, bin_dir: Path, attached: Path) -> None:
    command = ["ip", "netns", "exec", world.host.name, world.bin / "podrail", "uninstall", "--wait", "60"]
    process = subprocess.Popen(command, env=world.environment(""), stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == f"{attached}: removed\n"
    assert [path.suffix for path in attached.parent.iterdir()] == [".withdrawn"]  # which no runtime reads
    assert names(bin_dir) == set(TYPES)
    world.delete(rail())
    process.communicate()
    assert process.returncode == 0
    assert (names(bin_dir), names(attached.parent)) == (set(), set())


def test_an_uninstall_that_was_killed_while_it_waited_is_done_by_the_next(
    world: World, bin_dir: Path, attached: Path
) -> None:
    attached.rename(attached.with_name(f".{attached.name}.withdrawn"))
    assert podrail(world, "uninstall").status == 1
    world.delete(rail())
    assert podrail(world, "uninstall", "--wait", "1").status == 0
    assert (names(bin_dir), names(attached.parent)) == (set(), set())


def test_kept_deletes_are_told_by_an_uninstall_that_refuses(world: World, attached: Path) -> None:
    queue = world.state / "queue"
    queue.mkdir()
    (queue / "1700000000-1").write_bytes(b"")
    assert "1 DELs are kept for a node daemon" in podrail(world, "uninstall").stderr


def test_a_network_of_somebody_else_stops_the_installation_and_comes_back(
    world: World, bin_dir: Path, tmp_path: Path
) -> None:
    world.host.add_veth("eth0")
    conf_dir = tmp_path / "net.d"
    conf_dir.mkdir()
    theirs = conf_dir / "10-rail.conflist"
    theirs.write_text('{"name": "theirs"}')
    options = ("--conf", network(tmp_path), "--conf-dir", conf_dir)
    answer = podrail(world, "install", "--bin-dir", bin_dir, *options)
    assert (answer.status, names(bin_dir)) == (1, set())
    assert f"{theirs}: another make's" in answer.stderr
    for _ in range(2):
        installed(world, bin_dir, "--replace", *options)
        assert json.loads(theirs.read_text())["name"] == "rail"
    network(tmp_path, mtu=1400)
    installed(world, bin_dir, *options)  # ours may be changed
    assert podrail(world, "uninstall").status == 0
    assert (names(conf_dir), theirs.read_text()) == ({theirs.name}, '{"name": "theirs"}')


def test_a_directory_of_networks_is_followed(world: World, bin_dir: Path, tmp_path: Path) -> None:
    """As a ConfigMap is mounted: links into a directory, and names that runtimes do not read."""
    world.host.add_veth("eth0")
    conf_dir, data, mounted = (tmp_path / name for name in ("net.d", "..data", "mounted"))
    for folder in (conf_dir, data, mounted):
        folder.mkdir()
    for name in ("10-a.conflist", "20-b.conflist"):
        network(data).rename(data / name)
        (mounted / name).symlink_to(data / name)
    (mounted / "notes.txt").write_text("")
    (conf_dir / "15-theirs.conf").write_text("{}")
    options = ("--conf-from", mounted, "--conf-dir", conf_dir)
    installed(world, bin_dir, *options)
    assert names(conf_dir) == {"10-a.conflist", "15-theirs.conf", "20-b.conflist"}
    (mounted / "20-b.conflist").unlink()
    told = installed(world, bin_dir, *options)
    assert f"{conf_dir / '20-b.conflist'}: removed" in told
    assert names(conf_dir) == {"10-a.conflist", "15-theirs.conf"}
    assert podrail(world, "uninstall").status == 0
    assert names(conf_dir) == {"15-theirs.conf"}


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
        pytest.param("var/lib/rancher/k3s/agent/etc/containerd/config.toml", CONTAINERD_2, id="k3s"),
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


def test_a_later_file_wins_key_by_key(tmp_path: Path) -> None:
    files = {
        "etc/containerd/config.toml": 'imports = ["/etc/containerd/conf.d/*.toml", "own.toml"]\n'
        + CONTAINERD_2,
        "etc/containerd/conf.d/10.toml": CONTAINERD_3.replace("/x/bin", "/z/bin").replace(
            "conf_dir", "other"
        ),
        "etc/containerd/own.toml": "version = 2\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = directories(tmp_path)
    assert (str(found.binaries), str(found.networks)) == ("/z/bin", "/x/net.d")
    assert found.source == str(tmp_path / "etc/containerd/conf.d/10.toml")


def test_the_last_fragment_of_cri_o_wins(tmp_path: Path) -> None:
    folder = tmp_path / "etc/crio/crio.conf.d"
    folder.mkdir(parents=True)
    (folder / "00-default").write_text(CRIO)
    (folder / "10-own.conf").write_text('[crio.network]\nplugin_dirs = ["/last", "/x"]\n')
    found = directories(tmp_path)
    assert (str(found.binaries), str(found.networks)) == ("/last", "/x/net.d")


@pytest.mark.parametrize("text", ["", "= broken", 'plugins = "none"', 'imports = "none"', "imports = [1]"])
def test_without_a_word_of_the_runtime_the_usual_places_are_taken(tmp_path: Path, text: str) -> None:
    (tmp_path / "etc/containerd").mkdir(parents=True)
    (tmp_path / "etc/containerd/config.toml").write_text(text)
    found = directories(tmp_path)
    assert (str(found.binaries), str(found.networks)) == ("/opt/cni/bin", "/etc/cni/net.d")
