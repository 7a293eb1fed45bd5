"""The daemon's log: a JSON object a line, on stderr, for journald or a container's log."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime


def log(event: str, level: str = "info", **told: object) -> None:
    """Write a line; what is empty or None is left out."""
    line: Mapping[str, object] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": level,
        "event": event,
        **{name: value for name, value in told.items() if value not in (None, "")},
    }
    with suppress(OSError, AttributeError):  # a log that cannot be written stops no call
        sys.__stderr__.write(json.dumps(line) + "\n")  # type: ignore[union-attr]  # None where it is closed
        sys.__stderr__.flush()  # type: ignore[union-attr]  # likewise


class Notes(io.TextIOBase):
    """Stderr for what the daemon's own work has to say outside of calls: lines of the log too."""

    def write(self, text: str) -> int:
        if text.strip():
            log("note", "warning", msg=text.strip())
        return len(text)
