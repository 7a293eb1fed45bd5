"""host-device with cards that have a bus behind them: the kernel gives those back when a sandbox dies."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.devices import nic, told, words_missing
from tests.support.world import GO_BIN, Namespace, World, static
from tests.vm.conftest import Machine

# Two cards, each with two virtual functions.
CARD, OTHER_CARD = "0000:02:00.0", "0000:01:00.0"
MAC, OTHER_MAC = "02:00:00:00:02:00", "02:00:00:00:01:00"
VF, OTHER_VF = "0000:02:10.0", "0000:02:10.2"
NAMES = {OTHER_CARD: "eth0", CARD: "eth1", VF: "eth4", OTHER_VF: "eth5"}
SYS_PATH = "/sys/devices/pci0000:00/0000:00:11.0/0000:02:00.0"

CONF = nic(cniVersion="1.1.0", pciBusID=CARD)


def configure(host: Machine, address: str) -> str:
    """Give a device's interface all that it can have, and return what it looks like then."""
    name = NAMES[address]
    host.ip_all(
        f'link set {name} up mtu 1400 alias "the administrator\'s words"',
        f"link property add dev {name} altname enp-of-{address}",
        f"addr add 10.0.0.1/24 broadcast + label {name}:first dev {name}",
        f"addr add fd00::1/64 dev {name} nodad",
        f"addr add fd00::2/64 dev {name} nodad",
    )
    return told(host, "dev", name)


@pytest.fixture
def before(world: World, host: Machine) -> str:
    """What the card looks like before a test does anything."""
    return configure(host, CARD)


def lose(sandbox: Namespace, host: Machine, *addresses: str) -> None:
    """Delete a sandbox as a runtime would that calls no DEL, and wait for the kernel to do its part."""
    sandbox.delete()
    for address in addresses or (CARD,):
        host.until_home(address)


# -- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"pciBusID": CARD}, id="pci-address"),
        pytest.param({"runtimeConfig": {"deviceID": CARD}}, id="runtimes-pci-address"),
        pytest.param({"device": "eth1"}, id="name"),
        pytest.param({"device": f"enp-of-{CARD}"}, id="alternative-name"),
        pytest.param({"hwaddr": MAC}, id="mac"),
        pytest.param({"kernelpath": SYS_PATH}, id="kernel-path"),
    ],
)
def test_card_goes_and_comes_back_named_by_its(world: World, before: str, keys: dict[str, Any]) -> None:
    conf = nic(cniVersion="1.1.0", **keys)
    result = world.add(conf)
    knows_bus = "pciBusID" in keys or "runtimeConfig" in keys
    interface = {"name": "net1", "mac": MAC, "sandbox": world.sandbox.path}
    assert result["interfaces"] == [interface | ({"pciID": CARD} if knows_bus else {})]
    assert "eth1" not in world.host.links()
    assert world.sandbox.addresses("net1") == ["10.2.0.5/24"]
    assert world.call("CHECK", conf | {"prevResult": result}).status == 0
    world.delete(conf)
    assert told(world.host, "dev", "eth1") == before
    assert world.records() == []


def test_executable_does_it_too(world: World, before: str) -> None:
    called = World(world.host, world.sandbox, world.state)
    called.add(CONF)
    assert called.call("STATUS", CONF).status == 0
    called.delete(CONF)
    assert told(world.host, "dev", "eth1") == before


def test_virtual_function_goes_and_comes_back(world: World, host: Machine) -> None:
    before = configure(host, VF)
    conf = nic(cniVersion="1.1.0", runtimeConfig={"deviceID": VF})
    (interface,) = world.add(conf)["interfaces"]
    assert (interface["pciID"], interface["mac"]) == (VF, world.sandbox.link("net1")["address"])
    world.delete(conf)
    assert told(host, "dev", "eth4") == before


def test_card_that_a_pod_has_is_in_use_whatever_names_it(world: World, peer: Namespace) -> None:
    world.add(nic(device="eth1"), CNI_CONTAINERID="holder")
    for keys in ({"device": "eth1"}, {"hwaddr": MAC}, {"pciBusID": CARD}, {"kernelpath": SYS_PATH}):
        error = world.refused("ADD", nic(**keys), CNI_NETNS=peer.path, CNI_CONTAINERID="late")
        assert error["code"] == 104
        assert words_missing(error, ["net1 of container holder on network nic"]) == []
        assert world.call("STATUS", nic(cniVersion="1.1.0", **keys)).status == 0


# -- a sandbox that died --------------------------------------------------------------------------

RENAMED = ["link set net1 down name other"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([], id="as-add-left-it"),
        pytest.param(RENAMED, id="renamed"),
        pytest.param(["link set net1 address 02:00:00:00:00:99"], id="with-another-mac"),
        pytest.param(["link set net1 mtu 1200"], id="with-another-mtu"),
        pytest.param(["link set net1 alias other"], id="with-another-alias"),
        pytest.param(
            [*RENAMED, "link set other address 02:00:00:00:00:99 mtu 1200 alias x"],
            id="with-all-that-at-once",
        ),
    ],
)
def test_delete_restores_the_card_that_fell_back(
    world: World, host: Machine, before: str, changes: list[str]
) -> None:
    world.add(CONF)
    for change in changes:
        world.sandbox.ip(*change.split())
    lose(world.sandbox, host)
    assert "eth1" not in host.links()
    world.delete(CONF)
    assert told(host, "dev", "eth1") == before
    assert world.records() == []


def test_delete_does_not_wait_to_be_called_until_the_card_fell_back(
    world: World, host: Machine, before: str
) -> None:
    world.add(CONF)
    world.sandbox.delete()
    world.delete(CONF)
    assert told(host, "dev", "eth1") == before
    assert world.records() == []


def test_card_that_was_down_falls_back_and_is_restored_down(world: World, host: Machine) -> None:
    configure(host, CARD)
    host.ip("link", "set", "eth1", "down")
    before = told(host, "dev", "eth1")
    world.add(CONF)
    lose(world.sandbox, host)
    world.delete(CONF)
    assert told(host, "dev", "eth1") == before


def test_card_falls_back_under_a_name_of_the_kernels_if_the_pods_is_taken(
    world: World, host: Machine, before: str
) -> None:
    other = told(host, "dev", "eth0")
    world.add(CONF, CNI_IFNAME="eth0")
    lose(world.sandbox, host)
    assert host.until_home(CARD).name.startswith("dev")
    world.delete(CONF, CNI_IFNAME="eth0")
    assert told(host, "dev", "eth1") == before
    assert told(host, "dev", "eth0") == other


def test_card_whose_name_is_taken_meanwhile_keeps_the_one_it_fell_back_under(
    world: World, host: Machine, before: str
) -> None:
    world.add(CONF)
    lose(world.sandbox, host)
    host.ip("link", "set", "eth4", "down", "name", "eth1")
    answer = world.call("DEL", CONF)
    assert answer.status == 0
    assert 'the name "eth1" is taken on the host; the device is "net1" there' in answer.stderr
    assert told(host, "dev", "net1") == before.replace(": eth1:", ": net1:")
    assert world.records() == []


def test_add_restores_first_and_the_late_delete_touches_nothing(
    world: World, host: Machine, peer: Namespace, before: str
) -> None:
    first = world.sandbox
    world.add(CONF)
    world.sandbox.ip("link", "set", "net1", "mtu", "1200")
    lose(first, host)
    answer = world.call("ADD", CONF, CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    assert answer.status == 0
    assert "restores eth1, which net1 of container pod-1 on network nic left" in answer.stderr
    attached = told(peer)
    assert "mtu 1400" in attached
    world.delete(CONF)
    assert told(peer) == attached
    world.delete(CONF, CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    assert told(host, "dev", "eth1") == before


@pytest.mark.parametrize("way", [{"device": "eth1"}, {"hwaddr": MAC}, {"kernelpath": SYS_PATH}])
def test_card_that_fell_back_is_found_though_it_has_another_name_and_mac(
    world: World, host: Machine, peer: Namespace, before: str, way: dict[str, str]
) -> None:
    conf = nic(**way)
    world.add(conf)
    world.sandbox.ip("link", "set", "net1", "address", "02:00:00:00:00:99")
    lose(world.sandbox, host)
    assert world.call("STATUS", nic(cniVersion="1.1.0", **way)).status == 0
    (interface,) = world.add(conf, CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")["interfaces"]
    assert interface["mac"] == MAC
    world.delete(conf, CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    assert told(host, "dev", "eth1") == before


def test_gc_restores_the_card_that_fell_back(world: World, host: Machine, before: str) -> None:
    world.add(CONF)
    lose(world.sandbox, host)
    answer = world.call("GC", CONF | {"cni.dev/valid-attachments": []})
    assert (answer.status, answer.stdout) == (0, "")
    assert told(host, "dev", "eth1") == before
    assert world.records() == []


def test_functions_of_one_card_are_told_apart(world: World, host: Machine, peer: Namespace) -> None:
    """Both are called net1, so the second to fall back gets a name of the kernel's."""
    before = configure(host, VF), told(host, "dev", "eth5"), configure(host, CARD)
    confs = [nic(pciBusID=address, ipam={}) for address in (VF, OTHER_VF, CARD)]
    world.add(confs[0])
    world.add(confs[1], CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    world.add(confs[2], CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2", CNI_IFNAME="net2")
    lose(peer, host, OTHER_VF, CARD)
    lose(world.sandbox, host, VF)
    world.delete(confs[0])
    world.delete(confs[2], CNI_CONTAINERID="pod-2", CNI_NETNS=peer.path, CNI_IFNAME="net2")
    world.delete(confs[1], CNI_CONTAINERID="pod-2", CNI_NETNS=peer.path)
    assert (told(host, "dev", "eth4"), told(host, "dev", "eth5"), told(host, "dev", "eth1")) == before


# -- a card that is neither here nor there --------------------------------------------------------


@contextmanager
def held(sandbox: Namespace) -> Iterator[None]:
    """Keep a namespace alive by a process in it, though it will have no name any more."""
    command = ["ip", "netns", "exec", sandbox.name, "sh", "-c", "echo is in; read _"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"is in\n"
    try:
        yield
    finally:
        process.communicate(b"\n")


def test_card_in_a_namespace_that_a_process_keeps_is_not_forgotten(
    world: World, host: Machine, peer: Namespace, before: str
) -> None:
    world.add(CONF)
    with held(world.sandbox):
        world.sandbox.delete()
        error = world.refused("DEL", CONF)
        assert error["code"] == 11
        assert words_missing(error, ['"eth1"', CARD, "not back", "lsns"]) == []
        assert len(world.records()) == 1
        error = world.refused("ADD", CONF, CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
        assert error["code"] == 11
        assert words_missing(error, ["net1 of container pod-1 on network nic"]) == []
        assert world.call("STATUS", CONF).code == 50
    host.until_home(CARD)
    world.delete(CONF)
    assert told(host, "dev", "eth1") == before
    assert world.records() == []


def test_function_whose_driver_was_unbound_is_gone_and_delete_is_content(world: World, host: Machine) -> None:
    conf = nic(pciBusID=VF)
    world.add(conf)
    host.unbind(VF)
    answer = world.call("DEL", conf)
    assert answer.status == 0
    assert 'the device "eth4" is gone' in answer.stderr
    assert world.records() == []
    error = world.refused("ADD", conf)
    assert error["code"] == 7
    assert words_missing(error, [VF, "no driver"]) == []


def test_function_that_its_card_took_back_is_gone_and_delete_is_content(world: World, host: Machine) -> None:
    functions = Path("/sys/bus/pci/devices", CARD, "sriov_numvfs")
    conf = nic(pciBusID=VF)
    world.add(conf)
    functions.write_text("0")
    try:
        answer = world.call("DEL", conf)
    finally:
        functions.write_text("2")
    assert answer.status == 0
    assert 'the device "eth4" is gone' in answer.stderr
    assert world.records() == []


# -- drivers of user space ------------------------------------------------------------------------


def test_function_of_a_userspace_driver_is_reported_and_nothing_moved(world: World, host: Machine) -> None:
    host.bind(VF, "vfio-pci")
    conf = nic(cniVersion="1.1.0", runtimeConfig={"deviceID": VF})
    before = told(host), told(world.sandbox)
    result = world.add(conf)
    assert result == {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "net1", "sandbox": world.sandbox.path, "pciID": VF}],
        "ips": [{"interface": 0, "address": "10.2.0.5/24"}],
    }
    assert world.call("CHECK", conf | {"prevResult": result}).status == 0
    assert world.call("STATUS", conf).status == 0
    world.delete(conf)
    assert (told(host), told(world.sandbox)) == before
    assert world.records() == []


def test_userspace_function_is_not_taken_for_a_card_after_its_sandbox_died(
    world: World, host: Machine, peer: Namespace
) -> None:
    """It has no interface, so no interface on the host proves that it was given up."""
    host.bind(VF, "vfio-pci")
    function = nic(pciBusID=VF)
    world.add(function, CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    peer.delete()
    answer = world.call("ADD", CONF)
    assert (answer.status, answer.stderr) == (0, "")
    assert len(world.records()) == 2
    world.delete(CONF)
    world.delete(function, CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    assert world.records() == []


def test_function_that_was_rebound_while_it_was_attached_is_left_as_it_is(
    world: World, host: Machine
) -> None:
    conf = nic(pciBusID=VF)
    world.add(conf)
    host.bind(VF, "vfio-pci")
    answer = world.call("DEL", conf)
    assert answer.status == 0
    assert 'the device "eth4" is gone' in answer.stderr
    assert Path("/sys/bus/pci/devices", VF, "driver").resolve().name == "vfio-pci"


# -- links that ride on a card --------------------------------------------------------------------


@contextmanager
def a_vlan(host: Machine) -> Iterator[None]:
    host.ip("link", "add", "link", "eth1", "name", "rider", "type", "vlan", "id", "5")
    try:
        yield
    finally:
        host.ip("link", "del", "rider")


@contextmanager
def a_bond(host: Machine) -> Iterator[None]:
    host.ip("link", "add", "rider", "type", "bond", "mode", "active-backup")
    host.ip("link", "set", "eth1", "down", "master", "rider")
    try:
        yield
    finally:
        host.ip("link", "del", "rider")


@contextmanager
def a_bond_with_another_card(host: Machine) -> Iterator[None]:
    """Every port has the MAC of the first one; eth0 comes first in the kernel's list."""
    with a_bond(host):
        host.ip("link", "set", "eth0", "down", "master", "rider")
        yield


@pytest.mark.parametrize("riding", [a_vlan, a_bond, a_bond_with_another_card])
def test_mac_means_the_card_and_not(world: World, host: Machine, riding: Callable[[Machine], Any]) -> None:
    conf = nic(hwaddr=MAC)
    with riding(host):
        assert host.link("rider")["address"] == MAC
        world.add(conf)
        moved = world.sandbox.link("net1")
        assert moved.get("permaddr", moved["address"]) == MAC
        assert "eth1" not in host.links()
        world.delete(conf)
        assert host.until_home(CARD).name == "eth1"


def without_timers(text: str) -> str:
    """What is told of a port, without what follows from its carrier and its time in the bridge."""
    return re.sub(r"timer +[\d.]+| cost \d+", "", text)


@pytest.mark.parametrize("kind", [["bond", "mode", "active-backup"], ["bridge"], ["vrf", "table", "77"]])
def test_port_comes_home_as_a_port_of_its(world: World, host: Machine, kind: list[str]) -> None:
    host.ip("link", "add", "upper", "type", *kind)
    try:
        host.ip_all(
            "link set upper up", "link set eth1 down", "link set eth1 master upper", "link set eth1 up"
        )
        before = without_timers(told(host, "dev", "eth1"))
        assert " master upper " in before
        world.add(CONF)
        lose(world.sandbox, host)
        world.delete(CONF)
        assert without_timers(told(host, "dev", "eth1")) == before
    finally:
        host.ip("link", "del", "upper")


# -- side by side with the Go plugin --------------------------------------------------------------


def test_card_that_the_go_plugin_moved_falls_back_and_is_renamed(world: World, host: Machine) -> None:
    if not (GO_BIN / "host-device").exists():
        pytest.skip(f"needs Debian's containernetworking-plugins: run-in-vm --share {GO_BIN}")
    conf = nic(device="eth1", ipam=static("10.2.0.5/24"))
    go = World(host, world.sandbox, world.state, bin=GO_BIN, path=str(GO_BIN))
    result = go.add(conf)
    lose(world.sandbox, host)
    world.delete(conf)  # proves nothing, so nothing is done
    assert host.until_home(CARD).name == "net1"
    world.delete(conf | {"prevResult": result})
    link = host.until_home(CARD)
    assert (link.name, link.alias) == ("eth1", "")
