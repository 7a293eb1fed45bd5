"""What stores hold, for people: pools, who holds what, since when, and whether that still lives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni import durable
from cni.host.netns import opened_if_present
from cni.protocol.errors import CniError
from cni.state import Journal
from ipam.file_store import FileStore
from ipam.holding import Holding, Place, journal_of
from ipam.pool import Allocation, PoolKey
from ipam.ranges import Ip
from ipam.store import Store
from ipam.stores import opened


@dataclass(frozen=True)
class Seen:
    """One pool in one store, with its entries."""

    place: Place
    store: Store
    key: PoolKey
    allocations: tuple[Allocation, ...]

    @property
    def size(self) -> int:
        return size_of(self.key)

    @property
    def fill(self) -> str:
        held = len(self.allocations)
        return f"{held} of {self.size} held ({100 * held / self.size:.0f} %)"


@dataclass(frozen=True)
class Lives:
    """What this node knows of whether holders live: its journal, and the sandboxes that are there."""

    holdings: Mapping[tuple[str, str], Holding]

    @classmethod
    def here(cls, journal: Journal[Holding]) -> Lives:
        return cls({holding.key: holding for holding in journal.all()})

    def of(self, allocation: Allocation) -> str:
        """Return `alive`, `gone` (its sandbox is), or `unknown` (this node has no record of it)."""
        if not allocation.owner:
            return "unknown"
        holding = self.holdings.get((allocation.owner.container_id, allocation.owner.ifname))
        if not holding:
            return "unknown"
        try:
            with opened_if_present(holding.netns) as sandbox:
                return "alive" if sandbox else "gone"
        except OSError:
            return "unknown"


def places(environment: Mapping[str, str], data_dir: str | None, kubeconfig: str | None) -> list[Place]:
    """Return the stores to look at: those that are named, or else all that this node's journal knows."""
    named = [Place(kind="file", path=data_dir)] if data_dir else []
    named += [Place(kind="kubernetes", path=kubeconfig)] if kubeconfig else []
    if named:
        return named
    default = Place(kind="file", path=str(durable.state_directory(environment) / "ipam"))
    known = {holding.place for holding in journal_of(environment).all()}
    return sorted({default, *known}, key=lambda place: (place.kind, place.path))


def pools(environment: Mapping[str, str], where: list[Place]) -> Iterator[Seen]:
    """Yield the pools of some stores, with their entries."""
    for place in where:
        store = opened(place, environment)
        for key in store.pools():
            yield Seen(place, store, key, tuple(store.allocations(key)))


def told(environment: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield each pool that this node's journal knows of; in its place, a store with the `error` it gives."""
    lives = Lives.here(journal_of(environment))
    for place in places(environment, None, None):
        try:
            yield from (to_json(seen, lives) for seen in pools(environment, [place]))
        except CniError as error:
            yield {"store": place.kind, "path": place.path, "error": f"{error.msg}. {error.details}".rstrip()}


def to_json(seen: Seen, lives: Lives) -> dict[str, Any]:
    return {
        "store": seen.place.kind,
        "path": seen.place.path,
        "name": seen.key.name,
        "range": str(seen.key.network),
        "network_name": seen.key.network_name,
        "held": len(seen.allocations),
        "size": seen.size,
        "allocations": [_entry(each, lives) for each in seen.allocations],
    }


def _entry(allocation: Allocation, lives: Lives) -> dict[str, str]:
    owner = allocation.owner
    fields = {
        "address": str(allocation.address),
        "podref": owner.podref if owner else "",
        "ifname": owner.ifname if owner else "",
        "container_id": owner.container_id if owner else "",
        "network": owner.network if owner else "",
        "since": allocation.since,
    }
    return fields | {"state": lives.of(allocation) if owner else "unreadable"}


def holders(seen: Iterator[Seen], address: Ip) -> Iterator[tuple[Seen, Allocation | None]]:
    """Yield each pool whose network has an address, with the entry of it, if any."""
    for pool in seen:
        if address in pool.key.network:
            yield pool, next((each for each in pool.allocations if each.address == address), None)


def size_of(pool: PoolKey) -> int:
    """How many addresses a pool's network has for pods, whatever configurations exclude."""
    count = pool.network.num_addresses
    return count - 2 if count > 2 else count


def fills(environment: Mapping[str, str]) -> Iterator[tuple[str, str, int, int]]:
    """Yield the range, `network_name`, held addresses and size of each pool that this node has as files.

    Entries are counted, not read: 65,000 take 20 ms.
    """
    folders = {place.path for place in places(environment, None, None) if place.kind != "kubernetes"}
    for folder in sorted(folders):
        files = FileStore(Path(folder), Path(folder))
        for key in files.pools():
            yield str(key.network), key.network_name, files.count(key), size_of(key)


_NEARLY = 0.9  # of a pool


def nearly_full(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each pool of this node's files that has little left, with a sentence."""
    where = [place for place in places(environment, None, None) if place.kind == "file"]
    for seen in pools(environment, where):
        if len(seen.allocations) > _NEARLY * seen.size:
            yield str(seen.key), f"{seen.fill} in {seen.place.path}"
