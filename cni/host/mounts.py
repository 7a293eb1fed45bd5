"""The mount namespace of another process: where paths lead that a runtime on the host speaks of.

Source: openat2(2) for RESOLVE_IN_ROOT, setns(2), proc(5) for `/proc/<pid>/root`.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

_CLONE_NEWNS = 0x20000
_SYS_OPENAT2 = 437  # the same on every architecture
_RESOLVE_IN_ROOT = 0x10
_OPEN_HOW = struct.Struct("=QQQ")  # flags, mode, resolve
_libc = ctypes.CDLL(None, use_errno=True)


class Mounts:
    """The files that another process sees, such as the host's first one from within a container."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def files(self) -> tuple[int, int]:
        """The descriptors that must stay open."""
        return self._root, self._namespace

    @classmethod
    def of(cls, pid: int) -> Mounts | None:
        """Return the mounts of a process, None if this process has the same.

        Raises:
            OSError: they cannot be reached, such as for want of CAP_SYS_PTRACE.
        """
        theirs, ours = os.stat(f"/proc/{pid}/ns/mnt"), os.stat("/proc/self/ns/mnt")  # noqa: PTH116
        return None if os.path.samestat(theirs, ours) else cls(pid)

    def open(self, path: str, flags: int) -> int:
        """Open a file; links with absolute targets lead where they lead for that process."""
        how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
        encoded = os.fsencode(path).lstrip(b"/") or b"."
        fd: int = _libc.syscall(_SYS_OPENAT2, self._root, encoded, how, len(how))
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
        return fd

    def enter(self) -> None:
        """Move this process there for good; it must have one thread."""
        if sys.version_info >= (3, 12):
            os.setns(self._namespace, _CLONE_NEWNS)
        elif _libc.setns(self._namespace, _CLONE_NEWNS):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "setns")
        os.chdir("/")
