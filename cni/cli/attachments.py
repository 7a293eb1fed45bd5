"""podrail attachments: the records of the journal."""

from __future__ import annotations

import argparse
import json
import os
import sys

from cni.command import parser_of
from cni.protocol import registry
from cni.state import Journal, Record


def parser() -> argparse.ArgumentParser:
    made = parser_of(
        "attachments",
        "List the attachments that the journal holds: what DEL and GC will give back.",
        statuses="0 done, 2 called wrongly",
        examples=("podrail attachments", "podrail attachments --json"),
    )
    made.add_argument("--json", action="store_true", help="print the records whole, as JSON")
    return made


def main(arguments: list[str]) -> int:
    """Print the records of all plugins."""
    parsed = parser().parse_args(arguments)
    records = [record for plugin in registry.TYPES for record in Journal(Record, plugin, os.environ).all()]
    if parsed.json:
        json.dump([record.model_dump(mode="json") for record in records], sys.stdout, indent=2)
        sys.stdout.write("\n")
        return 0
    for record in records:
        sys.stdout.write(f"{record.created}  {record.plugin}: {record.attachment}\n")
    if not records:
        sys.stdout.write("no attachments\n")
    return 0
