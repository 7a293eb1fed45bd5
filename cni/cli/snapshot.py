"""Snapshot: all that is known of a node's networks at one time; what report shows and a bundle keeps."""

from __future__ import annotations

import io
import os
import platform
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from cni.cli.attached import Attachment, attachments
from cni.cli.devices import Devices, devices
from cni.cli.doctor.main import findings as doctor_findings
from cni.cli.finding import Finding
from cni.cli.pools import Pool, pools
from cni.cli.verify.main import found as drift
from cni.command import progress
from cni.protocol.errors import CniError, DecodingFailure

NAME = "snapshot.json"  # in a bundle
FORMAT = 1
T = TypeVar("T")
_MOST = 64 << 20  # bytes of it that are read


@dataclass(frozen=True)
class Snapshot:
    """A node as it was at `time`."""

    node: str
    time: str  # UTC, ISO 8601
    podrail: str
    kernel: str
    python: str
    attachments: tuple[Attachment, ...] = ()
    pools: tuple[Pool, ...] = ()
    findings: tuple[Finding, ...] = ()  # of doctor
    drift: tuple[Finding, ...] = ()  # of verify
    devices: Devices = field(default_factory=lambda: Devices((), ()))

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}


def of_json(data: bytes) -> Snapshot:
    """Read what `to_json` made; it may come from anywhere.

    Raises:
        DecodingFailure: it is something else, or of a newer podrail.
    """
    try:
        told = _adapter(_Marked).validate_json(data).format
        if told != FORMAT:
            raise DecodingFailure(
                f"the snapshot has format {told}",
                why=f"This podrail knows format {FORMAT}.",
                fix="Use the podrail that made it, or a newer one.",
            )
        found: Snapshot = _adapter(Snapshot).validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise DecodingFailure(
            "the snapshot is damaged", why=f"{where}: {first['msg']}.", fix="Make the bundle again."
        ) from error
    return found


@cache  # 10 ms to build
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)


@dataclass(frozen=True)
class _Marked:
    format: int


def taken(environment: Mapping[str, str]) -> Snapshot:
    """Look at this node. What cannot be looked at is a finding."""
    failures: list[Finding] = []
    found: list[Finding] = []
    with progress("comparing journal, kernel and pools"):
        try:
            found = drift()
        except (CniError, OSError) as error:
            failures.append(Finding("verify", "this node", str(error), "Look as root, on the node."))
    with progress("looking for what would keep a pod from its networks"):
        faults = tuple(doctor_findings())
    return Snapshot(
        node=environment.get("NODENAME") or platform.node(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        podrail=version("podrail"),
        kernel=platform.release(),
        python=".".join(map(str, sys.version_info[:3])),
        attachments=tuple(attachments(environment)),
        pools=tuple(pools(environment)),
        findings=faults,
        drift=(*found, *failures),
        devices=devices(),
    )


def of_bundle(path: Path) -> Snapshot:
    """Read the snapshot of a bundle; nothing of it is unpacked.

    Raises:
        DecodingFailure: it is no bundle.
        OSError: it cannot be read.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                if member.isfile() and Path(member.name).name == NAME:
                    file = archive.extractfile(member)
                    data = (file or io.BytesIO()).read(_MOST + 1)
                    if len(data) > _MOST:
                        break
                    return of_json(data)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _no_bundle(path, str(error)) from error
    except OSError as error:
        if error.errno is None:  # gzip's own
            raise _no_bundle(path, str(error)) from error
        raise
    raise _no_bundle(path, f"there is no {NAME} in it")


def _no_bundle(path: Path, reason: str) -> DecodingFailure:
    return DecodingFailure(f"{path} is no bundle", why=f"{reason}.", fix="Make one with: podrail bundle")


def looked_at(bundle: Path | None) -> Snapshot:
    """Return the snapshot of a bundle, or of this node now.

    Raises:
        DecodingFailure, OSError: as `of_bundle`.
    """
    return of_bundle(bundle) if bundle else taken(os.environ)
