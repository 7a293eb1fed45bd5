"""Snapshot: all that is known of a node's networks at one time; what report shows and a bundle keeps."""

from __future__ import annotations

import io
import json
import os
import platform
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cni.cli.attached import Attachment, attachments
from cni.cli.devices import Card, Devices, Gpu, devices
from cni.cli.doctor.main import findings as doctor_findings
from cni.cli.finding import Finding
from cni.cli.verify.main import found as drift
from cni.command import progress
from cni.protocol import registry
from cni.protocol.errors import CniError, DecodingFailure

NAME = "snapshot.json"  # in a bundle
FORMAT = 1
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
    pools: tuple[dict[str, Any], ...] = ()  # as `podrail ipam show --json` has them
    findings: tuple[Finding, ...] = ()  # of doctor
    drift: tuple[Finding, ...] = ()  # of verify
    devices: Devices = field(default_factory=lambda: Devices((), ()))

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def of_json(cls, raw: Any) -> Snapshot:
        """Read what `to_json` made.

        Raises:
            DecodingFailure: it is something else, or of a newer podrail.
        """
        try:
            if raw["format"] != FORMAT:
                raise DecodingFailure(
                    f"the snapshot has format {raw['format']}",
                    why=f"This podrail knows format {FORMAT}.",
                    fix="Use the podrail that made it, or a newer one.",
                )
            told = {key: value for key, value in raw.items() if key != "format"}
            return cls(
                **told
                | {
                    "attachments": tuple(Attachment(**each) for each in raw["attachments"]),
                    "pools": tuple(raw["pools"]),
                    "findings": tuple(Finding(**each) for each in raw["findings"]),
                    "drift": tuple(Finding(**each) for each in raw["drift"]),
                    "devices": Devices(
                        tuple(Card(**each) for each in raw["devices"]["cards"]),
                        tuple(Gpu(**each) for each in raw["devices"]["gpus"]),
                    ),
                }
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise DecodingFailure(
                "the snapshot is damaged",
                why=f"{type(error).__name__}: {error}.",
                fix="Make the bundle again.",
            ) from error


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
        pools=tuple(registry.load_pools()(environment)),
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
                    return Snapshot.of_json(json.loads(data))
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
