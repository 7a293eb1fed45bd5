"""Locks between processes and threads: files whose lock ends with whoever holds it, whatever they contain.

flock(2), polled every few milliseconds, since it has no time limit. (The library filelock does the same
with 48 ms of imports and a poll every 50 ms.)
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cni import durable
from cni.protocol.errors import CniError, Code

_SECONDS = 60.0  # a call of the one who has it may take that long; kubelet gives a sandbox four minutes
_POLL = (0.0005, 0.004)  # seconds; at random, so that those who wait do not wake together


@contextmanager
def held(name: str, environment: Mapping[str, str], seconds: float = _SECONDS) -> Iterator[None]:
    """Hold the lock of that name on this host; whoever else wants it waits.

    Raises:
        CniError: code 11, somebody else has it for too long.
    """
    with locked(durable.run_directory(environment) / "locks" / name, seconds):
        yield


@contextmanager
def locked(path: Path, seconds: float = _SECONDS) -> Iterator[None]:
    """Hold the lock of a file, which is made if needed; only who holds it may remove it.

    Raises:
        CniError: code 11, somebody else has it for too long.
    """
    fd = _acquired(path, seconds)
    try:
        yield
    finally:
        os.close(fd)  # and with it goes the lock


def _acquired(path: Path, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(FileNotFoundError):
            fd = _opened(path)
            if _is_taken(fd, path):
                return fd
            os.close(fd)
        if time.monotonic() > deadline:
            raise CniError(
                f'"{path.name}" is being worked on for more than {seconds:g} s',
                why=f"Another call holds {path}.",
                fix=f"Call again; if it stays so, look which process that is (fuser {path}).",
                code=Code.TRY_AGAIN_LATER,
            )
        time.sleep(random.uniform(*_POLL))  # noqa: S311  # not a secret


def _opened(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)


def _is_taken(fd: int, path: Path) -> bool:
    """Try to take the lock; that of a file which was removed meanwhile keeps nobody out."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), path.lstat())
    except (BlockingIOError, FileNotFoundError):
        return False
