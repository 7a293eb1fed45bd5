"""Addresses as text: what Go's net package accepts, and how it prints it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.protocol.addresses import parse_cidr, parse_ip, parse_mac, parse_unicast_mac

v4 = st.ip_addresses(v=4)
v6 = st.ip_addresses(v=6).filter(lambda address: isinstance(address, IPv6Address) and not address.ipv4_mapped)


@given(v4 | v6)
def test_any_address_is_read_as_it_is_printed(address: IPv4Address | IPv6Address) -> None:
    assert parse_ip(str(address)) == address
    assert parse_ip(address.exploded.upper()) == address


@given(v4)
def test_an_ipv4_mapped_address_is_ipv4(address: IPv4Address) -> None:
    assert parse_ip(f"::ffff:{address}") == address
    assert parse_ip(f"::FFFF:{int(address) >> 16:x}:{int(address) & 0xFFFF:x}") == address


@given(st.one_of(st.tuples(v4, st.integers(0, 32)), st.tuples(v6, st.integers(0, 128))))
def test_an_address_with_a_prefix_keeps_its_host_bits(given_: tuple[IPv4Address | IPv6Address, int]) -> None:
    address, length = given_
    cidr = parse_cidr(f"{address}/{length}")
    assert (cidr.ip, cidr.network.prefixlen, str(cidr)) == (address, length, f"{address}/{length}")


@pytest.mark.parametrize(
    ("text", "example"), [("10.0.0.1", "10.0.0.1/24"), ("fd00::1", "fd00::1/64"), ("", "10.0.0.2/24")]
)
def test_an_address_without_a_prefix_is_told_how_to_write_it(text: str, example: str) -> None:
    with pytest.raises(ValueError, match=f'has no prefix length; write it as "{example}"'):
        parse_cidr(text)


@given(v4, st.integers(96, 128))
def test_an_ipv4_mapped_address_with_a_prefix_is_ipv4(address: IPv4Address, length: int) -> None:
    assert parse_cidr(f"::ffff:{address}/{length}") == IPv4Interface(f"{address}/{length - 96}")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        pytest.param("::1.2.3.4", "::102:304", id="ipv4-at-the-end-of-ipv6"),
        pytest.param("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0", id="one-group-left-out"),
        pytest.param("FD00::ABCD", "fd00::abcd", id="upper-case"),
        pytest.param("0:0:0:0:0:0:0:1", "::1", id="written-out"),
    ],
)
def test_other_spellings_of_an_address(text: str, address: str) -> None:
    assert parse_ip(text) == ip_address(address)
    assert str(parse_ip(text)) in (address, str(ip_address(address)))


NOT_ADDRESSES = [
    pytest.param("", id="nothing"),
    pytest.param("localhost", id="a-name"),
    pytest.param("10.0.0", id="three-numbers"),
    pytest.param("10.0.0.1.2", id="five-numbers"),
    pytest.param("10.0.0.256", id="a-number-too-large"),
    pytest.param("010.0.0.1", id="a-leading-zero"),
    pytest.param("10.0.0.0x1", id="hexadecimal"),
    pytest.param("167772161", id="one-number"),
    pytest.param("10.0.0.\u0661", id="digits-beyond-ascii"),
    pytest.param(" 10.0.0.1", id="a-space-before"),
    pytest.param("10.0.0.1\n", id="a-newline-after"),
    pytest.param("fe80::1%eth0", id="a-zone"),
    pytest.param("1::2::3", id="two-gaps"),
    pytest.param("12345::", id="a-group-too-long"),
    pytest.param("[::1]", id="brackets"),
]


@pytest.mark.parametrize("text", NOT_ADDRESSES)
def test_what_is_no_address_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address") as refusal:
        parse_ip(text)
    assert f'"{text}"' in str(refusal.value)
    with pytest.raises(ValueError, match="is not an address with a prefix length"):
        parse_cidr(f"{text}/24")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("10.0.0.1", id="no-prefix"),
        pytest.param("10.0.0.1/", id="an-empty-prefix"),
        pytest.param("10.0.0.1/33", id="a-prefix-too-long"),
        pytest.param("fd00::1/129", id="a-prefix-too-long-for-ipv6"),
        pytest.param("10.0.0.1/-1", id="a-negative-prefix"),
        pytest.param("10.0.0.1/+24", id="a-prefix-with-a-sign"),
        pytest.param("10.0.0.1/\u0662\u0664", id="a-prefix-beyond-ascii"),
        pytest.param("10.0.0.1/255.255.255.0", id="a-netmask"),
        pytest.param("10.0.0.1/0.0.0.255", id="a-hostmask"),
        pytest.param("10.0.0.1/24/24", id="two-prefixes"),
        pytest.param("10.0.0.1/24 ", id="a-space-after"),
        pytest.param("/24", id="a-prefix-alone"),
        pytest.param("::ffff:10.0.0.1/95", id="an-ipv4-mapped-address-with-a-prefix-of-its-own-kind"),
    ],
)
def test_what_has_no_proper_prefix_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="prefix") as refusal:
        parse_cidr(text)
    assert f'"{text}"' in str(refusal.value)


@pytest.mark.parametrize("value", [None, 5, 5.0, True, b"10.0.0.1", ["10.0.0.1"], {}])
@pytest.mark.parametrize("parse", [parse_ip, parse_cidr, parse_mac, parse_unicast_mac])
def test_only_strings_hold_addresses(parse: Callable[[object], object], value: object) -> None:
    with pytest.raises(ValueError, match="must be a string that holds"):
        parse(value)


@given(st.text(max_size=30), st.sampled_from([parse_ip, parse_cidr, parse_mac, parse_unicast_mac]))
def test_any_text_is_an_address_or_refused(text: str, parse: Callable[[object], object]) -> None:
    try:
        value = parse(text)
    except ValueError as error:
        value = None
        refusal = str(error)
    assert parse(str(value)) == value if value is not None else text in refusal


@given(st.sampled_from([6, 8, 20]).flatmap(lambda size: st.binary(min_size=size, max_size=size)))
def test_a_mac_is_printed_in_lower_case_with_colons_however_it_was_written(octets: bytes) -> None:
    printed = octets.hex(":")
    quads = octets.hex(".", 2)
    for text in (printed, printed.upper(), octets.hex("-"), quads, quads.upper()):
        assert parse_mac(text) == printed


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("02:00:00:00:00", id="five-bytes"),
        pytest.param("02:00:00:00:00:00:01", id="seven-bytes"),
        pytest.param("02:00:00-00:00:01", id="mixed-separators"),
        pytest.param("2:0:0:0:0:1", id="single-digits"),
        pytest.param("020000000001", id="no-separators"),
        pytest.param("0200.0000.00", id="a-quad-cut-short"),
        pytest.param("02:00:00:00:00:0g", id="no-hexadecimal"),
        pytest.param("02:00:00:00:00:01\n", id="a-newline-after"),
        pytest.param("", id="nothing"),
    ],
)
def test_what_is_no_mac_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a MAC address"):
        parse_mac(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("00:00:00:00:00:00", "is all zero", id="all-zero"),
        pytest.param("01:00:5e:00:00:01", "is a multicast address", id="multicast"),
        pytest.param("ff:ff:ff:ff:ff:ff", "is a multicast address", id="broadcast"),
        pytest.param("02:00:00:00:00:00:00:01", "has 8 bytes", id="eui-64"),
        pytest.param(":".join(["02"] * 20), "has 20 bytes", id="infiniband"),
    ],
)
def test_what_no_ethernet_link_can_have_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_unicast_mac(text)


def test_what_was_parsed_stays_as_it_is() -> None:
    """A model that is made from values instead of text."""
    assert parse_ip(IPv6Address("fd00::1")) == IPv6Address("fd00::1")
    assert parse_cidr(IPv6Interface("fd00::1/64")) == IPv6Interface("fd00::1/64")
