"""The inside of a worker: a process that carries out one call after another.

It is a copy of the daemon with everything imported. A call has it for itself, so that the call can be
ended with it, and what a crash takes along is that call alone.
"""

from __future__ import annotations

import array
import io
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import NoReturn

from cni.daemon import wire
from cni.daemon.job import Job, Orders, Report, job, packed, whole
from cni.host import netns
from cni.host.mounts import Mounts
from cni.protocol.errors import Terminated
from cni.protocol.memory import Memory
from cni.protocol.plugin import Reply, run, stopped
from cni.protocol.request import Request

_MAX_NOTES = 1 << 16  # bytes
_PIECE = 1 << 16  # bytes; few jobs are as long
_DELIVERY_SECONDS = 10  # for a client to take its answer
# What the daemon tells by a signal, and what the answer then says that it was.
CALLER_GONE, TIME_LIMIT, DAEMON_STOPS = signal.SIGHUP, signal.SIGINT, signal.SIGTERM
_REASONS = {
    CALLER_GONE: "its caller, who is gone",
    TIME_LIMIT: "the node daemon's time limit",
    DAEMON_STOPS: "the end of the node daemon",
}


class Worker:
    """Takes jobs from a socket until it closes."""

    def __init__(self, daemon: socket.socket, orders: Orders, mounts: Mounts | None) -> None:
        self._daemon = daemon
        self._orders = orders
        self._mounts = mounts
        self._memory = Memory()
        self._calls = 0
        self._has_call = False
        self._is_acting = False
        self._home = _own_namespace()

    def serve(self) -> NoReturn:
        for number in _REASONS:
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, tuple(_REASONS))
        with suppress(EOFError, ConnectionError):
            while _own_namespace() == self._home:  # else a call lost its way back
                told, fds = self._next_job()
                self._has_call = True
                self._calls += 1
                self._carry_out(told, fds)
                self._has_call = False
                signal.pthread_sigmask(signal.SIG_UNBLOCK, tuple(_REASONS))
        os._exit(0)

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == DAEMON_STOPS:  # from the kernel too, when the daemon is killed
            if self._is_acting:
                self._stop(DAEMON_STOPS)
            if not self._has_call:
                os._exit(0)
        self._heed_orders()

    def _heed_orders(self) -> None:
        """Stop the call if it is to; a signal that came before it began, or for the last one, did nothing."""
        if self._is_acting and (number := self._orders.stopping(self._calls)):
            self._stop(number)

    def _stop(self, number: signal.Signals) -> NoReturn:
        self._is_acting = False  # undoing must not be undone
        raise Terminated(_REASONS[number])

    def _next_job(self) -> tuple[Job, list[int]]:
        fds = array.array("i")
        data, control, _, _ = self._daemon.recvmsg(
            _PIECE, socket.CMSG_SPACE(2 * fds.itemsize), socket.MSG_CMSG_CLOEXEC
        )
        for _, _, rights in control:
            fds.frombytes(rights)
        while (told := whole(data)) is None:  # nothing follows a job before its report
            piece = self._daemon.recv(_PIECE)
            if not piece:
                raise EOFError
            data += piece
        return job(told), fds.tolist()

    def _carry_out(self, told: Job, fds: list[int]) -> None:
        client = socket.socket(fileno=fds.pop(0)) if told.stdin is None else None
        notes = io.StringIO()
        try:
            with redirect_stderr(notes), self._sandbox_opened(told, fds):
                request, reply = self._reply(told, client)
                # Made before the answer is given: who has that hangs up, and the daemon would look why.
                report = _report(request, reply, notes, delivered=True)
                if client and not _is_delivered(client, reply, notes):
                    if request.command == "ADD" and reply.exit_status == 0:
                        # Nobody heard of the attachment, so nobody may ever call its DEL.
                        run(told.plugin_type, request.with_variables(CNI_COMMAND="DEL"))
                    report = _report(request, reply, notes, delivered=False)
                self._daemon.sendall(report)
        finally:
            for fd in fds:
                os.close(fd)
            if client:
                client.close()

    def _reply(self, told: Job, client: socket.socket | None) -> tuple[Request, Reply]:
        command = told.environment.get("CNI_COMMAND", "")
        request = Request(command, told.environment, b"", told.executable, self._mounts, self._memory)
        try:
            self._is_acting = True
            self._heed_orders()
            stdin = _exactly(client, told.stdin_size) if client else told.stdin or b""
            request = request.with_stdin(stdin)
            reply = run(told.plugin_type, request, precondition=netns.refuse_own_namespace)
            self._is_acting = False
        except Terminated as error:
            reply = stopped(request, error)
        except (EOFError, OSError) as error:
            self._is_acting = False
            reply = stopped(request, Terminated(f"its caller, who sent no more: {error}"))
        return request, reply

    @contextmanager
    def _sandbox_opened(self, told: Job, fds: list[int]) -> Iterator[None]:
        """Within the block, CNI_NETNS is what the client opened, whatever is at that path here."""
        given = told.environment.get("CNI_NETNS", "")

        def opener(path: str, flags: int) -> int:
            if path == given and told.sandbox < 0:
                raise OSError(-told.sandbox, os.strerror(-told.sandbox), path)
            if path == given and fds:
                return os.dup(fds[0])
            return self._mounts.open(path, flags) if self._mounts else os.open(path, flags)

        with netns.opening_by(opener):
            yield


def _is_delivered(client: socket.socket, reply: Reply, notes: io.StringIO) -> bool:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _DELIVERY_SECONDS, 0))
    try:
        client.sendall(wire.reply(reply, os.fsencode(notes.getvalue()[-_MAX_NOTES:])))
    except OSError as error:
        sys.stderr.write(f"podrail: the answer could not be given: {error}\n")
        return False
    return True


def _report(request: Request, reply: Reply, notes: io.StringIO, *, delivered: bool) -> bytes:
    told, steps = notes.getvalue()[-_MAX_NOTES:], tuple(request.steps)
    return packed(Report(reply.exit_status, *_told_failure(reply), told, delivered, steps))


def _own_namespace() -> tuple[int, int]:
    found = os.stat("/proc/thread-self/ns/net")  # noqa: PTH116  # before each call
    return found.st_dev, found.st_ino


def _exactly(source: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        got = source.recv_into(view)
        if not got:
            raise EOFError("the connection closed early")
        view = view[got:]
    return bytes(data)


def _told_failure(reply: Reply) -> tuple[int, str]:
    if reply.exit_status == 0:
        return 0, ""
    error = json.loads(reply.stdout)
    return int(error["code"]), str(error["msg"])
