"""Orphans: attachments in the journal whose sandbox is gone for certain, and how that is known."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cni.boot import boot_id
from cni.daemon.job import Job
from cni.host import netns
from cni.host.mounts import Mounts
from cni.host.netns import Netns
from cni.protocol import delegate, registry
from cni.protocol.errors import CniError
from cni.protocol.request import Request
from cni.state import Journal, Record


@dataclass(frozen=True, eq=False)
class Orphan:
    """An attachment that can be given back, and why that is safe."""

    record: Record
    proof: str
    job: Job

    def is_left(self, environment: Mapping[str, str]) -> bool:
        """Tell whether it is on record still, and not a later attachment of the same name."""
        found = _found(self.record, environment)
        return found is not None and (found.sandbox, found.created) == (
            self.record.sandbox,
            self.record.created,
        )


def find(environment: Mapping[str, str], mounts: Mounts | None) -> Iterator[Orphan]:
    """Find the orphans in the journal; `environment` says where it is, and CNI_PATH.

    Outer attachments come before those that they are made of, which are then gone with them.
    """
    boot = boot_id()
    existing: frozenset[str] | None = None
    for record in sorted(_records(environment), key=lambda record: record.created):
        # An IPAM plugin's does not tell: its sandbox is known to its caller, whose record gives back both.
        if not record.sandbox or _found(record, environment) is None:
            continue
        proof = ""
        if not record.sandbox.startswith(f"{boot}/"):
            proof = "it was made before this machine was started"
        elif not _at_its_path(record, mounts):
            existing = _existing(mounts) if existing is None else existing
            if record.sandbox not in existing:
                proof = "no path leads to its sandbox any more, and no process lives in it"
        if proof:
            yield Orphan(record, proof, _job(record, environment, mounts))


def _records(environment: Mapping[str, str]) -> list[Record]:
    return [record for plugin in registry.TYPES for record in Journal(Record, plugin, environment).all()]


def _found(record: Record, environment: Mapping[str, str]) -> Record | None:
    return Journal(Record, record.plugin, environment).find(record.network, *record.key)


def _at_its_path(record: Record, mounts: Mounts | None) -> bool:
    """Tell whether the sandbox is at its path; doubt, such as for want of rights, means that it is."""
    try:
        with (
            netns.opening_by(mounts.open if mounts else os.open),
            netns.opened_if_present(record.netns) as found,
        ):
            return found is not None and found.identity() == record.sandbox
    except OSError:
        return True


def _existing(mounts: Mounts | None) -> frozenset[str]:
    """Return the identities of the network namespaces that a process lives in or a path leads to."""
    identities: dict[tuple[int, int], str] = {}
    inhabited = [(os.open, str(path)) for path in Path("/proc").glob("[0-9]*/ns/net")]
    mounted = [(mounts.open if mounts else os.open, path) for path in _mounted(mounts)]
    for opener, path in inhabited + mounted:
        with suppress(OSError):  # the process has ended, the path is gone
            fd = opener(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = os.fstat(fd)
                if (found.st_dev, found.st_ino) not in identities:
                    identities[found.st_dev, found.st_ino] = Netns(path, fd).identity()
            finally:
                os.close(fd)
    return frozenset(identities.values())


def _mounted(mounts: Mounts | None) -> list[str]:
    """Return the paths where network namespaces are mounted; see proc(5) for mountinfo's fields."""
    told = Path(f"/proc/{mounts.pid if mounts else 'self'}/mountinfo").read_bytes()
    fields = [line.split(b" ") for line in told.split(b"\n") if line]
    return [os.fsdecode(_unescaped(found[4])) for found in fields if found[3].startswith(b"net:[")]


def _unescaped(path: bytes) -> bytes:
    """Return a path with what the kernel writes as octal numbers: space, tab, newline and backslash."""
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), path)


def _job(record: Record, environment: Mapping[str, str], mounts: Mounts | None) -> Job:
    caller = Request("DEL", environment, b"", files=mounts)
    request = record.request(caller)
    try:
        executable = str(delegate.find(record.plugin, request))
    except CniError:
        executable = record.plugin  # its delegates are executed then, if there are any
    return Job(record.plugin, executable, request.environment, request.stdin, len(request.stdin), 0)
