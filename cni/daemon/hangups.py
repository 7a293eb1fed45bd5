"""Hang-ups: callers that are gone, or that ask for an end by closing their sending side."""

from __future__ import annotations

import asyncio
import select
import socket
from contextlib import suppress

_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Hangups:
    """Watches connections for their end only; what may be read from them is left for a worker."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._futures: dict[int, asyncio.Future[None]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._notice)

    def watch(self, connection: socket.socket) -> asyncio.Future[None]:
        """Return what is done when the caller hangs up."""
        future = self._loop.create_future()
        self._futures[connection.fileno()] = future
        self._epoll.register(connection, _GONE)
        return future

    def forget(self, connection: socket.socket) -> None:
        if self._futures.pop(connection.fileno(), None):
            with suppress(FileNotFoundError):
                self._epoll.unregister(connection)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _notice(self) -> None:
        for number, _ in self._epoll.poll(0):
            self._epoll.unregister(number)
            future = self._futures[number]
            if not future.done():
                future.set_result(None)
