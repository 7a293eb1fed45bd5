"""host-device: which device a configuration names, what ADD answers, and what CHECK and STATUS say of it.

How a device comes home is in test_host_device_return.py; with cards of metal behind them the same
goes in tests/vm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cni.device.moving import moved_in
from cni.host.links import Links
from cni.host.netns import opened
from cni.protocol.errors import CniError
from tests.conftest import VERSIONS_WITH_INTERFACES
from tests.support.devices import nic, told, words_missing
from tests.support.sysfs_tree import SysfsTree, WorldOfThisSys
from tests.support.world import Namespace, StubIpam, WarmWorld, Wire, World, static

MACS = {"dev0": "02:00:00:00:00:d0", "dev1": "02:00:00:00:00:d1"}
CARD, OTHER_CARD = "0000:af:00.1", "0000:af:00.2"
LONG_NAME = "an-alternative-name-that-is-long"


@pytest.fixture
def world(host: Namespace, sandbox: Namespace, tmp_path: Path) -> World:
    host.without_link_local()  # snapshots must not change by themselves
    sandbox.without_link_local()
    for name, mac in MACS.items():
        host.add_veth(name)
        host.ip("link", "set", name, "address", mac)
    return WarmWorld(host, sandbox, tmp_path / "state")


@pytest.fixture
def sysfs(tmp_path: Path) -> Iterator[SysfsTree]:
    """A /sys in which dev0 and dev1 are the interfaces of two PCI devices."""
    tree = SysfsTree(tmp_path / "sys")
    tree.add_pci(CARD, "dev0")
    tree.add_pci(OTHER_CARD, "dev1")
    with tree.in_place_of_sys():
        yield tree


@pytest.fixture
def stub(world: World, tmp_path: Path) -> StubIpam:
    """An IPAM plugin of another make, along CNI_PATH."""
    stub = StubIpam(tmp_path / "stub")
    stub.answers("ADD", {"cniVersion": "1.0.0", "ips": [{"address": "10.2.0.9/24"}]})
    world.path = f"{stub.folder}:{world.path}"
    return stub


def moved(world: World) -> str:
    """Which of the host's devices is net1 in the sandbox."""
    link = world.sandbox.link("net1")
    return next(name for name, mac in MACS.items() if mac == link["address"])


# -- which device ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"device": "dev0"}, id="name"),
        pytest.param({"device": "alt0"}, id="alternative-name"),
        pytest.param({"device": LONG_NAME}, id="alternative-name-longer-than-a-name-can-be"),
        pytest.param({"DEVICE": "dev0"}, id="name-whatever-the-case-of-the-key"),
        pytest.param({"hwaddr": MACS["dev0"]}, id="mac"),
        pytest.param({"hwaddr": "02-00-00-00-00-D0"}, id="mac-with-dashes-and-capitals"),
        pytest.param({"hwaddr": "0200.0000.00d0"}, id="mac-with-dots"),
        pytest.param({"kernelpath": f"/sys/devices/pci0000:af/{CARD}"}, id="kernel-path"),
        pytest.param({"pciBusID": CARD}, id="pci-address"),
        pytest.param({"pciBusID": CARD.upper()}, id="pci-address-in-capitals"),
        pytest.param({"pciBusId": CARD}, id="pci-address-whatever-the-case-of-the-key"),
        pytest.param({"runtimeConfig": {"deviceID": CARD}}, id="runtimes-pci-address"),
        pytest.param({"runtimeConfig": {"deviceid": CARD}}, id="runtimes-whatever-the-case-of-the-key"),
    ],
)
def test_device_is_named_by_its(world: World, sysfs: SysfsTree, keys: dict[str, Any]) -> None:
    for name in ("alt0", LONG_NAME):
        world.host.ip("link", "property", "add", "dev", "dev0", "altname", name)
    world.add(nic(**keys))
    assert moved(world) == "dev0"
    assert "dev0" not in world.host.links()
    assert "dev1" in world.host.links()


def test_device_is_named_by_the_auxiliary_device_that_the_runtime_gives(
    world: World, sysfs: SysfsTree
) -> None:
    world.host.add_veth("sf4")
    sysfs.add_auxiliary("mlx5_core.sf.4", CARD, "sf4")
    mac = world.host.link("sf4")["address"]
    result = world.add(nic(cniVersion="1.1.0", runtimeConfig={"deviceID": "mlx5_core.sf.4"}))
    assert result["interfaces"] == [{"name": "net1", "mac": mac, "sandbox": world.sandbox.path}]
    assert world.sandbox.link("net1")["address"] == mac


def test_interface_of_a_virtio_device_is_one_level_down(world: World, sysfs: SysfsTree) -> None:
    world.host.add_veth("eth7")
    mac = world.host.link("eth7")["address"]
    sysfs.add_pci("0000:00:03.0", "eth7", driver="virtio-pci", virtio="virtio2")
    result = world.add(nic(pciBusID="0000:00:03.0"))
    assert result["interfaces"][0]["mac"] == mac


ALL_WAYS = {
    "device": "dev0",
    "hwaddr": MACS["dev0"],
    "kernelpath": f"/sys/devices/pci0000:af/{CARD}",
    "runtimeConfig": {"deviceID": CARD},
    "pciBusID": CARD,
}
TO_THE_OTHER = {
    "device": "dev1",
    "hwaddr": MACS["dev1"],
    "kernelpath": f"/sys/devices/pci0000:af/{OTHER_CARD}",
    "runtimeConfig": {"deviceID": OTHER_CARD},
    "pciBusID": OTHER_CARD,
}


@pytest.mark.parametrize("first", [pytest.param(index, id=key) for index, key in enumerate(ALL_WAYS)])
def test_of_several_ways_the_first_counts(world: World, sysfs: SysfsTree, first: int) -> None:
    ways = list(ALL_WAYS)[first:]
    keys = {way: ALL_WAYS[way] if way == ways[0] else TO_THE_OTHER[way] for way in ways}
    world.add(nic(**keys))
    assert moved(world) == "dev0"


@pytest.mark.parametrize("zero", [pytest.param("", id="empty"), pytest.param(None, id="null")])
def test_zero_values_name_nothing(world: World, zero: str | None) -> None:
    keys = dict.fromkeys(("device", "hwaddr", "kernelpath", "pciBusID"), zero)
    world.add(nic(**keys | {"device": "dev1"}))
    assert moved(world) == "dev1"
    error = world.refused("ADD", nic(**keys, runtimeConfig={"deviceID": zero}), CNI_IFNAME="net2")
    assert (error["code"], error["msg"].partition(" ")[0]) == (7, "specify")


LATE_MAC = "02:00:00:00:00:d9"


def add_macvlan_twin(world: World) -> None:
    world.host.ip("link", "add", "link", "dev0", "name", "twin", "index", "900", "type", "macvlan")
    world.host.ip("link", "set", "twin", "address", LATE_MAC)


def add_bridge_twin(world: World) -> None:
    world.host.ip("link", "add", "twin", "index", "900", "type", "bridge")
    world.host.ip("link", "set", "late", "master", "twin")  # a bridge takes the MAC of its port


@pytest.mark.parametrize(
    "add_twin",
    [pytest.param(add_macvlan_twin, id="a-macvlan"), pytest.param(add_bridge_twin, id="a-bridge")],
)
def test_mac_means_the_device_and_not(world: World, add_twin: Callable[[World], None]) -> None:
    """Though the kernel lists the twin first."""
    peer = ["type", "veth", "peer", "name", "late-peer", "index", "902"]
    world.host.ip("link", "add", "late", "index", "901", "address", LATE_MAC, *peer)
    add_twin(world)
    assert [name for name, link in world.host.links().items() if link["address"] == LATE_MAC] == [
        "twin",
        "late",
    ]
    world.add(nic(hwaddr=LATE_MAC))
    assert world.sandbox.link("net1")["linkinfo"]["info_kind"] == "veth"
    assert "twin" in world.host.links()


def test_mac_may_be_that_of_a_link_that_rides_on_another(world: World) -> None:
    world.host.ip("link", "add", "link", "dev0", "name", "rider", "type", "macvlan")
    world.add(nic(hwaddr=world.host.link("rider")["address"]))
    assert world.sandbox.link("net1")["linkinfo"]["info_kind"] == "macvlan"


def test_of_several_interfaces_of_a_device_the_first_by_name_is_taken(world: World, sysfs: SysfsTree) -> None:
    for name in ("port1", "port0"):
        world.host.add_veth(name)
    mac = world.host.link("port0")["address"]
    sysfs.add_pci("0000:b0:00.0", "port1", "port0")
    answer = world.call("ADD", nic(pciBusID="0000:b0:00.0"))
    assert answer.json["interfaces"][0]["mac"] == mac
    assert "takes port0; the device has port1 too" in answer.stderr


def test_of_several_interfaces_of_a_device_one_that_is_away_is_no_candidate(
    world: World, sysfs: SysfsTree
) -> None:
    world.host.add_veth("port1")
    mac = world.host.link("port1")["address"]
    sysfs.add_pci("0000:b0:00.0", "port0", "port1")
    assert world.add(nic(pciBusID="0000:b0:00.0"))["interfaces"][0]["mac"] == mac


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(["type", "veth"], id="veth"),
        pytest.param(["link", "dev0", "type", "macvlan", "mode", "bridge"], id="macvlan"),
        pytest.param(["type", "ifb"], id="ifb"),
    ],
)
def test_any_kind_of_link_goes_and_comes_back(world: World, kind: list[str]) -> None:
    kind_of_link = kind[kind.index("type") + 1]
    link_to = kind[:2] if kind[0] == "link" else []
    world.host.ip("link", "add", *link_to, "name", "some0", *kind[len(link_to) :])
    before = world.host.snapshot()
    world.add(nic(device="some0"))
    assert world.sandbox.link("net1")["linkinfo"]["info_kind"] == kind_of_link
    world.delete(nic(device="some0"))
    assert world.host.snapshot() == before


def test_link_that_cannot_leave_its_namespace_is_refused_as_the_kernel_says(world: World) -> None:
    world.host.ip("link", "add", "br0", "type", "bridge")
    before = world.host.snapshot(), world.sandbox.snapshot()
    error = world.refused("ADD", nic(device="br0"))
    assert error["code"] == 106
    assert words_missing(error, ['"br0"', "immutable"]) == []
    assert (world.host.snapshot(), world.sandbox.snapshot()) == before
    assert world.records() == []


def test_device_without_a_mac_goes_and_comes_back(world: World) -> None:
    world.host.ip("tuntap", "add", "tun0", "mode", "tun")  # needs /dev/net/tun: modprobe tun
    before = world.host.snapshot()
    result = world.add(nic(device="tun0"))
    assert result["interfaces"] == [{"name": "net1", "sandbox": world.sandbox.path}]
    world.delete(nic(device="tun0"))
    assert world.host.snapshot() == before


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        pytest.param(
            {}, ['"device"', '"hwaddr"', '"kernelpath"', '"pciBusID"', "deviceID"], id="no-device-named"
        ),
        pytest.param({"device": "dev7"}, ['device "dev7"', "dev0, dev0-peer, dev1"], id="name-of-nobody"),
        pytest.param({"device": "lo"}, ['"lo"', "loopback"], id="loopback"),
        pytest.param({"device": "x" * 200}, ["x" * 200, "dev0"], id="name-longer-than-any-can-be"),
        pytest.param({"device": 7}, ['"device"', "7"], id="name-that-is-no-string"),
        pytest.param({"hwaddr": "02:00:00:00:00:77"}, ["02:00:00:00:00:77", "dev0"], id="mac-of-nobody"),
        pytest.param({"hwaddr": "00:00:00:00:00:00"}, ["loopback"], id="mac-of-loopback"),
        pytest.param({"hwaddr": "nonsense"}, ['"hwaddr"', "nonsense"], id="mac-that-is-none"),
        pytest.param(
            {"kernelpath": "/sys/class/net/dev0"}, ["/sys/class/net/dev0", "readlink -f"], id="path-elsewhere"
        ),
        pytest.param(
            {"kernelpath": "/sys/devices/pci0000:af"},
            ['kernelpath "/sys/devices/pci0000:af"', "dev0"],
            id="path-without-an-interface",
        ),
        pytest.param(
            {"pciBusID": "0000:af:00.7"},
            ["0000:af:00.7", "not in /sys/bus/pci/devices.", "(lspci -D)."],
            id="pci-address-of-nobody",
        ),
        pytest.param({"pciBusID": "af:00.1"}, ["af:00.1", "0000:af:00.1"], id="pci-address-without-domain"),
        pytest.param({"pciBusID": "mlx5_core.sf.4"}, ["mlx5_core.sf.4"], id="auxiliary-name-as-pci-address"),
        pytest.param({"pciBusID": f"../devices/{CARD}"}, ["../devices"], id="pci-address-that-is-a-path"),
        pytest.param(
            {"runtimeConfig": {"deviceID": "mlx5_core.sf.9"}},
            ["runtimeConfig.deviceID", "mlx5_core.sf.9", "auxiliary"],
            id="runtimes-device-of-nobody",
        ),
        pytest.param(
            {"runtimeConfig": {"deviceID": 4}}, ['"runtimeConfig.deviceID"'], id="runtimes-device-no-string"
        ),
        pytest.param(
            {"pciBusID": "0000:b0:00.0"}, ["0000:b0:00.0", "no driver", "vfio-pci"], id="device-unbound"
        ),
        pytest.param(
            {"pciBusID": "0000:b0:00.1"}, ["0000:b0:00.1", "driver nvme"], id="device-without-interface"
        ),
        pytest.param({"device": "dev0", "ipam": {"type": "nobody"}}, ['"nobody"'], id="ipam-not-installed"),
        pytest.param({"device": "dev0", "dad": "never"}, ['"dad"', "never"], id="value-that-is-none"),
    ],
)
def test_wrong_configuration_is_refused_and_nothing_touched(
    world: World, sysfs: SysfsTree, keys: dict[str, Any], words: list[str]
) -> None:
    sysfs.add_auxiliary("mlx5_core.sf.4", CARD, "sf4")
    sysfs.add_pci("0000:b0:00.0", driver=None)
    sysfs.add_pci("0000:b0:00.1", driver="nvme")
    before = world.host.snapshot(), world.sandbox.snapshot()
    error = world.refused("ADD", nic(**keys))
    assert error["code"] == 7
    assert words_missing(error, words) == []
    assert (world.host.snapshot(), world.sandbox.snapshot()) == before
    assert world.records() == []


@pytest.mark.parametrize("version", ["", "0.1.0", "0.2.0"])
def test_old_versions_cannot_express_a_device_without_address_and_it_stays(
    world: World, version: str
) -> None:
    before = world.host.snapshot()
    error = world.refused("ADD", nic(cniVersion=version, device="dev0", ipam={}))
    assert error["code"] == 2
    assert words_missing(error, ["cniVersion"]) == []
    assert world.host.snapshot() == before
    assert world.records() == []


def taken_by_a_link(world: World) -> None:
    world.sandbox.add_veth("net1")


def taken_by_an_altname(world: World) -> None:
    world.sandbox.add_veth("eth0")
    world.sandbox.ip("link", "property", "add", "dev", "eth0", "altname", "net1")


@pytest.mark.parametrize(
    "take",
    [
        pytest.param(taken_by_a_link, id="a-link"),
        pytest.param(taken_by_an_altname, id="a-links-alternative-name"),
    ],
)
def test_name_that_the_sandbox_has_is_refused_before_ipam_is_called(
    world: World, stub: StubIpam, take: Callable[[World], None]
) -> None:
    take(world)
    before = world.host.snapshot(), world.sandbox.snapshot()
    error = world.refused("ADD", nic(device="dev0", ipam={"type": stub.type}))
    assert error["code"] == 101
    assert words_missing(error, ['"net1"', "veth", "CNI_IFNAME"]) == []
    assert (world.host.snapshot(), world.sandbox.snapshot()) == before
    assert stub.calls() == []
    assert world.records() == []


def test_alternative_name_that_the_sandbox_has_is_no_obstacle(world: World) -> None:
    world.host.ip("link", "property", "add", "dev", "dev0", "altname", "shared")
    world.sandbox.add_veth("eth0")
    world.sandbox.ip("link", "property", "add", "dev", "eth0", "altname", "shared")
    before = told(world.host), told(world.sandbox)
    world.add(nic(device="dev0"))
    assert "shared" not in world.sandbox.link("net1").get("altnames", [])
    world.delete(nic(device="dev0"))
    assert (told(world.host), told(world.sandbox)) == before


def test_device_may_be_called_in_the_sandbox_as_it_is_alternatively(world: World) -> None:
    world.host.ip("link", "property", "add", "dev", "dev0", "altname", "net1")
    before = told(world.host)
    world.add(nic(device="dev0"))
    assert moved(world) == "dev0"
    world.delete(nic(device="dev0"))
    assert told(world.host) == before


def test_device_may_keep_its_name(world: World) -> None:
    before = told(world.host)
    world.add(nic(device="dev0"), CNI_IFNAME="dev0")
    assert world.sandbox.addresses("dev0") == ["10.2.0.5/24"]
    world.delete(nic(device="dev0"), CNI_IFNAME="dev0")
    assert told(world.host) == before


# -- a device that another attachment has ---------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"device": "dev0"}, id="name"),
        pytest.param({"device": "alt0"}, id="alternative-name"),
        pytest.param({"hwaddr": MACS["dev0"]}, id="mac"),
        pytest.param({"pciBusID": CARD}, id="pci-address"),
        pytest.param({"pciBusID": CARD.upper()}, id="pci-address-in-capitals"),
        pytest.param({"kernelpath": f"/sys/devices/pci0000:af/{CARD}"}, id="kernel-path"),
        pytest.param({"runtimeConfig": {"deviceID": CARD}}, id="runtimes-device"),
    ],
)
def test_device_in_use_is_refused_with_its_holder_whatever_names_it(
    world: World, sysfs: SysfsTree, peer: Namespace, keys: dict[str, Any]
) -> None:
    world.host.ip("link", "property", "add", "dev", "dev0", "altname", "alt0")
    world.add(nic(pciBusID=CARD), CNI_CONTAINERID="holder")
    before = world.host.snapshot(), world.sandbox.snapshot(), world.records()
    error = world.refused("ADD", nic(name="other", **keys), CNI_NETNS=peer.path, CNI_CONTAINERID="late")
    assert error["code"] == 104
    assert words_missing(error, ["net1 of container holder on network nic", *map(str, flat(keys))]) == []
    assert (world.host.snapshot(), world.sandbox.snapshot(), world.records()) == before


def flat(keys: dict[str, Any]) -> list[Any]:
    (value,) = keys.values()
    return list(value.values()) if isinstance(value, dict) else [value]


def test_device_that_another_took_at_the_same_moment_is_asked_for_again(world: World) -> None:
    with (
        opened(world.host.path) as home,
        opened(world.sandbox.path) as pod,
        Links(home, "on the host") as host,
        Links(pod, "in the sandbox") as sandbox,
    ):
        link = host.find("dev0")
        assert link
        world.add(nic(device="dev0"))
        with pytest.raises(CniError) as caught:
            moved_in(link, host, sandbox, "net2", alias="dev0")
    assert caught.value.code == 11
    assert '"dev0" vanished' in caught.value.msg


def test_peers_hear_where_an_address_is_now_that_the_pod_sets_itself(world: World) -> None:
    with Wire(world.host, "dev0-peer") as wire:
        world.add(nic(device="dev0", ipam={}, runtimeConfig={"ips": ["10.2.0.7/24"]}))
        assert f"arp reply 10.2.0.7 from {MACS['dev0']}" in wire.heard(world.sandbox, "net1")


def test_link_that_rides_on_a_device_in_use_is_not_taken_for_it(world: World, peer: Namespace) -> None:
    world.host.ip("link", "add", "link", "dev0", "name", "twin", "address", MACS["dev0"], "type", "macvlan")
    conf = nic(hwaddr=MACS["dev0"])
    world.add(conf)
    assert moved(world) == "dev0"
    error = world.refused("ADD", conf, CNI_NETNS=peer.path, CNI_CONTAINERID="late")
    assert error["code"] == 104
    assert "twin" in world.host.links()


def test_second_attachment_of_a_pod_gets_the_device_that_is_left(world: World) -> None:
    world.add(nic(device="dev0"))
    world.add(nic(device="dev1", ipam=static("10.2.0.6/24")), CNI_IFNAME="net2")
    assert world.sandbox.links().keys() == {"lo", "net1", "net2"}
    world.delete(nic(device="dev0"))
    assert world.sandbox.addresses("net2") == ["10.2.0.6/24"]
    assert "dev0" in world.host.links()


# -- drivers of user space ------------------------------------------------------------------------

VFIO = "0000:b0:00.2"


@pytest.fixture
def vfio(sysfs: SysfsTree) -> SysfsTree:
    sysfs.add_pci(VFIO, driver="vfio-pci")
    return sysfs


@pytest.mark.parametrize("driver", ["vfio-pci", "uio_pci_generic", "igb_uio", "mlx5_vfio_pci"])
@pytest.mark.parametrize("way", ["pciBusID", "deviceID"])
def test_device_with_a_userspace_driver_is_reported_and_nothing_moved(
    world: World, vfio: SysfsTree, driver: str, way: str
) -> None:
    vfio.bind("pci", VFIO, driver)
    conf = nic(cniVersion="1.1.0", **by(way))
    before = world.host.snapshot(), world.sandbox.snapshot()
    result = world.add(conf)
    assert result == {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "net1", "sandbox": world.sandbox.path, "pciID": VFIO}],
        "ips": [{"interface": 0, "address": "10.2.0.5/24"}],
    }
    assert world.call("CHECK", conf | {"prevResult": result}).status == 0
    assert (world.host.snapshot(), world.sandbox.snapshot()) == before
    world.delete(conf)
    assert world.records() == []


def by(way: str) -> dict[str, Any]:
    return {"pciBusID": VFIO} if way == "pciBusID" else {"runtimeConfig": {"deviceID": VFIO}}


@pytest.mark.parametrize("version", VERSIONS_WITH_INTERFACES)
@pytest.mark.parametrize("device", [pytest.param(VFIO, id="userspace"), pytest.param(CARD, id="kernel")])
def test_result_has_the_pci_address_where_the_version_knows_it(
    world: World, vfio: SysfsTree, version: str, device: str
) -> None:
    (interface,) = world.add(nic(cniVersion=version, pciBusID=device))["interfaces"]
    assert interface.get("pciID") == (device if version == "1.1.0" else None)
    assert interface.get("mac") == (MACS["dev0"] if device == CARD else None)


def test_userspace_device_has_its_ipam_plugin_called_for_all_verbs(
    world: World, vfio: SysfsTree, stub: StubIpam
) -> None:
    conf = nic(cniVersion="1.1.0", pciBusID=VFIO, ipam={"type": stub.type})
    result = world.add(conf)
    assert result["ips"] == [{"interface": 0, "address": "10.2.0.9/24"}]
    assert world.call("CHECK", conf | {"prevResult": result}).status == 0
    assert world.call("STATUS", conf).status == 0
    world.delete(conf)
    assert [call.split()[0] for call in stub.calls()] == ["ADD", "CHECK", "STATUS", "DEL"]


def test_userspace_device_is_given_back_though_it_is_unplugged(
    world: World, vfio: SysfsTree, stub: StubIpam
) -> None:
    conf = nic(pciBusID=VFIO, ipam={"type": stub.type})
    result = world.add(conf)
    vfio.remove("pci", VFIO)
    assert world.call("CHECK", conf | {"prevResult": result}).status == 0
    world.delete(conf)
    assert stub.calls()[-1] == "DEL pod-1 net1"
    assert world.records() == []


def test_userspace_device_that_a_pod_has_is_in_use(world: World, vfio: SysfsTree, peer: Namespace) -> None:
    conf = nic(pciBusID=VFIO)
    world.add(conf, CNI_CONTAINERID="holder")
    late = {"CNI_NETNS": peer.path, "CNI_CONTAINERID": "late"}
    error = world.refused("ADD", conf, **late)
    assert error["code"] == 104
    assert words_missing(error, ["net1 of container holder on network nic", VFIO]) == []
    world.sandbox.delete()
    world.add(conf, **late)
    world.delete(conf, CNI_CONTAINERID="holder")
    assert len(world.records()) == 1


def test_userspace_device_needs_its_interface_in_the_previous_result(world: World, vfio: SysfsTree) -> None:
    conf = nic(pciBusID=VFIO)
    result = world.add(conf)
    other = result | {"interfaces": [{"name": "net7", "sandbox": world.sandbox.path}]}
    error = world.refused("CHECK", conf | {"prevResult": other})
    assert error["code"] == 7
    assert words_missing(error, ['"net1"']) == []


def test_key_that_forces_a_userspace_driver_upstream_means_nothing_here(world: World) -> None:
    answer = world.call("ADD", nic(device="dev0", DPDKMode=True))
    assert answer.status == 0
    assert moved(world) == "dev0"
    assert 'unknown key "DPDKMode"' in answer.stderr


# -- through the executable -----------------------------------------------------------------------


def test_executable_reads_the_machines_sys(world: World, sysfs: SysfsTree, host: Namespace) -> None:
    sysfs.add_pci(VFIO, driver="vfio-pci")
    called = WorldOfThisSys(host, world.sandbox, world.state)
    before = told(host)
    (interface,) = called.add(nic(cniVersion="1.1.0", pciBusID=CARD))["interfaces"]
    assert (interface["mac"], interface["pciID"]) == (MACS["dev0"], CARD)
    (interface,) = called.add(nic(cniVersion="1.1.0", pciBusID=VFIO), CNI_IFNAME="net2")["interfaces"]
    assert interface == {"name": "net2", "sandbox": world.sandbox.path, "pciID": VFIO}
    called.delete(nic(pciBusID=CARD))
    called.delete(nic(pciBusID=VFIO), CNI_IFNAME="net2")
    assert told(host) == before
    assert called.records() == []


# -- the result -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS_WITH_INTERFACES)
def test_result_has_the_interface_and_its_addresses(world: World, version: str) -> None:
    ipam = static("10.2.0.5/24 via 10.2.0.1", "fd02::5/64", routes=[{"dst": "10.9.0.0/16"}])
    result = world.add(nic(cniVersion=version, device="dev0", ipam=ipam))
    interface = {"name": "net1", "mac": MACS["dev0"], "sandbox": world.sandbox.path}
    assert (result["cniVersion"], result["interfaces"]) == (version, [interface])
    assert [(ip["interface"], ip["address"]) for ip in result["ips"]] == [
        (0, "10.2.0.5/24"),
        (0, "fd02::5/64"),
    ]
    assert world.sandbox.addresses("net1") == ["10.2.0.5/24", "fd02::5/64"]
    assert [route["gateway"] for route in world.sandbox.routes("10.9.0.0/16")] == ["10.2.0.1"]
    assert "UP" in world.sandbox.link("net1")["flags"]


def test_without_ipam_the_device_is_up_and_has_no_address(world: World) -> None:
    result = world.add(nic(device="dev0", ipam={}, dns={"nameservers": ["10.2.0.53"]}))
    assert result == {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net1", "mac": MACS["dev0"], "sandbox": world.sandbox.path}],
        "dns": {"nameservers": ["10.2.0.53"]},
    }
    assert "UP" in world.sandbox.link("net1")["flags"]
    assert world.sandbox.addresses("net1") == []


def test_addresses_of_the_host_do_not_go_along(world: World) -> None:
    world.host.ip("addr", "add", "10.0.0.1/24", "dev", "dev0")
    world.add(nic(device="dev0"))
    assert world.sandbox.addresses("net1") == ["10.2.0.5/24"]


def test_settings_of_the_device_go_along(world: World) -> None:
    world.host.ip("link", "set", "dev0", "mtu", "1400")
    world.host.ip("link", "property", "add", "dev", "dev0", "altname", LONG_NAME)
    world.add(nic(device="dev0"))
    link = world.sandbox.link("net1")
    assert (link["mtu"], link["altnames"]) == (1400, [LONG_NAME])
    assert link["ifalias"] == "dev0"  # where the Go plugin looks for the way home


def test_result_of_an_earlier_plugin_is_merged(world: World) -> None:
    earlier = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod"}],
        "ips": [{"interface": 0, "address": "10.0.0.5/24"}],
    }
    result = world.add(nic(device="dev0", prevResult=earlier))
    assert [interface["name"] for interface in result["interfaces"]] == ["eth0", "net1"]
    assert [ip["interface"] for ip in result["ips"]] == [0, 1]
    assert world.sandbox.addresses("net1") == ["10.2.0.5/24"]


# -- CHECK ----------------------------------------------------------------------------------------


def rename_another_there(world: World) -> None:
    """The device goes away, and another one gets its name, its MAC and its address."""
    world.sandbox.ip("link", "set", "net1", "down", "name", "net9")
    world.sandbox.ip("link", "set", "net9", "address", "02:00:00:00:00:99")
    world.sandbox.add_veth("net1")
    world.sandbox.ip("link", "set", "net1", "address", MACS["dev0"])
    world.sandbox.ip("addr", "add", "10.2.0.5/24", "dev", "net1")
    world.sandbox.ip("route", "add", "10.9.0.0/16", "via", "10.2.0.1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(["link", "del", "net1"], ["does not exist in the sandbox"], id="device-gone"),
        pytest.param(["link", "set", "net1", "down"], ["administratively down"], id="down"),
        pytest.param(
            ["link", "set", "net1", "address", "02:00:00:00:00:99"],
            ["02:00:00:00:00:99", MACS["dev0"]],
            id="another-mac",
        ),
        pytest.param(["addr", "flush", "dev", "net1"], ["10.2.0.5/24"], id="address-gone"),
        pytest.param(["route", "del", "10.9.0.0/16"], ["10.9.0.0/16"], id="route-gone"),
        pytest.param(
            rename_another_there, ['it is not the device "dev0" that ADD moved'], id="another-device"
        ),
    ],
)
def test_check_names_what_differs(
    world: World, change: list[str] | Callable[[World], None], words: list[str]
) -> None:
    ipam = static("10.2.0.5/24 via 10.2.0.1", routes=[{"dst": "10.9.0.0/16"}])
    conf = nic(device="dev0", ipam=ipam)
    conf["prevResult"] = world.add(conf)
    assert world.call("CHECK", conf).stdout == ""
    change(world) if callable(change) else world.sandbox.ip(*change)
    error = world.refused("CHECK", conf)
    assert error["code"] == 102
    assert words_missing(error, ['"net1"', *words]) == []


def test_check_lists_all_differences_at_once(world: World) -> None:
    conf = nic(device="dev0")
    conf["prevResult"] = world.add(conf)
    world.sandbox.ip("link", "set", "net1", "down", "address", "02:00:00:00:00:99")
    world.sandbox.ip("addr", "flush", "dev", "net1")
    error = world.refused("CHECK", conf)
    assert words_missing(error, ["02:00:00:00:00:99", "administratively down", "10.2.0.5/24"]) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(["link", "set", "net1", "mtu", "1300"], id="another-mtu"),
        pytest.param(["addr", "add", "10.7.0.1/24", "dev", "net1"], id="one-more-address"),
        pytest.param(["route", "add", "10.8.0.0/16", "dev", "net1"], id="one-more-route"),
    ],
)
def test_check_does_not_mind(world: World, change: list[str]) -> None:
    conf = nic(device="dev0")
    conf["prevResult"] = world.add(conf)
    world.sandbox.ip(*change)
    assert world.call("CHECK", conf).status == 0


def test_check_needs_sysfs_no_more(world: World, sysfs: SysfsTree) -> None:
    conf = nic(pciBusID=CARD)
    conf["prevResult"] = world.add(conf)
    sysfs.remove("pci", CARD)
    assert world.call("CHECK", conf).status == 0
    world.delete(conf)
    assert "dev0" in world.host.links()


def test_check_wants_the_previous_result(world: World) -> None:
    world.add(nic(device="dev0"))
    error = world.refused("CHECK", nic(device="dev0"))
    assert (error["code"], error["msg"]) == (7, "required prevResult missing")


def test_check_of_a_sandbox_that_is_gone(world: World) -> None:
    conf = nic(device="dev0")
    conf["prevResult"] = world.add(conf)
    world.sandbox.delete()
    assert world.refused("CHECK", conf)["code"] == 8


# -- STATUS ---------------------------------------------------------------------------------------


def status(world: World, **keys: Any) -> int:
    """The code that STATUS answers, 0 for success."""
    answer = world.call("STATUS", nic(cniVersion="1.1.0", **keys))
    return answer.code if answer.status else 0


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        pytest.param({}, 0, id="no-device-named-yet"),
        pytest.param({"device": "dev0"}, 0, id="device-is-there"),
        pytest.param({"pciBusID": CARD}, 0, id="pci-device-is-there"),
        pytest.param({"pciBusID": VFIO}, 0, id="userspace-device-is-there"),
        pytest.param({"device": "dev7"}, 50, id="device-is-nowhere"),
        pytest.param({"hwaddr": "02:00:00:00:00:77"}, 50, id="mac-is-nowhere"),
        pytest.param({"pciBusID": "0000:af:00.7"}, 50, id="pci-device-is-nowhere"),
        pytest.param({"device": "dev0", "ipam": {"type": "nobody"}}, 50, id="ipam-is-not-installed"),
    ],
)
def test_status(world: World, vfio: SysfsTree, keys: dict[str, Any], code: int) -> None:
    assert status(world, **keys) == code


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"device": "dev0"}, id="name"),
        pytest.param({"hwaddr": MACS["dev0"]}, id="mac"),
        pytest.param({"pciBusID": CARD}, id="pci-address"),
    ],
)
def test_status_is_fine_while_a_pod_has_the_device(
    world: World, sysfs: SysfsTree, keys: dict[str, Any]
) -> None:
    world.add(nic(pciBusID=CARD))
    assert status(world, **keys) == 0


def test_status_of_a_device_that_died_with_its_sandbox(world: World) -> None:
    world.add(nic(device="dev0"))
    world.sandbox.delete()
    assert status(world, device="dev0") == 50
