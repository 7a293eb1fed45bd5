"""One HTTP/1.1 connection whose every wait ends at a deadline.

h11 turns bytes into events and waits for nothing, so time is kept here: a socket's own time-out begins
anew with each byte, and no limit for a whole answer can be made of it.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h11

from cni.kube.connect import Lost, Mistrusted, in_words
from cni.kube.deadline import Deadline

MAX_ANSWER = 64 << 20  # bytes; a page of 500 pods has some 5 MB
_CHUNK = 256 << 10  # bytes


class NotHttp(Exception):
    """What was answered is not HTTP, or more than we take."""


@dataclass(frozen=True)
class Request:
    method: str
    target: str  # path and query
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


class Connection:
    """A connection to the API server, for one request after another."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._http = h11.Connection(h11.CLIENT)
        self._is_used = False
        self._made_at = self._used_at = time.monotonic()
        self._has_answered = False  # the request under way
        self._has_ended = False

    def is_alive(self) -> bool:
        """Whether another request can be sent, as far as can be told without sending one."""
        if self._http.our_state is not h11.IDLE:
            return False
        self._sock.settimeout(0)
        try:
            # An end, or an answer that nobody asked for.
            self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        return False

    def is_fresh(self, idle: float, age: float) -> bool:
        """Whether it was used less than `idle` seconds ago, and made less than `age` seconds ago."""
        now = time.monotonic()
        return now - self._used_at < idle and now - self._made_at < age

    def exchange(self, request: Request, deadline: Deadline) -> Response:
        """Send a request and return the whole answer.

        Raises:
            Lost: it did not come in time, or the connection broke.
            Mistrusted: the server did not accept our certificate.
            NotHttp: the answer is something else.
        """
        self._has_answered = False
        try:
            self._send(self._encoded(request), deadline)
            response = self._received(deadline)
            if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            if self._has_ended:
                raise self._lost("it closed the connection in the middle of its answer") from error
            raise NotHttp(f"what it answers is not HTTP ({error})") from error
        self._is_used, self._used_at = True, time.monotonic()
        return response

    def close(self) -> None:
        self._sock.close()

    def _encoded(self, request: Request) -> bytes:
        headers = [*request.headers.items()]
        headers += [("Content-Length", str(len(request.body)))] if request.body else []
        events: list[Any] = [h11.Request(method=request.method, target=request.target, headers=headers)]
        events += [h11.Data(data=request.body)] if request.body else []
        # In one piece: a packet for headers and another for the body would wait for each other.
        return b"".join(self._http.send(event) or b"" for event in [*events, h11.EndOfMessage()])

    def _send(self, data: bytes, deadline: Deadline) -> None:
        """Send a whole request. A server that stops reading may have answered already: then go on."""
        view = memoryview(data)
        while view:
            try:
                self._sock.settimeout(_time_left(deadline, is_sent=False))
                view = view[self._sock.send(view) :]
            except TimeoutError as error:
                raise Lost("it did not take the request in time", is_sent=False) from error
            except OSError as error:
                self._look_for_early_answer(error, deadline)
                return

    def _look_for_early_answer(self, error: OSError, deadline: Deadline) -> None:
        try:
            data = self._recv(deadline)
        except Lost:
            data = b""
        if not data:
            raise Lost(in_words(error), is_sent=False, is_stale=self._is_used) from error
        self._http.receive_data(data)

    def _received(self, deadline: Deadline) -> Response:
        status, headers, parts, size = 0, {}, list[bytes](), 0
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(self._recv_or_lost(deadline))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
                size += len(event.data)
                if size > MAX_ANSWER:
                    raise NotHttp(f"the answer is longer than {MAX_ANSWER >> 20} MiB")
            elif isinstance(event, h11.EndOfMessage):
                return Response(status, headers, b"".join(parts))

    def _recv_or_lost(self, deadline: Deadline) -> bytes:
        data = self._recv(deadline)
        if not data and not self._has_answered:
            raise self._lost("it closed the connection")
        # Without a length the end of the connection is the end of the answer: h11 knows.
        self._has_ended = not data
        self._has_answered = True
        return data

    def _recv(self, deadline: Deadline) -> bytes:
        try:
            self._sock.settimeout(_time_left(deadline, is_sent=True))
            return self._sock.recv(_CHUNK)
        except TimeoutError as error:
            raise Lost(self._silence(), is_sent=True) from error
        except OSError as error:
            # With TLS 1.3 the server's word on our certificate comes only now.
            if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "") and not self._is_used:
                raise Mistrusted(in_words(error)) from error
            raise self._lost(in_words(error)) from error

    def _lost(self, cause: str) -> Lost:
        return Lost(cause, is_sent=True, is_stale=self._is_used and not self._has_answered)

    def _silence(self) -> str:
        return "the answer did not end in time" if self._has_answered else "no answer came in time"


def _time_left(deadline: Deadline, *, is_sent: bool) -> float:
    left = deadline.left()
    if not left:
        raise Lost("no answer came in time", is_sent=is_sent)
    return left
