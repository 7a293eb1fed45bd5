"""Chains with Debian's plugins, both ways: theirs below ours, ours below theirs, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.cnitool import Cnitool
from tests.support.world import BIN, GO_BIN, Namespace, World, rail, static

MAC = "02:00:00:00:00:07"
IPS = static("10.1.0.5/24 via 10.1.0.1", routes=[{"dst": "0.0.0.0/0"}])
TUNING = {"type": "tuning", "mtu": 1400, "mac": MAC}
BRIDGE = {"cniVersion": "1.0.0", "name": "rail", "type": "bridge", "bridge": "br0", "ipam": IPS}


@pytest.fixture(autouse=True)
def _master(host: Namespace) -> None:
    if not (GO_BIN / "macvlan").exists():
        pytest.skip("not installed: Debian's containernetworking-plugins; ./dev test installs it")
    host.add_veth("eth0")


@pytest.fixture
def cnitool(world: World, tmp_path: Path) -> Cnitool:
    return Cnitool(world, tmp_path)


def _everything(world: World) -> tuple[str, str, list[Path]]:
    return world.host.snapshot(), world.sandbox.snapshot(), world.records()


# -- Debian's host-local below our macvlan ---------------------------------------------------------


def _host_local(folder: Path) -> dict[str, Any]:
    return {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]], "dataDir": str(folder / "leases")}


def _leases(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("leases/rail/10.*"))


def test_host_local_gives_our_macvlan_an_address_and_gets_it_back(cnitool: Cnitool) -> None:
    before = _everything(cnitool.world)
    cnitool.configure(rail(ipam=_host_local(cnitool.folder)))
    result = cnitool.add()
    assert result["ips"] == [{"interface": 0, "address": "10.1.0.2/24", "gateway": "10.1.0.1"}]
    assert cnitool.world.sandbox.addresses("net1") == ["10.1.0.2/24"]
    assert _leases(cnitool.folder) == ["10.1.0.2"]
    cnitool.check()
    cnitool.delete()
    assert _everything(cnitool.world) == before
    assert _leases(cnitool.folder) == []


def test_host_local_that_lost_its_lease_fails_our_check(cnitool: Cnitool) -> None:
    cnitool.configure(rail(ipam=_host_local(cnitool.folder)))
    cnitool.add()
    (cnitool.folder / "leases/rail/10.1.0.2").unlink()
    assert "host-local: Failed to find address added by container pod-1" in cnitool.fails("check")


def test_host_local_that_does_not_know_the_version_holds_nothing(world: World, tmp_path: Path) -> None:
    before = _everything(world)
    newer = rail(cniVersion="1.1.0", ipam=_host_local(tmp_path))
    assert world.refused("ADD", newer)["code"] == 1
    assert _everything(world) == before
    world.delete(newer)
    world.add({**newer, "cniVersion": "1.0.0"})
    world.delete(newer)  # the configuration was changed meanwhile: what ADD said counts
    assert (_everything(world), _leases(tmp_path)) == (before, [])


@pytest.mark.parametrize("netns", ["", "/run/netns/gone"], ids=["no-path-is-given", "its-path-is-gone"])
def test_host_local_gets_its_address_back_without_the_sandbox(
    world: World, tmp_path: Path, netns: str
) -> None:
    conf = rail(ipam=_host_local(tmp_path))
    world.add(conf)
    world.sandbox.delete()
    world.delete(conf, CNI_NETNS=netns)
    assert (_leases(tmp_path), world.records()) == ([], [])


def test_host_local_without_a_free_address_leaves_no_interface(world: World, tmp_path: Path) -> None:
    world.sandbox.without_link_local()  # whose detection would end while this looks on
    ranges = [[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.2"}]]
    conf = rail(ipam=_host_local(tmp_path) | {"ranges": ranges})
    world.add(conf, CNI_CONTAINERID="another", CNI_IFNAME="net0")
    before = _everything(world)
    assert "no IP addresses available in range set: 10.1.0.2-10.1.0.2" in world.refused("ADD", conf)["msg"]
    assert _everything(world) == before
    assert _leases(tmp_path) == ["10.1.0.2"]


# -- our static below Debian's plugins -------------------------------------------------------------


@pytest.fixture(params=["macvlan", "bridge"])
def theirs(world: World, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A Go plugin's configuration, in a world where it finds our static only."""
    world.bin, world.path = GO_BIN, str(BIN)
    return rail(ipam=IPS) if request.param == "macvlan" else BRIDGE


@pytest.mark.parametrize("version", ["0.2.0", "0.3.1", "0.4.0", "1.0.0"])
def test_our_static_gives_a_go_plugin_its_address(world: World, theirs: dict[str, Any], version: str) -> None:
    conf = theirs | {"cniVersion": version}
    result = world.add(conf)
    told = result["ip4"]["ip"] if version == "0.2.0" else result["ips"][0]["address"]
    assert [told] == world.sandbox.addresses("net1") == ["10.1.0.5/24"]
    assert [route["gateway"] for route in world.sandbox.routes("default")] == ["10.1.0.1"]
    if version in ("0.4.0", "1.0.0"):
        assert world.call("CHECK", conf | {"prevResult": result}).status == 0
    world.delete(conf)
    assert set(world.sandbox.links()) == {"lo"}


def test_error_of_our_static_comes_through_a_go_plugin(world: World, theirs: dict[str, Any]) -> None:
    answer = world.call("ADD", theirs | {"ipam": static("10.1.0.5")})
    assert (answer.status, answer.code) == (1, 7), answer
    assert "ipam.addresses[0].address" in answer.json["msg"]
    assert '"10.1.0.5" has no prefix length' in answer.json["details"]


# -- one after the other ---------------------------------------------------------------------------


def test_tuning_may_change_what_our_macvlan_made(cnitool: Cnitool) -> None:
    before = _everything(cnitool.world)
    cnitool.configure(rail(ipam=IPS), TUNING)
    result = cnitool.add()
    link = cnitool.world.sandbox.link("net1")
    assert (link["mtu"], link["address"]) == (1400, MAC)
    assert [interface["mac"] for interface in result["interfaces"]] == [MAC]
    answer = cnitool.call("check", "rail", cnitool.world.sandbox.path)
    assert (answer.status, answer.stdout) == (0, ""), answer
    assert "the MTU of net1 is 1400, not 1500" in answer.stderr
    cnitool.delete()
    assert _everything(cnitool.world) == before


def test_device_that_tuning_changed_comes_home_as_it_was(cnitool: Cnitool) -> None:
    def device() -> dict[str, Any]:
        link = cnitool.world.host.link("eth0")
        return {key: link[key] for key in ("ifindex", "address", "mtu", "flags")}

    before = device()
    cnitool.configure({"type": "host-device", "device": "eth0", "ipam": IPS}, TUNING)
    cnitool.add()
    link = cnitool.world.sandbox.link("net1")
    assert (link["mtu"], link["address"]) == (1400, MAC)
    cnitool.check()
    cnitool.delete()
    assert device() == before
    assert cnitool.world.records() == []


def test_mac_that_changes_behind_tunings_back_fails_our_check(cnitool: Cnitool) -> None:
    cnitool.configure(rail(ipam=IPS), {"type": "tuning", "mtu": 1400})
    cnitool.add()
    cnitool.world.sandbox.ip("link", "set", "net1", "address", MAC)
    assert f"its MAC is {MAC}, ADD answered" in cnitool.fails("check")
    cnitool.delete()
    assert set(cnitool.world.sandbox.links()) == {"lo"}


def test_tuning_that_fails_leaves_our_macvlan_to_the_runtimes_delete(cnitool: Cnitool) -> None:
    before = _everything(cnitool.world)
    cnitool.configure(rail(ipam=IPS), {"type": "tuning", "mtu": 9000})
    assert "tuning" in cnitool.fails("add")
    cnitool.delete()
    assert _everything(cnitool.world) == before


def test_sbr_may_move_our_routes_to_another_table(cnitool: Cnitool) -> None:
    before = _everything(cnitool.world)
    cnitool.configure(rail(ipam=IPS), {"type": "sbr"})
    cnitool.add()
    assert cnitool.world.sandbox.routes("default") == []
    moved = {route["dst"]: route.get("gateway") for route in cnitool.world.sandbox.routes("table", "100")}
    assert moved["default"] == "10.1.0.1"
    cnitool.check()
    cnitool.delete()
    assert _everything(cnitool.world) == before


def test_result_of_bridge_stays_when_our_macvlan_follows(world: World) -> None:
    """As Multus and others do: another interface of the same container, with what came before."""
    world.bin = GO_BIN
    first = world.add(BRIDGE, CNI_IFNAME="eth0")
    world.bin = BIN
    conf = rail(mac=MAC, ipam=static("10.2.0.5/24"), prevResult=first)
    result = world.add(conf)
    ours = {"name": "net1", "mac": MAC, "sandbox": world.sandbox.path}
    assert result["interfaces"] == [*first["interfaces"], ours]
    assert result["ips"] == [*first["ips"], {"address": "10.2.0.5/24", "interface": 3}]
    assert result["routes"] == first["routes"]
    assert world.call("CHECK", conf | {"prevResult": result}).status == 0
    world.delete(conf | {"prevResult": result})
    assert set(world.sandbox.links()) == {"lo", "eth0"}


def test_interface_of_bridge_is_not_taken_by_our_macvlan_after_it(cnitool: Cnitool) -> None:
    """A list has one interface name, which two interfaces cannot have."""
    cnitool.configure(BRIDGE, rail(ipam=static("10.2.0.5/24")))
    told = cnitool.fails("add")
    assert 'the sandbox already has an interface "net1"' in told
    assert cnitool.world.sandbox.link("net1")["linkinfo"]["info_kind"] == "veth"
    assert cnitool.world.sandbox.addresses("net1") == ["10.1.0.5/24"]
    answer = cnitool.world.call("DEL", rail())
    assert (answer.status, "net1" in cnitool.world.sandbox.links()) == (0, True), answer
    cnitool.delete()
    assert set(cnitool.world.sandbox.links()) == {"lo"}
