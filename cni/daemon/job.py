"""What the daemon gives a worker to do, and what it hears back."""

from __future__ import annotations

import marshal
import mmap
import struct
from collections.abc import Mapping
from signal import Signals
from typing import Any, NamedTuple

LENGTH = struct.Struct("=I")
_STOP = struct.Struct("=qi")  # number of the call, and of the signal


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


class Orders:
    """Which of a worker's calls is to stop, in memory that the daemon and the worker share.

    A signal alone does not tell: it may come before the worker has begun the call that it is meant for.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _STOP.size)

    def stop(self, call: int, number: Signals) -> None:
        _STOP.pack_into(self._memory, 0, call, number)

    def stopping(self, call: int) -> Signals | None:
        """Return the signal that a call is to be stopped by, if it is."""
        told, number = _STOP.unpack_from(self._memory)
        return Signals(number) if told == call else None


def packed(message: Job | Report) -> bytes:
    """Return a message behind its length; both ends are the same program, so marshal will do."""
    fields: tuple[Any, ...] = message
    data = marshal.dumps(tuple(fields))  # a plain tuple: it knows no other
    return LENGTH.pack(len(data)) + data


def whole(data: bytes) -> bytes | None:
    """Return the message without its length; None if not all of it has come."""
    if len(data) < LENGTH.size or len(data) < LENGTH.size + LENGTH.unpack_from(data)[0]:
        return None
    return data[LENGTH.size :]


def job(data: bytes) -> Job:
    return Job(*marshal.loads(data))  # noqa: S302  # from the daemon, over a socket that nobody else has


def report(data: bytes) -> Report:
    return Report(*marshal.loads(data))  # noqa: S302  # as above
