"""podrail report: one page of HTML about this node, or about a bundle's."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cni.cli.report.page import page
from cni.cli.snapshot import looked_at
from cni.command import parser_of, told


def parser() -> argparse.ArgumentParser:
    made = parser_of(
        "report",
        "One page of HTML about a node: cards, functions and GPUs by NUMA node and distance, pods, "
        "addresses, pools, problems. It needs no other file and no network.",
        statuses="0 done, 1 it could not be made, 2 called wrongly",
        examples=(
            "podrail report --output node-a.html",
            "podrail report --bundle podrail-node-a.tar.gz >node-a.html",
        ),
    )
    made.add_argument("--bundle", type=Path, metavar="FILE", help="that of a bundle; default: this node")
    made.add_argument("--output", "-o", type=Path, metavar="FILE", help="default: stdout")
    return made


def main(arguments: list[str]) -> int:
    """Write the page; return 1 if that failed."""
    parsed = parser().parse_args(arguments)
    with told("report") as failed:
        text = page(looked_at(parsed.bundle))
        if parsed.output:
            parsed.output.write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(text)
    return int(bool(failed))
