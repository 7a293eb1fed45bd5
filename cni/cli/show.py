"""podrail show: the attachments of this node, and how they are: pod, network, interface, addresses, health.

What is attached comes from the journal, how it is from the sandboxes themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from cni.cli.attached import Attachment, attachments
from cni.command import parser_of, printable, told


def parser() -> argparse.ArgumentParser:
    made = parser_of(
        "show",
        "The attachments of this node, and how they are.",
        statuses="0 all are well, 1 one is not, 2 called wrongly",
        examples=(
            "podrail show",
            "podrail show --watch 5",
            "podrail show --json | jq -r '.attachments[].pod'",
        ),
    )
    made.add_argument("--json", action="store_true", help="print them as JSON")
    made.add_argument(
        "--watch", type=float, nargs="?", const=2.0, metavar="SECONDS", help="again and again; default: 2"
    )
    made.add_argument("--bundle", type=Path, metavar="FILE", help="those of the node of that bundle")
    return made


def main(arguments: list[str]) -> int:
    """Show, and return 1 if an attachment is not well."""
    parsed = parser().parse_args(arguments)
    if parsed.bundle:
        return _show_bundle(parsed.bundle, as_json=parsed.json)
    while True:
        found = list(attachments(os.environ))
        if parsed.watch and not parsed.json:
            sys.stdout.write("\x1b[H\x1b[2J" if sys.stdout.isatty() else "\n")
        sys.stdout.write(_as_json(found) if parsed.json else _as_table(found))
        sys.stdout.flush()
        if not parsed.watch:
            return int(not all(each.is_well for each in found))
        time.sleep(parsed.watch)


def _show_bundle(path: Path, *, as_json: bool) -> int:
    """Show what was attached when a bundle was made; its ages are of now."""
    from cni.cli.snapshot import of_bundle  # all that it looks at is of no use here otherwise

    with told("show") as failed:
        found = list(of_bundle(path).attachments)
        sys.stdout.write(_as_json(found) if as_json else _as_table(found))
    return 2 if failed else int(not all(each.is_well for each in found))


def _as_json(found: list[Attachment]) -> str:
    return json.dumps({"attachments": [asdict(each) for each in found]}, indent=2) + "\n"


def _as_table(found: list[Attachment]) -> str:
    if not found:
        return "no attachments\n"
    rows = [("POD", "INTERFACE", "NETWORK", "PLUGIN", "DEVICE", "ADDRESSES", "AGE", "HEALTH")]
    for each in found:
        addresses = ", ".join(each.addresses) or "-"
        columns = (each.pod, each.ifname, each.network, each.plugin, each.device or "-", addresses)
        rows.append((*columns, _age(each.created), each.health))
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _age(created: str) -> str:
    """Return how long ago that was in its largest unit, such as `3h`."""
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()
    except (ValueError, TypeError):
        return "?"
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"
