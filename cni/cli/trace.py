"""podrail trace: what happened to a pod's networks, in the order of time.

From the daemon's log, whose lines of one call share a trace ID, from the logs of multus and whereabouts where
configurations name some, and from what the journal and the pools say of when something was given.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cni.cli import logs
from cni.cli.attached import Attachment, attachments
from cni.cli.doctor.configured import Configured
from cni.cli.doctor.root import Root
from cni.cli.install import runtime
from cni.cli.pools import Pool, pools
from cni.cli.snapshot import of_bundle
from cni.command import parser_of, printable, told
from cni.protocol import gojson

_TIME = re.compile(
    r"\s*(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)\s*(.*)", re.DOTALL
)
# What a line of the daemon's tells beside what stands in the sentence already.
_HANDLED = {
    *("time", "level", "event", "trace", "verb", "plugin", "attachment", "container", "status", "msg"),
    *("code", "notes", "waited_ms", "worked_ms"),
}


@dataclass(frozen=True)
class Event:
    """Something that happened; `trace` is the call's, empty where none is known."""

    time: str  # UTC, ISO 8601
    source: str  # "daemon", "journal", "pool", or a log's name
    text: str
    trace: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """Of whom to tell: a pod, a container by the beginning of its ID, or a trace."""

    name: str

    def is_in(self, text: str) -> bool:
        """Tell whether a line of text is about it; multus writes `namespace:pod:`."""
        spelled = {self.name, self.name.replace("/", ":", 1)}
        return any(re.search(rf"(?<![\w.-]){re.escape(each)}{self._end}", text) for each in spelled)

    def fits(self, pod: str, container_id: str) -> bool:
        return self.name == pod or self._begins(container_id)

    def fits_line(self, line: dict[str, Any]) -> bool:
        pod = str(line.get("attachment", "")).partition(" ")[0]
        return self.fits(pod, str(line.get("container", ""))) or self.name == line.get("trace")

    def _begins(self, container_id: str) -> bool:
        return len(self.name) >= 6 and "/" not in self.name and container_id.startswith(self.name)

    @property
    def _end(self) -> str:
        """A pod's name must end there; that of a container may go on."""
        return r"(?![\w.-])" if "/" in self.name else ""


def parser() -> argparse.ArgumentParser:
    made = parser_of(
        "trace",
        "What happened to a pod's networks, in the order of time: the daemon's log, what journal and pools "
        "say, and the logs of multus and whereabouts.",
        statuses="0 something is known, 1 nothing is, 2 called wrongly",
        examples=(
            "podrail trace jobs/train-0",
            "podrail trace 3f2a9c1b --log /var/log/podrail.jsonl    # the beginning of a container's ID",
            "kubectl -n podrail logs daemonset/podrail | podrail trace jobs/train-0 --log -",
            "podrail trace jobs/train-0 --bundle podrail-node-a.tar.gz",
        ),
    )
    made.add_argument("pod", metavar="POD", help="namespace/name, a container's ID, or a trace ID of the log")
    made.add_argument(
        "--log", action="append", default=[], metavar="FILE", help="a log; - is stdin; else the journal's"
    )
    made.add_argument("--bundle", type=Path, metavar="FILE", help="of the node of that bundle")
    made.add_argument("--json", action="store_true", help="print it as JSON")
    return made


def main(arguments: list[str]) -> int:
    """Print the timeline; return 1 if nothing is known."""
    parsed = parser().parse_args(arguments)
    with told("trace") as failed:
        events = sorted(_events(parsed, Wanted(parsed.pod)), key=lambda event: event.time)
    if failed:
        return 2
    if parsed.json:
        sys.stdout.write(json.dumps({"events": [asdict(each) for each in events]}, indent=2) + "\n")
    else:
        sys.stdout.write("".join(_as_text(events)) or f"nothing is known of {parsed.pod}\n")
    return int(not events)


def _events(parsed: argparse.Namespace, wanted: Wanted) -> Iterator[Event]:
    if parsed.bundle:
        snapshot = of_bundle(parsed.bundle)
        yield from _given(wanted, snapshot.attachments, snapshot.pools)
        sources = list(logs.of_bundle(parsed.bundle))
    else:
        yield from _given(wanted, attachments(os.environ), pools(os.environ))
        sources = list(_sources(parsed.log))
    for name, data in sources:
        yield from of_log(wanted, name, data.decode("utf-8", "replace").splitlines())


def _sources(given: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the logs that are given, or the journal's; and those that configurations name."""
    for name in given:
        yield ("stdin", sys.stdin.buffer.read()) if name == "-" else (Path(name).name, logs.tail(Path(name)))
    if not given:
        yield "daemon", logs.journal(os.environ)
    configured = Configured.read(Root(Path("/"), os.environ), str(runtime.directories().networks))
    named = {plugin.text("logFile") for plugin in configured.plugins}
    named |= {str(gojson.get(plugin.ipam, "log_file") or "") for plugin in configured.plugins}
    for path in sorted(named - {""} - set(given)):
        with suppress(OSError):
            yield Path(path).name, logs.tail(Path(path))


def _given(wanted: Wanted, attached: Iterable[Attachment], seen: Iterable[Pool]) -> Iterator[Event]:
    """Yield what is held now, as it was given."""
    for each in attached:
        if wanted.fits(each.pod, each.container_id):
            on = f" on {each.device}" if each.device else ""
            text = f"{each.plugin} recorded {each.ifname} on network {each.network}{on}; it is {each.health}"
            yield Event(_utc(each.created), "journal", text)
    for pool in seen:
        for entry in pool.allocations:
            if entry.since and wanted.fits(entry.podref, entry.container_id):
                text = f"{entry.address} of {pool.range} was given to {entry.ifname}"
                yield Event(_utc(entry.since), "pool", text)


def of_log(wanted: Wanted, name: str, lines: list[str]) -> Iterator[Event]:
    """Yield what a log says of somebody, the lines of the same calls included."""
    parsed = [(line, _object(line)) for line in lines]
    traces = {each["trace"] for _, each in parsed if each and "trace" in each and wanted.fits_line(each)}
    for line, each in parsed:
        if each is None:
            match = _TIME.match(line)
            if match and wanted.is_in(match[2]):
                yield Event(_utc(match[1]), name, match[2].strip())
        elif wanted.fits_line(each) or each.get("trace") in traces:
            yield _of_daemon(each)


def _of_daemon(line: dict[str, Any]) -> Event:
    event = str(line.get("event", ""))
    if event == "call":
        outcome = "done" if not line.get("status") else f"failed with {line.get('code', 'no code')}"
        times = f"{line.get('worked_ms', 0)} ms of work, {line.get('waited_ms', 0)} ms of waiting"
        text = f"{line.get('verb')} {line.get('plugin')} of {line.get('attachment')}: {outcome}, {times}"
    else:
        text = f"{event}: {line.get('attachment', '')}".rstrip(": ")
    if line.get("msg"):
        text += f": {line['msg']}"
    more = {key: value for key, value in line.items() if key not in _HANDLED}
    if more:
        text += f" ({', '.join(f'{key} {value}' for key, value in more.items())})"
    notes = tuple(str(line.get("notes", "")).splitlines())
    return Event(_utc(str(line.get("time", ""))), "daemon", text, str(line.get("trace", "")), notes)


def _object(line: str) -> dict[str, Any] | None:
    with suppress(ValueError, RecursionError):
        found = json.loads(line)
        return found if isinstance(found, dict) else None
    return None


def _utc(text: str) -> str:
    """Return a time in one form, so that times sort as texts; one that cannot be read stays as it is."""
    with suppress(ValueError):
        found = datetime.fromisoformat(text.strip().replace(",", "."))
        return found.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return text


def _as_text(events: list[Event]) -> Iterator[str]:
    for event in events:
        trace = f"  [{event.trace}]" if event.trace else ""
        yield printable(f"{event.time}  {event.source:8}  {event.text}{trace}") + "\n"
        for note in event.notes:
            yield f"{' ' * 36}{printable(note)}\n"
