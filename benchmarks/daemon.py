"""Client and daemon beside Debian's Go plugins, and the ways in which a daemon can carry calls out.

Writes `daemon.md`, `daemon.json` and `daemon.svg` to `results/`, and the Markdown to stdout.
"""

from __future__ import annotations

import argparse
import json
import marshal
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import bars
from benchmarks.machine import Machine
from benchmarks.measure import Spawner, p90
from benchmarks.report import table
from tests.support.daemon import Daemon, NodeWorld
from tests.support.isolation import isolate
from tests.support.world import GO_BIN, Namespace

ROOT = Path(__file__).parents[1]
BURST, STORM = 64, 200
SINGLE_BAR, BURST_BAR = 0.8, 0.6  # of Go's wall time
CLIENT_MIB, DAEMON_MIB = 1, 80

STATIC = {"type": "static", "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}]}
WHEREABOUTS = {"type": "whereabouts", "datastore": "file", "range": "10.1.0.0/22"}
NETWORK = {"type": "macvlan", "master": "eth0", "ipam": WHEREABOUTS}


def cases(leases: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """What is compared: our configuration and the Go plugins' for the same, by name."""
    host_local = {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/22"}]], "dataDir": str(leases)}
    go_local = {"type": "macvlan", "master": "eth0", "ipam": host_local}
    macvlan = {"type": "macvlan", "master": "eth0", "ipam": STATIC}
    device = {"type": "host-device", "device": "dev0"}
    multus = {"type": "multus", "delegates": [{"name": "rail", **NETWORK}]}
    return {
        "macvlan + static": (macvlan, macvlan),
        "macvlan + whereabouts (file) / host-local": (NETWORK, go_local),
        "host-device": (device, device),
        "multus, macvlan, whereabouts (file) / no multus, macvlan, host-local": (multus, go_local),
    }


@dataclass(frozen=True)
class Pair:
    """The same work by both; milliseconds, medians and 90th percentiles."""

    what: str
    ours_ms: float
    ours_p90_ms: float
    go_ms: float
    go_p90_ms: float
    bar: float

    @property
    def ratio(self) -> float:
        return round(self.ours_ms / self.go_ms, 2)

    @property
    def is_kept(self) -> bool:
        return self.ratio <= self.bar


@dataclass(frozen=True)
class Way:
    """One way to carry calls out, under a storm of ADDs."""

    what: str
    wall_ms: float
    cpu_ms_per_call: float
    memory_mib: float


class Bench:
    """A host, its clients, and a daemon for as long as one is needed."""

    def __init__(self, workshop: Path) -> None:
        state = workshop / "state"
        state.mkdir()
        self.workshop = workshop
        self.node = NodeWorld(Namespace("host"), Namespace("pod"), state)
        self.node.host.without_link_local()
        for link in ("eth0", "dev0"):
            self.node.host.add_veth(link)
        self.cases = cases(workshop / "leases")

    def job(
        self, side: str, verb: str, conf: Mapping[str, Any], number: int = 0
    ) -> tuple[list[str], dict[str, str], bytes]:
        folder = self.node.bin if side == "ours" else GO_BIN
        stdin = json.dumps({"cniVersion": "1.0.0", "name": "bench", **conf}).encode()
        names = {"CNI_CONTAINERID": f"pod-{number}", "CNI_IFNAME": f"net{number}", "CNI_PATH": str(folder)}
        return [str(folder / conf["type"])], self.node.environment(verb, **names), stdin

    def burst(self, side: str, verb: str, conf: Mapping[str, Any], number: int) -> float:
        """Make so many calls at once, which must succeed; return milliseconds until the last ended."""
        jobs = [self.job(side, verb, conf, index) for index in range(number)]
        command = ["ip", "netns", "exec", self.node.host.name, sys.executable, "-I", "-S"]
        told = marshal.dumps(jobs)
        script = str(Path(__file__).with_name("burst.py"))
        seconds, statuses = marshal.loads(subprocess.check_output([*command, script], input=told))
        if any(statuses):
            raise SystemExit(f"{verb} of {side} failed: {sum(map(bool, statuses))} of {number}")
        return float(seconds) * 1000


def singles(bench: Bench, rounds: int) -> list[Pair]:
    """ADD and DEL of each case, by turns; only the ADDs are compared."""
    walls: dict[tuple[str, str], list[float]] = {}
    with Daemon(bench.node), Spawner(bench.node.host) as spawner:
        for turn in range(rounds + 2):
            for what, confs in bench.cases.items():
                sides = list(zip(("ours", "go"), confs, strict=True))
                for side, conf in sides if turn % 2 else reversed(sides):
                    wall = spawner.run(*bench.job(side, "ADD", conf)).wall * 1000
                    spawner.run(*bench.job(side, "DEL", conf))
                    if turn >= 2:
                        walls.setdefault((what, side), []).append(wall)
    return [_pair(what, walls[what, "ours"], walls[what, "go"], SINGLE_BAR) for what in bench.cases]


def bursts(bench: Bench, rounds: int) -> list[Pair]:
    """Many ADDs at once, by turns. Of the device there is one, so it has no burst."""
    pairs = []
    with Daemon(bench.node):
        for what, confs in bench.cases.items():
            if what == "host-device":
                continue
            walls: dict[str, list[float]] = {"ours": [], "go": []}
            for turn in range(rounds + 1):
                for side, conf in zip(walls, confs, strict=True):
                    wall = bench.burst(side, "ADD", conf, BURST)
                    bench.burst(side, "DEL", conf, BURST)
                    if turn:
                        walls[side].append(wall)
            pairs.append(_pair(f"{BURST} at once: {what}", walls["ours"], walls["go"], BURST_BAR))
    return pairs


def ways(bench: Bench, rounds: int) -> list[Way]:
    """A storm of ADDs by warm workers, by a fresh fork for each call, and by threads of one process."""
    conf = bench.cases["macvlan + static"][0]
    found = []
    for what, options in (("warm workers", ()), ("a fork per call", ("--calls-per-worker", "1"))):
        with Daemon(bench.node, *options) as daemon:
            found.append(_storm(bench, what, conf, rounds, daemon.process.pid, daemon.resident))
    with _threads(bench) as pid:
        found.append(_storm(bench, "a thread per call", conf, rounds, pid, lambda: _resident(pid)))
    return found


def _storm(bench: Bench, what: str, conf: Any, rounds: int, pid: int, memory: Any) -> Way:
    walls, peak = [], 0.0
    before = _cpu_ms(pid)
    for _ in range(rounds):
        walls.append(bench.burst("ours", "ADD", conf, STORM))
        peak = max(peak, memory())
        bench.burst("ours", "DEL", conf, STORM)
    spent = _cpu_ms(pid) - before
    return Way(what, round(statistics.median(walls), 1), round(spent / rounds / STORM / 2, 2), round(peak, 1))


@contextmanager
def _threads(bench: Bench) -> Iterator[int]:
    bench.node.socket.parent.mkdir(exist_ok=True)
    command = ["nsenter", f"--net={bench.node.host.path}", sys.executable]
    script = [str(Path(__file__).with_name("threads.py")), str(bench.node.socket)]
    environment = {**bench.node.environment(""), "PYTHONPATH": str(ROOT)}
    places = str(max(4, 2 * (os.cpu_count() or 1)))
    process = subprocess.Popen(
        [*command, *script, places], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process.pid
    finally:
        process.kill()
        process.wait()
        bench.node.socket.unlink()


def _cpu_ms(pid: int) -> float:
    """CPU time of a process, of those it waited for, and of its living children, in milliseconds."""
    tick = 1000 / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(_ticks(each, waited=each == str(pid)) for each in (str(pid), *children)) * tick


def _ticks(pid: str, *, waited: bool) -> int:
    with suppress(OSError):  # it has ended, and is counted where it was waited for
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11 : 15 if waited else 13]))
    return 0


def _resident(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in rollup if line.startswith("Pss:")).split()[1]) / 1024


def _pair(what: str, ours: list[float], go: list[float], bar: float) -> Pair:
    medians = [round(statistics.median(walls), 2) for walls in (ours, go)]
    worst = [round(p90(walls), 2) for walls in (ours, go)]
    return Pair(what, medians[0], worst[0], medians[1], worst[1], bar)


def memory(bench: Bench, pairs: int) -> tuple[float, float]:
    """The client's peak, and what daemon and workers hold after many attachments, in MiB."""
    conf = bench.cases["macvlan + whereabouts (file) / host-local"][0]
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
            f"{pair.bar:g}",
            "yes" if pair.is_kept else "NO",
        )
        for pair in pairs
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
            "percentile in brackets; the ratio is ours divided by Go's.",
            table(("ADD", "client and daemon", "Go plugins", "ratio", "bar", "kept"), rows),
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
    parser = argparse.ArgumentParser(prog="./dev bench daemon", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="ADDs of each kind (30)")
    parser.add_argument("--bursts", type=int, default=5, help="bursts of each kind (5)")
    parser.add_argument("--pairs", type=int, default=2000, help="attachments before the memory is looked at")
    state_help = "where the state is kept; on /dev/shm no fsync takes time"
    parser.add_argument("--state", type=Path, default=ROOT / ".cache", help=state_help)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    isolate()
    arguments.state.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.state) as workshop:
        machine = Machine.this(Path(workshop))
        bench = Bench(Path(workshop))
        pairs = [*singles(bench, arguments.rounds), *bursts(bench, arguments.bursts)]
        found = ways(bench, arguments.bursts)
        client, daemon = memory(bench, arguments.pairs)
    text = markdown(machine, pairs, found, client, daemon)
    print(text)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "daemon.md").write_text(text + "\n")
    figures = {
        "machine": asdict(machine),
        "add": [asdict(pair) | {"ratio": pair.ratio, "is_kept": pair.is_kept} for pair in pairs],
        "ways": [asdict(way) for way in found],
        "memory_mib": {"client": client, "daemon": daemon},
    }
    (arguments.output / "daemon.json").write_text(json.dumps(figures, indent=2) + "\n")
    (arguments.output / "daemon.svg").write_text(plot(pairs))
    kept = all(pair.is_kept for pair in pairs) and client <= CLIENT_MIB and daemon <= DAEMON_MIB
    sys.exit(not kept)


if __name__ == "__main__":
    main()
