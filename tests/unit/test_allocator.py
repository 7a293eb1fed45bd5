"""The allocator: the lowest free address, and a set that knows its gaps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ipam.allocator import Numbers, lowest_free
from ipam.ranges import parse_range


@pytest.mark.parametrize(
    ("text", "exclude", "held", "expected"),
    [
        pytest.param("10.0.0.0/29", (), (), "10.0.0.1", id="the-first-usable-one"),
        pytest.param("10.0.0.0/29", (), (1, 2), "10.0.0.3", id="the-one-above-those-held"),
        pytest.param("10.0.0.0/29", (), (1, 3), "10.0.0.2", id="a-hole-comes-before-the-end"),
        pytest.param("10.0.0.0/29", ("10.0.0.1/31",), (), "10.0.0.2", id="not-an-excluded-one"),
        pytest.param("10.0.0.0/29", ("10.0.0.2/31",), (1,), "10.0.0.4", id="the-one-behind-an-exclusion"),
        pytest.param(
            "10.0.0.0/29", ("10.0.0.4/30",), (1, 2, 3), None, id="none-where-all-are-held-or-excluded"
        ),
        pytest.param("10.0.0.0/29", (), range(1, 7), None, id="none-where-all-are-held"),
        pytest.param("10.0.0.0/29", ("10.0.0.0/29",), (), None, id="none-where-all-are-excluded"),
        pytest.param(
            "10.0.0.0/23", (), range(1, 255), "10.0.0.255", id="255-inside-a-larger-network-is-an-address"
        ),
        pytest.param("10.0.0.0/23", (), range(1, 256), "10.0.1.0", id="so-is-0"),
        pytest.param("10.0.0.3-10.0.0.5/29", (), (3,), "10.0.0.4", id="within-a-span"),
    ],
)
def test_lowest_free(text: str, exclude: tuple[str, ...], held: Iterable[int], expected: str | None) -> None:
    range_ = parse_range(text, exclude=exclude)
    base = int(range_.network.network_address)
    number = lowest_free(range_, [Numbers.of(base + offset for offset in held)])
    assert (None if number is None else str(range_.address(number))) == expected


@given(
    held=st.lists(st.sets(st.integers(0, 40)), max_size=3),
    exclude=st.lists(st.integers(1, 30), max_size=3),
)
def test_the_lowest_that_no_record_has(held: list[set[int]], exclude: list[int]) -> None:
    range_ = parse_range("0.0.0.0/27", exclude=tuple(f"0.0.0.{number}" for number in exclude))
    free = [n for n in range(1, 31) if n not in exclude and not any(n in numbers for numbers in held)]
    assert lowest_free(range_, [Numbers.of(numbers) for numbers in held]) == min(free, default=None)


# -- the set --------------------------------------------------------------------------------------

# Numbers near the borders of a node's children, where mistakes would be.
_NUMBERS = st.one_of(
    st.integers(0, 40),
    st.integers(1000, 1050),
    st.integers(2**20 - 5, 2**20 + 5),
    st.integers(2**30 - 5, 2**30 + 5),
    st.integers(2**128 - 5, 2**128 - 1),
)


class AnyOrderOfAddingAndRemoving(RuleBasedStateMachine):
    """A set of numbers beside Python's own."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers, self.plain = Numbers(), set[int]()

    @rule(number=_NUMBERS)
    def add(self, number: int) -> None:
        self.numbers = self.numbers.adding(number)
        self.plain.add(number)

    @rule(first=st.sampled_from((0, 1024, 2**20 - 512, 2**20)), count=st.integers(1, 1100))
    def add_many(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            self.numbers = self.numbers.adding(number)
        self.plain |= set(range(first, first + count))

    @rule(number=_NUMBERS)
    def remove(self, number: int) -> None:
        self.numbers = self.numbers.removing(number)
        self.plain.discard(number)

    @rule()
    def build_at_once(self) -> None:
        self.numbers = Numbers.of(self.plain)

    @rule(first=_NUMBERS, room=st.integers(0, 3000))
    def look_for_a_gap(self, first: int, room: int) -> None:
        gaps = (number for number in range(first, first + room + 1) if number not in self.plain)
        assert self.numbers.next_free(first, first + room) == next(gaps, None)

    @rule(number=_NUMBERS)
    def look_for_a_number(self, number: int) -> None:
        assert (number in self.numbers) is (number in self.plain)

    @invariant()
    def the_first_gap_is_that_of_the_plain_set(self) -> None:
        first = next(number for number in range(len(self.plain) + 1) if number not in self.plain)
        assert self.numbers.next_free(0, 2**128) == first


TestNumbers = AnyOrderOfAddingAndRemoving.TestCase
TestNumbers.settings = settings(max_examples=30, deadline=None)


def test_a_set_stays_what_it_was_when_another_is_made_of_it() -> None:
    before = Numbers.of(range(1500))
    assert 1500 in before.adding(1500)
    assert 1499 not in before.removing(1499)
    assert before.next_free(0, 5000) == 1500


@dataclass(frozen=True)
class _Counting(Numbers):
    """A set that counts the nodes that are looked at."""

    visited: ClassVar[list[int]] = []

    def _lowest_gap(self, first: int) -> int | None:
        self.visited.append(self.level)
        return super()._lowest_gap(first)

    def _changed(self, number: int, *, is_in: bool) -> Numbers:
        self.visited.append(self.level)
        return super()._changed(number, is_in=is_in)


_MILLION = 1 << 20


@pytest.fixture(scope="module")
def million_of_an_8() -> Numbers:
    """The lowest million of 10.0.0.0/8, with holes that lie far apart."""
    base = int(parse_range("10.0.0.0/8").network.network_address)
    return _Counting.of(base + n for n in range(1, _MILLION) if n % 262_144 != 262_143)


def test_with_a_million_allocations_the_lowest_free_address_is_a_few_steps_away(
    million_of_an_8: Numbers,
) -> None:
    range_ = parse_range("10.0.0.0/8")
    _Counting.visited.clear()
    number = lowest_free(range_, [million_of_an_8])
    assert number is not None
    assert str(range_.address(number)) == "10.3.255.255"
    # A level of the tree is a factor of 1024; at each, the node that the search begins in and the next.
    assert len(_Counting.visited) <= 8


def test_with_a_million_allocations_one_more_changes_a_node_a_level(million_of_an_8: Numbers) -> None:
    range_ = parse_range("10.0.0.0/8")
    number = lowest_free(range_, [million_of_an_8])
    assert number is not None
    _Counting.visited.clear()
    assert number in million_of_an_8.adding(number)
    assert sorted(_Counting.visited) == [0, 1, 2]


@pytest.mark.parametrize("start", ["10.3.255.255", "10.4.0.0", "10.15.255.255", "10.16.0.0"])
def test_a_bound_in_the_midst_of_a_million_costs_no_walk(million_of_an_8: Numbers, start: str) -> None:
    _Counting.visited.clear()
    assert lowest_free(parse_range("10.0.0.0/8", start=start), [million_of_an_8]) is not None
    assert len(_Counting.visited) <= 8
