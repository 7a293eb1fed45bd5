"""What ADD and DEL cost once everything is imported: the work itself, as a daemon would do it."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import p90
from benchmarks.side_by_side import cases
from tests.support.world import World

_WARM = Path(__file__).with_name("warm.py")


@dataclass(frozen=True)
class Work:
    """One verb in a warm process: milliseconds, and counts per call."""

    calls: int
    wall_ms: float  # medians
    wall_p90_ms: float
    cpu_ms: float
    in_fsync_ms: float
    fsyncs: int
    netlink_round_trips: int
    system_calls: int
    longest_call: str  # the system call that took longest
    longest_call_ms: float


def measure(world: World, rounds: int) -> dict[str, Work]:
    """Measure ADD and DEL of macvlan with static, by verb."""
    timed = json.loads(_run(world, rounds))
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace")
        # -yy tells what kind of socket a number is, -T how long a call took.
        _run(world, 1, "strace", "-f", "-T", "-yy", "-s", "100", "-o", str(trace))
        lines = trace.read_text(errors="replace").splitlines()
    return {verb: _work(verb, calls, lines) for verb, calls in timed.items()}


def _work(verb: str, calls: list[dict[str, float]], trace: list[str]) -> Work:
    walls = [call["wall"] * 1000 for call in calls]
    traced = _between_marks(trace, verb)
    longest, seconds = max(map(_call_and_seconds, traced), key=lambda call: call[1])
    return Work(
        calls=len(calls),
        wall_ms=round(statistics.median(walls), 2),
        wall_p90_ms=round(p90(walls), 2),
        cpu_ms=round(statistics.median(call["cpu"] * 1000 for call in calls), 2),
        in_fsync_ms=round(statistics.median(call["in_fsync"] * 1000 for call in calls), 2),
        fsyncs=int(statistics.median(call["fsyncs"] for call in calls)),
        netlink_round_trips=sum(bool(re.search(r"\bsend(to|msg)\(\d+<NETLINK", line)) for line in traced),
        system_calls=len(traced),
        longest_call=longest,
        longest_call_ms=round(seconds * 1000, 2),
    )


def _between_marks(trace: list[str], verb: str) -> list[str]:
    """Return the lines of the last call of a verb."""
    begins = [number for number, line in enumerate(trace) if f"begin-{verb}" in line]
    ends = [number for number, line in enumerate(trace) if f"end-{verb}" in line]
    return trace[begins[-1] + 1 : ends[-1]]


def _call_and_seconds(line: str) -> tuple[str, float]:
    name, seconds = re.search(r"^\d+ +(\w+)", line), re.search(r" <([\d.]+)>$", line)
    return name[1] if name else "", float(seconds[1]) if seconds else 0.0


def _run(world: World, rounds: int, *under: str) -> str:
    conf = {"cniVersion": "1.0.0", "name": "bench", **cases()["macvlan + static"]}
    python, executable = world.bin / "python", world.bin / "macvlan"
    command = [*under, str(python), str(_WARM), str(executable), str(rounds)]
    done = subprocess.run(
        ["ip", "netns", "exec", world.host.name, *command],
        input=json.dumps(conf).encode(),
        env=world.environment("ADD"),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{_WARM.name} failed: {done.stderr.decode()}")
    return done.stdout.decode()
