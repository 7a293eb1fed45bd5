"""A machine in namespaces: a root file system of its own, process 1 of its own, the network of a namespace.

No service manager runs there. Its root needs /usr/bin/busybox.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.support.world import Answer, Namespace, run

_SECONDS = 60

# Its argument is the directory that becomes the root.
_ENTER = """
mount --bind "$1" "$1" && cd "$1"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mkdir run/netns
mount --rbind /run/netns run/netns
mount -t tmpfs tmpfs tmp
{binds}
mkdir run/before
pivot_root . run/before
exec /usr/bin/busybox sh -euc "umount -l /run/before; rmdir /run/before; echo ready; exec sleep infinity"
"""


@contextmanager
def overlay(folder: Path, *layers: Path) -> Iterator[Path]:
    """Mount this machine's root, with changes kept in memory in `folder / "changes"`; yield where it is.

    Layers are changes that another one has kept, the uppermost first. Skips where that takes rights that are
    not there.
    """
    folder.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", folder)
    try:
        changes, work, root = (folder / name for name in ("changes", "work", "root"))
        for each in (changes, work, root):
            each.mkdir()
        below = ":".join(map(str, (*layers, "/")))
        options = f"lowerdir={below},upperdir={changes},workdir={work}"
        command = ["mount", "-t", "overlay", "-o", options, "overlay", root]
        mounted = subprocess.run(command, capture_output=True, check=False)
        if mounted.returncode or Path("/proc/self/uid_map").read_text().split()[:2] != ["0", "0"]:
            pytest.skip(f"needs root, and overlay file systems: {mounted.stderr.decode().strip()}")
        yield root
    finally:
        run("umount", "--recursive", folder)


class Machine:
    """A root file system that runs; `environment` is all that its processes are given.

    `mounts` are directories of ours by where they are there, which exist in its root or below /run or /tmp.
    """

    def __init__(
        self,
        root: Path,
        host: Namespace,
        environment: Mapping[str, str] | None = None,
        mounts: Mapping[str, Path] | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        self.root = root
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})}
        binds = "".join(
            f"mkdir -p .{place}; mount --bind {folder} .{place}\n" for place, folder in (mounts or {}).items()
        )
        if read_only:
            binds += 'mount -o remount,bind,ro "$1"\n'
        self._command = [
            *("ip", "netns", "exec", host.name, "unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", "-euc", _ENTER.format(binds=binds), "enter", str(root)),
        ]

    def __enter__(self) -> Self:
        for name in ("proc", "sys", "dev", "run", "tmp"):
            (self.root / name).mkdir(exist_ok=True)
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        assert self._process.stdout
        assert self._process.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        (self._init,) = children.split()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        first = os.pidfd_open(int(self._init))
        self._process.kill()  # and with it process 1, and with that all that runs there
        self._process.wait(_SECONDS)
        select.select([first], [], [], _SECONDS)
        os.close(first)
        assert self._process.stdout
        self._process.stdout.close()

    def command(self, *command: str | Path) -> list[str]:
        enter = [
            str(shutil.which("nsenter")),
            f"--target={self._init}",
            "--mount",
            "--pid",
            "--net",
            "--root",
        ]
        return [*enter, "--wd", "--", *map(str, command)]

    def run(self, *command: str | Path, stdin: bytes = b"", **variables: str) -> Answer:
        """Run a command there and wait for its end."""
        done = subprocess.run(
            self.command(*command),
            input=stdin,
            env=self.environment | variables,
            capture_output=True,
            check=False,
            timeout=10 * _SECONDS,
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    def told(self, *command: str | Path, **variables: str) -> str:
        """Run a command that must succeed; return its stdout."""
        answer = self.run(*command, **variables)
        assert answer.status == 0, answer
        return answer.stdout

    def start(self, *command: str | Path, **arguments: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command(*command), env=self.environment, **arguments)
