"""podrail show: the attachments of this node, and how they are: pod, network, interface, addresses, health.

What is attached comes from the journal, how it is from the sandboxes themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from pydantic import ConfigDict

from cni.host.links import Links
from cni.host.netns import opened_if_present
from cni.protocol.errors import CniError
from cni.protocol.request import Request
from cni.state import Journal, Record

_INTERFACES = ("macvlan", "host-device", "sriov")  # the types whose records are an interface


class _AnyRecord(Record):
    """A record with what its plugin adds, whatever that is."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)


@dataclass(frozen=True)
class Attachment:
    """One interface of one sandbox, as it was made and as it is."""

    pod: str  # namespace/name, or the container ID
    network: str
    ifname: str
    plugin: str
    device: str  # the master that it rides on, or the device's place on its bus or name
    addresses: tuple[str, ...]
    mac: str
    container_id: str
    created: str  # UTC, ISO 8601
    health: str  # ok, down, no carrier, interface gone, sandbox gone, sandbox is another's

    @property
    def is_well(self) -> bool:
        return self.health == "ok"


def attachments(environment: Mapping[str, str]) -> Iterator[Attachment]:
    """Yield the attachments of this node, in the order of their pods."""
    records = [each for kind in _INTERFACES for each in Journal(_AnyRecord, kind, environment).all()]
    for record in sorted(records, key=lambda each: (_pod(each), each.ifname)):
        yield _looked_at(record)


def _looked_at(record: _AnyRecord) -> Attachment:
    health, mac, addresses = _seen(record)
    more = record.model_extra or {}
    device = more.get("device") if isinstance(more.get("device"), dict) else {}
    place = device.get("parent") or device.get("name") or "" if device else ""
    return Attachment(
        pod=_pod(record),
        network=record.network,
        ifname=record.ifname,
        plugin=record.plugin,
        device=str(more.get("master") or place),
        addresses=addresses,
        mac=mac,
        container_id=record.container_id,
        created=record.created,
        health=health,
    )


def _seen(record: _AnyRecord) -> tuple[str, str, tuple[str, ...]]:
    """Return health, MAC and addresses of an interface as they are in its sandbox."""
    try:
        with opened_if_present(record.netns) as sandbox:
            if sandbox is None:
                return "sandbox gone", "", ()
            if record.sandbox and sandbox.identity() != record.sandbox:
                return "sandbox is another's", "", ()
            with Links(sandbox, "in the sandbox") as links:
                link = links.find(record.ifname)
                if link is None:
                    return "interface gone", "", ()
                addresses = tuple(
                    str(each.cidr) for each in links.addresses(link.index) if not _is_local(each.cidr)
                )
                health = "ok" if link.has_carrier else "no carrier"
                return health if link.is_up else "down", link.mac, addresses
    except CniError as error:
        return error.msg, "", ()


def _is_local(cidr: object) -> bool:
    return bool(getattr(cidr, "is_link_local", False))


def _pod(record: Record) -> str:
    return record.request(Request("", {}, b"")).pod


def main(arguments: list[str]) -> int:
    """Show, and return 1 if an attachment is not well."""
    parser = argparse.ArgumentParser(
        prog="podrail show",
        description="the attachments of this node, and how they are",
        epilog="exit status: 0 all are well, 1 one is not, 2 called wrongly",
    )
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    parser.add_argument(
        "--watch", type=float, nargs="?", const=2.0, metavar="SECONDS", help="again and again"
    )
    parsed = parser.parse_args(arguments)
    while True:
        found = list(attachments(os.environ))
        if parsed.watch and not parsed.json:
            sys.stdout.write("\x1b[H\x1b[2J" if sys.stdout.isatty() else "\n")
        sys.stdout.write(_as_json(found) if parsed.json else _as_table(found))
        sys.stdout.flush()
        if not parsed.watch:
            return int(not all(each.is_well for each in found))
        time.sleep(parsed.watch)


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
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
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
