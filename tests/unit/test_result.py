"""Results in every version's form: what a version can express survives, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.protocol.config import Dns
from cni.protocol.errors import CniError
from cni.protocol.result import Interface, IpConfig, Result, Route, prev_result
from cni.protocol.versions import SUPPORTED, shape

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
maybe_word = st.none() | words
counts = st.none() | st.integers(1, 2**32 - 1)
ips = st.ip_addresses(v=4) | st.ip_addresses(v=6).filter(lambda ip: not getattr(ip, "ipv4_mapped", None))


@st.composite
def cidrs(draw: st.DrawFn) -> str:
    ip = draw(ips)
    return f"{ip}/{draw(st.integers(0, ip.max_prefixlen))}"


interfaces = st.builds(
    Interface,
    name=words,
    mac=maybe_word,
    mtu=counts,
    sandbox=maybe_word,
    socketPath=maybe_word,
    pciID=maybe_word,
)
addresses = st.builds(
    IpConfig, interface=st.none() | st.integers(0, 3), address=cidrs(), gateway=st.none() | ips.map(str)
)
routes = st.builds(
    Route,
    dst=cidrs(),
    gw=st.none() | ips.map(str),
    mtu=counts,
    advmss=counts,
    priority=counts,
    table=st.none() | st.integers(0, 2**32 - 1),
    scope=st.none() | st.integers(0, 255),
)
some_words = st.lists(words, max_size=2)
dns = st.builds(Dns, nameservers=some_words, domain=maybe_word, search=some_words, options=some_words)
results = st.builds(
    Result,
    interfaces=st.lists(interfaces, max_size=3),
    ips=st.lists(addresses, max_size=4),
    routes=st.lists(routes, max_size=4),
    dns=dns,
)
versions_with_interfaces = st.sampled_from([version for version in SUPPORTED if shape(version) != "0.2.0"])
old_versions = st.sampled_from([version for version in SUPPORTED if shape(version) == "0.2.0"])


def read(rendered: dict[str, object], assumed: str = "1.1.0") -> Result:
    """Read what was rendered, after its way through JSON."""
    return Result.parse(json.loads(json.dumps(rendered)), assumed, "it")


@given(results, st.sampled_from(SUPPORTED))
def test_what_a_version_tells_of_a_result_is_what_is_read_of_its_text(result: Result, version: str) -> None:
    if shape(version) == "0.2.0" and not result.ips:
        with pytest.raises(CniError, match="no valid IP addresses"):
            result.told_in(version)
    else:
        assert result.told_in(version) == read(result.render(version))


# -- what survives ---------------------------------------------------------------------------------


@given(results, versions_with_interfaces)
def test_all_but_what_an_interface_learned_later_survives(result: Result, version: str) -> None:
    expected = result
    if shape(version) == "0.3.0":
        news = {"mtu": None, "socket_path": None, "pci_id": None}
        expected = result.model_copy(
            update={"interfaces": tuple(link.model_copy(update=news) for link in result.interfaces)}
        )
    assert read(result.render(version)) == expected


@given(results.filter(lambda result: result.ips), old_versions)
def test_the_first_address_of_each_family_and_its_routes_survive_the_oldest_form(
    result: Result, version: str
) -> None:
    old = read(result.render(version))
    families = [family for family in (4, 6) if any(ip.address.version == family for ip in result.ips)]
    first = [next(ip for ip in result.ips if ip.address.version == family) for family in families]
    assert [(ip.address, ip.gateway) for ip in old.ips] == [(ip.address, ip.gateway) for ip in first]
    kept = [
        (route.dst, route.gw) for family in families for route in result.routes if route.dst.version == family
    ]
    assert [(route.dst, route.gw) for route in old.routes] == kept
    assert (old.dns, old.interfaces, [ip.interface for ip in old.ips]) == (
        result.dns,
        (),
        [None] * len(first),
    )


@given(results.filter(lambda result: result.ips), st.sampled_from(SUPPORTED), st.sampled_from(SUPPORTED))
def test_a_second_conversion_changes_nothing_that_the_first_has_left(
    result: Result, first: str, second: str
) -> None:
    once = read(result.render(first))
    twice = read(read(once.render(second)).render(first))
    both = {shape(first), shape(second)}
    if "0.2.0" not in both or shape(first) == "0.2.0":
        assert twice.ips == once.ips
        assert twice.routes == once.routes
    assert twice.dns == once.dns


@given(results, st.sampled_from(SUPPORTED))
def test_a_result_has_the_keys_of_its_version_and_tells_it(result: Result, version: str) -> None:
    if not result.ips:
        version = "1.0.0"
    rendered: Any = result.render(version)
    assert rendered["cniVersion"] == version
    own = {"0.2.0": {"ip4", "ip6"}, "0.3.0": {"interfaces", "ips", "routes"}}
    assert set(rendered) <= {"cniVersion", "dns"} | own.get(shape(version), own["0.3.0"])
    assert (
        all("version" in ip for ip in rendered.get("ips", [])) is (shape(version) != "1.0.0")
        or not result.ips
    )
    assert ("dns" in rendered) is (shape(version) != "1.0.0" or bool(result.dns.to_json()))
    assert [] not in rendered.values()


# -- forms -----------------------------------------------------------------------------------------

FULL = Result.model_validate(
    {
        "interfaces": [
            {"name": "br0", "mac": "02:00:00:00:00:01"},
            {"name": "net1", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/pod", "mtu": 1400}
            | {"pciID": "0000:af:06.1", "socketPath": "/run/vhost"},
        ],
        "ips": [
            {"interface": 1, "address": "fd00::5/64", "gateway": "fd00::1"},
            {"interface": 1, "address": "10.1.0.5/24", "gateway": "10.1.0.1"},
            {"address": "10.2.0.5/24"},
        ],
        "routes": [
            {"dst": "10.9.0.0/16", "gw": "10.1.0.254", "mtu": 1300, "priority": 5},
            {"dst": "::/0"},
            {"dst": "10.8.0.0/16", "table": 0, "scope": 0},
        ],
        "dns": {"nameservers": ["10.1.0.53"]},
    }
)
_ROUTES = [
    {"dst": "10.9.0.0/16", "gw": "10.1.0.254", "mtu": 1300, "priority": 5},
    {"dst": "::/0"},
    {"dst": "10.8.0.0/16", "table": 0, "scope": 0},
]


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_the_oldest_form(version: str) -> None:
    assert FULL.render(version) == {
        "cniVersion": version,
        "ip4": {
            "ip": "10.1.0.5/24",
            "gateway": "10.1.0.1",
            "routes": [{"dst": "10.9.0.0/16", "gw": "10.1.0.254"}, {"dst": "10.8.0.0/16"}],
        },
        "ip6": {"ip": "fd00::5/64", "gateway": "fd00::1", "routes": [{"dst": "::/0"}]},
        "dns": {"nameservers": ["10.1.0.53"]},
    }


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
def test_the_form_with_interfaces(version: str) -> None:
    assert FULL.render(version) == {
        "cniVersion": version,
        "interfaces": [
            {"name": "br0", "mac": "02:00:00:00:00:01"},
            {"name": "net1", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/pod"},
        ],
        "ips": [
            {"version": "6", "interface": 1, "address": "fd00::5/64", "gateway": "fd00::1"},
            {"version": "4", "interface": 1, "address": "10.1.0.5/24", "gateway": "10.1.0.1"},
            {"version": "4", "address": "10.2.0.5/24"},
        ],
        "routes": _ROUTES,
        "dns": {"nameservers": ["10.1.0.53"]},
    }


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_the_newest_form(version: str) -> None:
    rendered: Any = FULL.render(version)
    assert rendered["interfaces"][1] == {
        "name": "net1",
        "mac": "02:00:00:00:00:02",
        "sandbox": "/run/netns/pod",
        "mtu": 1400,
        "socketPath": "/run/vhost",
        "pciID": "0000:af:06.1",
    }
    assert rendered["ips"][0] == {"interface": 1, "address": "fd00::5/64", "gateway": "fd00::1"}
    assert rendered["routes"] == _ROUTES


@pytest.mark.parametrize("version", SUPPORTED)
def test_an_empty_result_is_its_version_and_before_1_0_0_empty_dns(version: str) -> None:
    empty = Result()
    if shape(version) == "0.2.0":
        with pytest.raises(CniError, match="cannot convert: no valid IP addresses") as refusal:
            empty.render(version)
        assert refusal.value.code == 2
    else:
        dns: dict[str, object] = {} if shape(version) == "1.0.0" else {"dns": {}}
        assert empty.render(version) == {"cniVersion": version, **dns}


def test_ipv4_comes_before_ipv6_in_what_was_of_the_oldest_form() -> None:
    told: dict[str, object] = {"ip6": {"ip": "fd00::5/64"}, "ip4": {"ip": "10.1.0.5/24"}}
    assert [str(ip.address) for ip in read(told, "0.2.0").ips] == ["10.1.0.5/24", "fd00::5/64"]


# -- results of others -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "assumed", "code", "where"),
    [
        pytest.param({"cniVersion": "9.0.0"}, "1.0.0", 1, "9.0.0", id="a-version-from-the-future"),
        pytest.param({"cniVersion": 1}, "1.0.0", 6, "cniVersion", id="a-version-that-is-a-number"),
        pytest.param({"ips": {}}, "1.0.0", 6, "ips", id="an-object-for-a-list"),
        pytest.param({"ips": [{}]}, "1.0.0", 6, "ips[0].address", id="an-address-that-is-missing"),
        pytest.param({"ips": [{"address": "10.1.0.5"}]}, "1.0.0", 6, "ips[0].address", id="no-prefix"),
        pytest.param({"ip4": {"ip": "10.1.0.5"}}, "0.2.0", 6, "ip4.ip", id="no-prefix-in-the-oldest-form"),
        pytest.param({"routes": [{"gw": "::1"}]}, "1.0.0", 6, "routes[0].dst", id="a-route-to-nowhere"),
        pytest.param({"interfaces": [[]]}, "1.0.0", 6, "interfaces[0]", id="an-interface-that-is-none"),
    ],
)
def test_a_malformed_result_is_refused_where_it_is_wrong(
    told: dict[str, Any], assumed: str, code: int, where: str
) -> None:
    with pytest.raises(CniError) as refusal:
        Result.parse(told, assumed, "the result")
    assert refusal.value.code == code
    assert where in refusal.value.msg


def test_keys_of_a_result_match_whatever_their_case_and_unknown_ones_are_ignored() -> None:
    told: dict[str, object] = {
        "CNIVERSION": "1.0.0",
        "IPs": [{"ADDRESS": "10.1.0.5/24", "note": 1}],
        "extra": True,
    }
    assert [str(ip.address) for ip in read(told, "0.2.0").ips] == ["10.1.0.5/24"]


@pytest.mark.parametrize("version", SUPPORTED)
@pytest.mark.parametrize("told", [*SUPPORTED, None])
def test_prev_result_has_the_shape_of_the_configurations_version(version: str, told: str | None) -> None:
    raw = json.loads(json.dumps(FULL.render(told or version)))
    if told is None:
        del raw["cniVersion"]
    if shape(told or version) == shape(version):
        previous = prev_result(raw, version)
        assert previous
        assert "10.1.0.5/24" in [str(ip.address) for ip in previous.ips]
    else:
        with pytest.raises(CniError, match="under a configuration of version") as refusal:
            prev_result(raw, version)
        assert refusal.value.code == 7


def test_no_prev_result_is_none() -> None:
    assert prev_result(None, "1.0.0") is None


@pytest.mark.parametrize(("interfaces", "index"), [(0, 0), (1, 1), (2, -1)])
def test_address_of_prev_result_on_an_interface_that_is_none_is_refused(interfaces: int, index: int) -> None:
    """Behind it comes our interface, whose the address would be."""
    raw = {
        "interfaces": [{"name": "eth0"}] * interfaces,
        "ips": [{"address": "10.1.0.5/24", "interface": index}],
    }
    with pytest.raises(CniError, match=rf"prevResult.ips\[0\].interface is {index}") as refusal:
        prev_result(raw, "1.0.0")
    assert refusal.value.code == 7


# -- merging ---------------------------------------------------------------------------------------


@given(results, results)
def test_what_is_added_to_a_previous_result_comes_behind_it(previous: Result, own: Result) -> None:
    merged = own.merged_into(previous)
    assert merged.interfaces == previous.interfaces + own.interfaces
    assert merged.routes == previous.routes + own.routes
    assert merged.ips[: len(previous.ips)] == previous.ips
    added = merged.ips[len(previous.ips) :]
    assert [ip.address for ip in added] == [ip.address for ip in own.ips]
    for before, after in zip(own.ips, added, strict=True):
        offset = len(previous.interfaces)
        assert after.interface == (None if before.interface is None else before.interface + offset)
    assert merged.dns == (own.dns if own.dns.to_json() else previous.dns)


@given(results)
def test_nothing_before_it_leaves_a_result_as_it_is(result: Result) -> None:
    assert result.merged_into(None) == result
    assert result.merged_into(Result()) == result
