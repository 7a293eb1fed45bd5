"""A log file that is put aside, under the time's name, when it has grown too large."""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_MEGABYTE = 1024 * 1024
_DAY_SECONDS = 86400
_MODE = 0o600


@dataclass(frozen=True)
class Rotation:
    """When a file is put aside and for how long it is kept; 0 is no limit, but for the size."""

    max_size: int = 100  # megabytes
    max_age: int = 5  # days
    max_backups: int = 5
    compress: bool = True


def append(path: Path, line: bytes, rotation: Rotation) -> None:
    """Write a line; one process at a time may put the file aside.

    Raises:
        OSError: the file cannot be written, or not be put aside.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE), "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # whoever puts it aside is alone
        file.write(line)
        file.flush()
        is_in_place = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
        if is_in_place and os.fstat(file.fileno()).st_size >= (rotation.max_size or 100) * _MEGABYTE:
            _put_aside(path, rotation)


def _put_aside(path: Path, rotation: Rotation) -> None:
    """Rename a log that is full, and remove what is older or more than wanted."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")[:-3]
    aside = path.with_name(f"{path.stem}-{now}{path.suffix}")
    path.rename(aside)
    if rotation.compress:
        import gzip  # 10 ms once in a hundred megabytes

        compressed = aside.with_name(f"{aside.name}.gz")
        with open(aside, "rb") as source, gzip.open(compressed, "wb") as target:
            while chunk := source.read(_MEGABYTE):
                target.write(chunk)
        aside.unlink()
    backups = sorted(path.parent.glob(f"{path.stem}-*{path.suffix}*"), reverse=True)
    oldest = time.time() - rotation.max_age * _DAY_SECONDS
    for number, backup in enumerate(backups):
        is_old = bool(rotation.max_age) and backup.stat().st_mtime < oldest
        if is_old or (rotation.max_backups and number >= rotation.max_backups):
            backup.unlink()
