"""Namespaces of the test process's own, so that a test run leaves nothing behind however it ends."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


def isolate() -> None:
    """Move this process to namespaces of its own: network, mounts, and users if it is not root."""
    uid, gid = os.geteuid(), os.getegid()
    _call(_libc.unshare, _CLONE_NEWNS | _CLONE_NEWNET | (_CLONE_NEWUSER if uid else 0))
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    _call(_libc.mount, b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    # `ip netns` keeps its mounts here; a file system of our own goes with this process.
    _call(_libc.mount, b"tmpfs", b"/run", b"tmpfs", 0, None)
    Path("/run/netns").mkdir()


def _call(function: ctypes._CFuncPtr, *arguments: object) -> None:  # type: ignore[name-defined]
    if function(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), getattr(function, "__name__", ""))
