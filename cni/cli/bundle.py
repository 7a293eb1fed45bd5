"""podrail bundle: one archive for a bug report, without secrets.

It holds a snapshot of the node, which `show`, `verify`, `doctor` and `report` read with `--bundle`, and for
people the configurations, the journal and the daemon's log. All passes through redaction on its way in.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cni import durable
from cni.cli import redact
from cni.cli.install import runtime
from cni.cli.logs import journal, tail
from cni.cli.snapshot import NAME, Snapshot, taken
from cni.command import parser_of, told

_MOST_OF_FILE = 1 << 20  # bytes
_MOST_FILES = 5000
_ABOUT = """What podrail knows of the networks of one node, for a bug report.

snapshot.json   attachments, pools, devices, and what doctor and verify found; podrail show, verify, doctor
                and report read it with --bundle
networks/       the configurations that the container runtime reads
state/          podrail's records of attachments, as they are on disk
log/            the node daemon's log

Passwords, tokens, keys, certificates and the users of kubeconfigs were replaced by REDACTED. Names of pods,
addresses and host names are left as they are: look through it before you give it to others.
"""


@dataclass(frozen=True)
class Entry:
    """A file of the archive."""

    name: str
    data: bytes


def parser() -> argparse.ArgumentParser:
    made = parser_of(
        "bundle",
        "One archive for a bug report: what is attached, devices, pools, findings, configurations, records, "
        "log. Passwords, tokens, keys and the users of kubeconfigs are taken out.",
        statuses="0 done, 1 it could not be written, 2 called wrongly",
        examples=(
            "podrail bundle",
            "podrail bundle --output /tmp/node-a.tar.gz --log /var/log/podrail.jsonl",
            "podrail report --bundle /tmp/node-a.tar.gz --output node-a.html",
        ),
    )
    made.add_argument("--output", "-o", metavar="FILE", help="default: podrail-NODE-TIME.tar.gz")
    made.add_argument(
        "--log",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a log of the daemon's",
    )
    made.add_argument("--conf-dir", type=Path, metavar="DIR", help="default: the runtime's")
    made.add_argument("--no-journal", action="store_true", help="do not ask journalctl for the daemon's log")
    return made


def main(arguments: list[str]) -> int:
    """Write a bundle, say where and what is in it; return 1 if that failed."""
    parsed = parser().parse_args(arguments)
    with told("bundle") as failed:
        snapshot = taken(os.environ)
        entries = list(_entries(snapshot, parsed))
        _write(_output(parsed.output, snapshot), _archive(snapshot, entries), entries)
    return int(bool(failed))


def _output(name: str | None, snapshot: Snapshot) -> str:
    digits = snapshot.time[:19].replace("-", "").replace(":", "")
    return name or f"podrail-{snapshot.node}-{digits}.tar.gz"


def _write(output: str, data: bytes, entries: list[Entry]) -> None:
    if output == "-":
        sys.stdout.buffer.write(data)
        return
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    os.fchmod(descriptor, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
    folders = sorted({entry.name.partition("/")[0] for entry in entries})
    sys.stdout.write(f"{output}: {len(data)} bytes, {len(entries)} files: {', '.join(folders)}\n")
    sys.stdout.write("Secrets were taken out; names and addresses were not.\n")


def _archive(snapshot: Snapshot, entries: list[Entry]) -> bytes:
    """Return the archive; the same entries make the same bytes."""
    folder = f"podrail-{snapshot.node}"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            member = tarfile.TarInfo(f"{folder}/{entry.name}")
            member.size, member.mode = len(entry.data), 0o600
            archive.addfile(member, io.BytesIO(entry.data))
    return gzip.compress(packed.getvalue(), mtime=0)


def _entries(snapshot: Snapshot, parsed: argparse.Namespace) -> Iterator[Entry]:
    yield Entry("README", _ABOUT.encode())
    yield Entry(NAME, json.dumps(redact.document(snapshot.to_json()), indent=1).encode() + b"\n")
    networks = parsed.conf_dir or runtime.directories().networks
    yield from _folder("networks", networks)
    yield from _folder("state", durable.state_directory(os.environ))
    for path in parsed.log:
        yield Entry(f"log/{path.name}", redact.log(tail(path)))
    if not parsed.no_journal and (kept := journal(os.environ)):
        yield Entry("log/journal.jsonl", redact.log(kept))


def _folder(name: str, folder: Path) -> Iterator[Entry]:
    """Yield the files below a directory; of what cannot be read, that."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    for path in paths[:_MOST_FILES]:
        try:
            yield Entry(f"{name}/{path.relative_to(folder)}", _redacted(path))
        except OSError as error:
            yield Entry(f"{name}/{path.relative_to(folder)}", f"not read: {error.strerror}\n".encode())
    if len(paths) > _MOST_FILES:
        yield Entry(f"{name}/MORE", f"{len(paths) - _MOST_FILES} files more were left out\n".encode())


def _redacted(path: Path) -> bytes:
    """Return a file without secrets; one that is neither text nor a document is left out."""
    if path.stat().st_size > _MOST_OF_FILE:
        return b"left out: it is larger than 1 MB\n"
    data = path.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return b"left out: it is no text\n"
    return redact.file(text).encode("utf-8", "backslashreplace")
