"""What the benchmark of client and daemon tells, from figures that are given."""

from __future__ import annotations

import pytest

from benchmarks.daemon import Floor, Pair, markdown
from benchmarks.machine import Machine
from benchmarks.ways import Way

MACHINE = Machine(2, "a processor", "6.18", "3.11.7", "2.14.4", "1.1.1", "ext4", 0.5)
SLOW, FAST = [8.0, 9.0, 10.0], [5.0, 5.5, 7.0]


def _lines(*pairs: Pair) -> list[str]:
    return markdown(MACHINE, list(pairs), [Way("warm workers", 783, 4.98, 69)], 0.54, 67).splitlines()


@pytest.mark.parametrize(
    ("ours", "go", "bar", "line"),
    [
        pytest.param(FAST, SLOW, 0.8, "| ADD | 5.5 (7.0) | 9.0 (10.0) | 0.61 | 0.8 | yes |", id="kept"),
        pytest.param(FAST, SLOW, 0.6, "| ADD | 5.5 (7.0) | 9.0 (10.0) | 0.61 | 0.6 | NO |", id="broken"),
        pytest.param(SLOW, FAST, None, "| ADD | 9.0 (10.0) | 5.5 (7.0) | 1.64 |  |  |", id="no-bar"),
    ],
)
def test_a_line_tells_medians_and_whether_the_bar_is_kept(
    ours: list[float], go: list[float], bar: float | None, line: str
) -> None:
    pair = Pair.of("ADD", ours, go, bar)
    assert line in _lines(pair)
    assert pair.is_kept == pair.to_json()["is_kept"] == ("NO" not in line)


def test_the_floor_is_what_a_process_and_the_kernel_take() -> None:
    pair = Pair.of("host-device", SLOW, FAST, 0.8, Floor(process_ms=0.5, kernel_ms=4.4))
    assert "| host-device | 0.5 | 4.4 | 4.9 | 4.1 | 0.89 |" in _lines(pair)
    assert pair.to_json()["least_ratio"] == 0.89
    assert pair.to_json()["floor"] == {"process_ms": 0.5, "kernel_ms": 4.4}


def test_a_burst_has_no_floor() -> None:
    single = Pair.of("ADD", SLOW, FAST, 0.8, Floor(0.5, 4.4))
    burst = Pair.of("64 at once: ADD", SLOW, FAST, 0.6)
    assert len([line for line in _lines(single, burst) if line.startswith("| 64 at once")]) == 1
    assert burst.to_json()["least_ratio"] is None
