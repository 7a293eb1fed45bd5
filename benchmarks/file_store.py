"""What a claim and a release of the file store cost, by how many addresses of the pool are held already.

In one process, in memory: no disk, no start of an interpreter. Pools of all sizes take turns, so that a busy
moment meets them all.

    python -m benchmarks.file_store
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import table
from ipam.file_store import FileStore
from ipam.pool import Owner, PoolKey
from ipam.ranges import parse_range
from ipam.store import Wish
from tests.support.isolation import isolate

HELD = (0, 100, 10_000, 100_000)
FLAT = 1.5  # times the cost of an empty pool


@dataclass(frozen=True)
class Cost:
    """Medians, in milliseconds of CPU."""

    held: int
    claim_ms: float
    claim_again_ms: float
    release_ms: float


@dataclass(frozen=True)
class Pool:
    """A pool of a store of its own with as many holders as it is told."""

    store: FileStore
    wish: Wish
    held: int

    @classmethod
    def filled(cls, folder: Path, held: int) -> Pool:
        range_ = parse_range("10.0.0.0/8")
        key = PoolKey(range_.network)
        root = folder / str(held)
        store = FileStore(root, folder)
        holders = {range_.address(range_.first + number): _owner(f"held-{number}") for number in range(held)}
        store.take_over(key, holders)
        return cls(store, Wish(key, range_), held)

    def turn(self, number: int) -> Iterator[float]:
        """Claim, claim again and release for a new pod; yield the CPU seconds of each."""
        owner = _owner(f"new-{number}")
        for step in (
            lambda: self.store.claim(self.wish, owner),
            lambda: self.store.claim(self.wish, owner),
            lambda: self.store.release(owner, [self.wish.pool]),
        ):
            began = time.process_time()
            step()
            yield time.process_time() - began


def _owner(pod: str) -> Owner:
    return Owner(f"container-of-{pod}", "net1", f"default/{pod}", "rail")


def measure(folder: Path, rounds: int) -> tuple[Cost, ...]:
    pools = [Pool.filled(folder, held) for held in HELD]
    seconds: Mapping[int, list[list[float]]] = {pool.held: [] for pool in pools}
    for number in range(rounds):
        for pool in pools:
            seconds[pool.held].append(list(pool.turn(number)))
    return tuple(
        Cost(held, *(round(statistics.median(step) * 1000, 3) for step in zip(*turns, strict=True)))
        for held, turns in seconds.items()
    )


def to_markdown(costs: tuple[Cost, ...]) -> str:
    empty = costs[0]
    return table(
        (
            "addresses held",
            "claim, CPU ms",
            "against an empty pool",
            "claim again",
            "release, CPU ms",
            "against",
        ),
        (
            (
                f"{cost.held:,}",
                f"{cost.claim_ms:.2f}",
                f"{cost.claim_ms / empty.claim_ms:.2f}",
                f"{cost.claim_again_ms:.2f}",
                f"{cost.release_ms:.2f}",
                f"{cost.release_ms / empty.release_ms:.2f}",
            )
            for cost in costs
        ),
    )


def is_flat(costs: tuple[Cost, ...]) -> bool:
    """Whether no pool costs much more than an empty one."""
    empty = costs[0]
    return all(
        cost.claim_ms <= FLAT * empty.claim_ms and cost.release_ms <= FLAT * empty.release_ms
        for cost in costs
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.file_store", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="claims and releases of each pool (300)")
    arguments = parser.parse_args()
    isolate()
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        costs = measure(Path(folder), arguments.rounds)
    print(to_markdown(costs))
    if not is_flat(costs):
        raise SystemExit(f"The cost is not flat within {FLAT} times that of an empty pool.")


if __name__ == "__main__":
    main()
