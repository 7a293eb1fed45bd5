"""Workers: processes that are copies of the daemon, kept for the next call, replaced when they fail.

What was measured of this and of the other ways, a thread or a fresh process per call, is in
docs/architecture.md.
"""

from __future__ import annotations

import array
import asyncio
import ctypes
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from cni.daemon import worker
from cni.daemon.job import Job, Orders, Report, packed, report, whole
from cni.host.mounts import Mounts

_DEATH_SECONDS = 5
_IDLE_SECONDS = 10
_PIECE = 1 << 16  # bytes; few reports are as long
_PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class WorkerLost(Exception):
    """A worker ended before its call did: it crashed, or was killed for being too slow."""


@dataclass(eq=False)
class Process:
    """The daemon's end of one worker."""

    pid: int
    socket: socket.socket
    orders: Orders
    ended: asyncio.Future[str]  # how it ended, once it has
    calls: int = 0
    idle_since: float = 0.0  # by the monotonic clock
    _reported: asyncio.Future[Report] | None = None  # of the call that it has
    _come: bytes = b""  # of its report
    _unsent: bytes = b""  # of its job

    def __post_init__(self) -> None:
        self._loop = self.ended.get_loop()
        self._loop.add_reader(self.socket, self._read)

    def begin(self, job: Job, fds: Sequence[int]) -> asyncio.Future[Report]:
        """Let the worker carry out a job; WorkerLost comes of it if it ends before it could tell how."""
        self.calls += 1
        self._reported = reported = self._loop.create_future()
        data = packed(job)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._unsent = data[self.socket.sendmsg([data], rights) :]
        except OSError as error:
            self._lose(str(error))
        if self._unsent:
            self._loop.add_writer(self.socket, self._send)
        return reported

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            self._unsent = b""
            self._lose(str(error))
        if not self._unsent:
            self._loop.remove_writer(self.socket)

    def _read(self) -> None:
        try:
            piece = self.socket.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._loop.remove_reader(self.socket)
            self._lose("it closed its socket")
            return
        self._come += piece
        told = whole(self._come)
        if told is not None and self._reported:
            self._come = b""
            if not self._reported.done():
                self._reported.set_result(report(told))
            self._reported = None

    def _lose(self, why: str) -> None:
        if self._reported:
            _lose(self._reported, why)
        self._reported = None

    def stop(self, number: signal.Signals, seconds: float) -> None:
        """Ask for an end of the call that it has; it is lost if it does not report within that time."""
        if self._reported is None:
            return
        reported = self._reported
        self.tell(number)
        self._loop.call_later(seconds, _lose, reported, "it did not end when asked")

    def tell(self, number: signal.Signals) -> None:
        """Send a signal about the call that it has; what the worker makes of it, see `worker`."""
        self.orders.stop(self.calls, number)
        if not self.ended.done():  # else its number may be somebody else's by now
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the worker with all that its call started."""
        for pid in _processes_of_session(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.tell(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Close its socket, which it takes for the end."""
        self._reported = None
        self._loop.remove_reader(self.socket)
        self._loop.remove_writer(self.socket)
        self.socket.close()

    async def death(self) -> str:
        """Return how a worker that was killed or crashed ended; the kernel may take its time."""
        try:
            return await asyncio.wait_for(asyncio.shield(self.ended), _DEATH_SECONDS)
        except TimeoutError:
            return "killed, but still held by the kernel"


@dataclass
class Workers:
    """The workers of a daemon; as many as there are calls at once."""

    mounts: Mounts | None
    keep: int  # how many may idle for long
    calls_each: int  # before one is replaced, lest something grows in it for ever
    inherited: Sequence[int] = ()  # files that a worker holds open as long as it lives
    idle: list[Process] = field(default_factory=list)
    living: dict[int, Process] = field(default_factory=dict)  # by process ID
    _ending: asyncio.TimerHandle | None = None  # of those that idle and are too many

    def take(self) -> Process:
        """Return a worker that waits for a call, the one that did so last."""
        return self.idle.pop() if self.idle else self._fork()

    def give_back(self, process: Process) -> None:
        """Let a worker wait for its next call, or end it if it has served long."""
        if process.calls >= self.calls_each or process.ended.done():
            process.close()
            return
        process.idle_since = time.monotonic()
        self.idle.append(process)
        if len(self.idle) > self.keep and self._ending is None:
            self._end_later()

    def _end_later(self) -> None:
        self._ending = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._end_surplus)

    def _end_surplus(self) -> None:
        """End those that a burst needed, when no other has come: a fork costs as much as two calls."""
        self._ending = None
        while len(self.idle) > self.keep and time.monotonic() - self.idle[0].idle_since > _IDLE_SECONDS / 2:
            self.idle.pop(0).close()
        if len(self.idle) > self.keep:
            self._end_later()

    def busy(self) -> list[Process]:
        return [process for process in self.living.values() if process not in self.idle]

    def prepare(self) -> None:
        """Fork workers before they are needed."""
        while len(self.idle) < self.keep:
            self.idle.append(self._fork())

    def close(self) -> None:
        """End the workers that wait."""
        if self._ending:
            self._ending.cancel()
        while self.idle:
            self.idle.pop().close()

    def reap(self) -> None:
        """Take note of processes that have ended; strangers too, for the first process of a container."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            process = self.living.pop(pid, None)
            if process:
                code = os.waitstatus_to_exitcode(status)
                how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
                process.ended.set_result(how)
                with suppress(ValueError):
                    self.idle.remove(process)

    def _fork(self) -> Process:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        orders = Orders()
        # Until its own handlers are set, a signal in the child would be taken for one of the daemon's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            self._be_a_worker(theirs, orders, parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        process = Process(pid, ours, orders, asyncio.get_running_loop().create_future())
        self.living[pid] = process
        return process

    def _be_a_worker(self, daemon: socket.socket, orders: Orders, parent: int) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            # Its session tells what a call started, see `Process.end`.
            os.setsid()
            # A daemon that is killed takes its calls along: they undo what they did.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(0)
            mounts = self.mounts.files if self.mounts else ()
            _close_all_but({0, 1, 2, daemon.fileno(), *self.inherited, *mounts})
            worker.Worker(daemon, orders, self.mounts).serve()
        finally:
            os._exit(1)


def _lose(reported: asyncio.Future[Report], why: str) -> None:
    if not reported.done():
        reported.set_exception(WorkerLost(why))


def _close_all_but(kept: set[int]) -> None:
    """Close what a worker inherited: a client's connection must end with the daemon's end of it."""
    for number in [int(name) for name in os.listdir("/proc/self/fd")]:  # noqa: PTH208
        if number not in kept:
            with suppress(OSError):
                os.close(number)


def _processes_of_session(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ProcessLookupError):
            # The name in brackets may hold anything; the session is the fourth field behind it.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and int(entry.name) != session:
                found.append(int(entry.name))
    return found
