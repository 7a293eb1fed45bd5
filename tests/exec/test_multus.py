"""The multus executable: what it starts, and what it does without."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.cnitool import Cnitool
from tests.support.pods import Multus, StubPlugin
from tests.support.world import BIN, GO_BIN, Namespace, World, rail, static


@pytest.fixture
def multus(host: Namespace, sandbox: Namespace, tmp_path: Path) -> Multus:
    host.add_veth("eth0")
    sandbox.without_link_local()
    return Multus(World(host, sandbox, tmp_path / "state"), tmp_path / "multus")


def executed(multus: Multus, command: str, conf: dict[str, Any]) -> list[str]:
    """Call multus and return the programs that it starts."""
    log = multus.folder.parent / f"execve.{command}"
    world = multus.world
    tracer = ("strace", "-f", "-e", "trace=execve", "-o", str(log))
    subprocess.run(
        ["ip", "netns", "exec", world.host.name, *tracer, world.bin / "multus"],
        input=json.dumps(conf).encode(),
        env=world.environment(command, CNI_IFNAME="eth0"),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    _own, *others = re.findall(r'execve\("([^"]*)".* = 0$', log.read_text(), re.MULTILINE)
    return others


def test_plugins_of_ours_run_in_the_process_of_multus(multus: Multus) -> None:
    """Two plugins for each of eight networks, and none is a process."""
    conf = multus.conf(*(rail(name=f"rail{n}", ipam=static(f"10.{n}.0.5/24")) for n in range(8)))
    assert executed(multus, "ADD", conf) == []
    assert set(multus.world.sandbox.links()) == {"lo", "eth0", *(f"net{n}" for n in range(1, 8))}
    assert executed(multus, "DEL", conf) == []
    assert set(multus.world.sandbox.links()) == {"lo"}


def test_plugins_of_another_make_are_executed(multus: Multus) -> None:
    chain = {"cniVersion": "1.0.0", "name": "a", "plugins": [rail(), {"type": "tuning", "mtu": 1400}]}
    assert executed(multus, "ADD", multus.conf(chain)) == [f"{GO_BIN}/tuning"]
    assert multus.world.sandbox.link("eth0")["mtu"] == 1400


def test_pods_that_come_and_go_at_once_do_not_meet(multus: Multus) -> None:
    """Their caches share directories, which each makes and removes."""
    world = multus.world

    def come_and_go(number: int) -> None:
        conf = multus.conf(rail(name="first", ipam=static(f"10.{number}.0.5/24")))
        pod = {"CNI_CONTAINERID": f"pod-{number}", "CNI_IFNAME": f"eth{number}"}
        for _ in range(2):
            world.add(conf, **pod)
            world.delete(conf, **pod)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(1, 5)))
    assert set(world.sandbox.links()) == {"lo"}
    assert multus.files() == []


def test_a_runtimes_library_calls_multus_as_any_plugin(multus: Multus, tmp_path: Path) -> None:
    libcni = Cnitool(multus.world, tmp_path)
    libcni.configure(multus.conf(rail(name="first"), rail(name="second", ipam=static("10.2.0.5/24"))))
    pod = {"CNI_IFNAME": "eth0"}
    result = libcni.add(**pod)
    assert [ip["address"] for ip in result["ips"]] == ["10.1.0.5/24"]
    libcni.check(**pod)
    multus.world.sandbox.ip("link", "set", "net1", "down")
    assert 'net1 on network "second": ' in libcni.fails("check", **pod)
    libcni.delete(**pod)
    libcni.delete(**pod)
    assert set(multus.world.sandbox.links()) == {"lo"}
    assert multus.files() == []


@pytest.mark.parametrize(
    "blocked",
    [pytest.param((), id=""), pytest.param((signal.SIGTERM,), id="by-a-caller-that-blocks-the-signal")],
)
def test_an_add_that_is_stopped_undoes_what_it_did(
    multus: Multus, tmp_path: Path, blocked: tuple[signal.Signals, ...]
) -> None:
    """The second plugin of a chain hangs when the signal comes; it tells so by a FIFO."""
    stub = StubPlugin(tmp_path / "stub", "slow")
    os.mkfifo(stub.folder / "told")
    stub.does("ADD", "echo begun >told; exec sleep 1000")
    world = multus.world
    conf = multus.conf(rail(name="first"), stub.network("second"))
    environment = world.environment("ADD", CNI_IFNAME="eth0", CNI_PATH=f"{stub.folder}:{world.path}")
    before = world.sandbox.snapshot()
    with subprocess.Popen(
        ["ip", "netns", "exec", world.host.name, world.bin / "multus"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, blocked),
    ) as adding:
        assert adding.stdin
        assert adding.stdout
        adding.stdin.write(json.dumps(conf).encode())
        adding.stdin.close()
        assert (stub.folder / "told").read_text() == "begun\n"
        adding.send_signal(signal.SIGTERM)
        assert json.loads(adding.stdout.read())["msg"] == "ADD was stopped by SIGTERM"
        assert adding.wait() == 1
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]
    assert world.sandbox.snapshot() == before
    assert multus.files() == []


@pytest.mark.parametrize("option", ["-v", "-version", "--version"])
def test_its_version_can_be_asked_as_that_of_multus(option: str) -> None:
    done = subprocess.run([BIN / "multus", option], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"multus: version:\S+ commit:\S+ date:\S+\n", done.stdout)


def test_without_a_cluster_no_client_is_loaded(multus: Multus) -> None:
    """It takes 60 ms of CPU."""
    world = multus.world
    done = subprocess.run(
        [
            "ip",
            "netns",
            "exec",
            world.host.name,
            world.bin / "python",
            "-X",
            "importtime",
            world.bin / "multus",
        ],
        input=json.dumps(multus.conf(rail())).encode(),
        env=world.environment("ADD", CNI_IFNAME="eth0"),
        capture_output=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "cni.plugins.multus.store" in loaded
    assert not {"cni.kube.client", "ssl", "yaml", "subprocess", "cni.plugins.multus.kubelet"} & loaded
