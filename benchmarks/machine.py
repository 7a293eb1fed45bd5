"""What class of machine the figures are from: enough to compare with, nothing that names it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    cores: int
    cpu: str
    kernel: str  # major and minor
    python: str
    pydantic: str
    go_plugins: str
    state_file_system: str  # where the journal's fsyncs end
    load_before: float  # runnable processes, mean of the minute before the run

    @classmethod
    def this(cls, state: Path) -> Machine:
        """Look at this machine; `state` is where the journal will be."""
        return cls(
            cores=len(os.sched_getaffinity(0)),
            cpu=_cpu(),
            kernel=".".join(platform.release().split(".")[:2]),
            python=platform.python_version(),
            pydantic=version("pydantic"),
            go_plugins=_output("dpkg-query", "-W", "-f=${Version}", "containernetworking-plugins"),
            state_file_system=_output(
                "findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(state)
            ),
            load_before=round(os.getloadavg()[0], 2),
        )

    @property
    def name(self) -> str:
        minor = ".".join(self.python.split(".")[:2])
        return f"{self.cores} cores, Linux {self.kernel}, Python {minor}"

    @property
    def sentence(self) -> str:
        return (
            f"{self.cores} cores ({self.cpu}), Linux {self.kernel}, Python {self.python}, pydantic "
            f"{self.pydantic}, Go plugins {self.go_plugins}; the state directory on "
            f"{self.state_file_system}; load before the run {self.load_before}."
        )


def _cpu() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _output(*command: str) -> str:
    return subprocess.check_output(command, text=True).strip()
