"""What packaging/ makes, built once per test run and offline, from wheels that ./dev test has fetched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

PACKAGING = Path(__file__).parents[2] / "packaging"
WHEELS = PACKAGING.parent / ".cache" / "wheels"
_folder = TemporaryDirectory(prefix="packages-")


def build(script: str, output: Path) -> str:
    """Run a script of packaging/ that writes to `output`; return what it says.

    Skips where a tool or the wheels are missing.
    """
    missing = [name for name in ("dpkg-deb", "musl-gcc", "/usr/bin/python3") if not shutil.which(name)]
    if missing or not any(WHEELS.glob("*.whl")):
        pytest.skip(f"not there: {', '.join(missing) or WHEELS}; ./dev test brings it")
    environment = {
        "PATH": os.environ["PATH"],
        "PIP": f"{sys.executable} -m pip",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(WHEELS),
    }
    command = [PACKAGING / script, output]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def debian_package() -> Path:
    return Path(build("debian/build", Path(_folder.name, "debian")).strip())


@cache
def image() -> Path:
    """The image's root file system; copy it before anything is changed there."""
    folder = Path(_folder.name, "image")
    build("image/root", folder)
    return folder


def uncompiled(root: Path) -> list[Path]:
    """The modules of podrail and of what it brings whose compiled form is missing or of another time."""
    sources = root.glob("usr/lib/podrail/lib/python*/**/*.py")
    return [path for path in sources if not _is_compiled(path)]


def _is_compiled(source: Path) -> bool:
    (compiled,) = source.parent.glob(f"__pycache__/{source.stem}.cpython-*.pyc")
    return int.from_bytes(compiled.read_bytes()[8:12], "little") == int(source.stat().st_mtime)
