"""CHECK and STATUS of macvlan: what is a difference, what is none, and what keeps an ADD from working."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.world import Namespace, StubIpam, WarmWorld, World, rail, static

VERSIONS_WITH_CHECK = ("0.4.0", "1.0.0", "1.1.0")


@pytest.fixture
def world(host: Namespace, sandbox: Namespace, tmp_path: Path) -> World:
    host.add_veth("eth0")
    host.add_veth("eth1")
    return WarmWorld(host, sandbox, tmp_path / "state")


@pytest.fixture
def stub(world: World, tmp_path: Path) -> StubIpam:
    """An IPAM plugin of another make, along CNI_PATH."""
    stub = StubIpam(tmp_path / "stub")
    stub.answers("ADD", {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}]})
    world.path = f"{stub.folder}:{world.path}"
    return stub


IPAM = static(
    "10.1.0.5/24 via 10.1.0.1",
    "fd00::5/64",
    routes=[{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "table": 100}],
)


def with_result(world: World, conf: dict[str, Any]) -> dict[str, Any]:
    """ADD, and return the configuration as CHECK gets it."""
    return conf | {"prevResult": world.add(conf)}


def check(world: World, conf: dict[str, Any]) -> str:
    """CHECK that must find no difference; return its notes."""
    answer = world.call("CHECK", conf)
    assert (answer.status, answer.stdout) == (0, ""), answer
    return answer.stderr


# -- no difference --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS_WITH_CHECK)
def test_check_right_after_add_is_content(world: World, version: str) -> None:
    check(world, with_result(world, rail(cniVersion=version, ipam=IPAM, dad="off")))


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"ipam": {}}, id="no-address"),
        pytest.param({"ipam": static("10.1.0.5/32", "fd00::5/128"), "dad": "off"}, id="host-addresses"),
        pytest.param({"ipam": static("10.1.0.4/31")}, id="a-point-to-point-address"),
        pytest.param(
            {"ipam": static("10.1.0.5/24", routes=[{"dst": "10.9.3.7/16", "gw": "10.1.0.1"}])},
            id="a-route-with-host-bits",
        ),
        pytest.param(
            {"ipam": static("10.1.0.5/24 via 10.1.0.1", routes=[{"dst": "10.9.0.0/16", "scope": 253}])},
            id="a-route-on-link",
        ),
        pytest.param(
            {"ipam": static("10.1.0.5/24 via 10.1.0.1", routes=[{"dst": "10.9.0.0/16", "table": 0}])},
            id="a-route-in-table-0-which-is-main",
        ),
        pytest.param(
            {"ipam": static("10.1.0.5/24 via 10.1.0.1", routes=[{"dst": "10.9.0.0/16", "table": 70000}])},
            id="a-route-in-a-table-beyond-255",
        ),
        pytest.param(
            {
                "ipam": static(
                    "fd00::5/64",
                    routes=[{"dst": "fd09::/16", "gw": "fd00::1"}, {"dst": "fd09::/16", "gw": "fd00::2"}],
                ),
                "dad": "off",
            },
            id="twin-routes",
        ),
        pytest.param({"mode": "passthru"}, id="the-masters-mac"),
        pytest.param({"mtu": 1300}, id="an-mtu-of-its-own"),
        pytest.param({"macFromAddress": True}, id="a-mac-from-its-address"),
        pytest.param({"ipam": static("10.1.0.5/24"), "dns": {"domain": "rail"}}, id="dns"),
    ],
)
def test_check_is_content_with_a_link_that_has(world: World, keys: dict[str, Any]) -> None:
    check(world, with_result(world, rail(**keys)))


def add_address(world: World) -> None:
    world.sandbox.ip("addr", "add", "10.77.0.1/24", "dev", "net1")


def add_route(world: World) -> None:
    world.sandbox.ip("route", "add", "10.77.0.0/24", "via", "10.1.0.1")


def add_twin_route(world: World) -> None:
    world.sandbox.ip("route", "append", "default", "via", "10.1.0.2", "metric", "50")


def move_route_to_another_table(world: World) -> None:
    """As the plugin sbr does."""
    world.sandbox.ip("route", "del", "default")
    world.sandbox.ip("route", "add", "default", "via", "10.1.0.1", "dev", "net1", "table", "55")


def lower_mtu(world: World) -> None:
    world.sandbox.ip("link", "set", "net1", "mtu", "1400")


def lower_mtu_of_master(world: World) -> None:
    """The kernel lowers that of the links that ride on it too."""
    world.host.ip("link", "set", "eth0", "mtu", "1300")


def make_promiscuous(world: World) -> None:
    world.sandbox.ip("link", "set", "net1", "promisc", "on", "multicast", "off", "txqueuelen", "7")


def add_another_link(world: World) -> None:
    world.sandbox.add_veth("net2")
    world.sandbox.ip("addr", "add", "10.1.0.5/24", "dev", "net2")


def rename_master(world: World) -> None:
    world.host.ip("link", "set", "eth0", "down")
    world.host.ip("link", "set", "eth0", "name", "renamed")
    world.host.ip("link", "property", "add", "dev", "renamed", "altname", "eth0")
    world.host.ip("link", "set", "renamed", "up")


def set_master_down(world: World) -> None:
    world.host.ip("link", "set", "eth0", "down")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(add_address, id="got-another-address"),
        pytest.param(add_route, id="got-another-route"),
        pytest.param(add_twin_route, id="got-a-second-default-route"),
        pytest.param(move_route_to_another_table, id="had-a-route-moved-to-another-table"),
        pytest.param(lower_mtu, id="has-a-smaller-mtu"),
        pytest.param(lower_mtu_of_master, id="has-the-smaller-mtu-of-its-master"),
        pytest.param(make_promiscuous, id="has-other-flags"),
        pytest.param(add_another_link, id="has-a-neighbour-of-the-same-address"),
        pytest.param(rename_master, id="rides-on-a-renamed-master"),
        pytest.param(set_master_down, id="rides-on-a-master-that-is-down"),
    ],
)
def test_check_is_content_though_the_link(world: World, change: Callable[[World], None]) -> None:
    conf = with_result(world, rail(ipam=IPAM, dad="off"))
    change(world)
    check(world, conf)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        pytest.param({}, "1500", id="the-masters"),
        pytest.param({"mtu": 1300}, "1300", id="the-configurations"),
    ],
)
def test_check_notes_that_a_later_plugin_changed_the_mtu_from(
    world: World, keys: dict[str, int], expected: str
) -> None:
    conf = with_result(world, rail(**keys))
    lower_mtu(world)
    assert f"the MTU of net1 is 1400, not {expected}" in check(world, conf)


def test_check_notes_nothing_of_an_mtu_that_a_later_plugin_told(world: World) -> None:
    conf = with_result(world, rail(cniVersion="1.1.0"))
    lower_mtu(world)
    conf["prevResult"]["interfaces"][0]["mtu"] = 1400
    assert check(world, conf) == ""


def test_check_compares_no_address_of_other_links_in_the_result(world: World) -> None:
    conf = with_result(world, rail())
    result = conf["prevResult"]
    result["interfaces"].append({"name": "eth0", "sandbox": world.sandbox.path})
    result["ips"].append({"interface": 1, "address": "10.77.0.5/24"})
    check(world, conf)


def test_check_takes_a_mac_of_any_case(world: World) -> None:
    conf = with_result(world, rail(mac="02:00:00:00:00:ab"))
    conf["prevResult"]["interfaces"][0]["mac"] = "02:00:00:00:00:AB"
    check(world, conf)


def test_check_knows_the_master_though_the_default_route_has_moved(world: World) -> None:
    for number in (0, 1):
        world.host.ip("addr", "add", f"10.{number}.0.2/24", "dev", f"eth{number}")
    world.host.ip("route", "add", "default", "via", "10.0.0.1")
    conf = with_result(world, rail(master=""))
    world.host.ip("route", "replace", "default", "via", "10.1.0.1")
    check(world, conf)


def test_check_works_with_the_master_in_the_container(world: World) -> None:
    world.sandbox.add_veth("eth0")
    check(world, with_result(world, rail(linkInContainer=True)))


def test_check_takes_a_link_of_the_go_plugin(world: World) -> None:
    """Without a record: a node may change over to podrail with pods on it."""
    world.host.ip(
        *("link", "add", "link", "eth0", "name", "net1", "netns", world.sandbox.name),
        *("type", "macvlan", "mode", "bridge"),
    )
    world.sandbox.ip("link", "set", "net1", "up")
    link = {"name": "net1", "mac": world.sandbox.link("net1")["address"], "sandbox": world.sandbox.path}
    check(world, rail(ipam={}, prevResult={"cniVersion": "1.0.0", "interfaces": [link]}))


# -- a difference ---------------------------------------------------------------------------------


def delete_link(world: World) -> None:
    world.sandbox.ip("link", "del", "net1")


def replace_link(world: World) -> None:
    delete_link(world)
    world.sandbox.add_veth("net1")


def change_mac(world: World) -> None:
    world.sandbox.ip("link", "set", "net1", "address", "02:00:00:00:00:99")


def set_down(world: World) -> None:
    world.sandbox.ip("link", "set", "net1", "down")


def delete_address(world: World) -> None:
    world.sandbox.ip("addr", "del", "10.1.0.5/24", "dev", "net1")


def change_prefix(world: World) -> None:
    delete_address(world)
    world.sandbox.ip("addr", "add", "10.1.0.5/25", "dev", "net1")


def delete_ipv6_address(world: World) -> None:
    world.sandbox.ip("addr", "del", "fd00::5/64", "dev", "net1")


def delete_default_route(world: World) -> None:
    world.sandbox.ip("route", "del", "default")


def delete_route_of_table_100(world: World) -> None:
    world.sandbox.ip("route", "flush", "table", "100")


def move_route_to_the_main_table(world: World) -> None:
    delete_route_of_table_100(world)
    world.sandbox.ip("route", "add", "10.9.0.0/16", "via", "10.1.0.1")


def replace_by_another_mode(world: World) -> None:
    world.sandbox.ip("link", "set", "net1", "type", "macvlan", "mode", "vepa")


def delete_master(world: World) -> None:
    world.host.ip("link", "del", "eth0")


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        pytest.param(delete_link, "it does not exist in the sandbox", id="deleted"),
        pytest.param(delete_master, "it does not exist in the sandbox", id="deleted-with-its-master"),
        pytest.param(replace_link, "it is a veth link, not a macvlan", id="replaced-by-another-kind"),
        pytest.param(change_mac, "its MAC is 02:00:00:00:00:99, ADD answered", id="given-another-mac"),
        pytest.param(set_down, "it is administratively down", id="set-down"),
        pytest.param(delete_address, "the address 10.1.0.5/24 is not on it", id="robbed-of-its-address"),
        pytest.param(change_prefix, "the address 10.1.0.5/24 is not on it", id="given-another-prefix-length"),
        pytest.param(
            delete_ipv6_address, "the address fd00::5/64 is not on it", id="robbed-of-its-ipv6-address"
        ),
        pytest.param(
            delete_default_route, "there is no route to 0.0.0.0/0", id="robbed-of-its-default-route"
        ),
        pytest.param(
            delete_route_of_table_100,
            "there is no route to 10.9.0.0/16 in table 100",
            id="robbed-of-a-route-in-another-table",
        ),
        pytest.param(
            move_route_to_the_main_table,
            "there is no route to 10.9.0.0/16 in table 100",
            id="given-a-route-in-another-table-than-told",
        ),
        pytest.param(
            replace_by_another_mode,
            "its mode is vepa, the configuration's is bridge",
            id="given-another-mode",
        ),
    ],
)
def test_check_finds_that_the_link_was(
    world: World, change: Callable[[World], None], difference: str
) -> None:
    conf = with_result(world, rail(ipam=IPAM, dad="off"))
    change(world)
    error = world.refused("CHECK", conf)
    assert error["code"] == 102
    assert error["msg"].startswith('"net1" is not as ADD left it: ')
    assert difference in error["msg"]


def test_check_names_all_differences_at_once(world: World) -> None:
    conf = with_result(world, rail(ipam=IPAM, dad="off"))
    change_mac(world)
    delete_ipv6_address(world)
    error = world.refused("CHECK", conf)
    assert "its MAC is" in error["msg"]
    assert "fd00::5/64" in error["msg"]


@pytest.mark.parametrize(
    ("keys", "code", "difference"),
    [
        pytest.param({"mode": "vepa"}, 102, "its mode is bridge, the configuration's is vepa", id="mode"),
        pytest.param({"master": "eth1"}, 102, 'it does not ride on the master "eth1"', id="master"),
        pytest.param({"master": "eth7"}, 7, 'master "eth7" does not exist on the host', id="master-to-none"),
        pytest.param({"mode": "source"}, 7, '"mode"', id="mode-to-none"),
        pytest.param(
            {"mtu": 9000},
            7,
            "invalid MTU 9000, must be [0, master MTU(1500)]",
            id="mtu-to-one-above-the-masters",
        ),
    ],
)
def test_check_finds_that_the_configuration_changed(
    world: World, keys: dict[str, str], code: int, difference: str
) -> None:
    conf = with_result(world, rail())
    error = world.refused("CHECK", conf | keys)
    assert error["code"] == code
    assert difference in error["msg"]


def test_check_finds_that_the_master_became_too_small_for_the_configured_mtu(world: World) -> None:
    conf = with_result(world, rail(mtu=1400))
    lower_mtu_of_master(world)
    error = world.refused("CHECK", conf)
    assert error["code"] == 7
    assert "invalid MTU 1400, must be [0, master MTU(1300)]" in error["msg"]
    assert '"eth0"' in error["details"]


def test_check_finds_that_the_link_is_too_big_for_the_configured_master(world: World) -> None:
    """The kernel lets no link be so on the master that it rides on."""
    conf = with_result(world, rail())
    world.host.ip("link", "set", "eth1", "mtu", "1300")
    error = world.refused("CHECK", conf | {"master": "eth1"})
    assert error["code"] == 102
    assert "its MTU 1500 is above the master's 1300" in error["msg"]


@pytest.mark.parametrize(
    ("change", "gateway", "is_content"),
    [
        pytest.param("10.1.0.1", "10.1.0.1", True, id="the-same"),
        pytest.param("10.1.0.2", "10.1.0.1", False, id="another"),
    ],
)
def test_check_compares_a_routes_own_gateway(
    world: World, change: str, gateway: str, is_content: bool
) -> None:
    ipam = static("10.1.0.5/24", routes=[{"dst": "10.9.0.0/16", "gw": gateway}])
    conf = with_result(world, rail(ipam=ipam))
    world.sandbox.ip("route", "replace", "10.9.0.0/16", "via", change)
    answer = world.call("CHECK", conf)
    assert (answer.status == 0) == is_content
    if not is_content:
        assert "there is no route to 10.9.0.0/16 via 10.1.0.1" in answer.json["msg"]


def test_check_changes_nothing(world: World) -> None:
    world.sandbox.without_link_local()
    conf = with_result(world, rail())
    before = world.host.snapshot(), world.sandbox.snapshot(), [path.read_text() for path in world.records()]
    check(world, conf)
    change_mac(world)
    changed = world.sandbox.snapshot()
    world.refused("CHECK", conf)
    assert world.sandbox.snapshot() == changed
    assert (world.host.snapshot(), [path.read_text() for path in world.records()]) == (before[0], before[2])


# -- what CHECK needs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "words"),
    [
        pytest.param(None, "prevResult missing", id="missing"),
        pytest.param("nonsense", '"prevResult"', id="a-string"),
        pytest.param({"cniVersion": "1.0.0"}, 'prevResult has no interface "net1"', id="empty"),
        pytest.param(
            {"cniVersion": "1.0.0", "interfaces": [{"name": "net1", "sandbox": "/run/netns/other"}]},
            'prevResult has no interface "net1"',
            id="of-another-sandbox",
        ),
        pytest.param({"cniVersion": "0.4.0"}, '"0.4.0"', id="of-another-shape"),
        pytest.param(
            {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5"}]},
            '"prevResult.ips[0].address"',
            id="malformed",
        ),
    ],
)
def test_check_refuses_a_previous_result_that_is(world: World, result: object, words: str) -> None:
    world.add(rail())
    error = world.refused("CHECK", rail(prevResult=result))
    assert error["code"] == 7
    assert words in error["msg"]


@pytest.mark.parametrize("version", ["0.3.1", "0.2.0", ""])
def test_check_of_an_older_version_is_code_1(world: World, version: str) -> None:
    error = world.refused("CHECK", rail(cniVersion=version))
    assert error["code"] == 1
    assert error["msg"] == "config version does not allow CHECK"


def test_check_of_a_sandbox_that_is_gone_is_code_8(world: World) -> None:
    conf = with_result(world, rail())
    world.sandbox.delete()
    error = world.refused("CHECK", conf)
    assert error["code"] == 8
    assert world.sandbox.path in error["msg"]


def test_check_asks_ipam_too(world: World, stub: StubIpam) -> None:
    conf = with_result(world, rail(ipam={"type": stub.type}))
    check(world, conf)
    assert stub.calls() == ["ADD pod-1 net1", "CHECK pod-1 net1"]
    stub.fails("CHECK", {"code": 123, "msg": "the address is somebody else's"})
    error = world.refused("CHECK", conf)
    assert (error["code"], error["msg"]) == (123, "the address is somebody else's")


# -- STATUS ---------------------------------------------------------------------------------------


def ask(world: World, **keys: Any) -> str:
    """STATUS that must say that an ADD would work; return its notes."""
    answer = world.call(
        "STATUS", rail(cniVersion="1.1.0", **keys), CNI_CONTAINERID="", CNI_IFNAME="", CNI_NETNS=""
    )
    assert (answer.status, answer.stdout) == (0, ""), answer
    return answer.stderr


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({}, id="its-master-exists"),
        pytest.param({"ipam": {}}, id="there-is-no-ipam"),
        pytest.param({"master": "eth7", "linkInContainer": True}, id="the-master-is-a-matter-of-the-sandbox"),
    ],
)
def test_status_is_content_where(world: World, keys: dict[str, Any]) -> None:
    ask(world, **keys)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        pytest.param({"master": "eth7"}, '"eth7"', id="the-master-does-not-exist"),
        pytest.param({"master": ""}, "default route", id="there-is-no-default-route"),
        pytest.param({"mtu": 9000}, "9000", id="the-mtu-is-above-the-masters"),
    ],
)
def test_status_is_code_50_where(world: World, keys: dict[str, Any], words: str) -> None:
    error = world.refused("STATUS", rail(cniVersion="1.1.0", **keys))
    assert error["code"] == 50
    assert words in error["msg"]


def test_status_of_a_wrong_configuration_is_code_7(world: World) -> None:
    error = world.refused("STATUS", rail(cniVersion="1.1.0", mode="source"))
    assert error["code"] == 7


def test_status_of_an_older_version_is_code_1(world: World) -> None:
    assert world.refused("STATUS", rail(cniVersion="1.0.0"))["code"] == 1


def test_status_asks_an_ipam_plugin_that_knows_it(world: World, stub: StubIpam) -> None:
    ask(world, ipam={"type": stub.type})
    assert stub.calls() == ["STATUS"]
    stub.fails("STATUS", {"code": 51, "msg": "no address left, and pods suffer"})
    error = world.refused("STATUS", rail(cniVersion="1.1.0", ipam={"type": stub.type}), CNI_CONTAINERID="")
    assert (error["code"], error["msg"]) == (51, "no address left, and pods suffer")


def test_status_does_not_ask_an_ipam_plugin_that_does_not_know_it(world: World, stub: StubIpam) -> None:
    stub.answers("VERSION", {"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]})
    assert "does not know STATUS" in ask(world, ipam={"type": stub.type})
    assert stub.calls() == []
