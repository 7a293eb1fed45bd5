"""FileStore: the allocations of one node as files, one per address.

    <dataDir>/pools/<pool>/pool.json                              format, range and network_name
    <dataDir>/pools/<pool>/addresses/10.0.3.0-24/10.0.3.7         who holds it, one line of JSON
    <dataDir>/pools/<pool>/owners/<namespace>%2F<pod>@<interface> a link to the address, or to several
    <dataDir>/pools/<pool>/resting/…                              given back, and not to be had for a while
    <dataDir>/reservations/<network_name or _>/addresses/…        the same files, for pools that overlap

Files are written before the lock is taken, and directories are synced after it is let go, so that it is
held for looking and naming only. A killed claim leaves at most the owner's link or a file that
says whose it is; its owner's next call goes on from there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cni import durable
from cni.locks import locked
from cni.protocol.errors import CniError, all_of
from cni.protocol.failures import collected
from cni.protocol.notes import note
from cni.undo import undo_on_error, uninterrupted
from ipam.after_boot import is_looked_through, look_through
from ipam.allocator import lowest_free
from ipam.file_claim import FileClaim, give_back, holder_of, unavailable
from ipam.pool import Allocation, Claim, Owner, PoolKey
from ipam.pool_files import PoolFiles, decoded, described, encoded, key_of, sweep
from ipam.ranges import Ip, parse_range
from ipam.store import PoolExhausted, Wish

# Who holds what an owner's link in a pool points to, as far as the journal proves it.
Witness = Callable[[PoolKey, Owner], Owner | None]


@dataclass(frozen=True)
class FileStore:
    """The store below `root`; directories that become empty go, up to `top`."""

    root: Path
    top: Path
    witness: Witness = lambda _pool, _owner: None
    wants_notes = False  # the journal need not know claims: links lead from owners to them

    def claim(self, wish: Wish, owner: Owner) -> Claim:
        pool = self._pool(wish.pool)
        with (
            durable.drafted(self.root, encoded(owner), self.top) as draft,
            undo_on_error() as undo,
            self._locked(),
            uninterrupted(),
        ):
            asked = FileClaim.of(pool, wish, owner, self._repaired(pool, owner))
            asked.free_lost()
            if asked.kept:
                claim = asked.keep(asked.kept, draft)
            else:
                pool.wake()
                number = asked.choice()
                undo.callback(self.release, owner, (), [Claim(wish.pool, pool.address(number))])
                claim = asked.take(number, draft)
            asked.settle(claim)
        return claim

    def candidate(self, wish: Wish, owner: Owner) -> Ip:
        pool = self._pool(wish.pool)
        asked = FileClaim.of(pool, wish, owner, pool.linked(owner))
        return asked.kept.address if asked.kept else pool.address(asked.choice())

    def release(
        self,
        owner: Owner,
        pools: Iterable[PoolKey],
        claims: Iterable[Claim] = (),
        *,
        rest: float = 0,
        is_recorded: bool = False,
    ) -> None:
        known: dict[PoolKey, set[int]] = {key: set() for key in pools}
        for claim in claims:
            known.setdefault(claim.pool, set()).add(int(claim.address))
        failures: list[CniError] = []
        for key, numbers in known.items():
            if self.root.is_dir():
                with collected(failures):
                    self._release(self._pool(key), numbers, owner, rest, is_recorded=is_recorded)
        if failures:
            raise all_of(failures)

    def find(self, pool: PoolKey, owner: Owner, beside: frozenset[Ip] = frozenset()) -> Allocation | None:
        held = self._pool(pool).held_by(owner)
        return next((each for each in held if each.address not in beside), None)

    def allocations(self, pool: PoolKey) -> Iterator[Allocation]:
        here = self._pool(pool)
        for address in here.tree.addresses():
            allocation = here.allocation(int(address))
            if allocation:
                yield allocation

    def pools(self) -> list[PoolKey]:
        keys = (described(folder / "pool.json") for folder in sorted((self.root / "pools").glob("[!.]*")))
        return [key for key in keys if key]

    def count(self, pool: PoolKey) -> int:
        """How many addresses of a pool are held, without reading who holds them."""
        return self._pool(pool).tree.count()

    def complaints(self, wishes: Iterable[Wish]) -> list[str]:
        faults = [*self._unreadable(), *self._unwritable()]
        for wish in wishes:
            if not self.has_room(wish):
                faults.append(str(PoolExhausted(wish, "").msg))
        return faults

    def has_room(self, wish: Wish) -> bool:
        """Whether an address could be given, just now."""
        return lowest_free(wish.range, unavailable(self._pool(wish.pool), wish)) is not None

    def is_in_use(self, key: PoolKey, rest: float = 0) -> bool:
        """Whether somebody holds an address of a pool, or one was given back less than `rest` seconds ago."""
        pool = self._pool(key)
        return (pool.folder / "addresses").exists() or bool(rest and pool.rests())

    def take_over(self, key: PoolKey, holders: Mapping[Ip, Owner]) -> dict[Ip, str]:
        """Record addresses that are held already; return those that somebody else has, with whom.

        All at once: it is synced at the end, so that after a loss of power it is to be done again.
        """
        refused: dict[Ip, str] = {}
        pool = self._pool(key)
        whole = parse_range(str(key.network))
        with self._locked():
            pool.begin()
            for address, owner in holders.items():
                number = int(address)
                found = pool.allocation(number)
                holder = holder_of(pool, Wish(key, whole), number)
                if holder and not (found and found.owner and found.owner.is_same_holder(owner)):
                    refused[address] = holder
                elif not found:
                    with durable.drafted(self.root, encoded(owner), self.top) as draft:
                        pool.link(owner, [*pool.linked(owner), number])
                        pool.tree.add(number, draft)
                        pool.reservations.add(number, draft)
        os.sync()
        return refused

    @property
    def _lock(self) -> Path:
        return self.root / "lock"

    def _pool(self, key: PoolKey) -> PoolFiles:
        return PoolFiles(self.root, key)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep every other change out; what is empty afterwards goes, the lock's file too."""
        lock, pools = self._lock, self.root / "pools"
        with locked(lock):
            if not is_looked_through(lock):
                look_through(self.root, lock)
            try:
                yield
            finally:
                durable.prune(pools, self.root)
                if not pools.exists():
                    sweep(self.root / "reservations")
                    if not any((self.root / name).exists() for name in ("reservations", "corrupt")):
                        lock.unlink(missing_ok=True)
                        durable.prune(self.root, self.top)

    def _release(
        self, pool: PoolFiles, named: set[int], owner: Owner, rest: float, *, is_recorded: bool
    ) -> None:
        with self._locked(), uninterrupted():
            linked = self._repaired(pool, owner) if is_recorded else pool.linked(owner)
            numbers = sorted(named.union(linked))
            for number in numbers:
                give_back(pool, number, owner, rest, is_proven=is_recorded and number in named)
            # What another sandbox of the owner holds by now is found through the same link.
            pool.link(owner, (int(each.address) for each in pool.held_by(owner, linked)))
            pool.wake()
            pool.prune()
        pool.sync_released(*numbers)

    def _repaired(self, pool: PoolFiles, owner: Owner) -> list[int]:
        """Return which entries the owner's link names.

        Those that cannot be read are set aside, and what is proven is written in their place.
        """
        linked = pool.linked(owner)
        for number in linked:
            path = pool.tree.path(number)
            data = durable.read(path)
            if data is None or decoded(data):
                continue
            address = pool.address(number)
            aside = self.root / "corrupt" / pool.key.name / str(address)
            durable.replace(aside, data, self.root, is_synced=True)
            note(owner.name, f"the entry {path} cannot be read; it was set aside as {aside}")
            proven = self.witness(pool.key, owner)
            if proven and pool.is_linked_once(number):
                durable.replace(path, encoded(proven), self.root)
                note(owner.name, f"it was rebuilt from the journal: {address} is held by {proven}")
        return linked

    def _unreadable(self) -> list[str]:
        """Look at as many entries as STATUS has time for, and at what describes the pools.

        What is empty and older than this boot, or is not there, the next claim puts right.
        """
        entries = islice(self.root.glob("pools/*/addresses/*/[!.]*"), _LOOKED_AT)
        pools = sorted(self.root.glob("pools/[!.]*/pool.json"))
        faults = [f"the entry {path} cannot be read" for path in entries if self._is_fault(path, decoded)]
        return faults + [f"{path} cannot be read" for path in pools if self._is_fault(path, key_of)]

    def _is_fault(self, path: Path, parse: Callable[[bytes], object]) -> bool:
        data = durable.read(path)
        return data is not None and not parse(data) and (data != b"" or is_looked_through(self._lock))

    def _unwritable(self) -> list[str]:
        there = next(folder for folder in (self.root, *self.root.parents) if folder.exists())
        return [] if os.access(there, os.W_OK | os.X_OK) else [f"{there} cannot be written to"]


_LOOKED_AT = 2000  # entries; 20 µs each
