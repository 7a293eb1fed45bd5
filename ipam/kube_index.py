"""Index: what is looked up among the entries of an IPPool, which is not walked for each claim (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from ipam.allocator import Numbers

_PLAIN = re.compile(r"(?:(?:0|[1-9][0-9]{0,44}) )*")


@dataclass
class Index:
    """The addresses that a pool's keys mean, as numbers, and whose keys are whose.

    `odd` has the addresses whose key is not the plain number of their offset.
    """

    lowest: int  # of the network; `held` counts from it
    held: Numbers
    odd: Mapping[int, str]
    keys: dict[str, tuple[str, ...]]  # by pod, and by container ID

    @classmethod
    def of(
        cls,
        allocations: Mapping[str, Any],
        base: int,
        bounds: tuple[int, int],
        read: Callable[[str], int | None],
    ) -> Self:
        """Build it: `base` is what keys count from, `bounds` the network's, `read` tells a key's address."""
        lowest, highest = bounds
        # One test of all keys, at a tenth of what a test of each takes.
        text = "".join([f"{key} " for key in allocations])
        if _PLAIN.fullmatch(text) and text.count(" ") == len(allocations):
            numbers = [base + int(key) for key in allocations]
            inside = (number - lowest for number in numbers if lowest <= number <= highest)
            return cls(lowest, Numbers.of(inside), {}, _keys(allocations))
        pairs = [(number, key) for key in allocations if (number := read(key)) is not None]
        odd = {number: key for number, key in pairs if key != str(number - base)}
        return cls(lowest, Numbers.of(number - lowest for number, _ in pairs), odd, _keys(allocations))

    def free(self, first: int, last: int) -> Iterator[int]:
        """Yield the addresses from `first` to `last` that nobody holds, lowest first."""
        number = self.held.next_free(first - self.lowest, last - self.lowest)
        while number is not None:
            yield number + self.lowest
            number = (
                self.held.next_free(number + 1, last - self.lowest) if number + self.lowest < last else None
            )

    def put(self, key: str, number: int | None, entry: object, old: object) -> None:
        """Take note that a plain key has an entry in the place of `old`; None for either is no entry."""
        if number is not None and number not in self.odd:
            offset = number - self.lowest
            self.held = self.held.removing(offset) if entry is None else self.held.adding(offset)
        for name in _names(old):
            left = tuple(each for each in self.keys.pop(name, ()) if each != key)
            if left:
                self.keys[name] = left
        for name in _names(entry):
            self.keys[name] = (*self.keys.get(name, ()), key)


def _keys(allocations: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    try:
        keys: dict[str, tuple[str, ...]] = {each["podref"]: (key,) for key, each in allocations.items()}
        keys |= {each["id"]: (key,) for key, each in allocations.items()}
    except (KeyError, TypeError):
        keys = {}
    if len(keys) == 2 * len(allocations):
        return keys  # as in most pools every name occurs once: at a third of the time
    keys = {}
    for key, entry in allocations.items():
        for name in _names(entry):
            keys[name] = (*keys[name], key) if name in keys else (key,)
    return keys


def _names(entry: object) -> tuple[str, ...]:
    """Return what an entry is found by."""
    if not isinstance(entry, dict):
        return ()
    pod, container = entry.get("podref"), entry.get("id")
    names = (pod,) if isinstance(pod, str) and pod else ()
    return (*names, container) if isinstance(container, str) and container != pod else names
