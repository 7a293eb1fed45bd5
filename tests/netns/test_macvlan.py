"""macvlan on real links: what ADD makes of its configuration, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import VERSIONS_WITH_INTERFACES
from tests.support.world import Namespace, StubIpam, WarmWorld, World, rail, static

MAC, OTHER_MAC, THIRD_MAC = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"


@pytest.fixture
def world(host: Namespace, sandbox: Namespace, tmp_path: Path) -> World:
    host.add_veth("eth0")
    sandbox.without_link_local()  # snapshots must not change by themselves
    return WarmWorld(host, sandbox, tmp_path / "state")


@pytest.fixture
def stub(world: World, tmp_path: Path) -> StubIpam:
    """An IPAM plugin of another make, along CNI_PATH."""
    stub = StubIpam(tmp_path / "stub")
    stub.answers("ADD", {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}]})
    world.path = f"{stub.folder}:{world.path}"
    return stub


@pytest.mark.parametrize("version", VERSIONS_WITH_INTERFACES)
def test_delete_leaves_host_and_sandbox_as_add_found_them(world: World, version: str) -> None:
    conf = rail(cniVersion=version)
    before = world.host.snapshot(), world.sandbox.snapshot()
    result = world.add(conf)
    link = world.sandbox.link("net1")
    assert result["interfaces"] == [{"name": "net1", "mac": link["address"], "sandbox": world.sandbox.path}]
    assert world.sandbox.addresses("net1") == ["10.1.0.5/24"]
    assert "UP" in link["flags"]
    world.delete(conf)
    assert (world.host.snapshot(), world.sandbox.snapshot()) == before
    assert world.records() == []


# -- mode, MTU, queue -----------------------------------------------------------------------------


def info(world: World, key: str) -> Any:
    return world.sandbox.link("net1")["linkinfo"]["info_data"][key]


@pytest.mark.parametrize("mode", ["bridge", "vepa", "private", "passthru"])
def test_link_has_the_configured_mode(world: World, mode: str) -> None:
    world.add(rail(mode=mode))
    assert info(world, "mode") == mode


@pytest.mark.parametrize("mode", [pytest.param("", id="empty"), pytest.param(None, id="null")])
def test_mode_is_bridge_unless_configured(world: World, mode: str | None) -> None:
    world.add(rail(mode=mode))
    assert info(world, "mode") == "bridge"


def test_passthru_takes_the_masters_mac(world: World) -> None:
    result = world.add(rail(mode="passthru"))
    assert result["interfaces"][0]["mac"] == world.host.link("eth0")["address"]


@pytest.mark.parametrize(
    ("keys", "mtu"),
    [
        pytest.param({}, 1500, id="not-configured-takes-the-masters"),
        pytest.param({"mtu": 0}, 1500, id="zero-takes-the-masters"),
        pytest.param({"mtu": 1500}, 1500, id="as-large-as-the-masters"),
        pytest.param({"mtu": 1300}, 1300, id="smaller-than-the-masters"),
        pytest.param({"MTU": 1300}, 1300, id="whatever-the-case-of-the-key"),
    ],
)
def test_mtu(world: World, keys: dict[str, int], mtu: int) -> None:
    world.add(rail(**keys))
    assert world.sandbox.link("net1")["mtu"] == mtu


def test_queue_for_broadcasts_has_the_configured_length(world: World) -> None:
    world.add(rail(bcqueuelen=77))
    assert info(world, "bcqueuelen") == 77


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        pytest.param({"mtu": 1501}, ["1501", "1500", '"eth0"'], id="mtu-above-the-masters"),
        pytest.param({"mtu": 50}, ['"mtu"', "50", "68"], id="mtu-below-what-a-link-can-have"),
        pytest.param({"mtu": -1}, ['"mtu"', "-1"], id="mtu-negative"),
        pytest.param({"mtu": "1500"}, ['"mtu"', "1500"], id="mtu-a-string"),
        pytest.param({"mode": "source"}, ['"mode"', "source"], id="mode-source"),
        pytest.param({"mode": "Bridge"}, ['"mode"', "Bridge"], id="mode-in-another-case"),
        pytest.param({"bcqueuelen": -1}, ['"bcqueuelen"', "-1"], id="queue-length-negative"),
        pytest.param({"master": "eth7"}, ['"eth7"', "eth0"], id="master-that-does-not-exist"),
        pytest.param({"mac": "01:00:00:00:00:01"}, ['"mac"', "01:00:00:00:00:01"], id="mac-multicast"),
        pytest.param({"mac": "02:00:00:00:00:01:02:03"}, ['"mac"', "8 bytes"], id="mac-of-eight-bytes"),
        pytest.param({"mac": "nonsense"}, ['"mac"', "nonsense"], id="mac-that-is-none"),
        pytest.param(
            {"runtimeConfig": {"mac": "nonsense"}}, ['"runtimeConfig.mac"'], id="runtime-mac-that-is-none"
        ),
        pytest.param({"ipam": {"type": "nobody"}}, ['"nobody"'], id="ipam-plugin-that-is-not-installed"),
        pytest.param({"ipam": {"type": "../static"}}, ['"../static"'], id="ipam-type-that-is-a-path"),
    ],
)
def test_wrong_configuration_is_refused_with_key_and_value(
    world: World, keys: dict[str, Any], words: list[str]
) -> None:
    before = world.host.snapshot(), world.sandbox.snapshot()
    error = world.refused("ADD", rail(**keys))
    assert error["code"] == 7
    assert [word for word in words if word not in error["msg"] + error["details"]] == []
    assert (world.host.snapshot(), world.sandbox.snapshot()) == before
    assert world.records() == []


# -- MAC ------------------------------------------------------------------------------------------


def test_mac_is_random_and_the_sandboxes_own_unless_asked_for(world: World) -> None:
    first = world.add(rail())["interfaces"][0]["mac"]
    second = world.add(rail(ipam={}), CNI_IFNAME="net2")["interfaces"][0]["mac"]
    assert first != second
    assert all(int(mac[:2], 16) & 0b11 == 0b10 for mac in (first, second))  # local, unicast


@pytest.mark.parametrize(
    ("keys", "args", "mac"),
    [
        pytest.param({"mac": MAC}, "", MAC, id="configuration"),
        pytest.param({"mac": "02-00-00-00-00-0A"}, "", MAC, id="spelled-with-dashes-and-capitals"),
        pytest.param({"mac": "0200.0000.000a"}, "", MAC, id="spelled-with-dots"),
        pytest.param({}, f"MAC={MAC}", MAC, id="cni-args"),
        pytest.param({"mac": OTHER_MAC}, f"MAC={MAC}", MAC, id="cni-args-before-configuration"),
        pytest.param({"mac": OTHER_MAC}, "MAC=", OTHER_MAC, id="empty-cni-arg-counts-as-absent"),
        pytest.param({"runtimeConfig": {"mac": MAC}}, "", MAC, id="runtime-config"),
        pytest.param(
            {"mac": OTHER_MAC, "runtimeConfig": {"mac": MAC}},
            f"MAC={THIRD_MAC}",
            MAC,
            id="runtime-config-before-both",
        ),
        pytest.param(
            {"mac": MAC}, "K8S_POD_NAME=web;IgnoreUnknown=1", MAC, id="unknown-cni-args-are-ignored"
        ),
    ],
)
def test_mac_that_was_asked_for(world: World, keys: dict[str, Any], args: str, mac: str) -> None:
    result = world.add(rail(**keys), CNI_ARGS=args)
    assert result["interfaces"][0]["mac"] == mac
    assert world.sandbox.link("net1")["address"] == mac


@pytest.mark.parametrize(
    ("args", "words"),
    [
        pytest.param("MAC=nonsense", ["MAC", "nonsense"], id="mac-that-is-none"),
        pytest.param("MAC=01:00:00:00:00:01", ["MAC", "multicast"], id="mac-multicast"),
        pytest.param("mac=02:00:00:00:00:01", ["mac", "IgnoreUnknown"], id="unknown-key"),
        pytest.param("MAC=02:00:00:00:00:01;", ["KEY=VALUE"], id="semicolon-at-the-end"),
    ],
)
def test_wrong_cni_args_are_refused(world: World, args: str, words: list[str]) -> None:
    error = world.refused("ADD", rail(), CNI_ARGS=args)
    assert error["code"] == 4
    assert [word for word in words if word not in error["msg"] + error["details"]] == []
    assert "net1" not in world.sandbox.links()


def test_mac_that_the_master_has_twice_is_refused_by_name(world: World, peer: Namespace) -> None:
    world.add(rail(mac=MAC))
    error = world.refused("ADD", rail(mac=MAC), CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
    assert error["code"] == 7
    assert MAC in error["msg"] + error["details"]
    assert "net1" not in peer.links()
    assert "net1" in world.sandbox.links()


# -- master ---------------------------------------------------------------------------------------


def add_rails(namespace: Namespace) -> None:
    """Two links with an address of each family."""
    for number, name in enumerate(("rail0", "rail1")):
        namespace.add_veth(name)
        namespace.ip("addr", "add", f"10.{number}.0.2/24", "dev", name)
        namespace.ip("addr", "add", f"fd0{number}::2/64", "dev", name, "nodad")


@pytest.mark.parametrize(
    ("routes", "master"),
    [
        pytest.param(["default via 10.1.0.1"], "rail1", id="ipv4"),
        pytest.param(["default via fd01::1"], "rail1", id="ipv6"),
        pytest.param(["default via fd00::1", "default via 10.1.0.1"], "rail1", id="ipv4-before-ipv6"),
        pytest.param(
            ["default via 10.0.0.1 metric 200", "default via 10.1.0.1 metric 100"],
            "rail1",
            id="the-lowest-metric",
        ),
        pytest.param(
            ["default nexthop via 10.1.0.1 nexthop via 10.0.0.1"], "rail1", id="the-first-of-several-hops"
        ),
        pytest.param(
            ["default nexthop via fd01::1 nexthop via fd00::1"], "rail1", id="the-first-of-several-ipv6-hops"
        ),
        pytest.param(
            ["default via 10.0.0.1 table 100", "default via 10.1.0.1"], "rail1", id="of-the-main-table-only"
        ),
        pytest.param(
            ["unreachable default metric 1", "default via 10.1.0.1"], "rail1", id="that-leads-somewhere"
        ),
        pytest.param(["default dev rail1"], "rail1", id="without-a-gateway"),
    ],
)
@pytest.mark.parametrize("in_container", [False, True], ids=["on-the-host", "in-the-container"])
def test_master_is_the_default_routes_link(
    world: World, routes: list[str], master: str, in_container: bool
) -> None:
    where = world.sandbox if in_container else world.host
    add_rails(where)
    for route in routes:
        where.ip("-6" if "fd0" in route else "-4", "route", "add", *route.split())
    world.add(rail(master="", linkInContainer=in_container, ipam={}))
    link = world.sandbox.link("net1")
    assert (
        link.get("link_index", where.links().get(link.get("link", ""), {}).get("ifindex"))
        == (where.link(master)["ifindex"])
    )


def test_without_master_and_default_route_the_links_are_named(world: World) -> None:
    error = world.refused("ADD", rail(master=""))
    assert error["code"] == 7
    assert "default route" in error["msg"]
    assert "eth0" in error["details"]


def test_master_may_be_an_alternative_name(world: World) -> None:
    world.host.ip("link", "property", "add", "dev", "eth0", "altname", "rail-to-the-storage-network")
    world.add(rail(master="rail-to-the-storage-network"))
    assert world.sandbox.link("net1")["link_index"] == world.host.link("eth0")["ifindex"]


def test_master_that_is_down_is_accepted(world: World) -> None:
    world.host.ip("link", "set", "eth0", "down")
    world.add(rail())
    assert world.sandbox.addresses("net1") == ["10.1.0.5/24"]


def test_link_in_container_rides_on_the_sandboxes_link(world: World) -> None:
    world.sandbox.add_veth("eth0")
    before = world.sandbox.snapshot()
    conf = rail(linkInContainer=True)
    world.add(conf)
    assert world.sandbox.link("net1")["link"] == "eth0"
    world.delete(conf)
    assert world.sandbox.snapshot() == before


def test_link_in_container_looks_for_the_master_in_the_sandbox_only(world: World) -> None:
    error = world.refused("ADD", rail(linkInContainer=True))
    assert error["code"] == 7
    assert error["msg"] == 'master "eth0" does not exist in the sandbox'


def test_name_that_the_host_uses_too_is_no_obstacle(world: World) -> None:
    world.add(rail(), CNI_IFNAME="eth0")
    assert world.sandbox.addresses("eth0") == ["10.1.0.5/24"]


@pytest.mark.parametrize("in_container", [False, True], ids=["on-the-host", "in-the-sandbox"])
@pytest.mark.parametrize("version", ["0.4.0", "1.1.0"])
def test_master_may_be_a_macvlan_itself(world: World, version: str, in_container: bool) -> None:
    """The kernel puts the link beside it, on the one below, which is the host's in both cases."""
    where = ["netns", world.sandbox.name] if in_container else []
    world.host.ip("link", "add", "link", "eth0", "name", "mac0", *where, "type", "macvlan", "mode", "bridge")
    (world.sandbox if in_container else world.host).ip("link", "set", "mac0", "up", "mtu", "1400")
    conf = rail(cniVersion=version, master="mac0", linkInContainer=in_container)
    before = world.host.snapshot(), world.sandbox.snapshot()
    result = world.add(conf)
    assert world.sandbox.link("net1")["mtu"] == 1400
    checked = world.call("CHECK", conf | {"prevResult": result})
    assert (checked.status, checked.stderr) == (0, "")
    world.delete(conf)
    assert (world.host.snapshot(), world.sandbox.snapshot()) == before


# -- who keeps the master -------------------------------------------------------------------------


def enslave(world: World) -> None:
    world.host.ip("link", "add", "br-lan", "type", "bridge")
    world.host.ip("link", "set", "eth0", "master", "br-lan")


def add_passthru(world: World) -> None:
    world.host.ip("link", "add", "link", "eth0", "alone", "type", "macvlan", "mode", "passthru")


def add_bridge_mode(world: World) -> None:
    world.host.ip("link", "add", "link", "eth0", "first", "type", "macvlan", "mode", "bridge")


def add_passthru_by_ourselves(world: World) -> None:
    world.add(rail(mode="passthru", ipam={}), CNI_CONTAINERID="first-pod", CNI_IFNAME="alone")


def add_tun(world: World) -> None:
    world.host.ip("link", "del", "eth0")
    world.host.ip("tuntap", "add", "eth0", "mode", "tun")  # needs /dev/net/tun: modprobe tun


def add_loopback(world: World) -> None:
    world.host.ip("link", "del", "eth0")
    world.host.ip("link", "set", "lo", "name", "eth0")


@pytest.mark.parametrize(
    ("prepare", "mode", "words"),
    [
        pytest.param(enslave, "bridge", ['"eth0" is a port of the bridge "br-lan"'], id="a-bridge"),
        pytest.param(
            add_passthru, "bridge", ['"eth0" has a macvlan in passthru mode'], id="a-passthru-macvlan"
        ),
        pytest.param(
            add_passthru_by_ourselves,
            "bridge",
            ['"eth0" has a macvlan in passthru mode', "alone of container first-pod on network rail"],
            id="a-passthru-macvlan-of-ours",
        ),
        pytest.param(
            add_bridge_mode, "passthru", ["passthru needs it alone"], id="a-macvlan-where-passthru-is-asked"
        ),
        pytest.param(add_tun, "bridge", ['"eth0" is no Ethernet link'], id="a-tun-device"),
        pytest.param(add_loopback, "bridge", ['"eth0" is no Ethernet link'], id="the-loopback-device"),
    ],
)
def test_what_keeps_the_master_from_having_a_macvlan_is_named(
    world: World, prepare: Callable[[World], None], mode: str, words: list[str]
) -> None:
    prepare(world)
    before = world.host.snapshot(), world.sandbox.snapshot(), world.records()
    error = world.refused("ADD", rail(mode=mode))
    assert error["code"] == 7
    assert [word for word in words if word not in error["details"]] == []
    assert (world.host.snapshot(), world.sandbox.snapshot(), world.records()) == before


def test_refused_passthru_leaves_the_sandboxes_first_one(world: World) -> None:
    world.add(rail(mode="passthru"))
    before = world.sandbox.snapshot()
    world.refused("ADD", rail(name="other", mode="passthru"), CNI_IFNAME="net2")
    assert world.sandbox.snapshot() == before


# -- a name that is taken -------------------------------------------------------------------------


def test_name_of_a_foreign_link_is_refused_before_ipam_is_called(world: World, stub: StubIpam) -> None:
    world.sandbox.add_veth("net1")
    before = world.sandbox.snapshot()
    error = world.refused("ADD", rail(ipam={"type": stub.type}))
    assert error["code"] == 101
    assert "veth" in error["details"]
    assert stub.calls() == []
    assert world.sandbox.snapshot() == before
    assert world.records() == []


def test_name_that_another_link_has_beside_its_own_is_refused_with_that(world: World) -> None:
    world.sandbox.add_veth("pod0")
    world.sandbox.ip("link", "property", "add", "dev", "pod0", "altname", "net1")
    error = world.refused("ADD", rail())
    assert (error["code"], 'which is called "pod0" too' in error["details"]) == (101, True)
    world.delete(rail())
    assert "pod0" in world.sandbox.links()


@pytest.mark.parametrize(
    "again",
    [
        pytest.param({}, id="of-the-same-attachment"),
        pytest.param({"name": "other"}, id="of-another-network"),
    ],
)
def test_name_of_our_own_link_is_refused_before_ipam_is_called(
    world: World, stub: StubIpam, again: dict[str, str]
) -> None:
    conf = rail(ipam={"type": stub.type})
    world.add(conf)
    before = world.sandbox.snapshot(), [path.read_text() for path in world.records()]
    error = world.refused("ADD", conf | again)
    assert error["code"] == 101
    assert stub.calls() == ["ADD pod-1 net1"]
    assert (world.sandbox.snapshot(), [path.read_text() for path in world.records()]) == before
    world.delete(conf)
    assert world.records() == []


def test_delete_after_a_refused_add_leaves_the_foreign_link(world: World) -> None:
    world.sandbox.add_veth("net1")
    before = world.sandbox.snapshot()
    world.refused("ADD", rail())
    world.delete(rail())
    assert world.sandbox.snapshot() == before


# -- the result -----------------------------------------------------------------------------------


def test_without_ipam_the_link_is_up_and_has_no_address(world: World) -> None:
    result = world.add(rail(ipam={}, dns={"nameservers": ["10.1.0.53"]}))
    link = world.sandbox.link("net1")
    assert "UP" in link["flags"]
    assert world.sandbox.addresses("net1") == []
    assert result == {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net1", "mac": link["address"], "sandbox": world.sandbox.path}],
        "dns": {"nameservers": ["10.1.0.53"]},
    }


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", ""])
def test_old_versions_get_their_own_form_of_result(world: World, version: str) -> None:
    ipam = static(
        "10.1.0.5/24 via 10.1.0.1",
        "fd00::5/64 via fd00::1",
        routes=[{"dst": "10.9.0.0/16"}, {"dst": "fd09::/16", "gw": "fd00::9"}],
    )
    result = world.add(rail(cniVersion=version, ipam=ipam, dad="off"))
    assert result == {
        "cniVersion": version or "0.1.0",
        "ip4": {"ip": "10.1.0.5/24", "gateway": "10.1.0.1", "routes": [{"dst": "10.9.0.0/16"}]},
        "ip6": {"ip": "fd00::5/64", "gateway": "fd00::1", "routes": [{"dst": "fd09::/16", "gw": "fd00::9"}]},
        "dns": {},
    }


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_old_versions_cannot_express_a_link_without_address_and_nothing_is_made(
    world: World, version: str
) -> None:
    error = world.refused("ADD", rail(cniVersion=version, ipam={}))
    assert error["code"] == 2
    assert "cniVersion" in error["details"]
    assert "net1" not in world.sandbox.links()
    assert world.records() == []


EARLIER = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/pod"}],
    "ips": [{"interface": 1, "address": "10.0.0.5/24"}],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}],
    "dns": {"nameservers": ["10.0.0.53"]},
}


def test_result_of_an_earlier_plugin_is_merged(world: World) -> None:
    ipam = static("10.1.0.5/24 via 10.1.0.1", routes=[{"dst": "10.9.0.0/16"}])
    result = world.add(rail(ipam=ipam, prevResult=EARLIER))
    mac = world.sandbox.link("net1")["address"]
    assert result == {
        "cniVersion": "1.0.0",
        "interfaces": [
            *EARLIER["interfaces"],
            {"name": "net1", "mac": mac, "sandbox": world.sandbox.path},
        ],
        "ips": [
            {"interface": 1, "address": "10.0.0.5/24"},
            {"interface": 2, "address": "10.1.0.5/24", "gateway": "10.1.0.1"},
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}, {"dst": "10.9.0.0/16"}],
        "dns": {"nameservers": ["10.0.0.53"]},
    }
    assert world.sandbox.addresses("net1") == ["10.1.0.5/24"]


def test_previous_result_of_another_shape_is_refused_before_anything_is_made(world: World) -> None:
    error = world.refused("ADD", rail(prevResult=EARLIER | {"cniVersion": "0.4.0"}))
    assert error["code"] == 7
    assert "0.4.0" in error["msg"]
    assert world.sandbox.links().keys() == {"lo"}


@pytest.mark.parametrize(
    ("configured", "of_ipam", "earlier", "told"),
    [
        pytest.param(["10.0.0.1"], ["10.0.0.2"], ["10.0.0.3"], ["10.0.0.1"], id="the-configurations-first"),
        pytest.param([], ["10.0.0.2"], ["10.0.0.3"], ["10.0.0.2"], id="then-what-ipam-says"),
        pytest.param([], [], ["10.0.0.3"], ["10.0.0.3"], id="then-what-an-earlier-plugin-said"),
    ],
)
def test_dns(
    world: World, configured: list[str], of_ipam: list[str], earlier: list[str], told: list[str]
) -> None:
    result = world.add(
        rail(
            dns={"nameservers": configured},
            ipam=static("10.1.0.5/24", dns={"nameservers": of_ipam}),
            prevResult={"cniVersion": "1.0.0", "dns": {"nameservers": earlier}},
        )
    )
    assert result["dns"] == {"nameservers": told}


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0"])
def test_dns_is_always_told_where_the_version_wants_it(world: World, version: str) -> None:
    assert world.add(rail(cniVersion=version))["dns"] == {}


# -- IPAM plugins of another make -----------------------------------------------------------------


def test_ipam_plugin_gets_the_configuration_byte_for_byte(world: World, stub: StubIpam) -> None:
    conf = rail(ipam={"type": stub.type, "kept": {"as": ["it", "is"]}}, unknown=1)
    world.add(conf)
    assert stub.stdin("ADD") == conf
    assert world.sandbox.addresses("net1") == ["10.1.0.9/24"]


def test_failure_of_the_ipam_plugin_is_passed_on_and_everything_undone(world: World, stub: StubIpam) -> None:
    stub.fails("ADD", {"code": 123, "msg": "no more addresses", "details": "ask for more"})
    before = world.host.snapshot(), world.sandbox.snapshot()
    error = world.refused("ADD", rail(ipam={"type": stub.type}))
    assert (error["code"], error["msg"]) == (123, "no more addresses")
    assert "ask for more" in error["details"]
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]
    assert (world.host.snapshot(), world.sandbox.snapshot()) == before
    assert world.records() == []


def test_ipam_plugin_that_gives_no_address_is_refused_and_everything_undone(
    world: World, stub: StubIpam
) -> None:
    stub.answers("ADD", {"cniVersion": "1.0.0"})
    error = world.refused("ADD", rail(ipam={"type": stub.type}))
    assert error["code"] == 7
    assert error["msg"] == "IPAM plugin returned missing IP config"
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]
    assert "net1" not in world.sandbox.links()
    assert world.records() == []
