"""The allocator: the lowest address of a range that nobody holds (pure).

Stores answer one question, where the next free address is; what may be given out, in which order, is
decided here. `Numbers` is the answer for records in memory: a set that knows its gaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Protocol, Self

from ipam.ranges import Range

_BITS = 10
_CHILDREN = 1 << _BITS
_FULL = (1 << _CHILDREN) - 1


class Held(Protocol):
    """Addresses, as numbers, that are not to be had."""

    def next_free(self, first: int, last: int) -> int | None:
        """Return the lowest number from `first` to `last` that is not held, None if all are."""


def lowest_free(range_: Range, held: Sequence[Held]) -> int | None:
    """Return the lowest address of `range_` that none of `held` has, None if there is none.

    Raises:
        InvalidConfig: an exclusion of the range cannot be read.
    """
    for first, last in range_.spans:
        candidate = _free_in_all(first, last, held)
        if candidate is not None:
            return candidate
    return None


def _free_in_all(first: int, last: int, held: Sequence[Held]) -> int | None:
    """Ask each in turn, from where the one before it stands, until all agree."""
    candidate, agreeing = first, 0
    for each in cycle(held):
        found = each.next_free(candidate, last)
        if found is None:
            return None
        agreeing = agreeing + 1 if found == candidate else 1
        candidate = found
        if agreeing == len(held):
            break
    return candidate


@dataclass(frozen=True)
class Numbers:
    """A set of numbers from 0 that knows its gaps; adding to it makes another, sharing most.

    A trie of 1024 ways: each node has a bit for each child that is full, so that the lowest gap is
    found, and a number added or removed, by one step a level: two levels for 2^20 numbers.
    """

    level: int = 0  # the node covers 1024^(level + 1) numbers
    full: int = 0  # bit n: child n is full, or at level 0: number n is in the set
    children: Mapping[int, Numbers] = field(default_factory=dict)

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Self:
        """Build the set at once; adding one by one would copy a path for each."""
        leaves: dict[int, int] = {}
        for number in numbers:
            leaf = number >> _BITS
            leaves[leaf] = leaves.get(leaf, 0) | 1 << (number & (_CHILDREN - 1))
        nodes = {index: cls(0, bits) for index, bits in leaves.items()} or {0: cls()}
        level = 0
        while list(nodes) != [0]:
            level += 1
            parents: dict[int, dict[int, Self]] = {}
            for index, node in nodes.items():
                parents.setdefault(index >> _BITS, {})[index & (_CHILDREN - 1)] = node
            nodes = {index: cls._above(level, below) for index, below in parents.items()}
        return nodes[0]

    @classmethod
    def _above(cls, level: int, children: Mapping[int, Self]) -> Self:
        full = sum(1 << index for index, child in children.items() if child.full == _FULL)
        return cls(level, full, children)

    def __contains__(self, number: int) -> bool:
        if number >= self._capacity:
            return False
        slot, rest = self._split(number)
        if self.full >> slot & 1:
            return True
        child = self.children.get(slot)
        return child is not None and rest in child

    def adding(self, number: int) -> Numbers:
        """Return the set with `number` in it."""
        if number >= self._capacity:
            is_full = self.full == _FULL
            return Numbers(self.level + 1, int(is_full), {0: self}).adding(number)
        return self._changed(number, is_in=True)

    def removing(self, number: int) -> Numbers:
        """Return the set without `number`."""
        return self._changed(number, is_in=False) if number in self else self

    def next_free(self, first: int, last: int) -> int | None:
        """Return the lowest number from `first` to `last` that is not in the set, None if all are."""
        found = self._lowest_gap(first) if first < self._capacity else first
        if found is None:
            found = self._capacity  # nothing beyond it is in the set
        return found if found <= last else None

    def _lowest_gap(self, first: int) -> int | None:
        """Return the lowest number not in the set from `first` to the capacity, None if all are in it."""
        slot, rest = self._split(first)
        gaps = ~self.full & _FULL & -(1 << slot)  # children from `slot` on that are not full
        while gaps:
            lowest = (gaps & -gaps).bit_length() - 1
            if self.level == 0:
                return lowest
            child = self.children.get(lowest)
            start = rest if lowest == slot else 0
            found = child._lowest_gap(start) if child else start
            if found is not None:
                return (lowest << _BITS * self.level) + found
            gaps &= gaps - 1
        return None

    def _changed(self, number: int, *, is_in: bool) -> Numbers:
        slot, rest = self._split(number)
        if self.level == 0:
            return Numbers(0, self.full | 1 << slot if is_in else self.full & ~(1 << slot))
        child = self.children.get(slot) or Numbers(self.level - 1)
        changed = child._changed(rest, is_in=is_in)
        full = self.full & ~(1 << slot) | int(changed.full == _FULL) << slot
        return Numbers(self.level, full, {**self.children, slot: changed})

    @property
    def _capacity(self) -> int:
        return 1 << _BITS * (self.level + 1)

    def _split(self, number: int) -> tuple[int, int]:
        shift = _BITS * self.level
        return number >> shift, number & ((1 << shift) - 1)
