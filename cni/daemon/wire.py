"""The messages between client and daemon, as docs/protocol.md describes them."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from cni.protocol.gojson import MAX_BYTES
from cni.protocol.plugin import Reply

VERSION = 1
MAGIC = b"PODRAIL\0"

_REQUEST = struct.Struct("=8sIIIIIi")
_SIZE_AT = struct.Struct("=8sII")  # magic, version, size: what every later header begins with too
_GREETING = struct.Struct("=8sII")
_REPLY = struct.Struct("=IIII")
_MAX_HEADER = 4096
_MAX_NAME = 4096
_MAX_ENVIRONMENT = 1 << 20

MOST = _MAX_HEADER + _MAX_NAME + _MAX_ENVIRONMENT + MAX_BYTES + 1  # bytes of a whole call
FIRST = _SIZE_AT.size  # bytes to read before the rest of a header's size is known
GREETING = _GREETING.pack(MAGIC, VERSION, _GREETING.size)


class Malformed(Exception):
    """What came is not of this protocol."""


@dataclass(frozen=True)
class Header:
    """What a client announces: sizes of what follows, and how its sandbox comes."""

    version: int
    name: int
    environment: int
    stdin: int
    sandbox: int  # 1: as an open file; 0: there is none; negative: why the client could not open it

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """Read a whole header; one that is shorter than ours has zeros in the rest.

        Raises:
            Malformed: it announces more than anybody sends.
        """
        padded = data[: _REQUEST.size].ljust(_REQUEST.size, b"\0")
        _, version, _, name, environment, stdin, sandbox = _REQUEST.unpack(padded)
        header = cls(version, name, environment, stdin, sandbox)
        if name > _MAX_NAME or environment > _MAX_ENVIRONMENT or stdin > MAX_BYTES + 1:
            raise Malformed(f"it announces too much: {header}")
        return header


def header_size(first: bytes) -> int:
    """Return the size of the header that begins with these FIRST bytes.

    Raises:
        Malformed: they begin no header.
    """
    magic, _, size = _SIZE_AT.unpack(first)
    if magic != MAGIC or not FIRST <= size <= _MAX_HEADER:
        raise Malformed("it does not begin with a header")
    return int(size)


def request(name: str, environment: Mapping[str, str], stdin: bytes) -> bytes:
    """Return a call as a client sends it, without an open sandbox."""
    told = b"".join(os.fsencode(f"{key}={value}") + b"\0" for key, value in environment.items())
    called = os.fsencode(name)
    header = _REQUEST.pack(MAGIC, VERSION, _REQUEST.size, len(called), len(told), len(stdin), 0)
    return header + called + told + stdin


def parse_environment(data: bytes) -> dict[str, str]:
    """Return the variables; what has no equals sign is none."""
    pairs = (entry.partition("=") for entry in os.fsdecode(data).split("\0"))
    return {name: value for name, equals, value in pairs if equals}


def reply(answer: Reply, notes: bytes = b"") -> bytes:
    """Return a reply as the client reads it; notes that do not fit are cut."""
    notes = notes[: max(0, MAX_BYTES - len(answer.stdout))]
    header = _REPLY.pack(_REPLY.size, answer.exit_status, len(answer.stdout), len(notes))
    return header + answer.stdout + notes
