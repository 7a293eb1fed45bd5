"""A disk of one's own: ext4 with a journal, as nodes have it, in a file."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Disk:
    """An image with a file system, and where that is mounted."""

    image: Path
    place: Path

    def mount(self, image: Path | None = None) -> None:
        command = ["mount", "-o", "loop,noatime", str(image or self.image), str(self.place)]
        subprocess.run(command, check=True, capture_output=True)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.place)], check=True, capture_output=True)


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Disk]:
    """Make a disk of so many bytes in a folder, and keep it mounted within the block."""
    if os.geteuid() or not Path("/dev/loop-control").exists() or not shutil.which("mkfs.ext4"):
        pytest.skip("needs root, loop devices and mkfs.ext4")
    disk = Disk(folder / "image", folder / "disk")
    disk.place.mkdir()
    with disk.image.open("wb") as image:
        image.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk.image)], check=True, capture_output=True)
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()
