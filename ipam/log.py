"""The log that `log_file` and `log_level` ask for: a line for each call that gave or freed, and each failure.

A file that cannot be written to is told on stderr and is no failure, as in Whereabouts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cni.protocol import gojson
from cni.protocol.errors import CniError
from cni.protocol.notes import note
from cni.protocol.request import Request

_LEVELS = ("panic", "error", "verbose", "debug")


@dataclass(frozen=True)
class Log:
    """Where a call logs to; nowhere if there is no file."""

    about: str
    path: str
    level: str

    @classmethod
    def of(cls, request: Request, ipam: Any) -> Log:
        """Read the keys, also of a section that is not valid otherwise."""
        section: Mapping[str, Any] = ipam if isinstance(ipam, dict) else {}
        path, level = (gojson.get(section, key) for key in ("log_file", "log_level"))
        level = level.lower() if isinstance(level, str) and level else "debug"
        if level not in _LEVELS:
            note(request.attachment, f'"ipam.log_level" is "{level}", which is none of {", ".join(_LEVELS)}')
            level = "debug"
        about = f"{request.command} of {request.attachment or request.network.name}"
        return cls(about, path if isinstance(path, str) else "", level)

    def write(self, level: str, text: str) -> None:
        if not self.path or _LEVELS.index(level) > _LEVELS.index(self.level):
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            with open(self.path, "a") as file:
                file.write(f"{now} [{level}] {self.about}: {text}\n")
        except OSError as error:
            note(self.about, f'"ipam.log_file" {self.path}: {error.strerror}')

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Write down why the block fails, if it does."""
        try:
            yield
        except CniError as error:
            self.write("error", f"{error.msg}. {error.details}".rstrip())
            raise
