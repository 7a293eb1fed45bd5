"""Programs in Go with libcni, the library by which runtimes and Multus call plugins."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

_GOPATH = Path("/usr/share/gocode")  # where Debian keeps the sources of its packages
_LIBRARY = _GOPATH / "src/github.com/containernetworking/cni/libcni"
_CACHE = Path(__file__).parents[2] / ".cache" / "go"


@functools.cache
def built(name: str, source: Path) -> Path:
    """Build a program, offline; skip where Go is missing."""
    if not shutil.which("go") or not _LIBRARY.exists():
        pytest.skip("not installed: Debian's golang-go, golang-github-appc-cni-dev; ./dev test installs them")
    offline = {"GO111MODULE": "off", "GOFLAGS": "", "GOPATH": str(_GOPATH), "GOCACHE": str(_CACHE / "cache")}
    program = _CACHE / name
    subprocess.run(
        ["go", "build", "-o", program, source], env={**os.environ, **offline}, check=True, timeout=600
    )
    return program
