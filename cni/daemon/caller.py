"""Caller: a client at the other end of a connection, from its greeting to its answer."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from cni.daemon import wire
from cni.daemon.job import Job
from cni.protocol.plugin import Reply

_CREDENTIALS = struct.Struct("3i")  # process, user and group ID
_PEEKED = 1 << 16  # bytes; no configuration that anybody wrote is longer


class NotAllowed(Exception):
    """The peer is not root."""


@dataclass
class Caller:
    """A connection; what it sent as an open file belongs to it."""

    connection: socket.socket
    pid: int = 0
    fds: list[int] = field(default_factory=list)
    _until: float = 0.0  # by the loop's clock

    @classmethod
    def of(cls, connection: socket.socket) -> Caller:
        """Look who is at the other end.

        Raises:
            NotAllowed: it is not this daemon's own user, which is root.
        """
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(told)
        if uid != os.geteuid():
            raise NotAllowed(f"user {uid}, process {pid}")
        return cls(connection, pid)

    def greet(self) -> None:
        self.connection.send(wire.GREETING)  # a new connection has room for it

    async def call(self, defaults: Mapping[str, str], seconds: float) -> Job:
        """Read a call up to its stdin; `defaults` are variables that it has if the caller sends none.

        Raises:
            Malformed: it is not of our protocol.
            TimeoutError: not all of it came in time.
            EOFError: the caller is gone.
        """
        self._until = asyncio.get_running_loop().time() + seconds
        header = await self._header()
        told = await self._exactly(header.name + header.environment)
        name = os.fsdecode(told[: header.name])
        environment = wire.parse_environment(told[header.name :])
        return Job(
            plugin_type=name.rpartition("/")[2],
            executable=name,
            environment={**defaults, **environment},
            stdin=None,
            stdin_size=header.stdin,
            sandbox=header.sandbox,
        )

    async def _header(self) -> wire.Header:
        try:
            first = self._first()
        except BlockingIOError:
            await self._readable()
            first = self._first()
        if not first:
            raise EOFError
        first += await self._exactly(wire.FIRST - len(first))
        return wire.Header.parse(first + await self._exactly(wire.header_size(first) - wire.FIRST))

    def _first(self) -> bytes:
        """Read how a header begins, and the open file that comes with that."""
        fds = array.array("i")
        first, control, _, _ = self.connection.recvmsg(
            wire.FIRST, socket.CMSG_SPACE(fds.itemsize), socket.MSG_CMSG_CLOEXEC
        )
        for _, _, data in control:
            fds.frombytes(data)
        self.fds = fds.tolist()
        return first

    async def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            try:
                got = self.connection.recv_into(view)
            except BlockingIOError:
                await self._readable()
                continue
            if not got:
                raise EOFError
            view = view[got:]
        return bytes(data)

    async def _readable(self) -> None:
        """Wait until more has come; clients send all at once, so that most calls need no time limit."""
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        loop.add_reader(self.connection, came.set)
        try:
            async with asyncio.timeout_at(self._until):
                await came.wait()
        finally:
            loop.remove_reader(self.connection)

    def peek(self) -> bytes:
        """Return what has come of stdin, and leave it for the worker: refusals are in its cniVersion."""
        with suppress(OSError):
            return self.connection.recv(_PEEKED, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return b""

    async def answer(self, reply: Reply) -> None:
        """Answer in a worker's stead; a caller that is gone needs none."""
        self.connection.setblocking(False)
        with suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(self.connection, wire.reply(reply))

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.connection.close()
