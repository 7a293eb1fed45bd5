"""What one run of a program costs, and what many runs have in common."""

from __future__ import annotations

import marshal
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.world import Namespace

_SPAWN = Path(__file__).with_name("spawn.py")


@dataclass(frozen=True)
class Sample:
    """One run of a program, from its start to its exit, its own children included."""

    wall: float  # seconds
    cpu: float  # seconds, user and system


@dataclass(frozen=True)
class Figures:
    """Many runs of the same: milliseconds, and mebibytes of its largest process."""

    runs: int
    wall_ms: float  # medians
    wall_p90_ms: float
    cpu_ms: float
    cpu_p90_ms: float
    rss_mib: float

    @classmethod
    def of(cls, samples: Sequence[Sample], rss: float) -> Figures:
        walls = [sample.wall * 1000 for sample in samples]
        cpus = [sample.cpu * 1000 for sample in samples]
        return cls(
            runs=len(samples),
            wall_ms=round(statistics.median(walls), 2),
            wall_p90_ms=round(p90(walls), 2),
            cpu_ms=round(statistics.median(cpus), 2),
            cpu_p90_ms=round(p90(cpus), 2),
            rss_mib=round(rss, 1),
        )


def p90(values: Sequence[float]) -> float:
    """The value that nine of ten do not exceed."""
    return sorted(values)[-(-len(values) * 9 // 10) - 1]


class Helper:
    """A Python process inside a namespace that takes jobs by marshal and answers one after another."""

    def __init__(self, host: Namespace, *command: str) -> None:
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", host.name, sys.executable, *command],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._process.communicate()

    def ask(self, job: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        marshal.dump(job, self._process.stdin)
        self._process.stdin.flush()
        return marshal.load(self._process.stdout)


class Spawner(Helper):
    """Runs programs inside a namespace and measures them; see `spawn.py`."""

    def __init__(self, host: Namespace) -> None:
        super().__init__(host, "-I", "-S", str(_SPAWN))

    def run(self, argv: Sequence[str], environment: Mapping[str, str], stdin: bytes = b"") -> Sample:
        """Run a program that must succeed."""
        _, wall, cpu = self._run(argv, environment, stdin)
        return Sample(wall, cpu)

    def peak(self, argv: Sequence[str], environment: Mapping[str, str], stdin: bytes = b"") -> float:
        """Run a program that must succeed; return the peak memory of its largest process in MiB.

        Below GNU time, since a program's peak counts what it shared with its parent before it became
        another program: the parent must be smaller than what is measured.
        """
        stderr, *_ = self._run(["/usr/bin/time", "-f", "peak %M", *argv], environment, stdin)
        told = re.findall(rb"^peak (\d+)$", stderr, re.MULTILINE)
        return int(told[-1]) / 1024

    def _run(
        self, argv: Sequence[str], environment: Mapping[str, str], stdin: bytes
    ) -> tuple[bytes, float, float]:
        status, stdout, stderr, wall, cpu = self.ask((list(argv), dict(environment), stdin))
        if status:
            raise SystemExit(f"{' '.join(argv)} failed with {status}: {(stdout + stderr).decode()}")
        return stderr, wall, cpu


class Turns:
    """What several programs cost that run by turns, so that a busy moment meets them all.

    The first turns are not timed: they fill caches, and tell the memory.
    """

    UNTIMED = 2

    def __init__(self, spawner: Spawner) -> None:
        self._spawner = spawner
        self._samples: dict[Hashable, list[Sample]] = defaultdict(list)
        self._peaks: dict[Hashable, list[float]] = defaultdict(list)

    def run(
        self,
        turn: int,
        key: Hashable,
        argv: Sequence[str],
        environment: Mapping[str, str],
        stdin: bytes = b"",
    ) -> None:
        if turn < self.UNTIMED:
            self._peaks[key].append(self._spawner.peak(argv, environment, stdin))
        else:
            self._samples[key].append(self._spawner.run(argv, environment, stdin))

    def figures(self, key: Hashable) -> Figures:
        return Figures.of(self._samples[key], self._peaks[key][-1])
