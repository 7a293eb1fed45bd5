"""Range: which addresses a configuration allows, what is warned about, what is refused."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.protocol.errors import InvalidConfig
from ipam.ranges import Range, parse_ip_leniently, parse_network, parse_range


def usable(range_: Range) -> str:
    """The addresses that may be given out, as `10.0.0.1-2 10.0.0.5`."""
    texts = []
    for first, last in range_.spans:
        low, high = str(range_.address(first)), str(range_.address(last))
        separator = "." if range_.network.version == 4 else ":"
        texts.append(low if low == high else f"{low}-{high.rpartition(separator)[2]}")
    return " ".join(texts)


@pytest.mark.parametrize(
    ("text", "bounds", "expected"),
    [
        pytest.param("10.0.0.0/30", {}, "10.0.0.1-2", id="network-and-broadcast-address-are-kept-back"),
        pytest.param("10.0.0.0/24", {}, "10.0.0.1-254", id="a-24-has-254"),
        pytest.param("10.0.0.9/29", {}, "10.0.0.9-14", id="host-bits-are-dropped"),
        pytest.param("10.0.0.0/31", {}, "10.0.0.0-1", id="a-31-gives-both"),
        pytest.param("10.0.0.7/32", {}, "10.0.0.7", id="a-32-gives-its-one"),
        pytest.param("fd00::/126", {}, "fd00::1-2", id="ipv6-keeps-first-and-last-back-too"),
        pytest.param("fd00::2/127", {}, "fd00::2-3", id="a-127-gives-both"),
        pytest.param("fd00::2/128", {}, "fd00::2", id="a-128-gives-its-one"),
        pytest.param("::ffff:10.0.0.0/126", {}, "10.0.0.1-2", id="ipv4-mapped-is-ipv4"),
        pytest.param("10.0.0.5-10.0.0.9/24", {}, "10.0.0.5-9", id="a-span-has-its-bounds"),
        pytest.param("10.0.0.9-10.0.0.9/24", {}, "10.0.0.9", id="a-span-of-one"),
        pytest.param("fd00::5-fd00::9/64", {}, "fd00::5-9", id="a-span-of-ipv6"),
        pytest.param(
            "10.0.0.5-10.0.0.9/24",
            {"start": "10.0.0.1", "end": "10.0.0.20"},
            "10.0.0.5-9",
            id="a-span-overrides-both-bounds",
        ),
        pytest.param(
            "010.000.000.005-010.0.0.09/24", {}, "10.0.0.5-9", id="leading-zeros-are-decimal-in-spans"
        ),
        pytest.param("010.00.000.0/29", {}, "10.0.0.1-6", id="leading-zeros-are-decimal-in-networks"),
        pytest.param("10.0.0.0/24", {"start": "010.0.0.250"}, "10.0.0.250-254", id="leading-zeros-in-bounds"),
        pytest.param("fd00:0001::/126", {}, "fd00:1::1-2", id="leading-zeros-of-ipv6-groups"),
        pytest.param("10.0.0.0/24", {"start": "10.0.0.250"}, "10.0.0.250-254", id="a-start"),
        pytest.param("10.0.0.0/24", {"end": "10.0.0.3"}, "10.0.0.1-3", id="an-end"),
        pytest.param(
            "10.0.0.0/24", {"start": "10.0.0.3", "end": "10.0.0.3"}, "10.0.0.3", id="bounds-are-included"
        ),
    ],
)
def test_usable_addresses(text: str, bounds: dict[str, str], expected: str) -> None:
    range_ = parse_range(text, **bounds)
    assert usable(range_) == expected
    assert range_.warnings == ()


@pytest.mark.parametrize(
    ("text", "bounds", "expected", "named"),
    [
        pytest.param(
            "10.0.0.0/29",
            {"start": "10.0.1.2"},
            "10.0.0.1-6",
            ["ipam.range_start", "10.0.1.2", "10.0.0.1 to 10.0.0.6", "10.0.0.0/29"],
            id="a-start-outside",
        ),
        pytest.param(
            "10.0.0.0/29",
            {"end": "10.0.1.2"},
            "10.0.0.1-6",
            ["ipam.range_end", "10.0.1.2"],
            id="an-end-outside",
        ),
        pytest.param(
            "10.0.0.0/29",
            {"start": "10.0.0.5", "end": "10.0.0.2"},
            "10.0.0.5-6",
            ["ipam.range_end", "10.0.0.2", "10.0.0.5 to 10.0.0.6"],
            id="an-end-below-the-start-runs-to-the-end-of-the-network",
        ),
        pytest.param(
            "10.0.0.0/29",
            {"start": "10.0.0.0"},
            "10.0.0.1-6",
            ["10.0.0.0"],
            id="the-network-address-as-start",
        ),
        pytest.param(
            "10.0.0.0/29", {"end": "10.0.0.7"}, "10.0.0.1-6", ["10.0.0.7"], id="the-broadcast-address-as-end"
        ),
        pytest.param(
            "10.0.0.0/29", {"start": "fd00::1"}, "10.0.0.1-6", ["fd00::1"], id="a-start-of-another-family"
        ),
        pytest.param(
            "10.0.0.0/29", {"start": "mistake"}, "10.0.0.1-6", ["mistake"], id="a-start-that-is-no-address"
        ),
        pytest.param(
            "10.0.0.5-10.0.0.2/29",
            {},
            "10.0.0.5-6",
            ['"ipam.range"', "10.0.0.2"],
            id="a-span-that-ends-before-it-starts",
        ),
    ],
)
def test_bounds_that_lie_outside_are_ignored_with_a_warning(
    text: str, bounds: dict[str, str], expected: str, named: list[str]
) -> None:
    range_ = parse_range(text, **bounds)
    assert usable(range_) == expected
    (warning,) = range_.warnings
    assert [part for part in named if part not in warning] == []


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        pytest.param(("10.0.0.2",), "10.0.0.1 10.0.0.3-6", id="one-address"),
        pytest.param(
            ("10.0.0.3/31",), "10.0.0.1 10.0.0.4-6", id="host-bits-are-allowed-and-the-whole-block-counts"
        ),
        pytest.param(("10.0.0.0/30",), "10.0.0.4-6", id="the-beginning"),
        pytest.param(("10.0.0.6",), "10.0.0.1-5", id="the-last-usable-one"),
        pytest.param(("10.0.0.5", "10.0.0.2"), "10.0.0.1 10.0.0.3-4 10.0.0.6", id="in-any-order"),
        pytest.param(("10.0.0.2/31", "10.0.0.2", "10.0.0.0/30"), "10.0.0.4-6", id="overlapping-ones"),
        pytest.param(("10.0.0.0/8",), "", id="more-than-the-network-leaves-nothing"),
        pytest.param(("10.9.0.0/16", "fd00::/64"), "10.0.0.1-6", id="others-make-no-difference"),
        pytest.param(("::ffff:10.0.0.2",), "10.0.0.1 10.0.0.3-6", id="an-ipv4-mapped-address"),
    ],
)
def test_excluded_addresses_are_not_usable(exclude: tuple[str, ...], expected: str) -> None:
    assert usable(parse_range("10.0.0.0/29", exclude=exclude)) == expected


def test_exclusions_and_bounds_together() -> None:
    range_ = parse_range("10.0.0.0/24", start="10.0.0.10", end="10.0.0.20", exclude=("10.0.0.8/29",))
    assert usable(range_) == "10.0.0.16-20"


@pytest.mark.parametrize("text", ["10.0.0.1/33", "mistake", "10.0.0.01", "", "10.0.0.1-10.0.0.2"])
def test_an_unreadable_exclusion_is_an_error_only_when_an_address_is_needed(text: str) -> None:
    range_ = parse_range("10.0.0.0/29", exclude=("10.0.0.1", text), path="ipam.ipRanges[1]")
    with pytest.raises(InvalidConfig) as caught:
        _ = range_.spans
    assert caught.value.code == 7
    assert "ipam.ipRanges[1].exclude[1]" in caught.value.msg


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("10.0.0.0", id="no-prefix-length"),
        pytest.param("10.0.0.0/33", id="a-prefix-that-is-too-long"),
        pytest.param("10.0.0.0/255.255.255.0", id="a-netmask"),
        pytest.param("10.0.0.256/24", id="an-octet-beyond-255"),
        pytest.param("10.0.0/24", id="three-octets"),
        pytest.param("fd00::g/64", id="no-hexadecimal-digit"),
        pytest.param("10.0.1.5-10.0.0.9/24", id="a-span-that-begins-outside"),
        pytest.param("fd00::1-10.0.0.9/24", id="a-span-of-two-families"),
        pytest.param("10.0.0.5-10.0.0.9", id="a-span-without-prefix-length"),
        pytest.param("10.0.0.5-/24", id="a-span-without-end"),
        pytest.param("-10.0.0.9/24", id="a-span-without-start"),
        pytest.param("", id="nothing"),
        pytest.param("fe80::1%eth0/64", id="a-zone"),
    ],
)
def test_a_range_that_cannot_be_read_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_range(text)
    assert any(part in str(caught.value) for part in (text or '""', text.rpartition("-")[2]))


def test_the_edges_are_usable_where_all_of_the_network_is() -> None:
    assert usable(parse_range("10.0.0.0/29", whole=True)) == "10.0.0.0-7"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        pytest.param("10.0.0.0/8", 2**24 - 2, id="an-8"),
        pytest.param("0.0.0.0/0", 2**32 - 2, id="all-of-ipv4"),
        pytest.param("fd00::/64", 2**64 - 2, id="a-64"),
        pytest.param("::/0", 2**128 - 2, id="all-of-ipv6"),
    ],
)
def test_large_ranges_are_not_materialised(text: str, size: int) -> None:
    range_ = parse_range(text, exclude=("10.3.0.0/16", "fd00::1:0/112"))
    excluded = 2**16 if size > 2**16 else 0
    assert size - range_.size in (0, excluded)
    assert len(range_.spans) <= 2


_PARTS = st.integers(0, 31)


@given(
    start=st.none() | _PARTS,
    end=st.none() | _PARTS,
    exclude=st.lists(st.tuples(_PARTS, st.integers(27, 32)), max_size=4),
    version=st.sampled_from((4, 6)),
    whole=st.booleans(),
)
def test_spans_are_what_a_walk_would_find(
    start: int | None, end: int | None, exclude: list[tuple[int, int]], version: int, whole: bool
) -> None:
    network = ip_network("10.0.0.32/27" if version == 4 else "fd00::20/123")
    more = 0 if version == 4 else 96
    first = network.network_address
    texts = tuple(f"{first + number}/{length + more}" for number, length in exclude)
    range_ = parse_range(
        str(network),
        start=None if start is None else str(first + start),
        end=None if end is None else str(first + end),
        exclude=texts,
        whole=whole,
    )

    low, high = (0, 31) if whole else (1, 30)
    low = start if start is not None and low <= start <= high else low
    high = end if end is not None and low <= end <= high else high
    holes = [ip_network(text, strict=False) for text in texts]
    walked = [int(first + n) for n in range(low, high + 1) if not any(first + n in hole for hole in holes)]

    assert [n for low_, high_ in range_.spans for n in range(low_, high_ + 1)] == walked
    assert range_.size == len(walked)


@given(st.ip_addresses())
def test_an_address_is_read_as_it_is_printed(address: object) -> None:
    read = parse_ip_leniently(str(address))
    assert read in (address, getattr(address, "ipv4_mapped", None))


@given(st.tuples(*[st.integers(0, 255)] * 4), st.lists(st.integers(0, 4), min_size=4, max_size=4))
def test_leading_zeros_change_nothing(octets: tuple[int, ...], zeros: list[int]) -> None:
    padded = ".".join("0" * count + str(octet) for octet, count in zip(octets, zeros, strict=True))
    assert parse_ip_leniently(padded) == ip_address(".".join(map(str, octets)))


def test_recorded_networks_may_have_host_bits() -> None:
    assert parse_network("10.0.0.7/24") == ip_network("10.0.0.0/24")
