"""What is paid before any work is done: process, interpreter, imports; and what would lower it."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import Figures, Spawner, Turns

_PLUGINS = "import cni.plugins.macvlan.plugin, ipam.static"
_PARSED = (
    "from cni.plugins.macvlan.config import MacvlanConf; import ipam.static; "
    'MacvlanConf.parse({"name": "bench", "type": "macvlan", "master": "eth0", "ipam": {"type": "static"}})'
)


@dataclass(frozen=True)
class Step:
    """A program, and the one whose cost it includes."""

    figures: Figures
    builds_on: str = ""


@dataclass(frozen=True)
class _Program:
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    builds_on: str = ""


def measure(spawner: Spawner, python: Path, workshop: Path, rounds: int) -> dict[str, Step]:
    """Measure bare starts by turns; `python` is that of an installed podrail."""
    programs = _programs(python, workshop)
    turns = Turns(spawner)
    for turn in range(Turns.UNTIMED + rounds):
        for name, program in programs.items():
            turns.run(turn, name, program.argv, program.environment)
    return {name: Step(turns.figures(name), program.builds_on) for name, program in programs.items()}


def _programs(python: Path, workshop: Path) -> dict[str, _Program]:
    developers = Path(sysconfig.get_path("purelib"))
    bare = _copy_without_bytecode(_site_packages(python), developers, workshop / "bare")
    without_bytecode = {"PYTHONPATH": str(bare), "PYTHONDONTWRITEBYTECODE": "1"}

    def python_with(code: str, builds_on: str = "python", **environment: str) -> _Program:
        return _Program((str(python), "-c", code), environment, builds_on)

    return _program_that_does_nothing(workshop) | {
        "python -I -S": _Program((str(python), "-I", "-S", "-c", "pass")),
        "python": python_with("pass", builds_on="python -I -S"),
        "import re, as pip's scripts do": python_with("import re"),
        "import json": python_with("import json", builds_on="import re, as pip's scripts do"),
        "import pydantic": python_with("from pydantic import BaseModel"),
        "import macvlan, static": python_with(_PLUGINS, builds_on="import pydantic"),
        "parse a configuration": python_with(_PARSED, builds_on="import macvlan, static"),
        "… without garbage collection": python_with(
            f"import gc; gc.disable(); {_PARSED}", builds_on="parse a configuration"
        ),
        "… without pydantic's plugin search": python_with(
            _PARSED, builds_on="parse a configuration", PYDANTIC_DISABLE_PLUGINS="__all__"
        ),
        "… without bytecode": python_with(_PARSED, builds_on="parse a configuration", **without_bytecode),
        "import pyroute2": python_with("import pyroute2", PYTHONPATH=str(developers)),
        "import pyroute2 without bytecode": python_with(
            "import pyroute2", builds_on="import pyroute2", **without_bytecode
        ),
    }


def _site_packages(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([python, "-c", code], text=True).strip())


def _copy_without_bytecode(ours: Path, developers: Path, target: Path) -> Path:
    """Copy what an ADD imports, and pyroute2, as `pip install --no-compile` would leave them."""
    ignore = shutil.ignore_patterns("__pycache__", "pip", "setuptools", "pkg_resources", "_distutils_hack")
    shutil.copytree(ours, target, ignore=ignore)
    shutil.copytree(developers / "pyroute2", target / "pyroute2", ignore=ignore)
    return target


def _program_that_does_nothing(workshop: Path) -> dict[str, _Program]:
    """Compile one, if there is a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return {}
    source, program = workshop / "nothing.c", workshop / "nothing"
    source.write_text("int main(void) { return 0; }\n")
    subprocess.run([compiler, "-O2", "-static", "-o", program, source], check=True)
    return {"a static C program that does nothing": _Program((str(program),))}
