"""rtnetlink messages and the socket that carries them; what they mean is for `links`.

A module of our own, because the one well-kept library for this takes 200 ms of CPU to import, most
of the time that an ADD may take (see docs/architecture.md). The tests hold its encoding against
that library's.

Source: rtnetlink(7), netlink(7), the kernel's `include/uapi/linux/{netlink,rtnetlink}.h`.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x200, 0x400, 0x800
NLM_F_DUMP = 0x300
_NLM_F_CAPPED, _NLM_F_ACK_TLVS, _NLM_F_DUMP_INTR = 0x100, 0x200, 0x10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 1, 10, 11, 12
_NLA_F_NESTED, _NLA_TYPE_MASK = 0x8000, 0x3FFF

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
# bytes; the kernel fills dumps up to 32 KiB, but the VFs of one card may take an attribute of 64
_BUFFER = 1 << 17
_ANSWER_SECONDS = 30  # the RTNL lock may be held for long on a busy node
_AT_ONCE = 64  # messages; the acknowledgements of some 250 are more than a socket holds
_DUMP_TRIES = 5  # a dump that changes overlap is repeated, as Go's library does

Attributes = dict[int, bytes]


class NetlinkError(OSError):
    """The kernel's refusal: an errno and, where it gives one, its own sentence."""

    def __init__(self, number: int, sentence: str = "") -> None:
        super().__init__(number, sentence or os.strerror(number))
        self.sentence = sentence
        self.position = 0  # which of the messages sent together was refused, from 0


@dataclass(frozen=True)
class Message:
    """One rtnetlink message: type, flags, the family header and the attributes after it."""

    type: int
    flags: int
    body: bytes

    def encoded(self, sequence: int) -> bytes:
        length = _HEADER.size + len(self.body)
        return _HEADER.pack(length, self.type, self.flags | NLM_F_REQUEST, sequence, 0) + self.body


def attribute(kind: int, value: bytes | str | int) -> bytes:
    """Encode an attribute: a text gets its final NUL, a number takes 32 bits."""
    if isinstance(value, str):
        value = os.fsencode(value) + b"\0"
    elif isinstance(value, int):
        value = struct.pack("=I", value)
    padding = -len(value) % 4
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(padding)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | _NLA_F_NESTED, b"".join(attributes))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Decode a run of attributes: type without flags, and value."""
    header, unpack = _ATTRIBUTE.size, _ATTRIBUTE.unpack_from  # a link has fifty
    offset, last = 0, len(data) - header
    while offset <= last:
        length, kind = unpack(data, offset)
        if length < header:
            return
        yield kind & _NLA_TYPE_MASK, data[offset + header : offset + length]
        offset += length + (-length % 4)


def text(value: bytes | None) -> str:
    """Decode a text attribute, or none."""
    return (value or b"").rstrip(b"\0").decode("utf-8", "surrogateescape")


def number(value: bytes | None) -> int:
    """Decode a 32-bit attribute; 0 for none."""
    return struct.unpack("=I", value[:4])[0] if value and len(value) >= 4 else 0


class Netlink:
    """A NETLINK_ROUTE socket; it belongs to the namespace where `endpoint` was opened."""

    def __init__(self, endpoint: socket.socket) -> None:
        self._socket = endpoint
        self._sequence = 0
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            endpoint.setsockopt(_SOL_NETLINK, option, 1)
        with suppress(OSError):  # dumps of one link's things; before Linux 4.20 they are of all links'
            endpoint.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        # The kernel's own timeout: Python's costs a poll before every call.
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _ANSWER_SECONDS, 0))
        endpoint.bind((0, 0))  # a socket without a port gets no events

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._socket.close()

    def subscribe(self, group: int) -> None:
        """Receive the events of a multicast group, one of RTNLGRP_…, from now on."""
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def change(self, *messages: Message) -> None:
        """Send messages and wait until each is acknowledged: one round trip for up to 64 of them.

        Later messages of a round trip are carried out though an earlier one is refused.

        Raises:
            NetlinkError: the first refusal.
        """
        for start in range(0, len(messages), _AT_ONCE):
            try:
                self._change_at_once(*messages[start : start + _AT_ONCE])
            except NetlinkError as error:
                error.position += start
                raise

    def _change_at_once(self, *messages: Message) -> None:
        first = self._sequence + 1
        self._send(*(Message(each.type, each.flags | NLM_F_ACK, each.body) for each in messages))
        waiting = set(range(first, self._sequence + 1))
        refusals: dict[int, NetlinkError] = {}
        while waiting:
            for kind, _, sequence, data in self._receive():
                if sequence not in waiting or kind != _NLMSG_ERROR:
                    continue
                waiting.discard(sequence)
                refusal = _refusal(data)
                if refusal:
                    refusal.position = sequence - first
                    refusals[sequence] = refusal
        if refusals:
            raise refusals[min(refusals)]

    def get(self, message: Message) -> bytes:
        """Return the body of the one message that answers.

        Raises:
            NetlinkError: the kernel's refusal, ENODEV where there is no such object.
        """
        self._send(message)
        while True:
            for kind, _, sequence, data in self._receive():
                if sequence != self._sequence:
                    continue
                refusal = _refusal(data) if kind == _NLMSG_ERROR else None
                if refusal:
                    raise refusal
                return data

    def dump(self, message: Message) -> list[bytes]:
        """Return the bodies of all messages that answer a dump.

        Raises:
            NetlinkError: the kernel's refusal, ENODEV where the link that it is about is gone.
        """
        for _ in range(_DUMP_TRIES):
            bodies, was_interrupted = self._dump_once(message)
            if not was_interrupted:
                break
        return bodies

    def events(self, seconds: float) -> list[tuple[int, bytes]]:
        """Return the types and bodies of events, empty if none comes within that time."""
        if not select.select([self._socket], [], [], max(seconds, 0))[0]:
            return []
        return [(kind, data) for kind, _, _, data in self._receive()]

    def _dump_once(self, message: Message) -> tuple[list[bytes], bool]:
        self._send(Message(message.type, message.flags | NLM_F_DUMP, message.body))
        bodies: list[bytes] = []
        was_interrupted = False
        while True:
            for kind, flags, sequence, data in self._receive():
                if sequence != self._sequence:
                    continue
                was_interrupted |= bool(flags & _NLM_F_DUMP_INTR)
                if kind in (_NLMSG_ERROR, _NLMSG_DONE) and (refusal := _refusal(data)):
                    raise refusal
                if kind == _NLMSG_DONE:
                    return bodies, was_interrupted
                bodies.append(data)

    def _send(self, *messages: Message) -> None:
        encoded = []
        for message in messages:
            self._sequence += 1
            encoded.append(message.encoded(self._sequence))
        self._socket.sendto(b"".join(encoded), (0, 0))

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield type, flags, sequence and body of each message in one datagram."""
        try:
            data, (port, _) = self._socket.recvfrom(_BUFFER)
        except BlockingIOError as error:
            raise NetlinkError(errno.ETIMEDOUT, "the kernel did not answer") from error
        if port != 0:  # only the kernel's word counts
            return
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            if length < _HEADER.size:
                return
            body = data[offset + _HEADER.size : offset + length]
            yield kind, flags, sequence, _trimmed(kind, flags, body)
            offset += length + (-length % 4)


def _trimmed(kind: int, flags: int, body: bytes) -> bytes:
    """Cut what an acknowledgement repeats, so that the kernel's sentence follows the errno."""
    if kind != _NLMSG_ERROR or len(body) < 4 + _HEADER.size:
        return body
    (length,) = struct.unpack_from("=I", body, 4)
    repeated = _HEADER.size if flags & _NLM_F_CAPPED else length + (-length % 4)
    return body[:4] + (body[4 + repeated :] if flags & _NLM_F_ACK_TLVS else b"")


def _refusal(data: bytes) -> NetlinkError | None:
    (number,) = struct.unpack_from("=i", data)
    if number == 0:
        return None
    told = dict(attributes(data[4:])).get(_NLMSGERR_ATTR_MSG, b"")
    return NetlinkError(-number, told.rstrip(b"\0").decode("utf-8", "replace"))
