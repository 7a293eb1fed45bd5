"""Finding: one mistake, where it is, why it is one, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, order=True)
class Place:
    """Where something stands; line and column count from 1.

    `indent` is what further lines of a text that begins here are indented by, beyond their own.
    """

    file: str
    line: int
    column: int
    indent: int = 0

    def beyond(self, lines: int, columns: int) -> Place:
        """Return the place that is so many lines below, or so many columns behind on the same line."""
        column = self.indent + columns + 1 if lines else self.column + columns
        return Place(self.file, self.line + lines, column, self.indent)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Finding:
    """One mistake; `field` is its path in the document, such as `ipam.ranges[0].range_end`."""

    place: Place
    rule: str
    message: str
    field: str = ""
    why: str = ""
    fix: str = ""
    severity: Severity = "error"
