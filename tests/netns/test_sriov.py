"""sriov with what can be had without a card: VFs in a tree at /sys, whose interfaces are virtual links.

What a PF is told is tested in the machine with real cards, see tests/vm.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.devices import told, words_missing
from tests.support.processes import killed_before, steps
from tests.support.sysfs_tree import SysfsTree, WorldOfThisSys
from tests.support.world import Namespace, StubIpam, WarmWorld, World, run, static

PF, VF, PROGRAM_VF, IB_VF = "0000:af:00.0", "0000:af:06.0", "0000:af:06.1", "0000:af:06.2"
GUEST_VF = "0000:00:04.0"
SRIOV_CNI = Path("/var/lib/cni/sriov")


def vf(address: str = GUEST_VF, **keys: Any) -> dict[str, Any]:
    conf = {"cniVersion": "1.1.0", "name": "rail", "type": "sriov", "deviceID": address}
    return conf | {"ipam": static("10.3.0.5/24")} | keys


@pytest.fixture
def tree(host: Namespace, sandbox: Namespace, peer: Namespace, tmp_path: Path) -> Iterator[SysfsTree]:
    """A PF with a VF that has an interface, one that a program has, an InfiniBand one; a VF without PF."""
    for namespace in (host, sandbox, peer):
        namespace.without_link_local()
    for name in ("pf0", "vf0", "ib0", "guest0"):
        host.add_veth(name)
    host.ip("link", "set", "guest0", "address", "02:00:00:00:00:f0")
    tree = SysfsTree(tmp_path / "sys")
    tree.add_pf(PF, "pf0")
    tree.write("pci", PF, {"speed": 10000, "mtu": 1500}, "pf0")
    tree.add_vf(PF, VF, "vf0")
    tree.add_vf(PF, PROGRAM_VF, driver="vfio-pci")
    tree.add_vf(PF, IB_VF, "ib0", driver="mlx5_core")
    tree.write("pci", IB_VF, {"type": 32}, "ib0")
    tree.add_pci(GUEST_VF, "guest0", driver="iavf")
    with tree.in_place_of_sys():
        yield tree


@pytest.fixture
def world(tree: SysfsTree, host: Namespace, sandbox: Namespace, tmp_path: Path) -> World:
    return WarmWorld(host, sandbox, tmp_path / "state")


@pytest.fixture
def sriov_cni(tmp_path: Path) -> Iterator[Path]:
    """The directory where sriov-cni keeps its state, empty, and of this test alone."""
    (tmp_path / "cni").mkdir()
    SRIOV_CNI.parent.mkdir(parents=True, exist_ok=True)
    run("mount", "--bind", tmp_path / "cni", SRIOV_CNI.parent)
    (SRIOV_CNI / "pci").mkdir(parents=True)
    yield SRIOV_CNI
    run("umount", SRIOV_CNI.parent)


# -- there and back ------------------------------------------------------------------------------


def test_executable_gives_a_vf_and_takes_it_back(
    tree: SysfsTree, host: Namespace, sandbox: Namespace, tmp_path: Path
) -> None:
    world = WorldOfThisSys(host, sandbox, tmp_path / "state")
    before = told(host), told(sandbox)
    result = world.add(vf(mtu=1400, mac="02:00:00:00:00:f1"))
    assert result["interfaces"] == [
        {
            "name": "net1",
            "mac": "02:00:00:00:00:f1",
            "mtu": 1400,
            "sandbox": sandbox.path,
            "pciID": GUEST_VF,
        }
    ]
    assert result["ips"] == [{"interface": 0, "address": "10.3.0.5/24"}]
    assert sandbox.addresses("net1") == ["10.3.0.5/24"]
    assert "guest0" not in host.links()
    assert world.call("CHECK", vf(prevResult=result)).status == 0
    world.delete(vf())
    assert (told(host), told(sandbox)) == before
    assert world.records() == []


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_result_has_what_its_version_has_words_for(world: World, version: str) -> None:
    (interface,) = world.add(vf(cniVersion=version))["interfaces"]
    told = {"name": "net1", "mac": "02:00:00:00:00:f0", "sandbox": world.sandbox.path}
    told |= {"mtu": 1500} if version >= "1.0.0" else {}
    assert interface == told | ({"pciID": GUEST_VF} if version == "1.1.0" else {})


def test_vf_of_a_pf_that_does_not_tell_of_it_is_given_as_it_is(world: World) -> None:
    before = told(world.host)
    result = world.add(vf(VF, ipam={}))
    assert world.sandbox.link("net1")["operstate"] in ("UNKNOWN", "UP")
    assert world.call("CHECK", vf(VF, ipam={}, prevResult=result)).status == 0
    world.delete(vf(VF, ipam={}))
    assert told(world.host) == before


def test_vf_of_a_program_is_reported_and_nothing_moved(world: World) -> None:
    before = told(world.host), told(world.sandbox)
    result = world.add(vf(PROGRAM_VF))
    assert result["interfaces"] == [{"name": "net1", "sandbox": world.sandbox.path, "pciID": PROGRAM_VF}]
    assert result["ips"] == [{"interface": 0, "address": "10.3.0.5/24"}]
    assert world.call("CHECK", vf(PROGRAM_VF, prevResult=result)).status == 0
    world.delete(vf(PROGRAM_VF))
    assert (told(world.host), told(world.sandbox)) == before
    assert world.records() == []


def test_previous_result_of_a_chain_is_kept(world: World) -> None:
    previous = {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": world.sandbox.path}]}
    result = world.add(vf(prevResult=previous))
    assert [link["name"] for link in result["interfaces"]] == ["eth0", "net1"]
    assert result["ips"][0]["interface"] == 1


def test_delete_may_come_twice_and_without_an_add(world: World) -> None:
    before = told(world.host)
    world.delete(vf())
    world.add(vf())
    world.delete(vf())
    world.delete(vf())
    world.delete(vf(), CNI_NETNS="")
    assert told(world.host) == before


def test_delete_finds_what_was_renamed_and_changed_in_the_pod(world: World) -> None:
    before = told(world.host)
    world.add(vf(ipam={}))
    world.sandbox.ip(
        "link", "set", "net1", "down", "name", "data0", "address", "02:00:00:00:00:99", "mtu", "900"
    )
    world.delete(vf(ipam={}))
    assert told(world.host) == before


def test_home_under_a_free_name_if_the_old_one_is_taken(world: World) -> None:
    world.add(vf(ipam={}, mtu=1300, mac="02:00:00:00:00:f1"))
    world.host.ip("link", "add", "guest0", "type", "veth", "peer", "name", "far")
    answer = world.call("DEL", vf(ipam={}))
    assert answer.status == 0
    assert 'the name "guest0" is taken on the host' in answer.stderr
    (link,) = [link for name, link in world.host.links().items() if name.startswith("dev")]
    assert (link["address"], link["mtu"]) == ("02:00:00:00:00:f0", 1500)
    assert world.records() == []


def test_delete_needs_no_valid_configuration(world: World) -> None:
    before = told(world.host)
    world.add(vf(ipam={}))
    world.delete({"cniVersion": "1.1.0", "name": "rail", "type": "sriov", "vlan": "x"})
    assert told(world.host) == before


# -- what is refused leaves everything as it was -------------------------------------------------


@pytest.mark.parametrize(
    ("address", "keys", "words"),
    [
        pytest.param(GUEST_VF, {"vlan": 5}, ['"vlan"', "no PF"], id="vlan-without-a-pf"),
        pytest.param(GUEST_VF, {"vlan": 5, "vlanQoS": 3}, ['"vlanQoS"'], id="priority-without-a-pf"),
        pytest.param(GUEST_VF, {"max_tx_rate": 5}, ['"max_tx_rate"', "no PF"], id="rate-without-a-pf"),
        pytest.param(GUEST_VF, {"min_tx_rate": 5}, ['"min_tx_rate"', "no PF"], id="least-rate-without-a-pf"),
        pytest.param(GUEST_VF, {"spoofchk": "off"}, ['"spoofchk"', "no PF"], id="spoofchk-without-a-pf"),
        pytest.param(GUEST_VF, {"trust": "on"}, ['"trust"', "no PF"], id="trust-without-a-pf"),
        pytest.param(
            GUEST_VF, {"link_state": "auto"}, ['"link_state"', "no PF"], id="link-state-without-a-pf"
        ),
        pytest.param(VF, {"max_tx_rate": 10001}, ["10001", "10000 Mbit/s"], id="rate-above-the-links-speed"),
        pytest.param(
            VF, {"min_tx_rate": 10001}, ["min_tx_rate", "10000"], id="least-rate-above-the-links-speed"
        ),
        pytest.param(VF, {"mtu": 9000}, ['"mtu" 9000', "1500"], id="mtu-above-the-pfs"),
        pytest.param(
            VF, {"trust": "on"}, ['"trust"', "does not tell"], id="setting-that-the-pf-does-not-tell"
        ),
        pytest.param(VF, {"guid": "02:00:00:00:00:00:00:01"}, ['"guid"', "Ethernet"], id="guid-on-ethernet"),
        pytest.param(VF, {"pkey": "0x8001"}, ['"pkey"', "Ethernet"], id="partition-on-ethernet"),
        pytest.param(IB_VF, {"vlan": 5}, ['"vlan"', "InfiniBand"], id="vlan-on-infiniband"),
        pytest.param(IB_VF, {"mac": "02:00:00:00:00:01"}, ['"mac"', "InfiniBand"], id="mac-on-infiniband"),
        pytest.param(IB_VF, {"spoofchk": "on"}, ['"spoofchk"', "InfiniBand"], id="spoofchk-on-infiniband"),
        pytest.param(PROGRAM_VF, {"mtu": 1400}, ['"mtu"', "vfio-pci"], id="mtu-of-a-program"),
        pytest.param(PROGRAM_VF, {"ipam": {"type": "dhcp"}}, ["dhcp", "vfio-pci"], id="dhcp-of-a-program"),
        pytest.param(IB_VF, {"ipam": {"type": "dhcp"}}, ["dhcp", "InfiniBand"], id="dhcp-on-infiniband"),
        pytest.param(VF, {"vfioPciMode": True}, ['"vfioPciMode"', VF], id="kernels-vf-for-a-program"),
        pytest.param(IB_VF, {"rdmaIsolation": True}, ["RDMA"], id="rdma-device-that-there-is-not"),
        pytest.param(PF, {}, ["is a PF", VF], id="pf-itself"),
        pytest.param("0000:af:1f.0", {}, ["no device of this host"], id="no-device"),
        pytest.param(GUEST_VF, {"vlan": True, "trust": True}, ["vlan", "trust"], id="booleans"),
    ],
)
def test_refusal_changes_nothing(world: World, address: str, keys: dict[str, Any], words: list[str]) -> None:
    before = told(world.host), told(world.sandbox)
    error = world.refused("ADD", vf(address, **keys))
    assert error["code"] == 7
    assert words_missing(error, words) == []
    assert (told(world.host), told(world.sandbox)) == before
    assert world.records() == []


@pytest.mark.parametrize(
    "args",
    [
        pytest.param({}, id="nothing-yet"),
        pytest.param({"guid": "02:00:00:00:00:00:00:01"}, id="a-guid-alone"),
        pytest.param({"mellanox.infiniband.app": "configured"}, id="the-word-alone"),
        pytest.param({"mellanox.infiniband.app": "no", "guid": "02:00:00:00:00:00:00:01"}, id="another-word"),
    ],
)
def test_pod_that_ib_kubernetes_has_not_configured_is_to_wait(world: World, args: dict[str, str]) -> None:
    before = told(world.host), told(world.sandbox)
    error = world.refused("ADD", vf(IB_VF, ipam={}, ibKubernetesEnabled=True, args={"cni": args}))
    assert error["code"] == 11
    assert words_missing(error, ["ib-kubernetes", '"mellanox.infiniband.app"']) == []
    assert (told(world.host), told(world.sandbox), world.records()) == (*before, [])


def test_taken_name_in_the_sandbox_is_refused_and_that_interface_stays(world: World) -> None:
    world.sandbox.ip("link", "add", "net1", "type", "veth", "peer", "name", "far")
    before = told(world.host), told(world.sandbox)
    assert world.refused("ADD", vf())["code"] == 101
    world.delete(vf())
    assert (told(world.host), told(world.sandbox)) == before


def test_ipam_that_fails_gives_the_vf_back_and_its_delete_is_called(world: World, tmp_path: Path) -> None:
    stub = StubIpam(tmp_path / "plugins")
    world.path = f"{stub.folder}:{world.path}"
    stub.fails("ADD", {"cniVersion": "1.1.0", "code": 100, "msg": "no address left"})
    before = told(world.host)
    error = world.refused("ADD", vf(ipam={"type": stub.type}, mac="02:00:00:00:00:f1"))
    assert (error["code"], error["msg"]) == (100, "no address left")
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]
    assert told(world.host) == before
    assert world.records() == []


def test_interface_has_its_mac_and_is_up_when_ipam_is_called(world: World, tmp_path: Path) -> None:
    """DHCP asks by it."""
    stub = StubIpam(tmp_path / "plugins")
    world.path = f"{stub.folder}:{world.path}"
    stub.does("ADD", "ip -n ${CNI_NETNS##*/} link show net1 >seen")
    stub.answers("ADD", {"cniVersion": "1.1.0", "ips": [{"address": "10.3.0.9/24"}]})
    world.add(vf(ipam={"type": stub.type}, mac="02:00:00:00:00:f1"))
    seen = (stub.folder / "seen").read_text()
    assert ",UP" in seen
    assert "02:00:00:00:00:f1" in seen


# -- who has the VF ------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [GUEST_VF, VF, PROGRAM_VF], ids=["guests", "kernels", "programs"])
def test_vf_of_a_pod_is_in_use(world: World, peer: Namespace, address: str) -> None:
    before = told(world.host)
    world.add(vf(address), CNI_CONTAINERID="holder")
    error = world.refused("ADD", vf(address), CNI_NETNS=peer.path, CNI_CONTAINERID="late")
    assert error["code"] == 104
    assert words_missing(error, [address, "net1 of container holder on network rail"]) == []
    world.delete(vf(address), CNI_NETNS=peer.path, CNI_CONTAINERID="late")
    world.delete(vf(address), CNI_CONTAINERID="holder")
    assert told(world.host) == before
    assert world.records() == []


@pytest.mark.parametrize("address", [GUEST_VF, PROGRAM_VF], ids=["kernels", "programs"])
def test_second_add_of_an_attachment_is_refused_and_the_first_stays(world: World, address: str) -> None:
    before = told(world.host)
    world.add(vf(address))
    attached = told(world.sandbox)
    assert world.refused("ADD", vf(address))["code"] == 101
    assert told(world.sandbox) == attached
    world.delete(vf(address))
    assert told(world.host) == before
    assert world.records() == []


def test_vf_whose_interface_is_in_another_namespace_is_named_as_that(world: World, peer: Namespace) -> None:
    world.host.ip("link", "set", "guest0", "netns", peer.name)
    error = world.refused("ADD", vf())
    assert error["code"] == 11
    assert words_missing(error, [GUEST_VF, "another network namespace"]) == []


def test_vf_is_in_use_on_whatever_network(world: World, peer: Namespace) -> None:
    world.add(vf(PROGRAM_VF), CNI_CONTAINERID="holder")
    late = vf(PROGRAM_VF, name="other-rail")
    assert world.refused("ADD", late, CNI_NETNS=peer.path, CNI_CONTAINERID="late")["code"] == 104


def test_claim_dies_with_its_sandbox_and_the_late_delete_touches_nothing(
    world: World, peer: Namespace
) -> None:
    first = world.sandbox.path
    world.add(vf(PROGRAM_VF, name="first"), CNI_CONTAINERID="first")
    world.sandbox.delete()
    world.add(vf(PROGRAM_VF), CNI_NETNS=peer.path, CNI_CONTAINERID="second")
    answer = world.call("DEL", vf(PROGRAM_VF, name="first"), CNI_NETNS=first, CNI_CONTAINERID="first")
    assert (answer.status, answer.stdout) == (0, "")
    assert "is left alone" in answer.stderr
    third = vf(PROGRAM_VF, name="third")
    assert world.refused("ADD", third, CNI_NETNS=peer.path, CNI_IFNAME="net3")["code"] == 104
    world.delete(vf(PROGRAM_VF), CNI_NETNS=peer.path, CNI_CONTAINERID="second")
    assert world.records() == []


def test_namespace_made_anew_at_the_same_path_is_another_sandbox(world: World) -> None:
    world.add(vf(PROGRAM_VF), CNI_CONTAINERID="first")
    world.sandbox.delete()
    world.sandbox.create()
    world.add(vf(PROGRAM_VF), CNI_CONTAINERID="second")
    world.delete(vf(PROGRAM_VF), CNI_CONTAINERID="second")


def test_claim_that_cannot_be_read_counts_for_nothing(world: World) -> None:
    claim = world.state / "claims" / "sriov" / PROGRAM_VF
    claim.parent.mkdir(parents=True)
    claim.write_text("{")
    world.add(vf(PROGRAM_VF))
    world.delete(vf(PROGRAM_VF))
    assert world.records() == []


def test_vf_that_is_on_the_host_is_in_no_pod_whatever_the_claim_says(world: World, peer: Namespace) -> None:
    """Somebody moved it home by hand."""
    world.add(vf(ipam={}, mac="02:00:00:00:00:f1"))
    world.sandbox.ip("link", "set", "net1", "netns", world.host.name, "name", "guest0")
    (interface,) = world.add(vf(ipam={}), CNI_NETNS=peer.path, CNI_CONTAINERID="second")["interfaces"]
    assert interface["mac"] == "02:00:00:00:00:f0"


def test_sriov_cnis_claim_counts_while_there_is_a_namespace(
    world: World, sriov_cni: Path, peer: Namespace
) -> None:
    (sriov_cni / "pci" / PROGRAM_VF).write_text(peer.path)
    error = world.refused("ADD", vf(PROGRAM_VF))
    assert error["code"] == 104
    assert words_missing(error, [PROGRAM_VF, "sriov-cni", peer.path]) == []
    peer.delete()
    world.add(vf(PROGRAM_VF))


# -- CHECK, GC and STATUS ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param("link set net1 down", ["down"], id="down"),
        pytest.param("link set net1 mtu 1300", ["MTU is 1300", "1500"], id="mtu"),
        pytest.param("link set net1 address 02:00:00:00:00:99", ["MAC", "02:00:00:00:00:99"], id="mac"),
        pytest.param("link set net1 down name other", ["does not exist"], id="name"),
        pytest.param("addr flush dev net1", ["10.3.0.5/24"], id="address"),
    ],
)
def test_check_tells_what_differs(world: World, change: str, words: list[str]) -> None:
    result = world.add(vf())
    world.sandbox.ip(*change.split())
    error = world.refused("CHECK", vf(prevResult=result))
    assert error["code"] == 102
    assert words_missing(error, words) == []


def test_check_tells_that_the_vf_is_gone(world: World, tree: SysfsTree) -> None:
    result = world.add(vf(PROGRAM_VF))
    tree.remove("pci", PROGRAM_VF)
    error = world.refused("CHECK", vf(PROGRAM_VF, prevResult=result))
    assert error["code"] == 102
    assert words_missing(error, [PROGRAM_VF, "no device"]) == []


def test_gc_gives_back_what_is_not_listed_and_keeps_the_rest(world: World, peer: Namespace) -> None:
    before = told(world.host, "dev", "guest0")
    network = {"cniVersion": "1.1.0", "name": "rail", "type": "sriov"}
    world.add(vf(), CNI_CONTAINERID="lost")
    world.add(vf(PROGRAM_VF), CNI_CONTAINERID="kept", CNI_NETNS=peer.path)
    kept = [{"containerID": "kept", "ifname": "net1"}]
    answer = world.call("GC", network | {"cni.dev/valid-attachments": kept})
    assert (answer.status, answer.stdout) == (0, "")
    assert told(world.host, "dev", "guest0") == before
    assert [path.name for path in (world.state / "claims" / "sriov").iterdir()] == [PROGRAM_VF]
    assert world.call("GC", network | {"cni.dev/valid-attachments": []}).status == 0
    assert world.records() == []


def test_gc_removes_claims_whose_attachment_is_forgotten(world: World) -> None:
    world.add(vf(PROGRAM_VF))
    for record in (world.state / "attachments").rglob("*.json"):
        record.unlink()
    world.call("GC", vf() | {"cni.dev/valid-attachments": []})
    assert world.records() == []


def test_status_needs_a_card_with_vfs(world: World, tree: SysfsTree) -> None:
    network = {"cniVersion": "1.1.0", "name": "rail", "type": "sriov"}
    assert world.call("STATUS", network).status == 0
    assert world.call("STATUS", vf(VF)).status == 0
    assert world.refused("STATUS", vf("0000:af:1f.0"))["code"] == 50
    for link in (tree.root / "bus/pci/devices" / PF).glob("virtfn*"):
        link.unlink()
    error = world.refused("STATUS", network)
    assert error["code"] == 50
    assert words_missing(error, [PF, "sriov_numvfs"]) == []
    tree.remove("pci", PF)
    assert world.refused("STATUS", network)["code"] == 50


# -- sriov-cni's attachments ---------------------------------------------------------------------


def test_cache_of_sriov_cni_is_used_up_by_delete(world: World, sriov_cni: Path) -> None:
    cache = {"deviceID": PROGRAM_VF, "OrigVfState": {"HostIFName": ""}, "Master": "pf0", "VFID": 1}
    (sriov_cni / "pod-1-net1").write_text(json.dumps(cache))
    (sriov_cni / "pci" / PROGRAM_VF).write_text(world.sandbox.path)
    world.delete(vf(PROGRAM_VF))
    assert [path for path in sriov_cni.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "cache", [b"", b"{", b"[]", b"{}", b'{"deviceID": 7}', b'{"OrigVfState": 1}', b"\xff\xfe"]
)
def test_cache_that_cannot_be_read_is_no_failure(world: World, sriov_cni: Path, cache: bytes) -> None:
    (sriov_cni / "pod-1-net1").write_bytes(cache)
    before = told(world.host)
    world.delete(vf(PROGRAM_VF))
    assert told(world.host) == before


@pytest.fixture
def stale(sriov_cni: Path, peer: Namespace) -> Path:
    """What sriov-cni leaves when a sandbox goes without DEL; its network is "rail"."""
    cache = {"name": "rail", "deviceID": PROGRAM_VF, "OrigVfState": {"HostIFName": ""}}
    (sriov_cni / "gone-with-dashes-net1").write_text(json.dumps(cache))
    (sriov_cni / "pci" / PROGRAM_VF).write_text(f"{peer.path}-that-was")
    return sriov_cni


def collect(world: World, *keep: str, **keys: Any) -> str:
    """GC that must succeed; return its notes."""
    valid = [{"containerID": container, "ifname": "net1"} for container in keep]
    conf = vf(**{"cni.dev/valid-attachments": valid, "deviceID": None}, **keys)
    answer = world.call("GC", conf, CNI_CONTAINERID="", CNI_IFNAME="", CNI_NETNS="")
    assert (answer.status, answer.stdout) == (0, ""), answer
    return answer.stderr


def test_garbage_collection_gives_back_what_sriov_cni_gave_to_a_sandbox_that_is_gone(
    world: World, stale: Path
) -> None:
    assert "what sriov-cni gave to gone-with-dashes-net1" in collect(world, "pod-1")
    assert [path for path in stale.rglob("*") if path.is_file()] == []


def test_garbage_collection_leaves_what_sriov_cni_gave_to_others(
    world: World, stale: Path, peer: Namespace
) -> None:
    claim = stale / "pci" / PROGRAM_VF
    before = {path: path.read_bytes() for path in stale.rglob("*") if path.is_file()}
    collect(world, "gone-with-dashes")
    collect(world, "pod-1", name="another")
    claim.write_text(peer.path)  # which lives, whatever is listed
    collect(world, "pod-1")
    claim.unlink()
    collect(world, "pod-1")
    claim.write_bytes(before[claim])
    assert {path: path.read_bytes() for path in stale.rglob("*") if path.is_file()} == before
    assert collect(world, "pod-1")


# -- the log -------------------------------------------------------------------------------------

_LINE = re.compile(r'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ" level="(\w+)" msg="(.*)" cniName="sriov" .*')


def logged(text: str) -> list[tuple[str, str]]:
    """Return level and message of each line."""
    return [(found[1], found[2]) for line in text.splitlines() if (found := _LINE.fullmatch(line))]


def test_log_file_tells_of_each_call_and_failure(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log" / "sriov.log"
    world.add(vf(PROGRAM_VF, logFile=str(log)))
    world.refused("ADD", vf("0000:af:1f.0", logFile=str(log)), CNI_CONTAINERID="pod-2")
    world.delete({"cniVersion": "1.1.0", "name": "rail", "type": "sriov", "vlan": "x", "logFile": str(log)})
    told_pf, added, failed, deleted = logged(log.read_text())
    assert told_pf == ("info", f'PF \\"pf0\\" ({PF}) is told of VF {PROGRAM_VF}: nothing')
    assert (added, deleted) == (("info", "ADD is done"), ("info", "DEL is done"))
    assert failed[0] == "error"
    assert "0000:af:1f.0 is no device" in failed[1]
    assert f'containerID="pod-1" netns="{world.sandbox.path}" ifname="net1"' in log.read_text()


@pytest.mark.parametrize(
    ("keys", "levels"),
    [
        pytest.param({}, [], id="nothing-without-a-key"),
        pytest.param({"logLevel": "Debug"}, ["debug", "error"], id="a-level-in-any-case"),
        pytest.param({"logLevel": "error"}, ["error"], id="errors-alone"),
        pytest.param({"logLevel": "panic"}, [], id="nothing-for-panic"),
        pytest.param({"logLevel": "loud"}, ["error"], id="an-unknown-level-is-info"),
    ],
)
def test_log_goes_to_stderr_without_a_file(world: World, keys: dict[str, Any], levels: list[str]) -> None:
    answer = world.call("ADD", vf("0000:af:1f.0", **keys))
    assert (answer.code, [level for level, _ in logged(answer.stderr)]) == (7, levels)


def test_log_file_without_an_absolute_path_is_noted_and_not_made(world: World) -> None:
    answer = world.call("ADD", vf(PROGRAM_VF, logFile="sriov.log"))
    assert answer.status == 0
    assert '"logFile" sriov.log is no absolute path' in answer.stderr
    assert not Path("sriov.log").exists()


def test_log_file_that_cannot_be_written_is_no_failure(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = world.call("ADD", vf(PROGRAM_VF, logFile=str(tmp_path / "file" / "log")))
    assert answer.status == 0
    assert '"logFile"' in answer.stderr


# -- killed --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "conf", [vf(mtu=1400, mac="02:00:00:00:00:f1"), vf(PROGRAM_VF)], ids=["kernels", "programs"]
)
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_what_a_killed_call_left_is_given_back_by_delete(
    world: World, conf: dict[str, Any], command: str, exhaustive: bool
) -> None:
    before = told(world.host), told(world.sandbox)
    number = {verb: steps(partial(world.call, verb, conf)) for verb in ("ADD", "DEL")}[command]
    assert number > 5
    for step in range(0, number, 1 if exhaustive else 4):
        if command == "DEL":
            world.add(conf)
        if not killed_before(step, partial(world.call, command, conf)):
            assert step > number / 2
        world.delete(conf)
        assert (told(world.host), told(world.sandbox)) == before, f"killed before step {step}"
        assert world.records() == [], f"killed before step {step}"
