"""The figures as tables in Markdown and as JSON, and whether they keep within the bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from benchmarks.floor import Step
from benchmarks.in_process import Work
from benchmarks.machine import Machine
from benchmarks.measure import Figures
from benchmarks.pods import SIDES, Pods, further_ms
from benchmarks.side_by_side import Measured

VERSION_CPU_MS = 30
ADD_CPU_MS = 300
FURTHER_CPU_MS = 5
MEASURED = ("wall ms", "CPU ms", "peak MiB")
LOADED = 0.5  # more runnable processes than this before the run, and the figures are not to be trusted


@dataclass(frozen=True)
class Bar:
    """A figure that must not be exceeded."""

    what: str
    limit_ms: float
    measured_ms: float

    @property
    def is_kept(self) -> bool:
        return self.measured_ms <= self.limit_ms


@dataclass(frozen=True)
class Report:
    """All that one run of the benchmarks found."""

    machine: Machine
    side_by_side: Measured
    in_process: dict[str, Work]
    floor: dict[str, Step]
    pods: Pods

    @property
    def bars(self) -> tuple[Bar, ...]:
        chain = self.side_by_side["macvlan + static"]
        return (
            Bar("CPU of VERSION", VERSION_CPU_MS, chain["VERSION"]["podrail"].cpu_ms),
            Bar("CPU of ADD, macvlan + static", ADD_CPU_MS, chain["ADD"]["podrail"].cpu_ms),
            Bar(
                "wall time of ADD in a warm process, against one ADD of the Go plugins",
                chain["ADD"]["go"].wall_ms,
                self.in_process["ADD"].wall_ms,
            ),
            Bar(
                "CPU of ADD for each network of a pod beyond the first", FURTHER_CPU_MS, further_ms(self.pods)
            ),
        )

    def to_json(self) -> dict[str, object]:
        return {
            "machine": asdict(self.machine),
            "bars": [{**asdict(bar), "is_kept": bar.is_kept} for bar in self.bars],
            "side_by_side": {
                case: {
                    verb: {side: asdict(figures) for side, figures in sides.items()}
                    for verb, sides in verbs.items()
                }
                for case, verbs in self.side_by_side.items()
            },
            "pods": {
                size: {
                    verb: {side: asdict(figures) for side, figures in sides.items()}
                    for verb, sides in verbs.items()
                }
                for size, verbs in self.pods.items()
            },
            "in_process": {verb: asdict(work) for verb, work in self.in_process.items()},
            "floor": {name: asdict(step) for name, step in self.floor.items()},
        }

    def to_markdown(self) -> str:
        parts = [
            f"# {self.machine.name}",
            self.machine.sentence,
            "## The bars",
            table(
                ("what", "bar, ms", "measured, ms", "kept"),
                (
                    (bar.what, f"{bar.limit_ms:g}", f"{bar.measured_ms:g}", "yes" if bar.is_kept else "NO")
                    for bar in self.bars
                ),
            ),
            "## Side by side with the Go plugins",
            "Process start to exit, delegates included. Medians, the 90th percentile in brackets; "
            "a ratio is ours divided by Go's.",
            table(
                ("plugin", "verb", *(f"{what}{side}" for what in MEASURED for side in ("", " Go", " ratio"))),
                (
                    (case, verb, *_compared(sides["podrail"], sides["go"]))
                    for case, verbs in self.side_by_side.items()
                    for verb, sides in verbs.items()
                ),
            ),
            "## Pods of several networks",
            "multus with networks of macvlan and static, in one process and with each plugin executed.",
            table(
                ("networks", "verb", *(f"{what}, {side}" for what in MEASURED for side in SIDES)),
                (
                    (
                        str(size),
                        verb,
                        *(_spread(sides[side].wall_ms, sides[side].wall_p90_ms) for side in SIDES),
                        *(_spread(sides[side].cpu_ms, sides[side].cpu_p90_ms) for side in SIDES),
                        *(f"{sides[side].rss_mib:.1f}" for side in SIDES),
                    )
                    for size, verbs in self.pods.items()
                    for verb, sides in verbs.items()
                ),
            ),
            "## In a warm process",
            "macvlan + static, everything imported before; counts are per call.",
            table(
                (
                    "verb",
                    "wall ms",
                    "CPU ms",
                    "in fsync ms",
                    "fsyncs",
                    "netlink round trips",
                    "system calls",
                    "the longest of them",
                ),
                (
                    (
                        verb,
                        _spread(work.wall_ms, work.wall_p90_ms),
                        f"{work.cpu_ms:.1f}",
                        f"{work.in_fsync_ms:.1f}",
                        str(work.fsyncs),
                        str(work.netlink_round_trips),
                        str(work.system_calls),
                        f"{work.longest_call}, {work.longest_call_ms:.1f} ms",
                    )
                    for verb, work in self.in_process.items()
                ),
            ),
            "## The floor",
            "What is paid before any work. The last column says how much CPU a line takes more than the "
            "one that it builds on.",
            table(
                ("program", "wall ms", "CPU ms", "peak MiB", "builds on", "CPU more, ms"),
                (self._floor_row(name, step) for name, step in self.floor.items()),
            ),
        ]
        return "\n\n".join(parts) + "\n"

    def _floor_row(self, name: str, step: Step) -> tuple[str, ...]:
        figures = step.figures
        row = (name, f"{figures.wall_ms:.1f}", f"{figures.cpu_ms:.1f}", f"{figures.rss_mib:.1f}")
        if not step.builds_on:
            return (*row, "", "")
        more = figures.cpu_ms - self.floor[step.builds_on].figures.cpu_ms
        return (*row, step.builds_on, f"{more:+.1f}")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _compared(ours: Figures, theirs: Figures) -> tuple[str, ...]:
    return (
        _spread(ours.wall_ms, ours.wall_p90_ms),
        _spread(theirs.wall_ms, theirs.wall_p90_ms),
        _ratio(ours.wall_ms, theirs.wall_ms),
        _spread(ours.cpu_ms, ours.cpu_p90_ms),
        _spread(theirs.cpu_ms, theirs.cpu_p90_ms),
        _ratio(ours.cpu_ms, theirs.cpu_ms),
        f"{ours.rss_mib:.1f}",
        f"{theirs.rss_mib:.1f}",
        _ratio(ours.rss_mib, theirs.rss_mib),
    )


def _spread(median: float, p90: float) -> str:
    return f"{median:.1f} ({p90:.1f})"


def _ratio(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.1f}" if theirs else ""
