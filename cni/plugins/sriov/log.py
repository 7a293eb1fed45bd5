"""The log that `logFile` and `logLevel` ask for, in sriov-cni's form: a line for each call, and each failure.

Without `logFile` it goes to stderr, and without either key there is none. The keys are read also of a
configuration that is not valid otherwise.

Source: sriov-cni's `pkg/logging`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from cni.log_file import Rotation, append
from cni.protocol import gojson
from cni.protocol.errors import CniError
from cni.protocol.notes import note, say
from cni.protocol.request import Request

P = ParamSpec("P")
T = TypeVar("T")

_LEVELS = ("panic", "error", "warning", "info", "debug")


@dataclass(frozen=True)
class Log:
    """Where the lines of one call go; `level` is empty if nobody wants any."""

    request: Request
    path: str
    level: str

    @classmethod
    def of(cls, request: Request) -> Log:
        path, level = (gojson.get(request.network.raw, key) for key in ("logFile", "logLevel"))
        path = path if isinstance(path, str) else ""
        level = level.lower() if isinstance(level, str) else ""
        if level not in _LEVELS:
            level = "info" if path or level else ""  # sriov-cni's, also for a level that it does not know
        return cls(request, path, level)

    def write(self, level: str, text: str) -> None:
        if not self.level or _LEVELS.index(level) > _LEVELS.index(self.level):
            return
        fields = {
            "time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "level": level,
            "msg": text,
            "cniName": "sriov",
            "containerID": self.request.container_id,
            "netns": self.request.netns,
            "ifname": self.request.ifname,
        }
        line = " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in fields.items())
        if not self.path:
            say(f"{line}\n")
            return
        if not self.path.startswith("/"):
            note(self.request.network.name, f'"logFile" {self.path} is no absolute path; nothing is logged')
            return
        try:
            append(Path(self.path), f"{line}\n".encode("utf-8", "backslashreplace"), Rotation())
        except OSError as error:
            note(self.request.network.name, f'"logFile" {self.path}: {error.strerror}')


def logged(operation: Callable[Concatenate[Request, P], T]) -> Callable[Concatenate[Request, P], T]:
    """Let an operation write down that it was called, and how it ended."""

    def act(request: Request, /, *args: P.args, **keywords: P.kwargs) -> T:
        log = Log.of(request)
        log.write("debug", f"{request.command} is called")
        try:
            result = operation(request, *args, **keywords)
        except CniError as error:
            log.write("error", f"{request.command} failed: {error.msg}. {error.details}".rstrip())
            raise
        log.write("info", f"{request.command} is done")
        return result

    return act
