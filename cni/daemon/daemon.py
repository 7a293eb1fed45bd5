"""The node daemon: from its socket to its end."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from cni.daemon import orphans, systemd
from cni.daemon.call import TAKING, TRACE, Call
from cni.daemon.caller import Caller, NotAllowed
from cni.daemon.calls import Calls, not_begun
from cni.daemon.hangups import Hangups
from cni.daemon.http import Page, serve
from cni.daemon.job import Job
from cni.daemon.log import log
from cni.daemon.metrics import CONTENT_TYPE, Metrics
from cni.daemon.queue import Queue
from cni.daemon.replay import Replay
from cni.daemon.settings import Settings
from cni.daemon.turns import Turns
from cni.daemon.wire import Malformed
from cni.daemon.worker import DAEMON_STOPS
from cni.daemon.workers import Workers
from cni.host.mounts import Mounts
from cni.protocol import registry
from cni.protocol.errors import CniError, Code, InvalidConfig

_HEADER_SECONDS = 10  # for a caller to say what it wants
_IDLE_WORKERS = 3  # each holds some 9 MiB of its own
_ACCEPT_SECONDS = 0.2  # until it is tried again to take a connection


class Daemon:
    """One run of `podrail daemon`, inside a running event loop."""

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        listening: socket.socket,
        lock: int,
        mounts: Mounts | None,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._defaults = settings.defaults
        self._listening = listening
        self._mounts = mounts
        self._stopping = asyncio.Event()
        self._has_failed = False
        self._callers: set[asyncio.Task[None]] = set()
        self._settling: set[Call] = set()  # they wait for kept DELs, and then for their turn
        self._workers = Workers(mounts, _IDLE_WORKERS, settings.calls_per_worker, inherited=(lock,))
        self._turns = Turns(settings.concurrency, settings.queue)
        self._hangups = Hangups()
        self._metrics = Metrics()
        self._calls = Calls(self._turns, self._workers, self._hangups, settings.undo_limit, self._metrics)
        queue = Queue(settings.state / "queue")
        places = asyncio.Semaphore(settings.concurrency)
        self._replay = Replay(queue, self._calls, self._own_call, settings.defaults, settings.retry, places)

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT, then let calls end; return the exit status."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._workers.reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        self._workers.prepare()
        showing = await self._show()
        accepting = asyncio.create_task(self._accept())
        starting = asyncio.create_task(self._start())
        await self._stopping.wait()
        systemd.notify(self._environment, "STOPPING=1")
        log("stopping", running=self._turns.running, waiting=self._turns.waiting)
        accepting.cancel()
        starting.cancel()
        self._listening.close()
        await self._let_calls_end()
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)  # workers that end from now on are nobody's news
        self._workers.close()
        if showing:
            showing.close()
        return int(self._has_failed)

    async def _start(self) -> None:
        """Bring to its end what is left from before, then take ADD and GC, then look after the queue."""
        try:
            await self._settle_what_was_left()
        except OSError as error:
            # An ADD could meet what a DEL that cannot be read is to give back. Another start may do better.
            log("cannot start", "error", msg=str(error))
            self._has_failed = True
            self._stopping.set()
            return
        while True:
            await asyncio.sleep(self._settings.retry)
            try:
                await self._replay.settle()
                await self._replay.repair_again()
            except OSError as error:
                log("queue", "error", msg=str(error))

    async def _settle_what_was_left(self) -> None:
        log("started", pid=os.getpid(), socket=str(self._settings.socket), queued=self._replay.left)
        # One that hangs must not keep a node from its pods for longer than a call may take.
        until = time.monotonic() + self._settings.time_limit
        await self._replay.settle(self._settings.time_limit)
        environment = {**self._settings.defaults, "CNI_PATH": self._settings.cni_path}
        repaired = await self._replay.repair(orphans.find(environment, self._mounts), until)
        repaired += self._replay.repair_claims(registry.load_claim_repair()(self._settings.defaults))
        self._turns.open_taking()
        systemd.notify(self._environment, "READY=1")
        log("ready", queued=self._replay.left, repaired=repaired)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listening)
            except OSError as error:  # no more files or memory: who is there already will leave some
                log("not accepting", "error", msg=str(error))
                await asyncio.sleep(_ACCEPT_SECONDS)
                continue
            task = asyncio.create_task(self._serve(connection))
            self._callers.add(task)
            task.add_done_callback(self._callers.discard)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            caller = Caller.of(connection)
        except NotAllowed as error:
            log("refused", "warning", msg=str(error))
            connection.close()
            return
        try:
            with suppress(EOFError, OSError):
                await self._serve_caller(caller)
        finally:
            self._hangups.forget(connection)
            caller.close()

    async def _serve_caller(self, caller: Caller) -> None:
        caller.greet()
        try:
            job = await caller.call(self._defaults, _HEADER_SECONDS)
        except (Malformed, TimeoutError) as error:
            log("refused", "warning", pid=caller.pid, msg=str(error) or "it said nothing")
            return
        call = self._call(job)
        call.gone = self._hangups.watch(caller.connection)
        refusal = self._refusal(call)
        if refusal is None and call.verb in TAKING:
            refusal = await self._settled_before(call)
        if call.verb == "DEL":
            for other in self._settling:
                other.is_overtaken |= other.key == call.key
        if refusal:
            await self._calls.refuse(call, caller, refusal)
            return
        await self._calls.carry_out(call, caller)

    async def _settled_before(self, call: Call) -> CniError | None:
        if len(self._settling) >= self._settings.queue:
            return self._turns.too_many(call, len(self._settling))
        self._settling.add(call)
        try:
            refusal = await self._replay.settle_before(call)
        except OSError as error:  # no more files
            return not_begun(call, f"The queue of DELs cannot be read: {error.strerror}.")
        finally:
            self._settling.discard(call)
        return call.overtaken() if call.is_overtaken else refusal

    def _refusal(self, call: Call) -> CniError | None:
        if not registry.own_type(call.job.plugin_type):
            return InvalidConfig(
                f'"{call.job.plugin_type}" is no plugin of podrail',
                why=f"The client was called as {call.job.executable}.",
                fix=f"Install it under one of these names: {', '.join(registry.TYPES)}.",
            )
        if call.verb == "STATUS" and not self._turns.taking_is_open:
            return CniError(
                "the node daemon is not ready yet",
                why="It brings to an end what was left while it was away.",
                fix="Wait; its log tells what it does.",
                code=Code.NOT_AVAILABLE,
            )
        return None

    def _call(self, job: Job) -> Call:
        trace = job.environment.get(TRACE) or secrets.token_hex(8)
        return Call(trace, job, time.monotonic() + self._settings.time_limit)

    def _own_call(self, job: Job) -> Call:
        environment = {name: value for name, value in job.environment.items() if name != TRACE}
        return self._call(job._replace(environment=environment))

    async def _show(self) -> asyncio.Server | None:
        """Serve metrics and health, where that is asked for."""
        if not self._settings.metrics:
            return None
        self._metrics.gauge("calls_running", "Calls that run now.", lambda: self._turns.running)
        self._metrics.gauge("calls_waiting", "Calls that wait for a turn.", lambda: self._turns.waiting)
        self._metrics.gauge("workers", "Worker processes.", lambda: len(self._workers.living))
        self._metrics.gauge("deletes_queued", "DELs on disk, to be replayed.", lambda: self._replay.left)
        self._metrics.pools(lambda: registry.load_pool_fills()(self._settings.defaults))
        pages = {"/metrics": self._metrics_page, "/healthz": _healthy, "/readyz": self._ready_page}
        return await serve(self._settings.metrics, pages)

    def _metrics_page(self) -> Page:
        return Page("200 OK", self._metrics.text(), CONTENT_TYPE)

    def _ready_page(self) -> Page:
        """Ready means that an ADD would be taken."""
        if self._stopping.is_set() or not self._turns.taking_is_open:
            return Page("503 Service Unavailable", b"not ready\n")
        return Page("200 OK", b"ready\n")

    async def _let_calls_end(self) -> None:
        if not self._turns.taking_is_open:
            self._turns.refuse_waiting(taking_only=True)
        await self._callers_end()
        self._turns.refuse_waiting(taking_only=False)
        for process in self._workers.busy():
            process.tell(DAEMON_STOPS)
        await self._callers_end()

    async def _callers_end(self) -> None:
        if self._callers:
            await asyncio.wait(self._callers, timeout=self._settings.stop_limit)


def _healthy() -> Page:
    """That there is an answer is the health of it."""
    return Page("200 OK", b"ok\n")
