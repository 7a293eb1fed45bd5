"""Finding: one fault of a node, what it is about, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """`error`: pods would fail or be wrong; `warning`: slow, or soon an error."""

    check: str
    about: str
    message: str
    fix: str
    severity: Severity = "error"
