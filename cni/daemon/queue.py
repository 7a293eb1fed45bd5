"""The queue: DELs that clients kept on disk while there was no daemon, a file each.

The files are what would have gone over the socket, see docs/protocol.md. One that will never succeed
is set aside as `refused/<name>`, for the administrator to look at.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from cni.daemon import wire
from cni.daemon.job import Job
from cni.protocol import registry
from cni.protocol.request import AttachmentKey


@dataclass(frozen=True)
class Kept:
    """A DEL from the queue."""

    file: Path
    job: Job

    @property
    def key(self) -> AttachmentKey:
        environment = self.job.environment
        return environment.get("CNI_CONTAINERID", ""), environment.get("CNI_IFNAME", "")


@dataclass(frozen=True)
class Queue:
    """The directory that clients write to."""

    directory: Path

    def files(self) -> list[Path]:
        """Return the files in the order in which they were kept."""
        try:
            names = os.listdir(self.directory)  # noqa: PTH208
        except FileNotFoundError:
            return []
        return [self.directory / name for name in sorted(names) if not name.startswith(".") and "." in name]

    def read(self, file: Path, defaults: Mapping[str, str]) -> Kept | None:
        """Read one; None if it is gone meanwhile.

        Raises:
            Malformed: it holds no DEL.
        """
        try:
            _check(file)
            data = file.read_bytes()
        except FileNotFoundError:
            return None
        size = wire.header_size(data[: wire.FIRST].ljust(wire.FIRST, b"\0"))
        header = wire.Header.parse(data[:size])
        ends = [size + header.name, size + header.name + header.environment]
        if len(data) != ends[1] + header.stdin:
            raise wire.Malformed(f"it has {len(data)} bytes and announces {ends[1] + header.stdin}")
        environment = {**defaults, **wire.parse_environment(data[ends[0] : ends[1]])}
        if environment.get("CNI_COMMAND") != "DEL":
            raise wire.Malformed("it is no DEL")
        name = os.fsdecode(data[size : ends[0]])
        if not registry.own_type(PurePath(name).name):
            raise wire.Malformed(f'"{PurePath(name).name}" is no plugin of podrail')
        return Kept(file, Job(PurePath(name).name, name, environment, data[ends[1] :], header.stdin, 0))

    def remove(self, file: Path) -> None:
        """Forget a DEL that has succeeded, durably: replayed later it could meet a new attachment."""
        file.unlink(missing_ok=True)
        self._sync()

    def set_aside(self, file: Path) -> Path:
        """Keep what will never succeed out of the way; return where it is now."""
        aside = self.directory / "refused" / file.name
        aside.parent.mkdir(mode=0o700, exist_ok=True)
        file.rename(aside)
        self._sync()
        return aside

    def _sync(self) -> None:
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _check(file: Path) -> None:
    """Refuse what no client has put there: it would be waited for, or fill the memory."""
    found = file.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise wire.Malformed("it is no file")
    if found.st_uid != os.geteuid():
        raise wire.Malformed(f"it is user {found.st_uid}'s")
    if found.st_size > wire.MOST:
        raise wire.Malformed(f"it has {found.st_size} bytes")
