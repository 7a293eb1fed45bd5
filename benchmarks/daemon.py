"""Client and daemon beside Debian's Go plugins, and the ways in which a daemon can carry calls out.

Writes `daemon.md`, `daemon.json` and `daemon.svg` to `results/`, and the Markdown to stdout.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from benchmarks import bars, ways
from benchmarks.bench import Bench, Job
from benchmarks.kernel_floor import Kernel
from benchmarks.machine import Machine
from benchmarks.measure import Spawner, p90
from benchmarks.report import table
from benchmarks.ways import STORM, Way
from benchmarks.workshop import workshop
from tests.support.daemon import Daemon
from tests.support.isolation import isolate

ROOT = Path(__file__).parents[1]
BURST = 64
SINGLE_BAR, BURST_BAR = 0.8, 0.6  # of Go's wall time
CLIENT_MIB, DAEMON_MIB = 1, 80


@dataclass(frozen=True)
class Floor:
    """What an ADD through any daemon costs: a process that begins and ends, and the kernel; medians."""

    process_ms: float
    kernel_ms: float

    @property
    def ms(self) -> float:
        return round(self.process_ms + self.kernel_ms, 2)


@dataclass(frozen=True)
class Pair:
    """The same work by both; milliseconds, medians and 90th percentiles."""

    what: str
    ours_ms: float
    ours_p90_ms: float
    go_ms: float
    go_p90_ms: float
    bar: float | None  # of Go's time; None: for information
    floor: Floor | None = None

    @classmethod
    def of(
        cls,
        what: str,
        ours: Sequence[float],
        go: Sequence[float],
        bar: float | None,
        floor: Floor | None = None,
    ) -> Pair:
        return cls(what, _median(ours), round(p90(ours), 2), _median(go), round(p90(go), 2), bar, floor)

    @property
    def ratio(self) -> float:
        return round(self.ours_ms / self.go_ms, 2)

    @property
    def least_ratio(self) -> float | None:
        """What the ratio would be if nothing was done but what must be."""
        return round(self.floor.ms / self.go_ms, 2) if self.floor else None

    @property
    def is_kept(self) -> bool:
        return self.bar is None or self.ratio <= self.bar

    def to_json(self) -> dict[str, object]:
        told = {"ratio": self.ratio, "least_ratio": self.least_ratio, "is_kept": self.is_kept}
        return asdict(self) | told


def singles(bench: Bench, rounds: int) -> list[Pair]:
    """ADD and DEL of each case, by turns with what its floor is; only the ADDs are compared."""
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    with Daemon(bench.node), Spawner(bench.node.host) as spawner, Kernel(bench.node.host) as kernel:

        def wall(*job: *Job) -> float:
            return spawner.run(*job).wall

        for turn in range(-2, rounds):
            for what, case in bench.cases.items():
                sides = [("ours", wall, case.ours), ("go", wall, case.go), ("kernel", kernel.run, case.ours)]
                seconds = {"process": wall(*bench.job("ours", "VERSION", case.ours))}
                first = turn % len(sides)
                for side, run, conf in sides[first:] + sides[:first]:
                    seconds[side] = run(*bench.job(side, "ADD", conf))
                    run(*bench.job(side, "DEL", conf))
                if turn >= 0:
                    for part, each in seconds.items():
                        taken[what, part].append(each * 1000)
    return [
        Pair.of(
            what,
            taken[what, "ours"],
            taken[what, "go"],
            SINGLE_BAR if case.has_bar else None,
            Floor(_median(taken[what, "process"]), _median(taken[what, "kernel"])),
        )
        for what, case in bench.cases.items()
    ]


def bursts(bench: Bench, rounds: int) -> list[Pair]:
    """Many ADDs at once, by turns. Of the device there is one, so it has no burst."""
    pairs = []
    with Daemon(bench.node):
        for what, case in bench.cases.items():
            if what == "host-device":
                continue
            walls: dict[str, list[float]] = {"ours": [], "go": []}
            for turn in range(rounds + 1):
                for side, conf in (("ours", case.ours), ("go", case.go)):
                    wall = bench.burst(side, "ADD", conf, BURST)
                    bench.burst(side, "DEL", conf, BURST)
                    if turn:
                        walls[side].append(wall)
            bar = BURST_BAR if case.has_bar else None
            pairs.append(Pair.of(f"{BURST} at once: {what}", walls["ours"], walls["go"], bar))
    return pairs


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 2)


def memory(bench: Bench, pairs: int) -> tuple[float, float]:
    """The client's peak, and what daemon and workers hold after many attachments, in MiB."""
    conf = bench.cases["macvlan + whereabouts (file) / host-local"].ours
    with Daemon(bench.node) as daemon, Spawner(bench.node.host) as spawner:
        client = spawner.peak(*bench.job("ours", "ADD", conf))
        spawner.run(*bench.job("ours", "DEL", conf))
        for _ in range(pairs // BURST):
            bench.burst("ours", "ADD", conf, BURST)
            bench.burst("ours", "DEL", conf, BURST)
        return round(client, 2), round(daemon.resident(), 1)


def markdown(machine: Machine, pairs: list[Pair], found: list[Way], client: float, daemon: float) -> str:
    rows = (
        (
            pair.what,
            f"{pair.ours_ms:.1f} ({pair.ours_p90_ms:.1f})",
            f"{pair.go_ms:.1f} ({pair.go_p90_ms:.1f})",
            f"{pair.ratio:.2f}",
            *(("", "") if pair.bar is None else (f"{pair.bar:g}", "yes" if pair.is_kept else "NO")),
        )
        for pair in pairs
    )
    floors = (
        (
            pair.what,
            f"{pair.floor.process_ms:.1f}",
            f"{pair.floor.kernel_ms:.1f}",
            f"{pair.floor.ms:.1f}",
            f"{pair.ours_ms - pair.floor.ms:.1f}",
            f"{pair.least_ratio:.2f}",
        )
        for pair in pairs
        if pair.floor
    )
    ways_rows = (
        (way.what, f"{way.wall_ms:.0f}", f"{way.cpu_ms_per_call:.2f}", f"{way.memory_mib:.0f}")
        for way in found
    )
    return "\n\n".join(
        (
            f"# Client and daemon: {machine.name}",
            machine.sentence,
            "ADD from the start of the process that a runtime starts to its exit, in ms: medians, the 90th "
            "percentile in brackets; the ratio is ours divided by Go's. The multus stand-in does less than "
            "Multus itself; a line without a bar is for information.",
            table(("ADD", "client and daemon", "Go plugins", "ratio", "bar", "kept"), rows),
            "The floor of one ADD, in ms: a process of the client's size that begins and ends (the client, "
            "asked VERSION, which it answers alone), and the kernel on the netlink messages of this ADD. The "
            "rest is all else that ours does; the least ratio is what would be left without it.",
            table(("ADD", "process", "kernel", "floor", "the rest", "least ratio"), floors),
            f"Ways to carry calls out, {STORM} ADDs of macvlan + static at once; CPU is the daemon's and its "
            "workers', per call.",
            table(("way", "wall ms", "CPU ms per call", "memory MiB"), ways_rows),
            f"Memory: the client {client} MiB at its peak (bar {CLIENT_MIB}); the daemon with its workers "
            f"{daemon} MiB after the attachments (bar {DAEMON_MIB}).",
        )
    )


def plot(pairs: list[Pair]) -> str:
    """The pairs as bars, in SVG."""
    drawn = [(pair.what, pair.ours_ms, pair.go_ms) for pair in pairs]
    return bars.svg("ADD: client and daemon (blue), Go plugins (grey)", drawn)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.daemon", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="ADDs of each kind (30)")
    parser.add_argument("--bursts", type=int, default=5, help="bursts of each kind (5)")
    parser.add_argument("--pairs", type=int, default=2000, help="attachments before the memory is looked at")
    state_help = "a directory to keep the state in; else it is a disk of its own, ext4 with a journal"
    parser.add_argument("--state", type=Path, help=state_help)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    isolate()
    with workshop(arguments.state) as place:
        machine = Machine.this(place)
        try:
            bench = Bench(place)
        except pytest.skip.Exception as missing:  # a compiler
            raise SystemExit(str(missing)) from None
        pairs = [*singles(bench, arguments.rounds), *bursts(bench, arguments.bursts)]
        found = ways.measure(bench, arguments.bursts)
        client, daemon = memory(bench, arguments.pairs)
    text = markdown(machine, pairs, found, client, daemon)
    print(text)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "daemon.md").write_text(text + "\n")
    figures = {
        "machine": asdict(machine),
        "add": [pair.to_json() for pair in pairs],
        "ways": [asdict(way) for way in found],
        "memory_mib": {"client": client, "daemon": daemon},
    }
    (arguments.output / "daemon.json").write_text(json.dumps(figures, indent=2) + "\n")
    (arguments.output / "daemon.svg").write_text(plot(pairs))
    kept = all(pair.is_kept for pair in pairs) and client <= CLIENT_MIB and daemon <= DAEMON_MIB
    sys.exit(not kept)


if __name__ == "__main__":
    main()
