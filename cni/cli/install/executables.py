"""Executables: one file put in the place of another, in one step, once it has answered.

A file is written beside its place, executed with VERSION, and renamed. A file of another make is never
touched unless that is asked for; then it is kept beside and comes back on uninstall.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cni import durable
from cni.protocol.errors import CniError, Code

KEPT = ".before-podrail"  # appended to the name of a file that was replaced
_MARKS = (b"from cni.entry import ", b"podrail")  # what our scripts and the static client have in them
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
        """Whether the target is another make's."""
        found = durable.read(self.target)
        return found is not None and not is_ours(found)

    def install(self) -> str:
        """Put it in place and return what was done; what it replaces of another make is kept beside.

        Raises:
            CniError: code 5, it cannot be written, or does not answer there; nothing was changed.
        """
        if self.is_in_place():
            return "in place already"
        draft = self.target.with_name(f".{self.target.name}.{os.getpid()}")
        try:
            self._write(draft)
            _check_answers(draft, self.target.name)
            told = "installed"
            if self.is_foreign():
                _keep(self.target, self.kept)
                told = f"installed; what was there is kept as {self.kept.name}"
            draft.rename(self.target)
        except OSError as error:
            raise CniError(
                f"{self.target} cannot be written: {error.strerror}",
                fix="Look at the directory's rights and mount options, or name another one by --bin-dir.",
                code=Code.IO_FAILURE,
            ) from error
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
        durable.sync_directory(self.target.parent)
        return told

    def _write(self, draft: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(draft, flags, 0o755)
        with open(fd, "wb") as file:
            os.fchmod(fd, 0o755)  # whatever the caller's umask
            file.write(self.content())
            file.flush()
            os.fsync(fd)


def remove(target: Path) -> str:
    """Remove an executable of ours, and put back what it had replaced; return what was done."""
    kept = target.with_name(target.name + KEPT)
    found = durable.read(target)
    if found is not None and not is_ours(found):
        return "left alone: it is another make's"
    if kept.exists():
        kept.rename(target)
        told = "removed; what had been there is back"
    else:
        target.unlink(missing_ok=True)
        told = "removed" if found is not None else "was not there"
    durable.sync_directory(target.parent)
    return told


def is_ours(content: bytes) -> bool:
    """Whether an executable is podrail's: one of its scripts, or its static client."""
    if content.startswith(b"#!"):
        return _MARKS[0] in content or bool(re.search(rb"\bcni\.entry\b", content))
    return content.startswith(b"\x7fELF") and _MARKS[1] in content


def conflicts(executables: Iterable[Executable]) -> list[Path]:
    return [each.target for each in executables if each.is_foreign()]


def _keep(target: Path, kept: Path) -> None:
    """Give a file a second name; one that was kept earlier is the original and stays."""
    if not kept.exists():
        os.link(target, kept)


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
