"""What the daemon gives a worker to do, and what it hears back."""

from __future__ import annotations

import marshal
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

LENGTH = struct.Struct("=I")


class Job(NamedTuple):
    """One call. A client's connection and its open sandbox, if any, travel beside it, in this order."""

    plugin_type: str
    executable: str
    environment: Mapping[str, str]
    stdin: bytes | None  # None: the client sends it over its connection
    stdin_size: int
    sandbox: int  # as in `wire.Header`


class Report(NamedTuple):
    """How a call ended."""

    status: int
    code: int  # of the error object; 0 on success
    msg: str
    notes: str  # what the plugin told the administrator
    delivered: bool  # whether the client got its answer
    steps: tuple[tuple[str, str, float], ...] = ()  # verb, type and seconds of each delegate's call

    @property
    def is_success(self) -> bool:
        return self.status == 0


def packed(message: Job | Report) -> bytes:
    """Return a message behind its length; both ends are the same program, so marshal will do."""
    fields: tuple[Any, ...] = message
    data = marshal.dumps(tuple(fields))  # a plain tuple: it knows no other
    return LENGTH.pack(len(data)) + data


def job(data: bytes) -> Job:
    return Job(*marshal.loads(data))  # noqa: S302  # from the daemon, over a socket that nobody else has


def report(data: bytes) -> Report:
    return Report(*marshal.loads(data))  # noqa: S302  # as above
