"""host-device: what the kernel takes from a device that moves is given back when that comes home."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.devices import nic, words_missing
from tests.support.world import Namespace, StubIpam, WarmWorld, World

CONF = nic(device="dev0")


@pytest.fixture
def world(host: Namespace, sandbox: Namespace, tmp_path: Path) -> World:
    """A host with two devices that have addresses."""
    host.without_link_local()  # snapshots must not change by themselves
    sandbox.without_link_local()
    for number in (0, 1):
        host.add_veth(f"dev{number}")
        for address in (f"10.{number}.0.1/24", f"fd0{number}::1/64"):
            host.ip("addr", "add", address, "dev", f"dev{number}", "nodad")
    return WarmWorld(host, sandbox, tmp_path / "state")


@pytest.fixture
def stub(world: World, tmp_path: Path) -> StubIpam:
    """An IPAM plugin of another make, along CNI_PATH."""
    stub = StubIpam(tmp_path / "stub")
    world.path = f"{stub.folder}:{world.path}"
    return stub


def there_and_back(world: World) -> str:
    """ADD and DEL; return the notes of DEL."""
    world.add(CONF)
    answer = world.call("DEL", CONF)
    assert (answer.status, answer.stdout) == (0, ""), answer
    return answer.stderr


# -- flags and sysctls ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(["promisc", "on"], id="promiscuous"),
        pytest.param(["allmulticast", "on", "multicast", "off"], id="flags-of-multicast"),
        pytest.param(["arp", "off"], id="no-arp"),
        pytest.param(["txqueuelen", "77"], id="queue-length"),
        pytest.param(["group", "5"], id="group"),
    ],
)
def test_device_comes_home_with_its(world: World, settings: list[str]) -> None:
    world.host.ip("link", "set", "dev0", *settings)
    before = world.host.ip("-d", "link", "show", "dev0")
    assert there_and_back(world) == ""
    world.host.snapshot()  # waits for the carrier
    assert world.host.ip("-d", "link", "show", "dev0") == before


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"ipv6/conf/{}/disable_ipv6": "1"}, id="no-ipv6"),
        pytest.param({"ipv6/conf/{}/accept_ra": "0", "ipv6/conf/{}/autoconf": "0"}, id="no-ear-for-routers"),
        pytest.param(
            {"ipv4/conf/{}/rp_filter": "2", "ipv4/conf/{}/forwarding": "1"}, id="duties-of-a-router"
        ),
        pytest.param(
            {
                "ipv4/conf/{}/arp_notify": "1",
                "ipv6/conf/{}/ndisc_notify": "1",
                "ipv6/conf/{}/keep_addr_on_down": "1",
                "ipv6/conf/{}/optimistic_dad": "1",
            },
            id="what-add-sets-in-the-sandbox",
        ),
        pytest.param({"ipv4/neigh/{}/base_reachable_time_ms": "12000"}, id="patience-with-neighbours"),
        pytest.param(
            {"ipv6/conf/{}/stable_secret": "fd00::5ec:4e7", "ipv6/conf/{}/addr_gen_mode": "1"},
            id="secret-that-is-not-used",
        ),
    ],
)
def test_device_comes_home_with_settings_of(world: World, settings: dict[str, str]) -> None:
    def read() -> dict[str, str]:
        return {name: world.host.sysctl(f"net.{name.format('dev0')}".replace("/", ".")) for name in settings}

    for name, value in settings.items():
        world.host.sh("sh", "-c", f"echo {value} >/proc/sys/net/{name.format('dev0')}")
    before = read()
    assert there_and_back(world) == ""
    assert read() == before


def test_device_comes_home_with_all_its_settings(world: World) -> None:
    """Some of each kind are changed; none may be another when it is back."""
    changed = {
        "ipv4/conf": {"accept_local": 1, "arp_ignore": 2, "rp_filter": 1, "tag": 77},
        "ipv4/neigh": {"gc_stale_time": 33, "retrans_time_ms": 1500, "unres_qlen_bytes": 100000},
        "ipv6/conf": {"accept_ra": 2, "dad_transmits": 3, "hop_limit": 33, "router_solicitation_interval": 9},
        "ipv6/neigh": {"base_reachable_time_ms": 12345, "mcast_solicit": 7, "proxy_delay": 55},
    }

    folders = [f"/proc/sys/net/{kind}/dev0" for kind in changed]

    def read() -> list[str]:
        shown = world.host.sh("grep", "-r", ".", *folders, check=False)  # an unset secret cannot be read
        return sorted(shown.splitlines())

    for kind, values in changed.items():
        for name, value in values.items():
            world.host.sh("sh", "-c", f"echo {value} >/proc/sys/net/{kind}/dev0/{name}")
    before = read()
    assert len(before) > 100
    assert there_and_back(world) == ""
    assert read() == before


def test_device_without_ipv6_comes_home_without_a_link_local_address(world: World) -> None:
    world.host.sh("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/default/addr_gen_mode")
    world.host.sh("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/dev0/disable_ipv6")
    before = world.host.snapshot()
    assert there_and_back(world) == ""
    assert world.host.snapshot() == before
    assert "inet6" not in world.host.ip("addr", "show", "dev0")


# -- routes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "routes",
    [
        pytest.param(["default via 10.0.0.254"], id="default-route"),
        pytest.param(["default via fd00::fe"], id="ipv6-default-route"),
        pytest.param(
            ["10.9.0.0/16 via 10.0.0.254 metric 7 mtu 1300 advmss 1200 proto static"], id="metric-and-sizes"
        ),
        pytest.param(["10.9.0.0/16 via 10.0.0.254 table 7700 src 10.0.0.1"], id="table-and-source"),
        pytest.param(["fd09::/16 via fd00::fe metric 7 table 77"], id="ipv6-table-and-metric"),
        pytest.param(["10.9.0.0/16 dev dev0 scope link tos 0x10"], id="kind-of-traffic"),
        pytest.param(["10.9.0.0/16 via 192.168.7.1 dev dev0 onlink"], id="gateway-that-no-address-reaches"),
        pytest.param(
            ["192.168.7.1 dev dev0", "10.9.0.0/16 via 192.168.7.1"], id="gateway-that-a-route-reaches"
        ),
        pytest.param(["10.9.0.0/16 via inet6 fd00::fe dev dev0"], id="gateway-of-the-other-family"),
        pytest.param(
            ["10.9.0.0/16 nexthop via 10.0.0.2 weight 3 nexthop via 10.0.0.3"], id="several-next-hops"
        ),
        pytest.param(
            ["10.9.0.0/16 nexthop via 10.0.0.2 weight 3 nexthop via 10.1.0.2"],
            id="next-hop-through-another-device",
        ),
        pytest.param(
            ["fd09::/16 nexthop via fd00::2 weight 3 nexthop via fd00::3"], id="several-ipv6-next-hops"
        ),
    ],
)
def test_device_comes_home_with_a_route_that_has_a(world: World, routes: list[str]) -> None:
    for route in routes:
        world.host.ip("route", "add", *route.split())
    before = routes_of(world)
    assert there_and_back(world) == ""
    assert routes_of(world) == before


def routes_of(world: World) -> set[str]:
    """All routes, in no order: the kernel's own of IPv6 change places."""
    world.host.snapshot()  # waits for what the kernel does by itself
    shown = [world.host.ip(family, "-d", "route", "show", "table", "all") for family in ("-4", "-6")]
    return {line.strip() for text in shown for line in text.replace("\n\t", " ").splitlines()}


def test_route_is_back_when_the_ipam_plugin_fails(world: World, stub: StubIpam) -> None:
    world.host.ip("route", "add", "default", "via", "10.0.0.254")
    stub.fails("ADD", {"code": 123, "msg": "no more addresses"})
    before = routes_of(world)
    world.refused("ADD", CONF | {"ipam": {"type": stub.type}})
    assert routes_of(world) == before


def test_twin_of_a_route_that_came_meanwhile_stays_and_goes_first(world: World) -> None:
    world.host.ip("route", "add", "default", "via", "10.0.0.254")
    world.add(CONF)
    world.host.ip("route", "add", "default", "via", "10.1.0.254")
    world.delete(CONF)
    assert [route["gateway"] for route in world.host.routes("default")] == ["10.1.0.254", "10.0.0.254"]


def test_ipv6_route_that_another_took_over_meanwhile_is_left_to_it(world: World) -> None:
    world.host.ip("route", "add", "default", "via", "fd00::fe")
    world.add(CONF)
    world.host.ip("route", "add", "default", "via", "fd01::fe")
    world.delete(CONF)
    (route,) = world.host.ip_json("-6", "route", "show", "default")
    assert route["gateway"] == "fd01::fe"


def test_route_that_fits_no_more_is_noted(world: World) -> None:
    world.host.ip("route", "add", "10.9.0.0/16", "nexthop", "via", "10.0.0.2", "nexthop", "via", "10.1.0.2")
    world.add(CONF)
    world.host.ip("link", "del", "dev1")
    answer = world.call("DEL", CONF)
    assert answer.status == 0
    assert "cannot add the route 10.9.0.0/16 via 10.0.0.2, 10.1.0.2 through" in answer.stderr
    assert world.host.addresses("dev0") == ["10.0.0.1/24", "fd00::1/64"]
    assert world.records() == []


def test_route_that_the_kernel_made_is_left_to_the_kernel(world: World) -> None:
    world.add(CONF)
    (record,) = world.records()
    assert '"routes": []' in record.read_text()


# -- ports ----------------------------------------------------------------------------------------


def test_port_comes_home_as_a_port_of_its_bridge(world: World) -> None:
    world.host.ip("link", "add", "upper", "type", "bridge")
    world.host.ip("link", "set", "upper", "up")
    world.host.ip("link", "set", "dev0", "master", "upper")
    before = world.host.link("dev0")
    world.add(CONF)
    assert "master" not in world.sandbox.link("net1")
    world.delete(CONF)
    world.host.snapshot()  # waits for the carrier
    after = world.host.link("dev0")
    assert (after["master"], after["flags"]) == ("upper", before["flags"])


@pytest.mark.parametrize("successor", [None, "other"], ids=["gone", "gone-and-its-index-has-another"])
def test_port_comes_home_by_itself_if_its_bridge_is(world: World, successor: str | None) -> None:
    world.host.ip("link", "add", "upper", "index", "77", "type", "bridge")
    world.host.ip("link", "set", "dev0", "master", "upper")
    world.add(CONF)
    world.host.ip("link", "del", "upper")
    if successor:
        world.host.ip("link", "add", successor, "index", "77", "type", "bridge")
    answer = world.call("DEL", CONF)
    assert answer.status == 0
    assert words_missing({"msg": answer.stderr}, ['"upper"', "port", "gone"]) == []
    assert "master" not in world.host.link("dev0")
