"""Files that are whole or absent, whoever is killed while they are written.

What is new is written without a name and then linked to its place, so that a killed writer leaves nothing;
what replaces another is written beside it and renamed. Directories are made when needed and go when they
are empty, up to a root that stays.

A loss of power ends every sandbox, so what an ADD takes need not survive one and is not synced: a file of
the last half minute may be empty after it, which no writer of ours leaves. What must be there
after a restart is lasting: synced, with its directory. So is a directory from which something must stay gone.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import get_native_id
from typing import TypeVar

T = TypeVar("T")

DEFAULT_STATE_DIR = "/var/lib/cni/podrail"
DEFAULT_RUN_DIR = "/run/podrail"

_MAX_COMPONENT = 200  # bytes; file systems allow 255, and a name gets a prefix and a suffix
_TRIES = 500  # another process may remove an empty directory just before it is used, again and again
_CHUNK = 1 << 16  # bytes; most files are read at once
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW


def state_directory(environment: Mapping[str, str]) -> Path:
    """Return where state is kept: PODRAIL_STATE_DIR, or else the default."""
    return _parsed(environment.get("PODRAIL_STATE_DIR") or DEFAULT_STATE_DIR)


def run_directory(environment: Mapping[str, str]) -> Path:
    """Return where locks and sockets are, which a reboot clears: PODRAIL_RUN_DIR, or else the default."""
    return _parsed(environment.get("PODRAIL_RUN_DIR") or DEFAULT_RUN_DIR)


@lru_cache(maxsize=16)  # a call asks for the same some ten times
def _parsed(path: str) -> Path:
    return Path(path)


def component(name: str) -> str:
    """Return a name as a path component: itself, or its hash if it is too long for one."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= _MAX_COMPONENT else hashlib.sha256(encoded).hexdigest()


def create(path: Path, data: bytes, root: Path, *, is_synced: bool = False) -> None:
    """Write a file that must not exist yet; only its owner may read it.

    If it is synced, a loss of power leaves it whole or absent, never empty.

    Raises:
        FileExistsError: it does; it stays as it is.
        OSError: nothing was written.
    """
    with _failures_named(path, root):
        _insist(lambda: _create(path, data, is_synced), path.parent)


class Draft:
    """A file that is written and has no name yet."""

    def __init__(self, source: str, folder: int | None = None) -> None:
        self._source = source
        self._folder = folder

    def link_to(self, path: Path) -> None:
        """Give it a name on the same file system, in a directory that is made if needed; it may have several.

        Raises:
            FileExistsError: another file has that name.
        """
        try:
            # With a directory given it is linkat, which follows the link below /proc.
            _insist(lambda: os.link(self._source, path, src_dir_fd=self._folder), path.parent)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error

    def put_at(self, path: Path) -> None:
        """Give it a name in the place of the file that has that name, if any."""
        beside = path.parent / f".{path.name}.{get_native_id()}"
        beside.unlink(missing_ok=True)
        self.link_to(beside)
        beside.rename(path)


@contextmanager
def drafted(folder: Path, data: bytes, root: Path) -> Iterator[Draft]:
    """Write a file that is to get names on the file system of `folder`, which is made if needed.

    Without names when the block ends, nothing of it is left.
    """
    with ExitStack() as stack:
        with _failures_named(folder / "draft", root):
            draft, fd = _insist(lambda: _opened_draft(folder, stack), folder)
            _fill(fd, data)
        yield draft


def _opened_draft(folder: Path, stack: ExitStack) -> tuple[Draft, int]:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, opened)
    fd, source = stack.enter_context(_draft(opened, "draft"))
    return Draft(source, opened), fd


def replace(
    path: Path, data: bytes, root: Path, *, is_synced: bool = False, is_lasting: bool = False
) -> None:
    """Write a file in the place of what may be there.

    If it is synced, a loss of power leaves one or the other whole; the new one for sure if that is to last.
    """
    with _failures_named(path, root):
        _insist(lambda: _replace(path, data, is_synced or is_lasting), path.parent)
        if is_lasting:
            sync_directory(path.parent)


def read(path: Path) -> bytes | None:
    """Return what a file holds, None if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a file object takes twice the time
        try:
            return b"".join(iter(lambda: os.read(fd, _CHUNK), b""))
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def listed(folder: Path, pattern: str) -> list[Path]:
    """Return what matches in a directory, in order; nothing if it goes while it is looked at."""
    with suppress(FileNotFoundError):
        return sorted(folder.glob(pattern))
    return []


def remove(path: Path, root: Path) -> None:
    """Remove a file, if any, what a killed writer left of it, and directories that are empty then."""
    path.unlink(missing_ok=True)
    with suppress(FileNotFoundError), os.scandir(path.parent) as entries:
        for entry in entries:
            if entry.name.startswith(f".{path.name}."):
                path.with_name(entry.name).unlink(missing_ok=True)
    prune(path.parent, root)


def tidy(folder: Path, root: Path) -> None:
    """Remove what killed writers left in a directory; only while nobody writes there."""
    for draft in listed(folder, ".*"):
        draft.unlink(missing_ok=True)
    prune(folder, root)


def prune(folder: Path, root: Path) -> None:
    """Remove directories that are empty, a killed writer's half-made ones too."""
    with suppress(OSError):
        while folder != root:
            with suppress(FileNotFoundError):
                folder.rmdir()
            folder = folder.parent


@contextmanager
def _failures_named(path: Path, root: Path) -> Iterator[None]:
    """If a file cannot be written, leave no empty directory of it, and say which file it is."""
    try:
        yield
    except BaseException as error:
        prune(path.parent, root)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _insist(write: Callable[[], T], folder: Path) -> T:
    """Write a file, and make its directory if there is none; another process may remove that just then."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            return write()
        with suppress(FileNotFoundError):
            make_directory(folder)
    raise FileNotFoundError(errno.ENOENT, "the directory is removed again and again", str(folder))


def make_directory(folder: Path) -> None:
    """Make a directory and those above it, for their owner alone: mkdir's `parents` are for everybody."""
    with suppress(FileExistsError):  # if it is no directory, who writes there will say so
        try:
            folder.mkdir(mode=0o700)
        except FileNotFoundError:
            make_directory(folder.parent)
            folder.mkdir(mode=0o700)
        except OSError:  # a full or read-only disk may say so of what is there
            if not folder.is_dir():
                raise


def _create(path: Path, data: bytes, is_synced: bool) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _draft(folder, path.name) as (fd, source):
            _fill(fd, data, is_synced=is_synced)
            # With directories given it is linkat, which follows the link below /proc.
            os.link(source, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)


@contextmanager
def _draft(folder: int, name: str) -> Iterator[tuple[int, str]]:
    """Open a file that is to get a name in a directory, and yield it with what can be linked to that."""
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=folder)
        draft = ""
    except OSError as error:
        if os.fstat(folder).st_nlink == 0:  # removed; Linux says EPERM then
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
        if error.errno != errno.EOPNOTSUPP:
            raise
        # A file system without nameless files, such as NFS.
        draft = f".{name}.{get_native_id()}"
        fd = os.open(draft, _NEW, 0o600, dir_fd=folder)
    try:
        yield fd, draft or f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
        if draft:
            with suppress(OSError):
                os.unlink(draft, dir_fd=folder)


def _replace(path: Path, data: bytes, is_synced: bool) -> None:
    draft = path.parent / f".{path.name}.{get_native_id()}"
    fd = os.open(draft, _NEW, 0o600)
    try:
        try:
            _fill(fd, data, is_synced=is_synced)
        finally:
            os.close(fd)
        draft.rename(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def _fill(fd: int, data: bytes, *, is_synced: bool = False) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    if is_synced:
        os.fsync(fd)


def sync_directory(path: Path) -> None:
    """Make what was created, renamed and removed in a directory survive a loss of power."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(fd)
