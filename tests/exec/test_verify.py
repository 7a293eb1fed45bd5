"""podrail verify: each way in which journal, kernel and addresses can disagree is found, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cni.cli.verify.main import main
from tests.support.cnitool import Cnitool
from tests.support.command import called
from tests.support.pods import Multus
from tests.support.world import Namespace, WarmWorld, World, rail, run

POOLED = {"type": "whereabouts", "range": "10.2.0.0/29"}


@pytest.fixture
def world(host: Namespace, sandbox: Namespace, tmp_path: Path) -> World:
    """Three attachments: macvlan with a pool, macvlan with static addresses, a device."""
    for namespace in (host, sandbox):
        namespace.without_link_local()
    host.add_veth("eth0")
    host.add_veth("dev0")
    made = WarmWorld(host, sandbox, tmp_path / "state")
    made.add(rail(name="pooled", ipam=POOLED))
    made.add(rail(), CNI_IFNAME="net2")
    made.add(rail(name="device", type="host-device", device="dev0", ipam={}), CNI_IFNAME="net3")
    return made


def found(world: World, status: int = 1) -> list[dict[str, Any]]:
    done = called(world, main, "--json")
    assert (done.returncode, done.stderr) == (status, ""), done
    return list(json.loads(done.stdout)["findings"])


def checks(world: World, status: int = 1) -> list[tuple[str, str]]:
    return [(each["check"], each["about"]) for each in found(world, status)]


def test_what_is_as_add_left_it_is_no_drift(world: World) -> None:
    assert checks(world, 0) == []
    assert called(world, main).stdout == "nothing found\n"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param("link del net1", [("interface", "pod-1 net1")], id="gone"),
        pytest.param("link set net1 name other", [("interface-name", "pod-1 net1")], id="renamed"),
        pytest.param("link set net3 name other", [("interface-name", "pod-1 net3")], id="a-device-renamed"),
        pytest.param("link set net1 address 02:00:00:00:00:99", [("mac", "pod-1 net1")], id="mac"),
        pytest.param("link set net3 address 02:00:00:00:00:99", [("mac", "pod-1 net3")], id="a-devices-mac"),
        pytest.param("link set net2 mtu 1400", [("mtu", "pod-1 net2")], id="mtu"),
        pytest.param("link set net3 mtu 1400", [("mtu", "pod-1 net3")], id="mtu-of-a-device"),
        pytest.param("addr del 10.1.0.5/24 dev net2", [("address", "pod-1 net2")], id="static-address-gone"),
        pytest.param("addr del 10.2.0.1/29 dev net1", [("address", "pod-1 net1")], id="pool-address-gone"),
        pytest.param(
            "addr add 10.2.0.3/29 dev net1",
            [("address-unrecorded", "pod-1 net1")],
            id="one-of-the-pool",
        ),
        pytest.param("addr add 192.0.2.1/24 dev net1", [], id="an-address-of-the-pods-own-is-none"),
    ],
)
def test_a_change_in_the_sandbox_is_found(world: World, change: str, expected: list[tuple[str, str]]) -> None:
    if "name" in change:
        world.sandbox.ip("link", "set", change.split()[2], "down")
    world.sandbox.ip(*change.split())
    if "name" in change:
        world.sandbox.ip("link", "set", "other", "up")
    assert checks(world, int(bool(expected))) == expected


def test_an_interface_that_is_down_is_found(world: World) -> None:
    world.sandbox.ip("link", "set", "net2", "down")
    assert ("interface-down", "pod-1 net2") in checks(world)


def test_another_interface_of_the_same_name_is_told_apart(world: World) -> None:
    world.sandbox.ip("link", "del", "net2")
    world.sandbox.add_veth("net2")
    ((each),) = found(world)
    assert (each["check"], "another has its name" in each["message"]) == ("interface", True)


def test_a_sandbox_that_is_gone_is_found_for_each_attachment(world: World) -> None:
    world.sandbox.delete()
    assert checks(world) == [("sandbox", f"pod-1 net{number}") for number in (2, 1, 3)] or sorted(
        checks(world)
    ) == [("sandbox", f"pod-1 net{number}") for number in (1, 2, 3)]


def test_an_entry_that_is_gone_from_the_pool_is_found(world: World) -> None:
    (entry,) = world.state.glob("ipam/pools/*/addresses/*/10.2.0.1")
    entry.unlink()
    assert checks(world) == [
        ("address-unrecorded", "pod-1 net1"),
        ("allocation-missing", "pod-1 net1"),
    ]


def test_an_entry_without_an_attachment_is_found(world: World) -> None:
    run("rm", "-r", world.state / "attachments" / "whereabouts")
    done = called(world, main, "--json", "--strict")
    ((each),) = json.loads(done.stdout)["findings"]
    assert (each["check"], each["about"], done.returncode) == (
        "allocation-orphan",
        "10.2.0.1 of 10.2.0.0/29",
        1,
    )
    assert called(world, main).returncode == 0, "a warning fails with --strict only"


def test_what_plugins_answered_to_multus_is_compared(world: World, tmp_path: Path) -> None:
    multus = Multus(world, tmp_path / "multus")
    conf = multus.conf(rail(name="main", ipam={"type": "static", "addresses": [{"address": "10.5.0.5/24"}]}))
    world.add(conf, CNI_CONTAINERID="pod-2", CNI_IFNAME="eth0")
    assert checks(world, 0) == []
    world.sandbox.ip("addr", "del", "10.5.0.5/24", "dev", "eth0")
    assert checks(world) == [("address", "pod-2 eth0")]


@pytest.mark.parametrize("version", ["0.2.0", "0.4.0", "1.0.0"])
def test_what_a_plugin_behind_it_changed_is_no_drift(
    host: Namespace, sandbox: Namespace, tmp_path: Path, version: str
) -> None:
    world = World(host, sandbox, tmp_path / "state")
    world.host.add_veth("eth0")
    cnitool = Cnitool(world, tmp_path)
    tuning = {"type": "tuning", "mac": "02:00:00:00:00:42", "mtu": 1400}
    cnitool.configure(rail(), tuning, version=version)
    cnitool.add()
    assert world.sandbox.link("net1")["address"] == "02:00:00:00:00:42"
    arguments = ("--json", "--cache-dir", str(cnitool.cache))
    done = called(world, main, *arguments)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"findings": []})
    world.sandbox.ip("addr", "del", "10.1.0.5/24", "dev", "net1")
    ((each),) = json.loads(called(world, main, *arguments).stdout)["findings"]
    assert each["check"] == "address"


@pytest.mark.parametrize("content", [b"", b"{}", b'{"result": 1}', b"[]", b'{"config": "x", "result": {}}'])
def test_a_damaged_cache_of_the_runtimes_counts_for_nothing(
    world: World, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "cache" / "results").mkdir(parents=True)
    (tmp_path / "cache" / "results" / "rail-pod-1-net2").write_bytes(content)
    done = called(world, main, "--json", "--cache-dir", str(tmp_path / "cache"))
    assert (done.returncode, json.loads(done.stdout)) == (0, {"findings": []})
