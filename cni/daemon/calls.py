"""Calls carried out: a turn is waited for, a worker does the work, a time limit ends what hangs."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cni.daemon.call import TRACE, Call, CallerGone
from cni.daemon.caller import Caller
from cni.daemon.hangups import Hangups
from cni.daemon.job import Report
from cni.daemon.log import log
from cni.daemon.metrics import Metrics
from cni.daemon.turns import Turns
from cni.daemon.worker import CALLER_GONE, TIME_LIMIT
from cni.daemon.workers import Process, WorkerLost, Workers
from cni.protocol.errors import CniError, Code
from cni.protocol.plugin import Reply, failed


@dataclass(frozen=True)
class Calls:
    """Carries calls out and tells how each of them ended."""

    turns: Turns
    workers: Workers
    hangups: Hangups
    undo_limit: float  # seconds for a call to undo what it did, before its worker is killed
    metrics: Metrics

    async def carry_out(self, call: Call, caller: Caller | None = None) -> Report:
        """Let a call have its turn, and answer its caller, if any; never raises for what it meets."""
        try:
            async with self.turns.of(call):
                call.began = time.monotonic()
                report = await self._work(call, caller)
        except CallerGone:
            report = Report(1, 0, "its caller is gone; it was not begun", "", delivered=False)
        except CniError as error:
            report = await self._refuse(call, caller, error)
        except OSError as error:  # no more processes, memory or files
            refusal = not_begun(call, f"No worker could be started: {error.strerror}.")
            report = await self._refuse(call, caller, refusal)
        return self._ended(call, report)

    async def refuse(self, call: Call, caller: Caller, error: CniError) -> Report:
        """Answer a call that is not to have a turn at all."""
        return self._ended(call, await self._refuse(call, caller, error))

    def _ended(self, call: Call, report: Report) -> Report:
        self._log(call, report)
        self.metrics.ended(call, report)
        return report

    async def _work(self, call: Call, caller: Caller | None) -> Report:
        worker = self.workers.take()
        fds = [caller.connection.fileno(), *caller.fds] if caller else []
        if caller:
            call.seen = caller.peek()
            caller.connection.setblocking(True)  # the worker's descriptor shares this with ours
        job = call.job._replace(environment={**call.job.environment, TRACE: call.trace})
        try:
            reported = worker.begin(job, fds)
            with call.ending(lambda: self._stop(call, worker)):
                report = await reported
        except WorkerLost:
            worker.kill()
            self.metrics.crashed()
            how = await worker.death()
            return await self._refuse(call, caller, _lost(call, how))
        self.workers.give_back(worker)
        return report

    def _stop(self, call: Call, worker: Process) -> None:
        worker.stop(CALLER_GONE if call.is_given_up else TIME_LIMIT, self.undo_limit)

    async def _refuse(self, call: Call, caller: Caller | None, error: CniError) -> Report:
        """Answer a call that no worker answers."""
        call.seen = call.seen or (caller.peek() if caller else b"")
        reply: Reply = failed(error, call.request, call.version)
        if caller:
            await caller.answer(reply)
        return Report(1, int(error.code), error.msg, error.details, delivered=caller is not None)

    def _log(self, call: Call, report: Report) -> None:
        now = time.monotonic()
        began = call.began or now
        request = call.request
        log(
            "call",
            "info" if report.is_success else "warning",
            trace=call.trace,
            verb=call.verb,
            plugin=call.job.plugin_type,
            attachment=request.attachment,
            container=request.container_id,
            status=report.status,
            code=report.code or None,
            msg=report.msg,
            notes=report.notes.strip(),
            steps=[f"{verb} {plugin} {seconds * 1000:.1f} ms" for verb, plugin, seconds in report.steps]
            or None,
            waited_ms=round((began - call.arrived) * 1000, 1),
            worked_ms=round((now - began) * 1000, 1),
        )


def not_begun(call: Call, why: str) -> CniError:
    """Return the error of a call for which this machine had no more processes, memory or files."""
    return call.refusal(f"{call.verb} could not be begun", why, "Look at the daemon's limits.")


def _lost(call: Call, how: str) -> CniError:
    return CniError(
        f"{call.verb} ended without an answer: its worker process was {how}"
        if how.startswith("killed")
        else f"{call.verb} ended without an answer: its worker process ended with {how}",
        why="What it had done is given back by DEL, or by the next GC.",
        fix="Look at the daemon's log for it, then call DEL before the same call again.",
        code=Code.NOT_AVAILABLE if call.verb == "STATUS" else Code.TRY_AGAIN_LATER,
    )
