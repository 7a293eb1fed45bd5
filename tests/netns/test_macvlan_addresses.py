"""What an IPAM result becomes in the sandbox: addresses, routes, detection of duplicates, notices."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.world import Namespace, WarmWorld, Wire, World, rail, static


@pytest.fixture
def world(host: Namespace, sandbox: Namespace, peer: Namespace, tmp_path: Path) -> World:
    """A master whose wire ends in another namespace."""
    host.add_veth("eth0", peer, "far0")
    return WarmWorld(host, sandbox, tmp_path / "state")


# -- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param(["10.1.0.5/24"], id="one"),
        pytest.param(["10.1.0.5/24", "10.1.0.6/24", "10.2.0.5/16"], id="several-of-a-family"),
        pytest.param(["10.1.0.5/24", "fd00::5/64"], id="of-both-families"),
        pytest.param(["10.1.0.5/32", "fd00::5/128"], id="without-neighbours"),
        pytest.param(["10.1.0.4/31"], id="point-to-point"),
    ],
)
def test_link_gets_the_addresses(world: World, addresses: list[str]) -> None:
    world.add(rail(ipam=static(*addresses), dad="off"))
    assert sorted(world.sandbox.addresses("net1")) == sorted(addresses)


@pytest.mark.parametrize("version", ["0.3.1", "1.0.0"])
def test_address_that_ipam_names_twice_is_one_address(world: World, version: str) -> None:
    world.add(rail(cniVersion=version, ipam=static("10.1.0.5/24", "10.1.0.5/24")))
    assert world.sandbox.addresses("net1") == ["10.1.0.5/24"]


def test_ipv6_address_works_where_the_sandbox_has_ipv6_switched_off(world: World) -> None:
    for name in ("default", "lo"):
        world.sandbox.sh("sh", "-c", f"echo 1 >/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
    world.add(rail(ipam=static("fd00::5/64"), dad="off"))
    assert world.sandbox.addresses("net1") == ["fd00::5/64"]
    assert world.sandbox.sysctl("net.ipv6.conf.lo.disable_ipv6") == "0"


def test_ipv6_address_of_a_link_whose_mtu_is_too_small_for_it_is_refused(world: World) -> None:
    error = world.refused("ADD", rail(mtu=1279, ipam=static("fd00::5/64")))
    assert (error["code"], "its MTU is 1279" in error["msg"], "1280" in error["details"]) == (7, True, True)
    assert "net1" not in world.sandbox.links()
    world.add(rail(mtu=1280, ipam=static("fd00::5/64"), dad="off"))


@pytest.mark.parametrize("address", ["0.0.0.0/0", "::/64", "224.0.0.5/24", "ff02::5/64"])
def test_address_that_no_interface_can_have_is_refused(world: World, address: str) -> None:
    error = world.refused("ADD", rail(ipam=static(address)))
    assert (error["code"], error["msg"]) == (7, f'"net1" cannot have the address {address}')
    assert "net1" not in world.sandbox.links()


def test_ipv6_stays_off_where_no_address_needs_it(world: World) -> None:
    world.sandbox.sh("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
    world.add(rail())
    assert world.sandbox.sysctl("net.ipv6.conf.net1.disable_ipv6") == "1"


def test_ipv6_addresses_outlast_a_link_that_goes_down(world: World) -> None:
    world.add(rail(ipam=static("fd00::5/64"), dad="off"))
    world.sandbox.ip("link", "set", "net1", "down")
    assert world.sandbox.addresses("net1") == ["fd00::5/64"]


# -- many -----------------------------------------------------------------------------------------

MANY_ADDRESSES = [f"10.{2 + n // 200}.{n % 200}.5/24" for n in range(400)]
MANY_ROUTES = [{"dst": f"10.{100 + n // 200}.{n % 200}.0/24"} for n in range(1000)]


def test_hundreds_of_addresses_and_routes_are_programmed(world: World) -> None:
    """Their acknowledgements are more than a socket holds at once."""
    ipam = static("10.1.0.5/24 via 10.1.0.1", *MANY_ADDRESSES, routes=MANY_ROUTES)
    conf = rail(ipam=ipam, announce=False)
    result = world.add(conf)
    assert world.sandbox.addresses("net1") == ["10.1.0.5/24", *MANY_ADDRESSES]
    by_gateway = world.sandbox.routes("via", "10.1.0.1")
    assert [route["dst"] for route in by_gateway] == [route["dst"] for route in MANY_ROUTES]
    assert world.call("CHECK", conf | {"prevResult": result}).status == 0
    world.delete(conf)


def test_one_of_hundreds_that_is_refused_is_named_and_nothing_is_left(world: World) -> None:
    before = world.host.snapshot(), world.sandbox.snapshot()
    routes = [*MANY_ROUTES[:500], {"dst": "10.9.0.0/16", "gw": "192.0.2.1"}, *MANY_ROUTES[500:]]
    error = world.refused("ADD", rail(ipam=static("10.1.0.5/24 via 10.1.0.1", routes=routes)))
    assert error["code"] == 7
    assert 'cannot add the route 10.9.0.0/16 via 192.0.2.1 through "net1"' in error["msg"]
    assert (world.host.snapshot(), world.sandbox.snapshot(), world.records()) == (*before, [])


# -- routes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "where", "programmed"),
    [
        pytest.param(
            {"dst": "0.0.0.0/0"},
            ["table", "main"],
            {"dst": "default", "gateway": "10.1.0.1"},
            id="by-the-addresses-gateway-unless-it-has-its-own",
        ),
        pytest.param(
            {"dst": "10.9.0.0/16", "gw": "10.1.0.254"},
            ["table", "main"],
            {"dst": "10.9.0.0/16", "gateway": "10.1.0.254"},
            id="by-its-own-gateway",
        ),
        pytest.param(
            {"dst": "10.9.3.7/16"},
            ["table", "main"],
            {"dst": "10.9.0.0/16", "gateway": "10.1.0.1"},
            id="whose-destination-has-host-bits",
        ),
        pytest.param(
            {"dst": "10.9.0.0/16", "mtu": 1300, "advmss": 1200},
            ["table", "main"],
            {"dst": "10.9.0.0/16", "metrics": [{"mtu": 1300, "advmss": 1200}]},
            id="with-mtu-and-advmss",
        ),
        pytest.param(
            {"dst": "10.9.0.0/16", "priority": 77},
            ["table", "main"],
            {"dst": "10.9.0.0/16", "metric": 77},
            id="with-priority",
        ),
        pytest.param(
            {"dst": "10.9.0.0/16", "table": 100},
            ["table", "100"],
            {"dst": "10.9.0.0/16", "gateway": "10.1.0.1"},
            id="in-another-table",
        ),
        pytest.param(
            {"dst": "10.9.0.0/16", "table": 70000},
            ["table", "70000"],
            {"dst": "10.9.0.0/16", "gateway": "10.1.0.1"},
            id="in-a-table-beyond-255",
        ),
        pytest.param(
            {"dst": "10.9.0.0/16", "scope": 253},
            ["table", "main"],
            {"dst": "10.9.0.0/16", "gateway": None, "scope": "link"},
            id="on-link-by-its-scope",
        ),
        pytest.param(
            {"dst": "::/0"},
            ["table", "main"],
            {"dst": "default", "gateway": "fd00::1"},
            id="of-ipv6",
        ),
        pytest.param(
            {"dst": "fd09::/16", "gw": "fd00::9", "mtu": 1300, "priority": 7, "table": 100},
            ["table", "100"],
            {"dst": "fd09::/16", "gateway": "fd00::9", "metric": 7, "metrics": [{"mtu": 1300}]},
            id="of-ipv6-with-everything",
        ),
    ],
)
def test_route(world: World, route: dict[str, Any], where: list[str], programmed: dict[str, Any]) -> None:
    ipam = static("10.1.0.5/24 via 10.1.0.1", "fd00::5/64 via fd00::1", routes=[route])
    result = world.add(rail(cniVersion="1.1.0", ipam=ipam, dad="off"))
    assert result["routes"] == [route]
    family = "-6" if ":" in route["dst"] else "-4"
    shown = world.sandbox.ip_json(family, "route", "show", *where)
    (found,) = [each for each in shown if each["dst"] == programmed["dst"]]
    assert found["dev"] == "net1"
    assert {key: found.get(key) for key in programmed} == programmed


def test_twins_of_a_route_are_its_next_hops(world: World) -> None:
    twins = [{"dst": "fd09::/16", "gw": "fd00::1"}, {"dst": "fd09::/16", "gw": "fd00::2"}]
    world.add(rail(ipam=static("fd00::5/64", routes=twins), dad="off"))
    (route,) = world.sandbox.ip_json("-6", "route", "show", "fd09::/16")
    assert [hop["gateway"] for hop in route["nexthops"]] == ["fd00::1", "fd00::2"]


def test_ipv4_routes_of_one_destination_with_two_gateways_are_both_there(world: World) -> None:
    twins = [
        {"dst": "10.9.0.0/16", "gw": "10.1.0.1"},
        {"dst": "10.9.0.0/16", "gw": "10.1.0.2", "priority": 9},
    ]
    world.add(rail(ipam=static("10.1.0.5/24", routes=twins)))
    shown = world.sandbox.ip_json("-4", "route", "show", "10.9.0.0/16")
    assert [(route["gateway"], route.get("metric")) for route in shown] == [
        ("10.1.0.1", None),
        ("10.1.0.2", 9),
    ]


def test_gateway_alone_makes_no_default_route(world: World) -> None:
    world.add(rail(ipam=static("10.1.0.5/24 via 10.1.0.1")))
    assert world.sandbox.routes("default") == []


def test_route_that_the_kernel_refuses_is_named_and_everything_undone(world: World) -> None:
    before = world.host.snapshot(), world.sandbox.snapshot()
    error = world.refused(
        "ADD", rail(ipam=static("10.1.0.5/24", routes=[{"dst": "10.9.0.0/16", "gw": "10.77.0.1"}]))
    )
    assert 'route 10.9.0.0/16 via 10.77.0.1 through "net1"' in error["msg"]
    assert (world.host.snapshot(), world.sandbox.snapshot()) == before
    assert world.records() == []


# -- IPv6 duplicate address detection --------------------------------------------------------------

IPV6 = static("fd00::5/64 via fd00::1", routes=[{"dst": "::/0"}])


def flags(world: World, *wanted: str) -> list[str]:
    """Which of these flags the IPv6 address has."""
    (link,) = world.sandbox.ip_json("address", "show", "dev", "net1")
    (info,) = [info for info in link["addr_info"] if info["local"] == "fd00::5"]
    return [flag for flag in wanted if info.get(flag)]


def test_with_an_ipv6_gateway_add_waits_until_the_address_is_unique_but_not_for_long(world: World) -> None:
    started = time.monotonic()
    world.add(rail(ipam=IPV6))
    assert flags(world, "tentative", "dadfailed") == []
    # The kernel's own pace is 1 to 2 s.
    assert time.monotonic() - started < 1.5


def test_after_the_wait_the_sandbox_has_its_own_pace_of_detection_again(world: World) -> None:
    settings = [
        "net.ipv6.conf.net1.router_solicitation_delay",
        "net.ipv6.neigh.net1.retrans_time_ms",
        "net.ipv6.conf.net1.dad_transmits",
        "net.ipv6.conf.net1.accept_dad",
    ]
    world.sandbox.add_veth("other")
    defaults = [world.sandbox.sysctl(setting.replace("net1", "other")) for setting in settings]
    world.add(rail(ipam=IPV6))
    assert [world.sandbox.sysctl(setting) for setting in settings] == defaults


def test_ipv6_address_that_somebody_has_is_code_105_and_everything_is_undone(
    world: World, peer: Namespace
) -> None:
    peer.ip("addr", "add", "fd00::5/64", "dev", "far0", "nodad")
    before = world.host.snapshot(), world.sandbox.snapshot()
    error = world.refused("ADD", rail(ipam=IPV6))
    assert (error["code"], error["msg"]) == (105, "the address fd00::5 is in use")
    assert (world.host.snapshot(), world.sandbox.snapshot()) == before
    assert world.records() == []


def test_without_carrier_there_is_no_wait(world: World, peer: Namespace) -> None:
    peer.ip("link", "set", "far0", "down")
    started = time.monotonic()
    world.add(rail(ipam=IPV6))
    assert time.monotonic() - started < 1
    assert world.sandbox.addresses("net1") == ["fd00::5/64"]


def test_without_an_ipv6_gateway_there_is_no_wait(world: World) -> None:
    world.add(rail(ipam=static("fd00::5/64", "10.1.0.5/24 via 10.1.0.1")))
    assert flags(world, "tentative") == ["tentative"]


def test_detection_can_be_switched_off(world: World) -> None:
    world.add(rail(ipam=IPV6, dad="off"))
    assert flags(world, "tentative", "nodad") == ["nodad"]


def test_detection_can_be_optimistic(world: World) -> None:
    world.add(rail(ipam=IPV6, dad="optimistic"))
    assert flags(world, "optimistic") == ["optimistic"]


def test_dad_of_another_name_is_refused(world: World) -> None:
    error = world.refused("ADD", rail(ipam=IPV6, dad="maybe"))
    assert error["code"] == 7
    assert '"dad"' in error["msg"]


# -- the probe ------------------------------------------------------------------------------------


def test_probe_finds_who_has_the_ipv4_address_and_everything_is_undone(world: World, peer: Namespace) -> None:
    peer.ip("addr", "add", "10.1.0.5/24", "dev", "far0")
    before = world.host.snapshot(), world.sandbox.snapshot()
    error = world.refused("ADD", rail(probe=True))
    assert (error["code"], error["msg"]) == (105, "the address 10.1.0.5 is in use")
    assert peer.link("far0")["address"] in error["details"]
    assert (world.host.snapshot(), world.sandbox.snapshot()) == before
    assert world.records() == []


def test_probe_of_a_free_address_finds_nobody(world: World, peer: Namespace) -> None:
    peer.ip("addr", "add", "10.1.0.6/24", "dev", "far0")
    world.add(rail(probe=True))
    assert world.sandbox.addresses("net1") == ["10.1.0.5/24"]


def test_without_the_probe_nobody_is_asked(world: World, peer: Namespace) -> None:
    peer.ip("addr", "add", "10.1.0.5/24", "dev", "far0")
    with Wire(peer, "far0") as wire:
        world.add(rail(announce=False))
        assert wire.heard(world.sandbox, "net1") == []


# -- notices --------------------------------------------------------------------------------------


def test_peers_hear_where_the_addresses_are(world: World, peer: Namespace) -> None:
    world.sandbox.mark_advertisements()
    ipam = static("10.1.0.5/24", "10.2.0.5/24", "fd00::5/64")
    with Wire(peer, "far0") as wire:
        mac = world.add(rail(ipam=ipam, dad="off"))["interfaces"][0]["mac"]
        heard = wire.heard(world.sandbox, "net1")
    for address in ("10.1.0.5", "10.2.0.5"):
        assert f"arp request {address} from {mac}" in heard
        assert f"arp reply {address} from {mac}" in heard
    assert f"advertisement fd00::5 from {mac}" in heard


def test_peers_hear_of_an_ipv6_address_once_it_is_known_to_be_unique(world: World, peer: Namespace) -> None:
    world.sandbox.mark_advertisements()
    with Wire(peer, "far0") as wire:
        mac = world.add(rail(ipam=IPV6))["interfaces"][0]["mac"]
        assert f"advertisement fd00::5 from {mac}" in wire.heard(world.sandbox, "net1")


def test_peers_stale_neighbour_entry_is_corrected(world: World, peer: Namespace) -> None:
    peer.ip("addr", "add", "10.1.0.1/24", "dev", "far0")
    peer.ip("neigh", "add", "10.1.0.5", "lladdr", "02:00:00:00:00:77", "dev", "far0", "nud", "stale")
    with Wire(peer, "far0") as wire:
        mac = world.add(rail())["interfaces"][0]["mac"]
        wire.heard(world.sandbox, "net1")
    (entry,) = peer.ip_json("neigh", "show", "10.1.0.5")
    assert entry["lladdr"] == mac


def test_notices_can_be_switched_off(world: World, peer: Namespace) -> None:
    ipam = static("10.1.0.5/24", "fd00::5/64")
    with Wire(peer, "far0") as wire:
        world.add(rail(ipam=ipam, dad="off", announce=False))
        assert wire.heard(world.sandbox, "net1") == []


ASKED_FOR = ["10.1.0.5/24", "fd00::5/64"]


@pytest.mark.parametrize(
    ("keys", "args"),
    [
        pytest.param({"runtimeConfig": {"ips": ASKED_FOR}}, "", id="runtimeConfig"),
        pytest.param({"args": {"cni": {"ips": ASKED_FOR}}}, "", id="args"),
        pytest.param({}, f"IP={','.join(ASKED_FOR)}", id="cni-args"),
        pytest.param(
            {"runtimeConfig": {"ips": ["nonsense", 7, *ASKED_FOR]}}, "IP=10.1.0.9/24", id="mistakes-and-more"
        ),
    ],
)
def test_peers_hear_of_addresses_that_a_pod_without_ipam_sets_itself_by(
    world: World, peer: Namespace, keys: dict[str, Any], args: str
) -> None:
    world.sandbox.mark_advertisements()
    with Wire(peer, "far0") as wire:
        mac = world.add(rail(ipam={}, **keys), CNI_ARGS=args)["interfaces"][0]["mac"]
        heard = wire.heard(world.sandbox, "net1")
    told = [f"arp {what} 10.1.0.5 from {mac}" for what in ("request", "reply")]
    assert [message for message in heard if not message.startswith("kernel's")] == [
        *told,
        f"advertisement fd00::5 from {mac}",
    ]
    assert world.sandbox.addresses("net1") == []


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"announce": False, "runtimeConfig": {"ips": ASKED_FOR}}, id="switched-off"),
        pytest.param({"runtimeConfig": {"ips": "10.1.0.5/24"}}, id="no-list"),
        pytest.param({"args": {"cni": ["10.1.0.5/24"]}}, id="no-object"),
        pytest.param({}, id="none-asked-for"),
    ],
)
def test_peers_hear_nothing_of_a_pod_without_ipam(
    world: World, peer: Namespace, keys: dict[str, Any]
) -> None:
    world.sandbox.mark_advertisements()
    with Wire(peer, "far0") as wire:
        world.add(rail(ipam={}, **keys))
        heard = wire.heard(world.sandbox, "net1")
    assert [message for message in heard if not message.startswith("kernel's")] == []


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        pytest.param({}, "1", id="on"),
        pytest.param({"announce": False}, "0", id="off-if-notices-are"),
        pytest.param({"ipam": {}}, "0", id="off-without-addresses"),
    ],
)
def test_kernels_own_notices(world: World, keys: dict[str, Any], value: str) -> None:
    world.add(rail(**keys))
    for setting in ("net.ipv4.conf.net1.arp_notify", "net.ipv6.conf.net1.ndisc_notify"):
        assert world.sandbox.sysctl(setting) == value


# -- the MAC of an address ------------------------------------------------------------------------


def mac_of(world: World, **keys: Any) -> str:
    conf = rail(macFromAddress=True, **keys)
    result = world.add(conf)
    assert world.sandbox.link("net1")["address"] == result["interfaces"][0]["mac"]
    world.delete(conf)
    return str(result["interfaces"][0]["mac"])


def test_mac_may_come_from_network_and_address(world: World) -> None:
    mac = mac_of(world)
    assert int(mac[:2], 16) & 0b11 == 0b10  # local, unicast
    assert mac_of(world) == mac
    assert mac_of(world, ipam=static("10.1.0.6/24")) != mac
    assert mac_of(world, name="other") != mac


def test_mac_that_was_asked_for_comes_before_the_addresses(world: World) -> None:
    assert mac_of(world, mac="02:00:00:00:00:0a") == "02:00:00:00:00:0a"


def test_mac_is_random_where_there_is_no_address(world: World) -> None:
    assert mac_of(world, ipam={}) != mac_of(world, ipam={})


# -- what no link can have -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addresses", "routes", "told"),
    [
        pytest.param(["ff02::1/64"], [], "the address ff02::1/64", id="a-multicast-address"),
        pytest.param(["::1/128"], [], "the address ::1/128", id="the-loopback-address"),
        pytest.param(
            ["10.1.0.5/24", "fd00::5/64"],
            [{"dst": "fd09::/16", "gw": "10.1.0.1"}],
            "the route to fd09::/16 cannot go over 10.1.0.1",
            id="an-ipv6-route-over-ipv4",
        ),
        pytest.param(
            ["10.1.0.5/24", "fd00::5/64"],
            [{"dst": "10.9.0.0/16", "gw": "fd00::1"}],
            "the route to 10.9.0.0/16 cannot go over fd00::1",
            id="an-ipv4-route-over-ipv6",
        ),
    ],
)
def test_what_no_link_can_have_is_an_error_of_the_configuration(
    world: World, addresses: list[str], routes: list[dict[str, str]], told: str
) -> None:
    before = world.host.snapshot(), world.sandbox.snapshot()
    error = world.refused("ADD", rail(ipam=static(*addresses, routes=routes)))
    assert (error["code"], told in error["msg"]) == (7, True), error
    assert (world.host.snapshot(), world.sandbox.snapshot(), world.records()) == (*before, [])


@pytest.mark.parametrize("gateway", ["0.0.0.0", "::"])
def test_route_over_no_gateway_is_on_link(world: World, gateway: str) -> None:
    route = {"dst": "10.9.0.0/16" if gateway == "0.0.0.0" else "fd09::/16", "gw": gateway}
    ipam = static("10.1.0.5/24 via 10.1.0.1", "fd00::5/64 via fd00::1", routes=[route])
    conf = rail(ipam=ipam, dad="off")
    result = world.add(conf)
    (programmed,) = world.sandbox.routes(route["dst"]) or world.sandbox.ip_json(
        "-6", "route", "show", route["dst"]
    )
    assert "gateway" not in programmed
    assert world.call("CHECK", conf | {"prevResult": result}).status == 0
    world.delete(conf)
