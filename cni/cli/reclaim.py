"""podrail reclaim: give back what attachments of dead sandboxes hold; by default only tell what that is.

The proof stands beside each: the sandbox's path is gone, or is a later sandbox's. What lives is left alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from cni.cli.install import runtime
from cni.command import parser_of
from cni.host.netns import opened_if_present
from cni.protocol import registry
from cni.protocol.errors import CniError
from cni.protocol.plugin import run
from cni.protocol.request import Request
from cni.state import Journal, Record

# Those that call others come first: their DEL gives back what the others hold for them.
_ORDER = ("multus", "macvlan", "host-device", "sriov", "whereabouts")


@dataclass(frozen=True)
class Lost:
    """An attachment that nobody will delete any more, and why that is known."""

    plugin: str
    attachment: str
    created: str  # UTC, ISO 8601
    proof: str
    outcome: str = ""  # of giving it back: empty if that was not asked for


def lost(environment: Mapping[str, str]) -> Iterator[tuple[Lost, Record]]:
    """Yield the attachments whose sandbox is gone."""
    for plugin in sorted(
        registry.TYPES, key=lambda each: _ORDER.index(each) if each in _ORDER else len(_ORDER)
    ):
        for record in Journal(Record, plugin, environment).all():
            if proof := _proof(record):
                yield Lost(plugin, record.attachment, record.created, proof), record


def _proof(record: Record) -> str:
    """Return why a record's sandbox is known to be gone; empty if it lives, or if that is unknown."""
    if not record.netns:
        return ""
    try:
        with opened_if_present(record.netns) as sandbox:
            if sandbox is None:
                return f"there is no sandbox at {record.netns}"
            if record.sandbox and sandbox.identity() != record.sandbox:
                return f"{record.netns} is a later sandbox"
    except (CniError, OSError):
        return ""
    return ""


def parser() -> argparse.ArgumentParser:
    made = parser_of(
        "reclaim",
        "Give back what attachments of dead sandboxes hold; by default only tell what that is.",
        statuses="0 done, 1 something could not be given back, 2 called wrongly",
        examples=("podrail reclaim", "podrail reclaim --yes"),
    )
    made.add_argument("--yes", action="store_true", help="really give it back")
    made.add_argument("--dry-run", action="store_true", help="only tell (the default)")
    made.add_argument("--json", action="store_true", help="print it as JSON")
    made.add_argument("--bin-dir", metavar="DIR", help="where delegates are; default: the runtime's")
    return made


def main(arguments: list[str]) -> int:
    """Tell, or give back; return 1 if something could not be given back."""
    parsed = parser().parse_args(arguments)
    if parsed.yes and parsed.dry_run:
        parser().error("--yes and --dry-run exclude each other")
    path = parsed.bin_dir or str(runtime.directories().binaries)
    found = [_given_back(each, record, path) if parsed.yes else each for each, record in lost(os.environ)]
    sys.stdout.write(_as_json(found) if parsed.json else _as_text(found, is_done=parsed.yes))
    return int(any(each.outcome not in ("", "given back") for each in found))


def _given_back(each: Lost, record: Record, path: str) -> Lost:
    """Call the DEL that the runtime owes; one that was called by another's DEL meanwhile finds nothing."""
    caller = Request("DEL", {**os.environ, "CNI_PATH": path}, b"", executable=f"{path}/{each.plugin}")
    reply = run(each.plugin, record.request(caller))
    if reply.exit_status == 0:
        return Lost(**{**asdict(each), "outcome": "given back"})
    error = json.loads(reply.stdout)
    return Lost(**{**asdict(each), "outcome": f"{error['msg']}. {error.get('details', '')}".strip()})


def _as_json(found: list[Lost]) -> str:
    return json.dumps({"lost": [asdict(each) for each in found]}, indent=2) + "\n"


def _as_text(found: list[Lost], *, is_done: bool) -> str:
    lines = []
    for each in found:
        lines.append(f"{each.plugin}: {each.attachment}, since {each.created}: {each.proof}")
        if each.outcome:
            lines.append(f"    {each.outcome}")
    if not found:
        lines.append("nothing is lost")
    elif not is_done:
        lines.append("Nothing was done. With --yes it is given back.")
    return "\n".join(lines) + "\n"
