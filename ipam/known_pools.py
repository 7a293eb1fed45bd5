"""KnownPools: large IPPools as this process last knew them, so that they need not be read for each claim.

A claim that goes by what is known tests that the pool has not changed, so one that is out of date costs a
request and nothing else. It is gone by only while nobody else changes the pool: where others write too, it
would be refused each time.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipam.kube_pool import KubePool
from ipam.pool import PoolKey

_ENOUGH = 2  # a claim looks twice: once long after the one before it, and once just after that


@dataclass(frozen=True)
class _Known:
    pool: KubePool
    looks: int  # one after the other that found it changed by nobody else


class KnownPools:
    """The pools of one namespace of a cluster."""

    def __init__(self) -> None:
        self._known: dict[PoolKey, _Known] = {}

    def last(self, key: PoolKey) -> KubePool | None:
        """Return a pool as it most likely is still; None if it is to be read."""
        known = self._known.get(key)
        return known.pool if known and known.looks >= _ENOUGH else None

    def saw(self, pool: KubePool, *, changes: int = 0) -> None:
        """Note a pool as it was read, or as so many `changes` of ours have made it."""
        if not pool.is_large:
            self.forget(pool.key)
            return
        (uid, generation), known = pool.version, self._known.get(pool.key)
        before = known.pool.version if known else ("", 0)
        if before[0] == uid and before[1] > generation:
            return  # an earlier state, from a cache
        looks = known.looks + 1 if known and before == (uid, generation - changes) else 0
        self._known[pool.key] = _Known(pool, looks)

    def forget(self, key: PoolKey) -> None:
        self._known.pop(key, None)
