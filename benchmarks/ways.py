"""The ways in which a daemon can carry calls out, under a storm of ADDs."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from cni.daemon.settings import calls_at_once
from tests.support.daemon import Daemon

STORM = 200
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Way:
    """One way to carry calls out."""

    what: str
    wall_ms: float
    cpu_ms_per_call: float
    memory_mib: float


def measure(bench: Bench, rounds: int) -> list[Way]:
    """A storm of ADDs by warm workers, by a fresh fork for each call, and by threads of one process."""
    conf = bench.cases["macvlan + static"].ours
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
    environment = {**bench.node.environment(""), "PYTHONPATH": str(_ROOT)}
    places = str(calls_at_once())
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
