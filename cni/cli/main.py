"""podrail: look at what this node's plugins hold, and serve its static clients."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib.metadata import version

from cni.protocol import registry


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="podrail", description=__doc__.partition(": ")[2])
    parser.add_argument("--version", action="version", version=f"podrail {version('podrail')}")
    commands = parser.add_subparsers(dest="command", required=True)
    attachments = commands.add_parser("attachments", help="list the attachments that the journal holds")
    attachments.add_argument("--json", action="store_true", help="print the records as JSON")
    for name, help_text in registry.COMMANDS.items():
        commands.add_parser(name, help=help_text, add_help=False)  # it has a parser of its own
    told = sys.argv[1:] if arguments is None else arguments
    if told and told[0] in registry.COMMANDS:
        return registry.load_command(told[0])(told[1:])
    parsed = parser.parse_args(told)
    return _attachments(as_json=parsed.json)


def _attachments(*, as_json: bool) -> int:
    from cni.state import Journal, Record

    records = [record for plugin in registry.TYPES for record in Journal(Record, plugin, os.environ).all()]
    if as_json:
        json.dump([record.model_dump(mode="json") for record in records], sys.stdout, indent=2)
        sys.stdout.write("\n")
        return 0
    for record in records:
        sys.stdout.write(f"{record.created}  {record.plugin}: {record.attachment}\n")
    if not records:
        sys.stdout.write("no attachments\n")
    return 0
