"""host-device: how a device comes home, whatever happened to it, its sandbox, its host or its record."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from cni.host.links import Address, Links
from cni.host.netns import opened
from tests.support.devices import nic, told, words_missing
from tests.support.world import GO_BIN, Namespace, StubIpam, WarmWorld, World, static

CONF = nic(device="dev0")
ALIAS = "the administrator's words"


@pytest.fixture
def world(host: Namespace, sandbox: Namespace, tmp_path: Path) -> World:
    """A host with a device that has all that a device can have."""
    host.without_link_local()  # snapshots must not change by themselves
    sandbox.without_link_local()
    host.add_veth("dev0")
    host.ip("link", "set", "dev0", "mtu", "1400", "alias", ALIAS)
    for name in ("alt0", "an-alternative-name-that-is-long"):
        host.ip("link", "property", "add", "dev", "dev0", "altname", name)
    for address in (
        "10.0.0.1/24 broadcast +",
        "10.0.0.2/24 broadcast + label dev0:second",
        "10.0.1.1/24",
        "10.0.2.1 peer 10.0.2.2/32 metric 77",
        "10.0.3.1/24 scope link noprefixroute",
        "fd00::1/64 nodad",
        "fd00::2/64 nodad noprefixroute",
        "fe80::1/64 nodad",
    ):
        host.ip("addr", "add", *address.split(), "dev", "dev0")
    for route in ("default via 10.0.0.254", "10.9.0.0/16 via 10.0.0.253 table 77 src 10.0.0.2", "fd09::/64"):
        host.ip("route", "add", *route.split(), "dev", "dev0")
    return WarmWorld(host, sandbox, tmp_path / "state")


@pytest.fixture
def stub(world: World, tmp_path: Path) -> StubIpam:
    """An IPAM plugin of another make, along CNI_PATH."""
    stub = StubIpam(tmp_path / "stub")
    stub.answers("ADD", {"cniVersion": "1.0.0", "ips": [{"address": "10.2.0.9/24"}]})
    world.path = f"{stub.folder}:{world.path}"
    return stub


def go(command: str, world: World, conf: dict[str, Any], **variables: str) -> dict[str, Any]:
    """Call the Go plugin; the result, if it answers one."""
    answer = World(world.host, world.sandbox, world.state, bin=GO_BIN).call(command, conf, **variables)
    assert answer.status == 0, answer
    return answer.json if answer.stdout else {}


# -- as it was ------------------------------------------------------------------------------------


def test_device_comes_home_as_it_was(world: World) -> None:
    before = world.host.snapshot()
    world.add(CONF)
    assert "dev0" not in world.host.links()
    world.delete(CONF)
    assert world.host.snapshot() == before
    assert world.sandbox.links().keys() == {"lo"}
    assert world.records() == []


def test_device_that_was_down_comes_home_down(world: World) -> None:
    world.host.ip("link", "set", "dev0", "down")
    before = told(world.host)
    world.add(CONF)
    assert "UP" in world.sandbox.link("net1")["flags"]
    world.delete(CONF)
    assert told(world.host) == before


def test_device_comes_home_with_its_index_though_the_sandbox_has_that_too(world: World) -> None:
    index = str(world.host.link("dev0")["ifindex"])
    peer = ("peer", "name", "eth0-peer", "index", "77")
    world.sandbox.ip("link", "add", "eth0", "index", index, "type", "veth", *peer)
    before = world.host.snapshot()
    world.add(CONF)
    assert str(world.sandbox.link("net1")["ifindex"]) != index
    world.delete(CONF)
    assert world.host.snapshot() == before


def test_addresses_come_home_with_what_ip_does_not_show(world: World) -> None:
    with opened(world.host.path) as own, Links(own, "on the host") as links:
        link = links.find("dev0")
        assert link
        # Who gave an address: 18 is keepalived.
        links.add_addresses(link, [Address(ip_interface("10.0.4.1/24"), protocol=18)])
        before = links.addresses(link.index)
        world.add(CONF)
        world.delete(CONF)
        assert links.addresses(link.index) == before


@pytest.mark.parametrize("mode", ["eui64", "none"])
def test_way_to_make_link_local_addresses_comes_home(world: World, mode: str) -> None:
    world.host.ip("link", "set", "dev0", "addrgenmode", mode)
    world.add(CONF)
    world.delete(CONF)
    assert world.host.link("dev0")["inet6_addr_gen_mode"] == mode


def test_device_that_makes_no_link_local_address_comes_home_without(world: World) -> None:
    before = world.host.addresses("dev0"), told(world.host, "dev", "dev0").count("inet6 fe80:")
    world.host.ip("link", "set", "dev0", "addrgenmode", "none")
    world.add(CONF)
    world.delete(CONF)
    assert (world.host.addresses("dev0"), told(world.host, "dev", "dev0").count("inet6 fe80:")) == before


def test_second_attachment_of_the_device_is_as_good_as_the_first(world: World) -> None:
    before = world.host.snapshot()
    for _ in range(2):
        result = world.add(CONF)
        assert world.call("CHECK", CONF | {"prevResult": result}).status == 0
        world.delete(CONF)
    assert world.host.snapshot() == before


RENAMED = ["link set net1 down name other"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(RENAMED, id="got-another-name"),
        pytest.param([*RENAMED, "link set other up"], id="got-another-name-and-is-up"),
        pytest.param(["link set net1 address 02:00:00:00:00:99"], id="got-another-mac"),
        pytest.param(["link set net1 mtu 1200"], id="got-another-mtu"),
        pytest.param(["link set net1 alias other"], id="got-another-alias"),
        pytest.param(["link set net1 promisc on multicast off arp off"], id="got-other-flags"),
        pytest.param(["link set net1 txqueuelen 7 group 9"], id="got-another-queue-and-group"),
        pytest.param(["link set net1 down"], id="was-set-down"),
        pytest.param(["link property add dev net1 altname other"], id="got-one-more-alternative-name"),
        pytest.param(["link property del dev net1 altname alt0"], id="lost-an-alternative-name"),
        pytest.param(
            [*RENAMED, "link property add dev other altname dev0"], id="got-its-own-name-as-alternative"
        ),
        pytest.param(["addr add 10.0.0.1/24 dev net1"], id="got-its-own-address"),
        pytest.param(
            [*RENAMED, "link set other address 02:00:00:00:00:99 mtu 1200 alias x"], id="got-all-that-at-once"
        ),
    ],
)
def test_device_comes_home_as_it_was_though_in_the_sandbox_it(world: World, changes: list[str]) -> None:
    before = world.host.snapshot()
    world.add(CONF)
    for change in changes:
        world.sandbox.ip(*change.split())
    world.delete(CONF)
    assert world.host.snapshot() == before
    assert world.sandbox.links().keys() == {"lo"}
    assert world.records() == []


def test_link_that_got_the_devices_name_in_the_sandbox_stays_there(world: World) -> None:
    before = told(world.host)
    world.add(CONF)
    world.sandbox.ip("link", "set", "net1", "down", "name", "other")
    world.sandbox.add_veth("net1")
    foreign = told(world.sandbox, "dev", "net1")
    world.delete(CONF)
    assert told(world.host) == before
    assert told(world.sandbox, "dev", "net1") == foreign


# -- a host that changed meanwhile ----------------------------------------------------------------


def take_by_a_link(host: Namespace) -> None:
    host.add_veth("dev0", peer_name="usurper-peer")


def take_by_an_altname(host: Namespace) -> None:
    host.add_veth("usurper")
    host.ip("link", "property", "add", "dev", "usurper", "altname", "dev0")


@pytest.mark.parametrize(
    "take",
    [
        pytest.param(take_by_a_link, id="a-link"),
        pytest.param(take_by_an_altname, id="a-links-alternative-name"),
    ],
)
def test_device_whose_name_is_taken_comes_home_under_another(
    world: World, take: Callable[[Namespace], None]
) -> None:
    before = told(world.host, "dev", "dev0")
    index = world.host.link("dev0")["ifindex"]
    world.add(CONF)
    take(world.host)
    usurped = told(world.host, "dev", "dev0")
    answer = world.call("DEL", CONF)
    assert (answer.status, answer.stdout) == (0, "")
    assert f'the name "dev0" is taken on the host; the device is "dev{index}" there' in answer.stderr
    assert told(world.host, "dev", "dev0") == usurped
    # Its name stands at the beginning, and as the label of IPv4 addresses that were given none.
    renamed = re.sub(r"\bdev0(?=@|\n)", f"dev{index}", before)
    assert told(world.host, "dev", f"dev{index}") == renamed
    assert world.records() == []


def test_alternative_name_that_is_taken_is_told_and_the_rest_comes_home(world: World) -> None:
    before = told(world.host, "dev", "dev0")
    world.add(CONF)
    world.host.add_veth("usurper")
    world.host.ip("link", "property", "add", "dev", "usurper", "altname", "alt0")
    answer = world.call("DEL", CONF)
    assert answer.status == 0
    assert 'the alternative name "alt0" is taken on the host' in answer.stderr
    assert told(world.host, "dev", "dev0") == before.replace("    altname alt0\n", "")


def test_what_cannot_be_given_back_is_named_and_the_rest_is_given(world: World) -> None:
    before = told(world.host, "dev", "dev0")
    world.add(CONF)
    world.host.sh("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    error = world.refused("DEL", CONF)
    assert words_missing(error, ['"dev0"', "fe80::1/64", "IPv6 is disabled"]) == []
    ipv4 = [line for line in before.splitlines() if "inet6" not in line]
    for line in ipv4[:-1]:
        assert line in told(world.host, "dev", "dev0")
    assert len(world.records()) == 1
    world.host.sh("sysctl", "-qw", "net.ipv6.conf.dev0.disable_ipv6=0")
    world.delete(CONF)
    assert told(world.host, "dev", "dev0") == before
    assert world.records() == []


# -- a sandbox or a device that is gone -----------------------------------------------------------


def lose_sandbox(world: World) -> None:
    world.sandbox.delete()


def lose_device(world: World) -> None:
    world.sandbox.ip("link", "del", "net1")


LOSSES = [
    pytest.param(lose_sandbox, id="sandbox"),
    pytest.param(lose_device, id="device"),
]


@pytest.mark.parametrize("lose", LOSSES)
def test_virtual_device_dies_with_its_sandbox_and_delete_is_content(
    world: World, stub: StubIpam, lose: Callable[[World], None]
) -> None:
    conf = CONF | {"ipam": {"type": stub.type}}
    world.add(conf)
    lose(world)
    answer = world.call("DEL", conf)
    assert (answer.status, answer.stdout) == (0, "")
    assert 'the device "dev0" is gone' in answer.stderr
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]
    assert world.records() == []


@pytest.mark.parametrize("lose", LOSSES)
def test_another_device_is_not_taken_for_the_one_that_is_gone(
    world: World, lose: Callable[[World], None]
) -> None:
    """Though it is of the same kind and has the same name and MAC."""
    mac = world.host.link("dev0")["address"]
    world.add(CONF)
    lose(world)
    world.host.ip("link", "add", "dev0", "address", mac, "mtu", "1300", "type", "veth")
    before = told(world.host, "dev", "dev0")
    world.delete(CONF)
    assert told(world.host, "dev", "dev0") == before


def test_devices_without_a_mac_are_not_taken_for_each_other(world: World) -> None:
    for name in ("tun0", "tun1"):
        world.host.ip("tuntap", "add", name, "mode", "tun")  # needs /dev/net/tun: modprobe tun
    conf = nic(device="tun0", ipam={})
    world.add(conf)
    world.sandbox.delete()
    before = world.host.snapshot()
    world.delete(conf)
    assert world.host.snapshot() == before


def age(world: World) -> None:
    """Make the record one of an earlier boot, whose sandbox is gone."""
    (file,) = world.records()
    record = json.loads(file.read_text())
    record["sandbox"] = f"00000000-1111-2222-3333-444444444444/{record['sandbox'].partition('/')[2]}"
    file.write_text(json.dumps(record))


def come_home_by_boot(world: World) -> str:
    """Let the device be on the host again, set up as it is at boot; return what the host looks like."""
    world.sandbox.ip("link", "set", "net1", "down", "name", "dev0", "netns", world.host.name)
    world.host.ip("link", "set", "dev0", "up", "mtu", "1300", "alias", "")
    world.host.ip("addr", "add", "10.0.7.1/24", "dev", "dev0")
    return world.host.snapshot()


@pytest.mark.parametrize("way", ["DEL", "GC"])
def test_device_is_left_as_the_next_boot_made_it_by(world: World, stub: StubIpam, way: str) -> None:
    conf = CONF | {"cniVersion": "1.1.0", "ipam": {"type": stub.type}}
    world.add(conf)
    age(world)
    before = come_home_by_boot(world)
    answer = world.call(way, conf | {"cni.dev/valid-attachments": []})
    assert (answer.status, answer.stdout) == (0, "")
    assert 'the machine has booted since; "dev0" is left as it is' in answer.stderr
    assert world.host.snapshot() == before
    assert stub.calls()[:2] == ["ADD pod-1 net1", "DEL pod-1 net1"]
    assert world.records() == []


def test_device_of_an_earlier_boots_pod_is_free_for_the_next(world: World, peer: Namespace) -> None:
    world.add(CONF)
    age(world)
    before = come_home_by_boot(world)
    late = {"CNI_NETNS": peer.path, "CNI_CONTAINERID": "late"}
    world.add(CONF, **late)
    assert peer.link("net1")["mtu"] == 1300
    world.delete(CONF, **late)
    assert world.host.snapshot() == before


def test_delete_again_is_content(world: World) -> None:
    world.add(CONF)
    world.delete(CONF)
    before = world.host.snapshot()
    world.delete(CONF)
    world.delete(CONF, CNI_NETNS="")
    world.sandbox.delete()
    world.delete(CONF)
    assert world.host.snapshot() == before


def test_delete_without_a_sandbox_path_finds_it_in_the_record(world: World) -> None:
    before = world.host.snapshot()
    world.add(CONF)
    world.delete(CONF, CNI_NETNS="")
    assert world.host.snapshot() == before


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"device": "dev9"}, id="names-another-device"),
        pytest.param({"device": ""}, id="names-no-device"),
        pytest.param({"device": ["dev0"]}, id="has-no-name-but-a-list"),
        pytest.param({"hwaddr": "nonsense", "runtimeConfig": 7, "dad": 1}, id="has-nothing-but-mistakes"),
        pytest.param({"pciBusID": "0000:ff:1f.7", "device": None}, id="names-a-device-that-is-unplugged"),
        pytest.param({"ipam": {}}, id="has-no-ipam-any-more"),
        pytest.param({"ipam": 7}, id="has-no-ipam-but-a-number"),
        pytest.param({"prevResult": {"ips": "nonsense"}}, id="has-a-result-that-is-none"),
    ],
)
def test_delete_brings_the_device_home_though_the_configuration(
    world: World, stub: StubIpam, keys: dict[str, Any]
) -> None:
    before = world.host.snapshot()
    world.add(CONF | {"ipam": {"type": stub.type}})
    world.delete(CONF | {"ipam": {"type": stub.type}} | keys)
    assert world.host.snapshot() == before
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]
    assert world.records() == []


def test_device_comes_home_though_the_ipam_plugin_fails(world: World, stub: StubIpam) -> None:
    conf = CONF | {"ipam": {"type": stub.type}}
    before = world.host.snapshot()
    world.add(conf)
    stub.fails("DEL", {"code": 123, "msg": "not now"})
    error = world.refused("DEL", conf)
    assert (error["code"], error["msg"]) == (123, "not now")
    assert world.host.snapshot() == before
    stub.works("DEL")
    world.delete(conf)
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1", "DEL pod-1 net1"]
    assert world.host.snapshot() == before
    assert world.records() == []


# -- an ADD that fails ----------------------------------------------------------------------------


def let_ipam_fail(stub: StubIpam) -> dict[str, Any]:
    stub.fails("ADD", {"code": 123, "msg": "no more addresses"})
    return {"type": stub.type}


def let_ipam_answer_nothing(stub: StubIpam) -> dict[str, Any]:
    stub.answers("ADD", {"cniVersion": "1.0.0"})
    return {"type": stub.type}


def let_ipam_answer_an_address_that_cannot_be(stub: StubIpam) -> dict[str, Any]:
    stub.answers("ADD", {"cniVersion": "1.0.0", "ips": [{"address": "ff02::9/64"}]})
    return {"type": stub.type}


def let_ipam_answer_a_route_that_cannot_be(stub: StubIpam) -> dict[str, Any]:
    routes = [{"dst": "10.9.0.0/16", "gw": "192.168.7.1"}]
    stub.answers("ADD", {"cniVersion": "1.0.0", "ips": [{"address": "10.2.0.9/24"}], "routes": routes})
    return {"type": stub.type}


@pytest.mark.parametrize(
    ("let", "code", "words"),
    [
        pytest.param(let_ipam_fail, 123, ["no more addresses"], id="fails"),
        pytest.param(let_ipam_answer_nothing, 7, ["missing IP config"], id="gives-no-address"),
        pytest.param(
            let_ipam_answer_an_address_that_cannot_be, 7, ["ff02::9/64"], id="gives-a-multicast-address"
        ),
        pytest.param(
            let_ipam_answer_a_route_that_cannot_be,
            7,
            ["10.9.0.0/16", "192.168.7.1"],
            id="gives-a-route-over-a-stranger",
        ),
    ],
)
def test_device_is_home_again_when_the_ipam_plugin(
    world: World,
    stub: StubIpam,
    let: Callable[[StubIpam], dict[str, Any]],
    code: int,
    words: list[str],
) -> None:
    before = world.host.snapshot(), world.sandbox.snapshot()
    error = world.refused("ADD", CONF | {"ipam": let(stub)})
    assert error["code"] == code
    assert words_missing(error, words) == []
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]
    assert (world.host.snapshot(), world.sandbox.snapshot()) == before
    assert world.records() == []


# -- what belongs to others -----------------------------------------------------------------------


def test_delete_of_a_refused_attachment_leaves_the_one_that_was_there(world: World) -> None:
    world.host.add_veth("dev1")
    world.add(CONF)
    other = nic(name="other", device="dev1")
    assert world.refused("ADD", other)["code"] == 101
    before = told(world.host), told(world.sandbox)
    answer = world.call("DEL", other)
    assert answer.status == 0
    assert "it is net1 of container pod-1 on network nic" in answer.stderr
    assert (told(world.host), told(world.sandbox)) == before


@pytest.mark.parametrize(
    "alias",
    [
        pytest.param("", id="without-an-alias"),
        pytest.param("uplink of the pod", id="with-an-alias-of-several-words"),
        pytest.param("an-alias-that-is-no-name", id="with-an-alias-longer-than-a-name"),
    ],
)
def test_delete_of_a_refused_attachment_leaves_a_foreign_link(world: World, alias: str) -> None:
    world.sandbox.add_veth("net1")
    world.sandbox.ip("link", "set", "net1", "alias", alias)
    world.refused("ADD", CONF)
    before = world.host.snapshot(), world.sandbox.snapshot()
    answer = world.call("DEL", CONF)
    assert answer.status == 0
    assert "net1 is left alone" in answer.stderr
    assert (world.host.snapshot(), world.sandbox.snapshot()) == before


def test_delete_of_one_pod_leaves_the_device_of_another_that_has_its_mac(
    world: World, peer: Namespace
) -> None:
    """Of two devices with one MAC, each goes to a pod; the first one's is destroyed there."""
    mac = world.host.link("dev0")["address"]
    world.host.add_veth("dev1")
    world.host.ip("link", "set", "dev1", "address", mac)
    world.add(CONF)
    world.add(nic(device="dev1", ipam={}), CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    world.sandbox.delete()
    before = told(peer)
    world.delete(CONF)
    assert told(peer) == before


# -- GC -------------------------------------------------------------------------------------------


def gc(world: World, *valid: tuple[str, str]) -> None:
    listed = [{"containerID": container, "ifname": ifname} for container, ifname in valid]
    answer = world.call("GC", CONF | {"cniVersion": "1.1.0", "cni.dev/valid-attachments": listed})
    assert (answer.status, answer.stdout) == (0, ""), answer


def test_gc_brings_devices_of_attachments_home_that_are_no_longer_valid(
    world: World, peer: Namespace
) -> None:
    world.host.add_veth("dev1")
    before = told(world.host, "dev", "dev0")
    world.add(CONF)
    other = nic(device="dev1", ipam=static("10.2.0.6/24"))
    world.add(other, CNI_CONTAINERID="pod-2", CNI_NETNS=peer.path)
    kept = told(peer)
    gc(world, ("pod-2", "net1"))
    assert told(world.host, "dev", "dev0") == before
    assert told(peer) == kept
    assert [path.name for path in world.records()] == ["pod-2@net1.json"]


def test_gc_gives_back_the_addresses_of_a_device_that_died_with_its_sandbox(
    world: World, stub: StubIpam
) -> None:
    world.add(CONF | {"ipam": {"type": stub.type}})
    world.sandbox.delete()
    gc(world)
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]
    assert world.records() == []


def test_gc_of_a_network_leaves_those_of_others(world: World) -> None:
    world.add(CONF | {"name": "other"})
    before = world.sandbox.snapshot()
    gc(world)
    assert world.sandbox.snapshot() == before
    assert len(world.records()) == 1


# -- an ADD before the DEL of an earlier one ------------------------------------------------------


def test_add_gives_back_what_a_dead_sandbox_of_the_same_attachment_left(
    world: World, stub: StubIpam, peer: Namespace
) -> None:
    world.host.add_veth("dev1")
    conf = CONF | {"ipam": {"type": stub.type}}
    world.add(conf)
    world.sandbox.delete()
    world.add(conf | {"device": "dev1"}, CNI_NETNS=peer.path)
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1", "ADD pod-1 net1"]
    assert json.loads(world.records()[0].read_text())["device"]["name"] == "dev1"


# -- side by side with the Go plugin --------------------------------------------------------------


def test_device_that_the_go_plugin_moved_is_brought_home(world: World) -> None:
    go("ADD", world, CONF)
    assert world.sandbox.link("net1")["ifalias"] == "dev0"
    world.delete(CONF)
    link = world.host.link("dev0")
    assert (link.get("ifalias"), "UP" in link["flags"]) == (None, False)  # as the Go plugin leaves it
    assert world.sandbox.links().keys() == {"lo"}


@pytest.mark.parametrize("take", [take_by_a_link, take_by_an_altname])
def test_device_that_the_go_plugin_moved_is_brought_home_though_its_name_is_taken(
    world: World, take: Callable[[Namespace], None]
) -> None:
    index = world.host.link("dev0")["ifindex"]
    mac = world.host.link("dev0")["address"]
    go("ADD", world, CONF)
    take(world.host)
    world.delete(CONF)
    assert world.host.link(f"dev{index}")["address"] == mac


def test_sandbox_of_the_go_plugin_may_be_gone(world: World, stub: StubIpam) -> None:
    conf = CONF | {"ipam": {"type": stub.type}}
    World(world.host, world.sandbox, world.state, bin=GO_BIN, path=world.path).add(conf)
    world.sandbox.delete()
    world.delete(conf)
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]


def test_go_plugin_brings_home_what_was_moved_here(world: World) -> None:
    mac = world.host.link("dev0")["address"]
    world.add(CONF)
    go("DEL", world, CONF)
    assert world.host.link("dev0")["address"] == mac
    assert world.sandbox.links().keys() == {"lo"}


def test_what_the_go_plugin_brought_home_is_free_for_others_and_stays_with_them(
    world: World, peer: Namespace
) -> None:
    """The earlier owner's sandbox lives, and its DEL comes late."""
    world.add(CONF)
    go("DEL", world, CONF)
    world.host.ip("link", "set", "dev0", "mtu", "1300")
    world.add(CONF, CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    before = told(peer)
    world.delete(CONF)
    assert told(peer) == before
    world.delete(CONF, CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    assert world.host.link("dev0")["mtu"] == 1300
    assert world.records() == []
