"""static: which addresses ADD gives, what CHECK compares, what is reserved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.world import Namespace, WarmWorld, World, static

VERSIONS_WITH_IPS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")


@pytest.fixture
def world(host: Namespace, sandbox: Namespace, tmp_path: Path) -> World:
    return WarmWorld(host, sandbox, tmp_path / "state")


def network(ipam: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """The configuration of a macvlan, which static gets as it is."""
    return {"cniVersion": "1.0.0", "name": "rail", "type": "macvlan", "master": "eth0", "ipam": ipam} | keys


def add(world: World, conf: dict[str, Any], **variables: str) -> dict[str, Any]:
    answer = world.call("ADD", conf, plugin="static", **variables)
    assert answer.status == 0, answer
    return answer.json


def given(world: World, conf: dict[str, Any], **variables: str) -> list[str]:
    """The addresses that ADD gives, each with its gateway as in `10.1.0.5/24 via 10.1.0.1`."""
    ips = add(world, conf, **variables).get("ips", [])
    return [" via ".join(filter(None, (ip["address"], ip.get("gateway")))) for ip in ips]


# -- the result -----------------------------------------------------------------------------------

EVERYTHING = static(
    "10.1.0.5/24 via 10.1.0.1",
    "fd00::5/64",
    routes=[
        {"dst": "0.0.0.0/0"},
        {"dst": "10.9.0.0/16", "gw": "10.1.0.9", "mtu": 1300, "advmss": 1200, "priority": 7},
        {"dst": "fd09::/16", "table": 0, "scope": 0},
    ],
    dns={
        "nameservers": ["10.1.0.53"],
        "domain": "rail",
        "search": ["a.rail", "b.rail"],
        "options": ["ndots:2"],
    },
)


@pytest.mark.parametrize("version", VERSIONS_WITH_IPS)
def test_result_is_what_the_configuration_says(world: World, version: str) -> None:
    result = add(world, network(EVERYTHING, cniVersion=version))
    families = ({"version": "4"}, {"version": "6"}) if version < "1" else ({}, {})
    assert result == {
        "cniVersion": version,
        "ips": [
            {"address": "10.1.0.5/24", "gateway": "10.1.0.1"} | families[0],
            {"address": "fd00::5/64"} | families[1],
        ],
        "routes": EVERYTHING["routes"],
        "dns": EVERYTHING["dns"],
    }


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", ""])
def test_result_of_old_versions_has_a_block_for_each_family(world: World, version: str) -> None:
    assert add(world, network(EVERYTHING, cniVersion=version)) == {
        "cniVersion": version or "0.1.0",
        "ip4": {
            "ip": "10.1.0.5/24",
            "gateway": "10.1.0.1",
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9"}],
        },
        "ip6": {"ip": "fd00::5/64", "routes": [{"dst": "fd09::/16"}]},
        "dns": EVERYTHING["dns"],
    }


@pytest.mark.parametrize(
    ("written", "read"),
    [
        pytest.param("10.1.0.5/24", "10.1.0.5/24", id="host-bits-are-kept"),
        pytest.param("::ffff:10.1.0.5/120", "10.1.0.5/24", id="ipv4-mapped-is-ipv4"),
        pytest.param("FD00:0:0::5/64", "fd00::5/64", id="ipv6-is-shortened"),
        pytest.param("10.1.0.5/32", "10.1.0.5/32", id="host-address"),
    ],
)
def test_addresses_are_printed_as_go_prints_them(world: World, written: str, read: str) -> None:
    assert given(world, network(static(written))) == [read]


def test_gateway_need_not_be_in_the_addresses_subnet(world: World) -> None:
    assert given(world, network(static("10.1.0.5/32 via 10.77.0.1"))) == ["10.1.0.5/32 via 10.77.0.1"]


def test_routes_keep_their_order_and_their_twins(world: World) -> None:
    routes = [
        {"dst": "10.9.0.0/16", "gw": "10.1.0.2"},
        {"dst": "10.8.0.0/16"},
        {"dst": "10.9.0.0/16", "gw": "10.1.0.1"},
    ]
    assert add(world, network(static("10.1.0.5/24", routes=routes)))["routes"] == routes


def test_no_address_is_an_empty_result(world: World) -> None:
    assert add(world, network({"type": "static"})) == {"cniVersion": "1.0.0"}


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_old_versions_cannot_express_a_result_without_address(world: World, version: str) -> None:
    error = world.refused("ADD", network({"type": "static"}, cniVersion=version), plugin="static")
    assert error["code"] == 2


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
@pytest.mark.parametrize(
    ("addresses", "family"),
    [
        pytest.param(["10.1.0.5/24", "10.1.0.6/24"], "IPv4", id="ipv4"),
        pytest.param(["fd00::5/64", "fd00::6/64"], "IPv6", id="ipv6"),
    ],
)
def test_old_versions_have_room_for_one_address_of_a_family(
    world: World, version: str, addresses: list[str], family: str
) -> None:
    error = world.refused("ADD", network(static(*addresses), cniVersion=version), plugin="static")
    assert error["code"] == 7
    assert version in error["msg"]
    assert family in error["details"]


def test_keys_match_whatever_their_case_and_null_is_absent(world: World) -> None:
    conf = network(
        {"TYPE": "static", "Addresses": [{"ADDRESS": "10.1.0.5/24", "Gateway": None}], "routes": None}
    )
    conf["IPAM"] = conf.pop("ipam")
    assert given(world, conf) == ["10.1.0.5/24"]


@pytest.mark.parametrize(
    ("ipam", "keys", "path"),
    [
        pytest.param(None, {}, "ipam", id="no-section"),
        pytest.param([], {}, "ipam", id="a-section-that-is-a-list"),
        pytest.param({"addresses": "10.1.0.5/24"}, {}, "ipam.addresses", id="addresses-that-are-a-string"),
        pytest.param(static("10.1.0.5"), {}, "ipam.addresses[0].address", id="an-address-without-prefix"),
        pytest.param(
            static("10.1.0.5/255.255.255.0"), {}, "ipam.addresses[0].address", id="an-address-with-a-netmask"
        ),
        pytest.param(
            static("10.1.0.5/24", "10.1.0.05/24"),
            {},
            "ipam.addresses[1].address",
            id="an-address-with-a-leading-zero",
        ),
        pytest.param(static("10.1.0.5/33"), {}, "ipam.addresses[0].address", id="a-prefix-that-is-too-long"),
        pytest.param(static("fe80::1%eth0/64"), {}, "ipam.addresses[0].address", id="an-address-with-a-zone"),
        pytest.param({"addresses": [{}]}, {}, "ipam.addresses[0].address", id="an-entry-without-address"),
        pytest.param({"addresses": ["10.1.0.5/24"]}, {}, "ipam.addresses[0]", id="an-entry-that-is-a-string"),
        pytest.param(
            static("10.1.0.5/24 via 10.1.0.1/24"), {}, "ipam.addresses[0].gateway", id="a-gateway-with-prefix"
        ),
        pytest.param(
            static("10.1.0.5/24", routes=[{"gw": "10.1.0.1"}]),
            {},
            "ipam.routes[0].dst",
            id="a-route-to-nowhere",
        ),
        pytest.param(
            static("10.1.0.5/24", routes=[{"dst": "10.9.0.0/16", "mtu": 1300.0}]),
            {},
            "ipam.routes[0].mtu",
            id="an-mtu-that-is-no-integer",
        ),
        pytest.param(
            static("10.1.0.5/24", routes=[{"dst": "10.9.0.0/16", "scope": 256}]),
            {},
            "ipam.routes[0].scope",
            id="a-scope-beyond-255",
        ),
        pytest.param(
            static("10.1.0.5/24", dns={"nameservers": "10.1.0.53"}),
            {},
            "ipam.dns.nameservers",
            id="nameservers-that-are-a-string",
        ),
        pytest.param(
            static(),
            {"runtimeConfig": {"ips": ["10.1.0.5"]}},
            "runtimeConfig.ips[0]",
            id="a-runtime-ip-without-prefix",
        ),
        pytest.param(
            static(), {"args": {"cni": {"ips": ["x"]}}}, "args.cni.ips[0]", id="an-ip-of-args-that-is-none"
        ),
    ],
)
def test_wrong_configuration_is_refused_with_the_path_of_the_field(
    world: World, ipam: object, keys: dict[str, Any], path: str
) -> None:
    error = world.refused("ADD", network(ipam, **keys), plugin="static")  # type: ignore[arg-type]  # wrong on purpose
    assert error["code"] == 7
    assert f'"{path}"' in error["msg"]


# -- what the caller asks for ---------------------------------------------------------------------

CONFIGURED = static("10.1.0.5/24 via 10.1.0.1", "fd00::5/64 via fd00::1")


def by_args(*ips: str) -> dict[str, Any]:
    return {"args": {"cni": {"ips": list(ips)}}}


def by_runtime(*ips: str) -> dict[str, Any]:
    return {"runtimeConfig": {"ips": list(ips)}}


@pytest.mark.parametrize(
    ("keys", "cni_args", "addresses"),
    [
        pytest.param(
            {},
            "IP=10.1.0.7/24",
            ["10.1.0.5/24 via 10.1.0.1", "fd00::5/64 via fd00::1", "10.1.0.7/24"],
            id="cni-args-add-to-the-configuration",
        ),
        pytest.param(
            {},
            "IP=10.2.0.7/24,fd02::7/64;GATEWAY=10.2.0.1,fd02::1",
            [
                "10.1.0.5/24 via 10.1.0.1",
                "fd00::5/64 via fd00::1",
                "10.2.0.7/24 via 10.2.0.1",
                "fd02::7/64 via fd02::1",
            ],
            id="a-gateway-of-cni-args-goes-where-its-subnet-is",
        ),
        pytest.param(
            {},
            "GATEWAY=10.1.0.254",
            ["10.1.0.5/24 via 10.1.0.254", "fd00::5/64 via fd00::1"],
            id="a-gateway-of-cni-args-goes-to-configured-addresses-too",
        ),
        pytest.param(
            {},
            "IP=10.1.0.5/24",
            ["10.1.0.5/24 via 10.1.0.1", "fd00::5/64 via fd00::1"],
            id="an-address-named-twice-is-one",
        ),
        pytest.param(
            {},
            "IP=;GATEWAY=",
            ["10.1.0.5/24 via 10.1.0.1", "fd00::5/64 via fd00::1"],
            id="empty-values-are-absent",
        ),
        pytest.param(
            {},
            "MAC=02:00:00:00:00:01",
            ["10.1.0.5/24 via 10.1.0.1", "fd00::5/64 via fd00::1"],
            id="what-is-for-the-interface-plugin-is-no-mistake",
        ),
        pytest.param(
            by_args("10.1.0.7/24"), "", ["10.1.0.7/24 via 10.1.0.1"], id="args-replace-and-keep-the-gateway"
        ),
        pytest.param(by_args("10.2.0.7/24"), "", ["10.2.0.7/24"], id="of-another-subnet-without-gateway"),
        pytest.param(
            by_args("10.1.0.7/24"),
            "IP=10.1.0.8/24",
            ["10.1.0.7/24 via 10.1.0.1"],
            id="args-come-before-cni-args",
        ),
        pytest.param(
            by_runtime("fd00::7/64", "10.1.0.7/24"),
            "",
            ["fd00::7/64 via fd00::1", "10.1.0.7/24 via 10.1.0.1"],
            id="runtime-config-replaces-in-its-order",
        ),
        pytest.param(
            by_runtime("10.1.0.7/24") | by_args("10.1.0.8/24"),
            "IP=10.1.0.9/24",
            ["10.1.0.7/24 via 10.1.0.1"],
            id="runtime-config-comes-before-everything",
        ),
        pytest.param(
            by_runtime(),
            "",
            ["10.1.0.5/24 via 10.1.0.1", "fd00::5/64 via fd00::1"],
            id="an-empty-list-is-absent",
        ),
    ],
)
def test_addresses_that_were_asked_for(
    world: World, keys: dict[str, Any], cni_args: str, addresses: list[str]
) -> None:
    assert given(world, network(CONFIGURED, **keys), CNI_ARGS=cni_args) == addresses


def test_gateway_that_fits_no_address_is_noted(world: World) -> None:
    answer = world.call("ADD", network(CONFIGURED), plugin="static", CNI_ARGS="GATEWAY=10.77.0.1")
    assert answer.status == 0
    assert "GATEWAY 10.77.0.1 is in no address's subnet" in answer.stderr


@pytest.mark.parametrize(
    ("cni_args", "words"),
    [
        pytest.param("IP=10.1.0.7", "10.1.0.7/24", id="an-address-without-prefix"),
        pytest.param("IP=10.1.0.7/24,,10.1.0.8/24", "IP", id="an-empty-part"),
        pytest.param("GATEWAY=10.1.0.1/24", "GATEWAY", id="a-gateway-with-prefix"),
        pytest.param("ip=10.1.0.7/24", "IgnoreUnknown", id="a-key-in-another-case"),
        pytest.param("FOO=1", "FOO", id="an-unknown-key"),
        pytest.param("IP=10.1.0.7/24;", "KEY=VALUE", id="a-semicolon-at-the-end"),
        pytest.param("IgnoreUnknown=maybe", "IgnoreUnknown", id="an-unclear-ignoreunknown"),
    ],
)
def test_wrong_cni_args_are_refused(world: World, cni_args: str, words: str) -> None:
    answer = world.call("ADD", network(CONFIGURED), plugin="static", CNI_ARGS=cni_args)
    assert (answer.status, answer.code) == (1, 4)
    assert words in answer.json["msg"] + answer.json["details"]


def test_unknown_cni_args_pass_where_the_caller_says_so(world: World) -> None:
    args = "IgnoreUnknown=true;K8S_POD_NAME=web;FOO=1"
    assert len(given(world, network(CONFIGURED), CNI_ARGS=args)) == 2


# -- the other verbs ------------------------------------------------------------------------------


def test_delete_and_status_are_content_and_keep_nothing(world: World) -> None:
    conf = network(CONFIGURED, cniVersion="1.1.0")
    add(world, conf)
    for command in ("DEL", "DEL", "STATUS"):
        answer = world.call(command, conf, plugin="static")
        assert (answer.status, answer.stdout) == (0, "")
    assert world.records() == []


def test_delete_needs_no_valid_section(world: World) -> None:
    answer = world.call("DEL", network({"type": "static", "addresses": 7}), plugin="static", CNI_NETNS="")
    assert (answer.status, answer.stdout) == (0, "")


def test_status_of_a_wrong_section_is_code_7(world: World) -> None:
    error = world.refused("STATUS", network(static("10.1.0.5"), cniVersion="1.1.0"), plugin="static")
    assert error["code"] == 7


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
@pytest.mark.parametrize(
    ("keys", "cni_args"),
    [
        pytest.param({}, "", id="from-the-configuration"),
        pytest.param({}, "IP=10.1.0.7/24", id="from-cni-args"),
        pytest.param(by_args("10.1.0.7/24"), "", id="from-args"),
        pytest.param(by_runtime("10.1.0.7/24"), "", id="from-runtime-config"),
    ],
)
def test_check_after_add_is_content_with_addresses(
    world: World, version: str, keys: dict[str, Any], cni_args: str
) -> None:
    conf = network(CONFIGURED, cniVersion=version, **keys)
    conf["prevResult"] = add(world, conf, CNI_ARGS=cni_args)
    answer = world.call("CHECK", conf, plugin="static", CNI_ARGS=cni_args)
    assert (answer.status, answer.stdout) == (0, "")


def test_check_accepts_addresses_of_other_plugins(world: World) -> None:
    conf = network(CONFIGURED)
    conf["prevResult"] = add(world, conf)
    conf["prevResult"]["ips"].append({"address": "10.77.0.5/24"})
    answer = world.call("CHECK", conf, plugin="static")
    assert answer.status == 0


@pytest.mark.parametrize(
    ("ips", "code", "words"),
    [
        pytest.param([], 102, "10.1.0.5/24 is not in prevResult", id="empty"),
        pytest.param(["10.1.0.5/24 via 10.1.0.1"], 102, "fd00::5/64 is not in prevResult", id="one-short"),
        pytest.param(
            ["10.1.0.5/24 via 10.1.0.9", "fd00::5/64 via fd00::1"],
            102,
            "the gateway of 10.1.0.5/24 is 10.1.0.9 in prevResult, not 10.1.0.1",
            id="with-another-gateway",
        ),
        pytest.param(
            ["10.1.0.5/24", "fd00::5/64 via fd00::1"],
            102,
            "the gateway of 10.1.0.5/24 is none in prevResult",
            id="without-the-gateway",
        ),
        pytest.param(
            ["10.1.0.5/16 via 10.1.0.1", "fd00::5/64 via fd00::1"],
            102,
            "10.1.0.5/24 is not in prevResult",
            id="with-another-prefix-length",
        ),
    ],
)
def test_check_finds_a_result_that_is(world: World, ips: list[str], code: int, words: str) -> None:
    result = {"cniVersion": "1.0.0", "ips": static(*ips)["addresses"]}
    error = world.refused("CHECK", network(CONFIGURED, prevResult=result), plugin="static")
    assert error["code"] == code
    assert words in error["msg"]


def test_check_without_a_previous_result_is_code_7(world: World) -> None:
    assert world.refused("CHECK", network(CONFIGURED), plugin="static")["code"] == 7


# -- reservations ---------------------------------------------------------------------------------

RESERVED = static("10.1.0.5/24", "fd00::5/64", reserve=True)


def reserved(world: World) -> list[str]:
    return sorted(path.name for path in world.records())


def test_reserved_address_is_refused_to_others_and_the_holder_named(world: World) -> None:
    conf = network(RESERVED)
    add(world, conf)
    error = world.refused("ADD", conf, plugin="static", CNI_CONTAINERID="pod-2")
    assert error["code"] == 105
    assert error["msg"] == 'the address 10.1.0.5 of network "rail" is reserved'
    assert "net1 of container pod-1" in error["details"]


def test_refused_add_keeps_none_of_its_other_addresses(world: World) -> None:
    add(world, network(static("10.1.0.5/24", reserve=True)))
    conf = network(static("10.1.0.6/24", "10.1.0.5/24", reserve=True))
    world.refused("ADD", conf, plugin="static", CNI_CONTAINERID="pod-2")
    assert reserved(world) == ["10.1.0.5"]


def test_holder_may_ask_again(world: World) -> None:
    conf = network(RESERVED)
    assert add(world, conf) == add(world, conf)
    assert reserved(world) == ["10.1.0.5", "fd00::5"]


def test_other_networks_have_reservations_of_their_own(world: World) -> None:
    add(world, network(RESERVED))
    add(world, network(RESERVED, name="other"), CNI_CONTAINERID="pod-2")


def test_delete_gives_back_whatever_the_configuration_says_now(world: World) -> None:
    add(world, network(RESERVED))
    answer = world.call("DEL", network(static()), plugin="static", CNI_NETNS="")
    assert (answer.status, answer.stdout) == (0, "")
    assert reserved(world) == []
    add(world, network(RESERVED), CNI_CONTAINERID="pod-2")


def test_delete_of_another_attachment_gives_back_nothing(world: World) -> None:
    add(world, network(RESERVED))
    for variables in ({"CNI_CONTAINERID": "pod-2"}, {"CNI_IFNAME": "net2"}):
        assert world.call("DEL", network(RESERVED), plugin="static", **variables).status == 0
    assert reserved(world) == ["10.1.0.5", "fd00::5"]


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        pytest.param([("pod-1", "net1"), ("pod-2", "net1")], ["10.1.0.5", "10.1.0.6"], id="both-are-valid"),
        pytest.param([("pod-2", "net1")], ["10.1.0.6"], id="one-is-stale"),
        pytest.param([], [], id="the-list-is-empty"),
        pytest.param(None, ["10.1.0.5", "10.1.0.6"], id="there-is-no-list"),
    ],
)
def test_gc_gives_back_what_is_not_valid_where(
    world: World, kept: list[tuple[str, str]] | None, left: list[str]
) -> None:
    for number, address in ((1, "10.1.0.5/24"), (2, "10.1.0.6/24")):
        add(world, network(static(address, reserve=True)), CNI_CONTAINERID=f"pod-{number}")
    conf = network(static(), cniVersion="1.1.0")
    if kept is not None:
        conf["cni.dev/valid-attachments"] = [{"containerID": cid, "ifname": name} for cid, name in kept]
    answer = world.call("GC", conf, plugin="static", CNI_CONTAINERID="", CNI_IFNAME="", CNI_NETNS="")
    assert (answer.status, answer.stdout) == (0, "")
    assert reserved(world) == left
