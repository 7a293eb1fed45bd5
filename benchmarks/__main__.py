"""Measure, and write the tables to `results/` and the Markdown to stdout."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path

from benchmarks import floor, in_process, pods, side_by_side
from benchmarks.machine import Machine
from benchmarks.measure import Spawner
from benchmarks.report import LOADED, Report
from benchmarks.workshop import workshop
from tests.support.isolation import isolate
from tests.support.world import Namespace, World

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="calls of each kind (30)")
    parser.add_argument("--warm-rounds", type=int, default=200, help="calls in the warm process (200)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument(
        "--bin",
        type=Path,
        default=ROOT / ".cache" / "venv" / "bin",
        help="the executables of an installed podrail",
    )
    arguments = parser.parse_args()
    isolate()
    with workshop() as place:
        report = measure(arguments.bin.absolute(), place, arguments.rounds, arguments.warm_rounds)
    print(report.to_markdown())
    arguments.output.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[ ,]+", "-", report.machine.name.lower())
    (arguments.output / f"{stem}.md").write_text(report.to_markdown())
    (arguments.output / f"{stem}.json").write_text(json.dumps(report.to_json(), indent=2) + "\n")
    sys.exit(not all(bar.is_kept for bar in report.bars))


def measure(executables: Path, place: Path, rounds: int, warm_rounds: int) -> Report:
    machine = Machine.this(place)
    if machine.load_before > LOADED:
        print(f"The machine is busy: its load is {machine.load_before}.", file=sys.stderr)
    # Bytecode is what a user has, and the environment must not change that.
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    world = World(Namespace("host"), Namespace("pod"), place / "state", bin=executables)
    world.path = str(executables)
    side_by_side.prepare(world)
    with Spawner(world.host) as spawner:
        compared = side_by_side.measure(spawner, world, rounds)
        of_pods = pods.measure(spawner, world, place, -(-rounds // 3))
        starts = floor.measure(spawner, executables / "python", place, rounds)
    return Report(machine, compared, in_process.measure(world, warm_rounds), starts, of_pods)


main()
