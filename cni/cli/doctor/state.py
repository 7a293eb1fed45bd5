"""What podrail keeps: whether it can be written, whether it can be read, and whether it still lives."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cni import durable
from cni.cli.doctor.root import Root
from cni.cli.finding import Finding
from cni.host.netns import opened_if_present

_LEAST_FREE = 0.01  # of a file system


def check(root: Root) -> Iterator[Finding]:
    state = root.at(durable.state_directory(root.environment))
    there = next(folder for folder in (state, *state.parents) if folder.exists())
    yield from _room(state, there)
    if state.exists():
        yield from _rights(state)
        yield from _records(root, state)
        yield from _leftovers(state)


def _room(state: Path, there: Path) -> Iterator[Finding]:
    if not os.access(there, os.W_OK | os.X_OK):
        yield Finding(
            "state", str(state), f"{there} cannot be written to", "Look at its rights and mount options."
        )
    with suppress(OSError):
        told = os.statvfs(there)
        for what, free, whole in (
            ("bytes", told.f_bavail, told.f_blocks),
            ("inodes", told.f_favail, told.f_files),
        ):
            if whole and free / whole < _LEAST_FREE:
                yield Finding(
                    "state-room",
                    str(there),
                    f"less than 1 % of its {what} are free: no record can be written soon",
                    "Make room, or move the state with PODRAIL_STATE_DIR.",
                    "warning",
                )


def _rights(state: Path) -> Iterator[Finding]:
    if state.stat().st_mode & 0o077:
        yield Finding(
            "state-mode", str(state), "others than root may read or write there", f"Run: chmod 700 {state}"
        )


def _records(root: Root, state: Path) -> Iterator[Finding]:
    for path in sorted(state.glob("attachments/*/*/*.corrupt")):
        yield Finding(
            "record",
            str(path),
            "a record could not be read and was set aside: what it named may be left",
            "Compare it with what is there, then remove it.",
        )
    for path in sorted(state.glob("attachments/*/*/[!.]*.json")):
        try:
            record = json.loads(path.read_bytes())
            netns = str(record["netns"])
        except (OSError, ValueError, KeyError, TypeError):
            yield Finding(
                "record", str(path), "it cannot be read", "DEL sets it aside; then compare and remove."
            )
            continue
        if netns and not _is_there(root, netns):
            yield Finding(
                "leftover",
                str(path),
                f"its sandbox {netns} is gone: what it holds waits for DEL or GC",
                "Let the runtime call GC, or call DEL for it.",
                "warning",
            )


def _leftovers(state: Path) -> Iterator[Finding]:
    for path in sorted(state.glob("ipam/corrupt/*/*")):
        yield Finding(
            "pool-entry",
            str(path),
            "an entry of a pool could not be read and was set aside; its address stays held",
            f"Run: podrail ipam explain {path.name}, then podrail ipam release {path.name} --yes",
            "warning",
        )


def _is_there(root: Root, netns: str) -> bool:
    """Tell whether a sandbox is there; of one that this node does not let us look at, that is not known."""
    if not root.is_this_node:
        return root.exists(netns)
    try:
        with opened_if_present(netns) as sandbox:
            return sandbox is not None
    except OSError:
        return True
