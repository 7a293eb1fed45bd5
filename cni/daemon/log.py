"""The daemon's log: a JSON object a line, on stderr, for journald or a container's log."""

from __future__ import annotations

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
    with suppress(OSError):  # a log that cannot be written stops no call
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()
