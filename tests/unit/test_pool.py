"""Pool, owner, claim: names as Whereabouts has them, and who is whom."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from ipam.pool import Owner, PoolKey, reservation_name


@pytest.mark.parametrize(
    ("network", "network_name", "node", "name"),
    [
        pytest.param("10.0.0.0/24", "", "", "10.0.0.0-24", id="ipv4"),
        pytest.param("fd00:1::/64", "", "", "fd00-1---64", id="ipv6"),
        pytest.param("2001::/116", "", "", "2001---116", id="zeros-at-the-end"),
        pytest.param(
            "fd00:0:0:10:0:0:3:0/112", "", "", "fd00--10-0-0-3-0-112", id="the-first-longest-run-of-zeros"
        ),
        pytest.param("10.0.0.0/24", "blue", "", "blue-10.0.0.0-24", id="a-named-network"),
        pytest.param("10.80.0.64/26", "", "node-a", "node-a-10.80.0.64-26", id="a-slice"),
        pytest.param(
            "10.80.0.64/26", "blue", "node-a", "blue-node-a-10.80.0.64-26", id="a-slice-of-a-named-network"
        ),
        pytest.param("::/64", "", "", "0---64", id="a-name-does-not-begin-with-a-dash"),
        pytest.param("::/64", "blue", "", "blue----64", id="behind-a-network-name-it-may"),
    ],
)
def test_pool_names(network: str, network_name: str, node: str, name: str) -> None:
    assert PoolKey(ip_network(network), network_name, node).name == name


@pytest.mark.parametrize(
    ("address", "network_name", "name"),
    [
        pytest.param("10.0.0.1", "", "10.0.0.1", id="ipv4"),
        pytest.param("fd00:1::1", "", "fd00-1--1", id="ipv6"),
        pytest.param("fd00:7:0:0:4000::", "", "fd00-7-0-0-4000--0", id="a-zero-behind-a-colon-at-the-end"),
        pytest.param("fd00::10:0:0:3:1", "", "fd00--10-0-0-3-1", id="the-first-longest-run-of-zeros"),
        pytest.param("10.0.0.1", "blue", "blue-10.0.0.1", id="a-named-network"),
        pytest.param("::1", "", "0--1", id="a-name-does-not-begin-with-a-dash"),
    ],
)
def test_reservation_names(address: str, network_name: str, name: str) -> None:
    assert reservation_name(ip_address(address), network_name) == name


@pytest.mark.parametrize(
    "key",
    [
        PoolKey(ip_network("10.0.0.0/24")),
        PoolKey(ip_network("fd00::/64"), "blue"),
        PoolKey(ip_network("10.80.0.64/26"), "blue", "node-a"),
    ],
)
def test_a_pool_key_is_read_as_it_was_written(key: PoolKey) -> None:
    assert PoolKey.from_json(key.to_json()) == key


_WEB = Owner("c1", "net1", "default/web", "rail")


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        pytest.param(Owner("c2", "net1", "default/web", "rail"), True, id="a-pod-in-another-sandbox"),
        pytest.param(Owner("c1", "net1", "default/web", "other"), True, id="a-pod-on-another-network"),
        pytest.param(Owner("c1", "net2", "default/web", "rail"), False, id="another-interface-of-the-pod"),
        pytest.param(Owner("c1", "net1", "default/db", "rail"), False, id="another-pod"),
        pytest.param(Owner("c1", "net1", "other/web", "rail"), False, id="a-pod-of-another-namespace"),
        pytest.param(Owner("c1", "net1"), True, id="no-pod-but-the-same-container"),
        pytest.param(Owner("c2", "net1"), False, id="no-pod-and-another-container"),
        pytest.param(Owner("c2", "", "default/web"), True, id="an-old-entry-without-interface"),
        pytest.param(Owner("c2", "", "default/db"), False, id="another-pod-s-old-entry"),
    ],
)
def test_who_is_the_same_holder(other: Owner, is_same: bool) -> None:
    assert _WEB.is_same_holder(other) is is_same
    assert other.is_same_holder(_WEB) is is_same


@pytest.mark.parametrize(
    ("owner", "told"),
    [
        (_WEB, "default/web net1 (container c1)"),
        (Owner("c1", "net1"), "net1 (container c1)"),
        (Owner("c1", ""), "an unknown attachment (container c1)"),
        (Owner("", "", "default/web"), "default/web"),
    ],
)
def test_an_owner_is_told_by_pod_interface_and_container(owner: Owner, told: str) -> None:
    assert str(owner) == told


def test_only_the_sandbox_that_has_an_entry_has_it() -> None:
    assert _WEB.has_sandbox("c1", "net1")
    assert not _WEB.has_sandbox("c2", "net1")
    assert not _WEB.has_sandbox("c1", "net2")
    assert Owner("c1", "", "default/web").has_sandbox("c1", "net1")  # written by an old Whereabouts
