"""Memory: what a process that serves one call after another keeps between them.

It goes with the request, so that nobody needs a place of its own for it, and a process that serves one call
has an empty one. What is kept must be harmless when it is out of date.
"""

from __future__ import annotations

from _thread import allocate_lock  # threading takes 0.7 ms to load
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

T = TypeVar("T")

_MOST = 32  # things; a node has a cluster or two, and a dozen executables


class Memory:
    """Things by a key that tells all that they depend on; what was not asked for longest goes first."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, object] = {}
        self._lock = allocate_lock()  # a call may have threads

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made for `key` before, or make it now."""
        with self._lock:
            found = self._kept.pop(key) if key in self._kept else make()
            self._kept[key] = found
            while len(self._kept) > _MOST:
                del self._kept[next(iter(self._kept))]
        return cast(T, found)
