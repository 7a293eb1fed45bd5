"""sriov with cards that have virtual functions: what the card is told, enforces, and gets back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cni.cli.plan import main as plan
from cni.host.netlink import Message, Netlink
from cni.host.netns import boot_id
from cni.protocol.registry import TYPES
from tests.support.command import called as commanded
from tests.support.devices import words_missing
from tests.support.examples import configurations, plugins_of
from tests.support.plans import agreed
from tests.support.processes import forked, status_of
from tests.support.world import GO_BIN, Namespace, StubIpam, World, run, static
from tests.vm.conftest import Machine
from tests.vm.functions import (
    CARD,
    EVERYTHING,
    MAC,
    NAME,
    OTHER_MAC,
    OTHER_VF,
    PF,
    VF,
    listening,
    make_vfs,
    picture,
    send,
    settings,
    until_made,
    vf,
)

ALL_WORDS = [MAC, "vlan 100, qos 3", "max_tx_rate 500Mbps", "spoof checking off", "trust on"]
SRIOV_CNI = Path("/var/lib/cni/sriov")


@pytest.fixture(autouse=True)
def fresh_functions(world: World, host: Machine) -> Iterator[None]:
    """Give the next test VFs that nobody has touched, if this one left them otherwise."""
    before = picture(host)
    yield
    world.sandbox.delete()
    if picture(host) != before:
        host.ip("link", "set", PF, "up")
        make_vfs(2)
        until_made(host, 2)


@pytest.fixture
def before(world: World) -> str:
    """What the host and its cards look like before a test does anything."""
    return picture(world.host)


def planned(world: World, conf: dict[str, Any]) -> dict[str, Any]:
    """Return what `podrail plan` tells of a configuration."""
    done = commanded(world, plan, "-", "--json", stdin=json.dumps(conf))
    assert (done.returncode, done.stderr) == (0, ""), done
    (step,) = json.loads(done.stdout)["steps"]
    return dict(step)


def test_a_plan_tells_who_has_a_vf_and_which_was_left(world: World, host: Machine) -> None:
    world.add(vf(**EVERYTHING))
    another = {"CNI_CONTAINERID": "another", "CNI_IFNAME": "net2"}
    done = commanded(world, plan, "-", stdin=json.dumps(vf(name="other")), **another)
    refused = world.refused("ADD", vf(name="other"), **another)
    assert done.returncode == 1
    assert refused["msg"] in done.stdout
    world.sandbox.delete()
    world.sandbox.create()
    host.until_home(VF)
    before = picture(host)
    left = planned(world, vf(name="other"))
    assert "left the VF, which is restored first" in left["open"][0]
    assert picture(host) == before
    result = world.add(vf(name="other"))
    assert left["result"]["ips"] == result["ips"]
    world.delete(vf(name="other"))


# -- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "keys", "words"),
    [
        pytest.param(
            "igbvf", {"vlan": 4094, "vlanQoS": 7, "vlanProto": "802.1Q"}, ["vlan 4094, qos 7"], id="vlan"
        ),
        pytest.param("igbvf", {"mac": MAC}, [f"link/ether {MAC}"], id="mac"),
        pytest.param("igbvf", {"max_tx_rate": 500, "vlan": 0}, ["max_tx_rate 500Mbps"], id="rate"),
        pytest.param(
            "igbvf", {"spoofchk": "off", "trust": "ON"}, ["spoof checking off", "trust on"], id="switches"
        ),
        pytest.param(
            "igbvf", {"spoofchk": "on", "trust": "off", "vlan": 0}, ["trust off"], id="what-it-has-already"
        ),
        pytest.param("igbvf", EVERYTHING, ALL_WORDS, id="all-at-once"),
        pytest.param("vfio-pci", EVERYTHING, ALL_WORDS, id="all-at-once-for-a-program"),
    ],
)
def test_setting_is_the_cards_and_goes_with_the_pod(
    world: World, host: Machine, driver: str, keys: dict[str, Any], words: list[str]
) -> None:
    if driver != "igbvf":
        host.bind(VF, driver)
    before = picture(host)
    other = settings(host, 1)
    made = planned(world, vf(**keys))
    assert picture(host) == before
    result = world.add(vf(**keys))
    agreed(made, result)
    assert {"VF": VF, "PF": PF, "VF index": 0}.items() <= made["facts"].items()
    told = settings(host)
    assert [word for word in words if word not in f"{told},"] == []
    assert settings(host, 1) == other
    (interface,) = result["interfaces"]
    assert interface["pciID"] == VF
    if "mac" in keys:
        assert interface["mac"] == MAC
    if driver == "igbvf":
        assert world.sandbox.link("net1")["address"] == interface["mac"]
        assert world.sandbox.link("net1")["mtu"] == interface["mtu"]
    assert world.call("CHECK", vf(**keys, prevResult=result)).status == 0
    world.delete(vf(**keys))
    assert picture(host) == before
    assert world.records() == []


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        pytest.param({"link_state": "enable"}, ["link_state", "igb", "Remove"], id="link-state"),
        pytest.param({"min_tx_rate": 10}, ["min_tx_rate", "igb"], id="least-rate"),
        pytest.param({"vlan": 5, "vlanProto": "802.1ad"}, ["802.1ad", "igb", "802.1q"], id="stacked-vlan"),
        pytest.param({"max_tx_rate": 1001}, ["max_tx_rate", "1000 Mbit/s"], id="rate-above-the-link"),
        pytest.param({"mtu": 1501}, ["mtu", "1500"], id="mtu-above-the-card"),
    ],
)
def test_refused_setting_leaves_nothing_changed(
    world: World, before: str, keys: dict[str, Any], words: list[str]
) -> None:
    error = world.refused("ADD", vf(**(EVERYTHING | keys)))
    assert error["code"] == 7
    assert words_missing(error, words) == []
    assert picture(world.host) == before
    assert world.records() == []


def test_rate_that_the_card_refuses_without_carrier_says_so(world: World, host: Machine) -> None:
    host.ip("link", "set", PF, "down")
    before = picture(host)
    error = world.refused("ADD", vf(max_tx_rate=500, trust="on"))
    host_after = picture(host)
    assert error["code"] == 7
    assert words_missing(error, ["max_tx_rate", "carrier"]) == []
    assert host_after == before


def test_mtu_is_the_pods_and_comes_home_as_it_was(world: World, before: str) -> None:
    (interface,) = world.add(vf(mtu=1400))["interfaces"]
    assert (interface["mtu"], world.sandbox.link("net1")["mtu"]) == (1400, 1400)
    world.delete(vf())
    assert picture(world.host) == before


def test_settings_cost_one_look_at_the_card_and_one_batch_each_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver is asked for each of its VFs, under a lock that all of the kernel's network shares."""
    sent: list[tuple[Message, ...]] = []
    sending = Netlink._send

    def noted(netlink: Netlink, *messages: Message) -> None:
        sent.append(messages)
        sending(netlink, *messages)

    monkeypatch.setattr(Netlink, "_send", noted)
    vf_list, getlink, setlink = bytes.fromhex("08001d0009000000"), 18, 19
    for act in (world.add, world.delete):
        sent.clear()
        act(vf(**EVERYTHING))
        looks = [each for batch in sent for each in batch if each.type == getlink and vf_list in each.body]
        # IFLA_VFINFO_LIST, with the flag that it is nested
        batches = [batch for batch in sent if any(m.type == setlink and b"\x16\x80" in m.body for m in batch)]
        assert (len(looks), len(batches)) == (1, 1)


# -- what the card enforces ----------------------------------------------------------------------


def attach_both(world: World, peer: Namespace, first: dict[str, Any], second: dict[str, Any]) -> None:
    world.add(vf(ipam={}, mac=MAC, **first))
    world.add(vf(OTHER_VF, ipam={}, mac=OTHER_MAC, **second), CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")


def detach_both(world: World, peer: Namespace) -> None:
    world.delete(vf())
    world.delete(vf(), CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")


def test_pods_of_one_vlan_reach_each_other_and_no_others(world: World, peer: Namespace) -> None:
    attach_both(world, peer, {"vlan": 7}, {"vlan": 8})
    with listening(peer) as far:
        send(world.sandbox, b"from another vlan", to=OTHER_MAC, sender=MAC)
        world.delete(vf())
        world.add(vf(ipam={}, mac=MAC, vlan=8))
        send(world.sandbox, b"from the same vlan", to=OTHER_MAC, sender=MAC)
        assert b"from the same vlan" in far.recv(2000)
    detach_both(world, peer)


# -- sandboxes that died -------------------------------------------------------------------------


def lose(sandbox: Namespace, host: Machine, *addresses: str) -> None:
    """Delete a sandbox as a runtime would that calls no DEL, and wait for the kernel to do its part."""
    sandbox.delete()
    for address in addresses or (VF,):
        host.until_home(address)


def test_delete_after_the_sandbox_died_restores_all(world: World, host: Machine, before: str) -> None:
    world.add(vf(**EVERYTHING, mtu=1400))
    lose(world.sandbox, host)
    assert NAME not in host.links()
    world.delete(vf())
    assert picture(host) == before
    assert world.records() == []


def test_delete_without_a_netns_restores_all_too(world: World, host: Machine, before: str) -> None:
    world.add(vf(**EVERYTHING))
    lose(world.sandbox, host)
    world.delete(vf(), CNI_NETNS="")
    assert picture(host) == before


def test_add_after_a_sandbox_died_gets_a_clean_vf_and_keeps_its_original(
    world: World, host: Machine, peer: Namespace, before: str
) -> None:
    world.add(vf(**EVERYTHING, mtu=1400))
    lose(world.sandbox, host)
    answer = world.call("ADD", vf(), CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    assert answer.status == 0
    assert f"restores VF {VF}, which net1 of container pod-1 on network rail left" in answer.stderr
    clean = settings(host)
    assert clean in before
    assert peer.link("net1")["mtu"] == 1500
    late = world.call("DEL", vf(**EVERYTHING))
    assert (late.status, settings(host)) == (0, clean)
    assert "net1" in peer.links()
    world.delete(vf(), CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    assert picture(host) == before
    assert world.records() == []


def test_late_delete_does_not_touch_the_settings_of_the_new_owner(
    world: World, host: Machine, peer: Namespace
) -> None:
    world.add(vf(vlan=100))
    lose(world.sandbox, host)
    world.add(vf(**EVERYTHING), CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    told = settings(host)
    world.delete(vf(vlan=100))
    assert settings(host) == told
    assert "vlan 100, qos 3" in told


def test_gc_restores_what_is_not_listed(world: World, host: Machine, before: str) -> None:
    world.add(vf(**EVERYTHING))
    lose(world.sandbox, host)
    answer = world.call(
        "GC", {"cniVersion": "1.1.0", "name": "rail", "type": "sriov", "cni.dev/valid-attachments": []}
    )
    assert (answer.status, answer.stdout) == (0, "")
    assert picture(host) == before
    assert world.records() == []


@pytest.fixture
def reboot(tmp_path: Path) -> Iterator[Any]:
    """Let the machine have another boot ID from the call on."""
    file = Path("/proc/sys/kernel/random/boot_id")
    mounted = []

    def rebooted() -> None:
        new = tmp_path / "boot_id"
        new.write_text("00000000-0000-4000-8000-000000000001\n")
        run("mount", "--bind", new, file)
        mounted.append(file)
        boot_id.cache_clear()  # this process stands for one that was started since

    yield rebooted
    for _ in mounted:
        run("umount", file)
    boot_id.cache_clear()


def test_reboot_frees_the_vf_and_what_it_made_of_it_stays(
    world: World, host: Machine, peer: Namespace, reboot: Any
) -> None:
    """After a boot the VFs are new: an operator may have given them settings of his own."""
    world.add(vf(vlan=100))
    lose(world.sandbox, host)
    host.ip("link", "set", PF, "vf", "0", "vlan", "5")
    reboot()
    world.add(vf(), CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    assert "vlan 5," in f"{settings(host)},"
    world.delete(vf(vlan=100))
    assert "vlan 5," in f"{settings(host)},"
    world.delete(vf(), CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    assert world.records() == []


# -- what others did meanwhile -------------------------------------------------------------------


def test_delete_finds_the_vf_whatever_it_is_called(world: World, before: str) -> None:
    world.add(vf(**EVERYTHING))
    world.sandbox.ip("link", "set", "net1", "down", "name", "data0", "mtu", "1300", "alias", "mine")
    world.delete(vf())
    assert picture(world.host) == before


def test_delete_finds_a_card_that_was_renamed(world: World, host: Machine, before: str) -> None:
    world.add(vf(**EVERYTHING))
    for new in ("uplink", PF):
        old = PF if new == "uplink" else "uplink"
        host.ip("link", "set", old, "down", "name", new, "up")
        if new == "uplink":
            world.delete(vf())
    assert picture(host) == before


def test_vfs_that_were_removed_are_gone_and_delete_is_content(world: World, host: Machine) -> None:
    world.add(vf(**EVERYTHING))
    Path("/sys/bus/pci/devices", CARD, "sriov_numvfs").write_text("0")
    answer = world.call("DEL", vf())
    assert answer.status == 0
    assert "is gone" in answer.stderr
    assert world.records() == []
    assert world.refused("ADD", vf())["code"] == 7


def test_vfs_that_were_made_anew_are_not_touched(world: World, host: Machine) -> None:
    world.add(vf(**EVERYTHING))
    make_vfs(2)
    until_made(host, 2)
    host.ip("link", "set", PF, "vf", "0", "vlan", "9")
    told = settings(host)
    world.delete(vf())
    assert settings(host) == told
    assert world.records() == []


def test_driver_that_was_changed_meanwhile(world: World, host: Machine) -> None:
    """The card is told what it held before, though the interface is no more."""
    was = settings(host)
    world.add(vf(**EVERYTHING))
    host.bind(VF, "vfio-pci")
    assert world.call("DEL", vf()).status == 0
    assert settings(host) == was
    world.add(vf(**EVERYTHING))
    host.bind(VF, "igbvf")
    host.until_home(VF)
    assert world.call("DEL", vf()).status == 0
    assert settings(host) == was
    assert world.records() == []


def test_name_that_is_taken_meanwhile(world: World, host: Machine) -> None:
    was = settings(host)
    mac = host.link(NAME)["address"]
    world.add(vf(**EVERYTHING, mtu=1400))
    host.ip("link", "add", NAME, "type", "dummy")
    answer = world.call("DEL", vf())
    host.ip("link", "del", NAME)
    assert answer.status == 0
    assert f'the name "{NAME}" is taken' in answer.stderr
    home = host.until_home(VF)
    assert (home.mac, home.mtu, settings(host)) == (mac, 1500, was)


def test_vf_in_another_namespace_is_named_as_that(world: World, host: Machine, peer: Namespace) -> None:
    host.ip("link", "set", NAME, "netns", peer.name)
    error = world.refused("ADD", vf())
    assert error["code"] == 11
    assert words_missing(error, [VF, "another network namespace"]) == []
    peer.ip("link", "set", NAME, "netns", "1")


def test_alternative_names_come_home(world: World, host: Machine) -> None:
    host.ip("link", "property", "add", "dev", NAME, "altname", "enp1s0v0")
    before = picture(host)
    world.add(vf(ipam={}))
    world.delete(vf())
    assert picture(host) == before


# -- CHECK and STATUS ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param("vlan 101", ["vlan", "101", "100"], id="vlan"),
        pytest.param("trust off", ["trust", "off", "on"], id="trust"),
        pytest.param("spoofchk on", ["spoofchk"], id="spoofchk"),
        pytest.param("max_tx_rate 400", ["rates", "400", "500"], id="rate"),
        pytest.param(f"mac {OTHER_MAC}", ["mac", OTHER_MAC, MAC], id="mac"),
    ],
)
def test_check_tells_which_setting_differs(
    world: World, host: Machine, change: str, words: list[str]
) -> None:
    result = world.add(vf(**EVERYTHING))
    host.ip("link", "set", PF, "vf", "0", *change.split())
    error = world.refused("CHECK", vf(**EVERYTHING, prevResult=result))
    assert error["code"] == 102
    assert words_missing(error, words) == []
    world.delete(vf())


def test_status_tells_whether_there_are_vfs(world: World) -> None:
    network = {"cniVersion": "1.1.0", "name": "rail", "type": "sriov"}
    assert world.call("STATUS", network).status == 0
    assert world.call("STATUS", vf()).status == 0
    assert world.refused("STATUS", vf(CARD))["code"] == 50


# -- many at once --------------------------------------------------------------------------------


def all_at_once(world: World, command: str, calls: list[tuple[dict[str, Any], Namespace, str]]) -> list[int]:
    """Make calls beside one another, each in a process of its own, and return their exit statuses."""

    def call(conf: dict[str, Any], sandbox: Namespace, container: str) -> int:
        return world.call(command, conf, CNI_NETNS=sandbox.path, CNI_CONTAINERID=container).status

    return [status_of(pid) for pid in [forked(partial(call, *each)) for each in calls]]


def test_seven_pods_get_seven_vfs_at_once(world: World, host: Machine) -> None:
    make_vfs(7)
    until_made(host, 7)
    host.until(lambda links: all(not link.is_up for link in links if link.parent.startswith("0000:01:1")))
    before = picture(host)
    pods = [Namespace("pod") for _ in range(7)]
    addresses = [f"0000:01:1{number // 4}.{number % 4 * 2}" for number in range(7)]
    calls = [
        (vf(address, ipam={}, vlan=10 + number), pod, f"pod-{number}")
        for number, (address, pod) in enumerate(zip(addresses, pods, strict=True))
    ]
    assert all_at_once(world, "ADD", calls) == [0] * 7
    assert ["net1" in pod.links() for pod in pods] == [True] * 7
    assert [f"vlan {10 + number}," in f"{settings(host, number)}," for number in range(7)] == [True] * 7
    assert all_at_once(world, "DEL", calls) == [0] * 7
    assert picture(host) == before
    assert world.records() == []
    for pod in pods:
        pod.delete()


def test_one_of_two_adds_of_one_vf_wins(world: World, host: Machine, peer: Namespace, before: str) -> None:
    sandboxes = {"pod-1": world.sandbox, "pod-2": peer}
    calls = [(vf(vlan=9), sandbox, name) for name, sandbox in sandboxes.items()]
    statuses = dict(zip(sandboxes, all_at_once(world, "ADD", calls), strict=True))
    assert sorted(statuses.values()) == [0, 1]
    for name in sorted(sandboxes, key=lambda name: -statuses[name]):  # the loser first, as its runtime would
        world.delete(vf(), CNI_NETNS=sandboxes[name].path, CNI_CONTAINERID=name)
    assert picture(host) == before


# -- failures of others --------------------------------------------------------------------------


def test_ipam_that_fails_gives_all_back(world: World, before: str, tmp_path: Path) -> None:
    stub = StubIpam(tmp_path / "plugins")
    world.path = f"{stub.folder}:{world.path}"
    stub.fails("ADD", {"cniVersion": "1.1.0", "code": 100, "msg": "no address left"})
    error = world.refused("ADD", vf(**EVERYTHING) | {"ipam": {"type": stub.type}})
    assert error["code"] == 100
    assert picture(world.host) == before
    assert world.records() == []


def test_route_that_the_kernel_refuses_gives_all_back(world: World, before: str) -> None:
    ipam = static("10.1.0.5/24", routes=[{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}])
    assert world.refused("ADD", vf(**EVERYTHING) | {"ipam": ipam})["code"] == 7
    assert picture(world.host) == before


# -- sriov-cni's attachments ---------------------------------------------------------------------


@pytest.mark.parametrize("is_alive", [True, False], ids=["sandbox-alive", "sandbox-gone"])
def test_attachment_of_sriov_cni_is_given_back_by_its_cache(
    world: World, host: Machine, before: str, is_alive: bool
) -> None:
    """What sriov-cni does to a VF is done by hand; its cache is as it writes it."""
    mac = host.link(NAME)["address"]
    cache = {
        "cniVersion": "1.0.0",
        "name": "rail",
        "type": "sriov",
        "OrigVfState": {
            "HostIFName": NAME,
            "SpoofChk": True,
            "Trust": False,
            "AdminMAC": mac,
            "EffectiveMAC": mac,
            "Vlan": 0,
            "VlanQoS": 0,
            "VlanProto": 33024,
            "MinTxRate": 0,
            "MaxTxRate": 0,
            "LinkState": 0,
            "MTU": 1500,
        },
        "Master": PF,
        "MAC": MAC,
        "vlan": 100,
        "vlanQoS": 3,
        "vlanProto": "802.1q",
        "deviceID": VF,
        "VFID": 0,
        "min_tx_rate": None,
        "max_tx_rate": 500,
        "spoofchk": "off",
        "trust": "on",
    }
    for change in ("vlan 100 qos 3", "spoofchk off", "trust on", "max_tx_rate 500", f"mac {MAC}"):
        host.ip("link", "set", PF, "vf", "0", *change.split())
    host.ip("link", "set", NAME, "netns", world.sandbox.name, "name", "net1")
    world.sandbox.ip("link", "set", "net1", "up", "mtu", "1400")
    (SRIOV_CNI / "pci").mkdir(parents=True, exist_ok=True)
    (SRIOV_CNI / "pod-1-net1").write_text(json.dumps(cache))
    (SRIOV_CNI / "pci" / VF).write_text(world.sandbox.path)
    if not is_alive:
        lose(world.sandbox, host)
    world.delete(vf())
    assert picture(host) == before
    assert [path for path in SRIOV_CNI.rglob("*") if path.is_file()] == []


# -- the documents -------------------------------------------------------------------------------


@pytest.mark.parametrize("document", configurations(with_cards=True))
def test_every_example_for_cards_attaches_checks_and_detaches(
    world: World, host: Machine, document: dict[str, Any]
) -> None:
    if document["name"] == "dpdk":
        host.bind(OTHER_VF, "vfio-pci")
    before = picture(host)
    result: dict[str, Any] | None = None
    calls = [(having(conf, world), conf) for conf in plugins_of(document)]
    for called, conf in calls:
        result = called.add({**conf, "prevResult": result} if result else conf)
    for called, conf in calls:
        answer = called.call("CHECK", {**conf, "prevResult": result})
        assert (answer.status, answer.stdout) == (0, ""), answer
        assert "unknown key" not in answer.stderr
    for called, conf in reversed(calls):
        called.delete({**conf, "prevResult": result})
    assert picture(host) == before
    assert world.records() == []


def having(conf: dict[str, Any], world: World) -> World:
    """Return the world with the directory where a configuration's plugin is."""
    return world if conf["type"] in TYPES else World(world.host, world.sandbox, world.state, bin=GO_BIN)
