"""Where the lines of logs come from: files, systemd's journal, a bundle."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePath

_MOST = 8 << 20  # bytes of one log, the newest
_JOURNAL_SECONDS = 20.0


def tail(path: Path) -> bytes:
    """Return the end of a file."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _MOST))
        return file.read(_MOST)


def journal(environment: Mapping[str, str]) -> bytes:
    """Return the newest lines of the daemon's log that systemd keeps; nothing where there are none."""
    command = ["journalctl", "--unit=podrail*", "--output=cat", "--lines=20000", "--no-pager", "--quiet"]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(  # noqa: S603  # no part of it comes from outside
            command, env=dict(environment), capture_output=True, check=False, timeout=_JOURNAL_SECONDS
        )
        return done.stdout[-_MOST:]
    return b""


def of_bundle(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each log in a bundle, which was found to be one."""
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if member.isfile() and PurePath(member.name).parent.name == "log":
                file = archive.extractfile(member)
                if file:
                    yield PurePath(member.name).name, file.read(_MOST)
