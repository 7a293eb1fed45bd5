"""Finding: one fault of a node, what it is about, and what to do; and how findings are printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from cni.command import printable

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """`error`: pods would fail or be wrong; `warning`: slow, or soon an error."""

    check: str
    about: str
    message: str
    fix: str
    severity: Severity = "error"


def as_json(findings: Sequence[Finding]) -> str:
    return json.dumps({"findings": [asdict(each) for each in findings]}, indent=2) + "\n"


def as_text(findings: Sequence[Finding]) -> str:
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    lines = []
    for each in findings:
        mark: str = each.severity
        if is_coloured:
            mark = f"\x1b[{31 if each.severity == 'error' else 33}m{mark}\x1b[0m"
        told = printable(f"{each.about}: {each.message} [{each.check}]")
        lines += [f"{mark}: {told}", f"    {printable(each.fix)}"]
    lines.append(counted(findings) if findings else "nothing found")
    return "\n".join(lines) + "\n"


def counted(findings: Sequence[Finding]) -> str:
    """Return how many there are, such as `1 error, 2 warnings`."""
    errors = sum(each.severity == "error" for each in findings)
    numbers = {"error": errors, "warning": len(findings) - errors}
    return ", ".join(f"{number} {name}{'' if number == 1 else 's'}" for name, number in numbers.items())


def status(findings: Sequence[Finding], *, is_strict: bool) -> int:
    """Return the exit status: 1 if there is an error, or any finding where warnings count too."""
    return int(any(each.severity == "error" or is_strict for each in findings))
