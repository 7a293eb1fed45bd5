"""KnownPools: IPPools as this process last knew them: the state of large ones, and of all how new it was.

Large ones need not be read for each claim. A claim that goes by what is known tests that the pool has not
changed, so one that is out of date costs a request and nothing else. It is gone by only while nobody else
changes the pool: where others write too, it would be refused each time.

What the API server's cache says of any pool is not believed if this process has seen a later state already.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipam.kube_pool import KubePool
from ipam.pool import PoolKey

_ENOUGH = 2  # a claim looks twice: once long after the one before it, and once just after that


@dataclass(frozen=True)
class _Known:
    version: tuple[str, int]  # see KubePool
    pool: KubePool | None  # if it is a large one
    looks: int  # one after the other that found it changed by nobody else


class KnownPools:
    """The pools of one namespace of a cluster."""

    def __init__(self) -> None:
        self._known: dict[PoolKey, _Known] = {}

    def last(self, key: PoolKey) -> KubePool | None:
        """Return a large pool as it most likely is still; None if it is to be read."""
        known = self._known.get(key)
        return known.pool if known and known.looks >= _ENOUGH else None

    def is_outdated(self, pool: KubePool) -> bool:
        """Whether a later state of a pool was seen than this one."""
        known, (uid, generation) = self._known.get(pool.key), pool.version
        return known is not None and known.version[0] == uid and known.version[1] > generation

    def saw(self, pool: KubePool, *, changes: int = 0) -> None:
        """Note a pool as it was read, or as so many `changes` of ours have made it."""
        (uid, generation), known = pool.version, self._known.get(pool.key)
        is_as_left = known is not None and known.version == (uid, generation - changes)
        looks = known.looks + 1 if known and is_as_left else 0
        self._known[pool.key] = _Known((uid, generation), pool if pool.is_large else None, looks)

    def forget(self, key: PoolKey) -> None:
        self._known.pop(key, None)
