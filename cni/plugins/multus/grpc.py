"""One unary gRPC call over a unix socket, which is all that multus needs of gRPC.

The libraries cost more than the rest of an ADD: grpcio 110 ms of CPU to import, 29 MB of memory and 19 MB
of disk, h2 with its HPACK 55 ms; this takes 2. It keeps no connection, sends no second request, and
tells the peer to send no more than it takes, so that neither flow control nor HPACK's tables matter.

Source: RFC 9113 (HTTP/2), RFC 7541 (HPACK), gRPC's `doc/PROTOCOL-HTTP2.md`.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from urllib.parse import unquote

MAX_MESSAGE = 16 * 1024 * 1024  # bytes; the kubelet's own limit
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME = struct.Struct(">HBBBI")  # length in two parts, type, flags, stream
_MESSAGE = struct.Struct(">BI")  # whether it is compressed, length
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9
_WINDOW_UPDATE = 8
_ACK = _END_STREAM = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_STREAM = 1
_HEADER_TABLE_SIZE, _INITIAL_WINDOW_SIZE = 1, 4


class Status(IntEnum):
    """The answers of a server that a caller treats differently, and our own where it gave none."""

    OK = 0
    UNKNOWN = 2
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    UNAVAILABLE = 14


class GrpcError(Exception):
    """The call failed; `status` is the server's number, `UNAVAILABLE` if there was no whole answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def call(path: Path, method: str, request: bytes, deadline: float) -> bytes:
    """Return the answer to one call; `method` is as in `/v1.PodResourcesLister/List`.

    Args:
        deadline: on the monotonic clock; the call has ended by then.

    Raises:
        GrpcError: the server refused, or broke off.
        OSError: there is no server, or it took too long (TimeoutError).
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_left(deadline))
        connection.connect(str(path))
        connection.sendall(_opening(method, request))
        return _answer(_Frames(connection, deadline))


def _opening(method: str, request: bytes) -> bytes:
    """Return all that we say: the preface, our settings, and the request."""
    settings = struct.pack(">HIHI", _HEADER_TABLE_SIZE, 0, _INITIAL_WINDOW_SIZE, 2 * MAX_MESSAGE)
    message = _MESSAGE.pack(0, len(request)) + request
    return b"".join(
        (
            _PREFACE,
            _frame(_SETTINGS, 0, 0, settings),
            _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", 2 * MAX_MESSAGE)),
            _frame(_HEADERS, _END_HEADERS, _STREAM, _request_headers(method)),
            _frame(_DATA, _END_STREAM, _STREAM, message),
        )
    )


def _request_headers(method: str) -> bytes:
    """Return the header block; names and values that HPACK's static table has go by their number."""
    post, http, path, authority, content_type = b"\x83", b"\x86", b"\x04", b"\x01", b"\x0f\x10"
    return b"".join(
        (
            post,
            http,
            path + _string(method),
            authority + _string("localhost"),
            content_type + _string("application/grpc"),
            b"\x00" + _string("te") + _string("trailers"),
        )
    )


def _string(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()  # plain, and shorter than 127


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left


class _Frames:
    """The frames that a peer sends; what it wants acknowledged is."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._buffer = b""

    def __iter__(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield type, flags and payload of our stream's frames, without padding."""
        while True:
            high, low, kind, flags, stream = _FRAME.unpack(self._read(_FRAME.size))
            payload = self._read(high << 8 | low)
            if kind in (_SETTINGS, _PING) and not flags & _ACK:
                self._connection.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
            elif kind == _GOAWAY:
                raise GrpcError(Status.UNAVAILABLE, "the server is going away")
            elif stream & 0x7FFFFFFF == _STREAM:
                yield kind, flags, _unpadded(kind, flags, payload)

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._connection.settimeout(_left(self._deadline))
            received = self._connection.recv(1 << 18)
            if not received:
                raise GrpcError(Status.UNAVAILABLE, "the server closed the connection")
            self._buffer += received
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data


def _unpadded(kind: int, flags: int, payload: bytes) -> bytes:
    if kind not in (_DATA, _HEADERS):
        return payload
    padding = payload[0] if flags & _PADDED and payload else 0
    start = bool(flags & _PADDED) + (5 if kind == _HEADERS and flags & _PRIORITY else 0)
    return payload[start : len(payload) - padding]


def _answer(frames: _Frames) -> bytes:
    data, headers, fields, is_last = [], b"", {}, False
    size = 0
    for kind, flags, payload in frames:
        if kind == _RST_STREAM:
            raise GrpcError(Status.UNAVAILABLE, "the server reset the call")
        if kind == _DATA:
            size += len(payload)
            if size > MAX_MESSAGE + _MESSAGE.size:
                raise GrpcError(Status.UNKNOWN, f"the answer is larger than {MAX_MESSAGE} bytes")
            data.append(payload)
        elif kind in (_HEADERS, _CONTINUATION):
            headers += payload
            if flags & _END_HEADERS:
                fields, headers = dict(_header_fields(headers)), b""
        # A header block that ends the stream may go on in CONTINUATION frames, which do not say so.
        is_last = is_last or bool(kind in (_DATA, _HEADERS) and flags & _END_STREAM)
        if is_last and (kind == _DATA or flags & _END_HEADERS):
            break
    return _message(b"".join(data), fields)


def _message(data: bytes, fields: dict[str, str]) -> bytes:
    status = fields.get("grpc-status", str(int(Status.UNKNOWN)))
    if status != "0":
        told = unquote(fields.get("grpc-message", "")) or "no reason given"
        raise GrpcError(int(status) if status.isdecimal() else Status.UNKNOWN, told)
    if len(data) < _MESSAGE.size:
        raise GrpcError(Status.UNKNOWN, "the answer holds no message")
    is_compressed, length = _MESSAGE.unpack_from(data)
    if is_compressed or len(data) != _MESSAGE.size + length:
        raise GrpcError(Status.UNKNOWN, "the answer is not one plain message")
    return data[_MESSAGE.size :]


# -- HPACK, as far as a peer uses it that may keep no table ----------------------------------------

# The Huffman code is canonical: the codes of a length go to these characters in their order, and each
# length's first code follows from the one before. Longer codes are for what headers do not hold.
_CODED = {
    5: "012aceiost",
    6: " %-./3456789=A_bdfghlmnpru",
    7: ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: "&*,;XZ",
    10: '!"()?',
    11: "'+|",
    12: "#>",
    13: "\0$@[]~",
    14: "^}",
    15: "<`{",
}


def _codes() -> dict[tuple[int, int], str]:
    table, code = {}, 0
    for length in range(5, 16):
        for char in _CODED.get(length, ""):
            table[length, code] = char
            code += 1
        code <<= 1
    return table


def _header_fields(block: bytes) -> Iterator[tuple[str, str]]:
    """Yield the fields that are spelled out; those of the static table tell nothing of interest."""
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0x80:  # name and value from a table
            _, at = _integer(block, at, 7)
        elif first & 0xE0 == 0x20:  # a new size of the table
            _, at = _integer(block, at, 5)
        else:
            index, at = _integer(block, at, 6 if first & 0x40 else 4)
            name = ""
            if not index:
                name, at = _text(block, at)
            value, at = _text(block, at)
            yield name, value


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    limit = (1 << bits) - 1
    value, at, shift = block[at] & limit, at + 1, 0
    if value < limit:
        return value, at
    while at < len(block):
        value += (block[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not block[at - 1] & 0x80:
            break
    return value, at


def _text(block: bytes, at: int) -> tuple[str, int]:
    if at >= len(block):
        raise GrpcError(Status.UNKNOWN, "the answer's headers are cut off")
    is_coded = block[at] & 0x80
    length, at = _integer(block, at, 7)
    raw = block[at : at + length]
    return (_decoded(raw) if is_coded else raw.decode("latin-1")), at + length


def _decoded(raw: bytes) -> str:
    table, text, code, length = _codes(), [], 0, 0
    for bit in "".join(f"{byte:08b}" for byte in raw):
        code, length = code << 1 | int(bit), length + 1
        if (length, code) in table:
            text.append(table[length, code])
            code = length = 0
    return "".join(text)  # what is left is padding
