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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from cni.daemon import worker
from cni.daemon.job import LENGTH, Job, Report, packed, report
from cni.host.mounts import Mounts

_DEATH_SECONDS = 5
_PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class WorkerLost(Exception):
    """A worker ended before its call did: it crashed, or was killed for being too slow."""


@dataclass
class Process:
    """The daemon's end of one worker."""

    pid: int
    socket: socket.socket
    ended: asyncio.Future[str]  # how it ended, once it has
    calls: int = 0

    async def call(self, job: Job, fds: Sequence[int]) -> Report:
        """Let the worker carry out a job.

        Raises:
            WorkerLost: it ended before it could tell how.
        """
        loop = asyncio.get_running_loop()
        self.calls += 1
        try:
            data = packed(job)
            rights = array.array("i", fds)
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if fds else []
            sent = self.socket.sendmsg([data], ancillary)
            if sent < len(data):
                await loop.sock_sendall(self.socket, data[sent:])
            (size,) = LENGTH.unpack(await self._exactly(LENGTH.size))
            return report(await self._exactly(size))
        except (EOFError, OSError) as error:
            raise WorkerLost(str(error)) from error

    async def _exactly(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = b""
        while len(data) < size:
            piece = await loop.sock_recv(self.socket, size - len(data))
            if not piece:
                raise EOFError("it closed its socket")
            data += piece
        return data

    def tell(self, number: signal.Signals) -> None:
        """Send a signal; what the worker makes of it, see `worker`."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the worker with all that its call started."""
        for pid in _processes_of_session(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.tell(signal.SIGKILL)
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
    keep: int  # how many may idle
    calls_each: int  # before one is replaced, lest something grows in it for ever
    inherited: Sequence[int] = ()  # files that a worker holds open as long as it lives
    idle: list[Process] = field(default_factory=list)
    living: dict[int, Process] = field(default_factory=dict)  # by process ID

    def take(self) -> Process:
        """Return a worker that waits for a call, the one that did so last."""
        return self.idle.pop() if self.idle else self._fork()

    def give_back(self, process: Process) -> None:
        """Let a worker wait for its next call, or end it if there are enough or it has served long."""
        if process.calls < self.calls_each and len(self.idle) < self.keep and not process.ended.done():
            self.idle.append(process)
        else:
            process.socket.close()  # which it takes for the end

    def busy(self) -> list[Process]:
        return [process for process in self.living.values() if process not in self.idle]

    def prepare(self) -> None:
        """Fork workers before they are needed."""
        while len(self.idle) < self.keep:
            self.idle.append(self._fork())

    def close(self) -> None:
        """End the workers that wait."""
        while self.idle:
            self.idle.pop().socket.close()

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
            self._be_a_worker(theirs, parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        process = Process(pid, ours, asyncio.get_running_loop().create_future())
        self.living[pid] = process
        return process

    def _be_a_worker(self, daemon: socket.socket, parent: int) -> NoReturn:
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
            worker.Worker(daemon, self.mounts).serve()
        finally:
            os._exit(1)


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
