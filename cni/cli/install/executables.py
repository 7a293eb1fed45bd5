"""Executables: one file put in the place of another, in one step, once it has answered.

A file is written beside its place, executed with VERSION, and renamed. A file of another make is never
touched unless that is asked for; then it is kept beside and comes back on uninstall.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cni import durable
from cni.protocol.errors import CniError, Code

KEPT = ".before-podrail"  # appended to the name of a file that was replaced
_MARKS = (b"from cni.entry import ", b"podrail")  # what our scripts and the static client have in them
_SELINUX = Path("/sys/fs/selinux/enforce")
_LABEL = b"system_u:object_r:bin_t:s0\0"
_SECONDS = 30.0  # for VERSION, on a busy node


@dataclass(frozen=True)
class Executable:
    """A file to be installed: its content, and where it goes."""

    source: Path
    target: Path

    def content(self) -> bytes:
        return self.source.read_bytes()

    @property
    def kept(self) -> Path:
        return self.target.with_name(self.target.name + KEPT)

    def is_in_place(self) -> bool:
        """Whether the target is this very file already, and may be executed."""
        return durable.read(self.target) == self.content() and os.access(self.target, os.X_OK)

    def is_foreign(self) -> bool:
        """Whether the target is another make's; a link that leads nowhere is."""
        found = durable.read(self.target)
        return self.target.is_symlink() if found is None else not is_ours(found)

    def drafted(self) -> Path:
        """Write it beside its place, see it answer there, and return where it is.

        Raises:
            CniError: code 5, it cannot be written, or does not answer there; nothing is left of it.
        """
        draft = self.target.with_name(f".{self.target.name}.{os.getpid()}")
        try:
            self._write(draft)
            _check_answers(draft, self.target.name)
        except BaseException as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _unwritable(self.target, error) from error
            raise
        return draft

    def put(self, draft: Path) -> str:
        """Rename a draft to its place and return what was done; another make's file is kept beside.

        Raises:
            CniError: code 5, it cannot be renamed.
        """
        told = "installed"
        try:
            if self.is_foreign():
                keep(self.target)
                told = f"installed; what was there is kept as {self.kept.name}"
            draft.rename(self.target)
        except OSError as error:
            raise _unwritable(self.target, error) from error
        durable.sync_directory(self.target.parent)
        return told

    def _write(self, draft: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(draft, flags, 0o755)
        with open(fd, "wb") as file:
            os.fchmod(fd, 0o755)  # whatever the caller's umask
            file.write(self.content())
            file.flush()
            _relabel(fd)
            os.fsync(fd)


def install(executables: Sequence[Executable]) -> Iterator[tuple[Path, str]]:
    """Put executables in place; yield each target and what was done.

    Before the first is touched, all of them are there and have answered.

    Raises:
        CniError: code 5, one cannot be written, or does not answer.
    """
    drafts: dict[Executable, Path] = {}
    try:
        for each in executables:
            if not each.is_in_place():
                drafts[each] = each.drafted()
        for each in executables:
            if each in drafts:
                yield each.target, each.put(drafts[each])
            else:
                yield each.target, "in place already"
    finally:
        for draft in drafts.values():
            with suppress(OSError):
                draft.unlink(missing_ok=True)


def remove(target: Path) -> str:
    """Remove an executable of ours, and put back what it had replaced; return what was done."""
    found = durable.read(target)
    if (found is None and target.is_symlink()) or (found is not None and not is_ours(found)):
        return "left alone: it is another make's"
    if bring_back(target):
        return "removed; what had been there is back"
    target.unlink(missing_ok=True)
    durable.sync_directory(target.parent)
    return "removed" if found is not None else "was not there"


def is_ours(content: bytes) -> bool:
    """Whether an executable is podrail's: one of its scripts, or its static client."""
    if content.startswith(b"#!"):
        return _MARKS[0] in content or bool(re.search(rb"\bcni\.entry\b", content))
    return is_client(content)


def is_client(content: bytes) -> bool:
    """Whether it is the node daemon's static client."""
    return content.startswith(b"\x7fELF") and _MARKS[1] in content


def conflicts(executables: Iterable[Executable]) -> list[Path]:
    return [each.target for each in executables if each.is_foreign()]


def keep(target: Path) -> None:
    """Give another make's file a second name beside; it takes the place of what was kept earlier."""
    kept = target.with_name(target.name + KEPT)
    beside = target.with_name(f".{kept.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    os.link(target, beside, follow_symlinks=False)
    beside.rename(kept)
    beside.unlink(missing_ok=True)  # rename(2) does nothing if both are one file


def bring_back(target: Path) -> bool:
    """Put what is kept beside in the place of a file; return whether there was something."""
    kept = target.with_name(target.name + KEPT)
    if not os.path.lexists(kept):
        return False
    kept.rename(target)
    durable.sync_directory(target.parent)
    return True


def _relabel(fd: int) -> None:
    """Where SELinux is on, call it an executable: a runtime may not execute what has a container's label.

    Policies differ, and one may refuse that; whether it can be executed is seen right after.
    """
    if _SELINUX.exists():
        with suppress(OSError):
            os.setxattr(fd, "security.selinux", _LABEL)


def _unwritable(target: Path, error: OSError) -> CniError:
    return CniError(
        f"{target} cannot be written: {error.strerror}",
        fix="Look at the directory's rights and mount options, or name another one by --bin-dir.",
        code=Code.IO_FAILURE,
    )


def _check_answers(path: Path, name: str) -> None:
    """Execute VERSION, under the name that it will have.

    Raises:
        CniError: code 5, it does not answer as a plugin does.
    """
    environment = {"CNI_COMMAND": "VERSION", "PATH": os.environ.get("PATH", "")}
    try:
        # S603: it is the file that was just written, without a shell.
        done = subprocess.run(  # noqa: S603
            [name], executable=path, env=environment, capture_output=True, timeout=_SECONDS, check=False
        )
        answer = json.loads(done.stdout)
        if done.returncode == 0 and answer["supportedVersions"]:
            return
        reason = f"it answered {done.stdout.decode(errors='replace')[:200]}"
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        reason = str(error)
    raise CniError(
        f"{name} does not answer VERSION in {path.parent}",
        why=f"{reason}.",
        fix="Look whether the file system is mounted noexec, and whether its interpreter is on this host.",
        code=Code.IO_FAILURE,
    )
