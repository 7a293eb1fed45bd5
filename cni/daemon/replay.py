"""Replay: what happened without a daemon is brought to its end before anything new is taken.

At start the queued DELs are carried out, then what the journal still holds for sandboxes that are
gone; ADD and GC wait for that. Later on a queued DEL is tried again from time to time, and before an
ADD of its attachment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cni.daemon.call import Call
from cni.daemon.calls import Calls
from cni.daemon.job import Job, Report
from cni.daemon.log import log
from cni.daemon.orphans import Orphan
from cni.daemon.queue import Kept, Queue
from cni.daemon.wire import Malformed
from cni.protocol.errors import CniError, Code
from cni.protocol.request import Request

# What the same DEL will be answered however often it comes.
_FINAL = (Code.INCOMPATIBLE_VERSION, Code.INVALID_ENVIRONMENT, Code.DECODING_FAILURE)
_LONGEST_WAIT = 600.0  # seconds between tries of one


@dataclass(frozen=True)
class _Tried:
    """When a queued DEL that has failed is to be tried again, by the monotonic clock."""

    wait: float  # seconds
    until: float

    @classmethod
    def after(cls, earlier: _Tried | None, first: float) -> _Tried:
        wait = min(2 * earlier.wait, _LONGEST_WAIT) if earlier else first
        return cls(wait, time.monotonic() + wait)


@dataclass
class Replay:
    """Calls that the daemon makes by itself."""

    queue: Queue
    calls: Calls
    new_call: Callable[[Job], Call]
    defaults: Mapping[str, str]
    retry: float  # seconds until what failed is tried again; they double
    places: asyncio.Semaphore  # so that they do not fill the queue of those who call now
    _running: dict[Path, asyncio.Task[None]] = field(default_factory=dict)
    _known: dict[Path, Kept] = field(default_factory=dict)
    _tried: dict[Path, _Tried] = field(default_factory=dict)
    _unrepaired: dict[Orphan, _Tried] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """How many DELs are queued."""
        return len(self.queue.files())

    async def settle(self, seconds: float | None = None) -> None:
        """Try the queued DELs whose time has come, and wait until each was tried, but no longer than that."""
        now = time.monotonic()
        due = [
            kept
            for kept in self._kept()
            if kept.file not in self._tried or self._tried[kept.file].until <= now
        ]
        tasks = set(map(self._task, due))
        done, _ = await asyncio.wait(tasks, timeout=seconds) if tasks else (tasks, tasks)
        for task in done:
            task.result()

    async def settle_before(self, call: Call) -> CniError | None:
        """Try the queued DELs that a call must not overtake; return why it must not begin, if so.

        Those of its attachment, and those that nobody has tried yet: they may hold its device or address.
        """
        own = call.key if call.verb == "ADD" else None
        due = [kept for kept in self._kept() if kept.key == own or kept.file not in self._tried]
        if not due:
            return None
        ends: set[asyncio.Future[None]] = {self._task(kept) for kept in due}
        while waiting := {end for end in ends if not end.done()}:
            gone = {call.gone} if call.gone else set()
            left = max(0.0, call.seconds_left)
            done, _ = await asyncio.wait(waiting | gone, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done or done <= gone:
                break
        if any(kept.key == own for kept in self._kept()):
            return call.refusal(
                "an earlier DEL of this attachment has not succeeded yet",
                "It was kept while there was no daemon, and what it is to give back is still held.",
                "Look at the daemon's log for why, then call again.",
            )
        if any(not end.done() for end in ends):
            return call.refusal(
                f"{call.verb} had to wait too long for earlier DELs",
                "They were kept while there was no daemon; what they are to give back may be wanted here.",
                "Look at the daemon's log for what they wait for, then call again.",
            )
        return None

    async def repair(self, orphans: Iterable[Orphan], until: float) -> int:
        """Call DEL for attachments that nobody can want any more; return how many succeeded.

        What has not had its turn by that time, of the monotonic clock, has it later.
        """
        repaired = 0
        for orphan in orphans:
            if time.monotonic() < until:
                repaired += await self._repair(orphan, None)
            else:
                self._unrepaired[orphan] = _Tried.after(None, self.retry)
        return repaired

    async def repair_again(self) -> None:
        """Call DEL once more where it failed, such as for want of an API server at the start of a machine.

        A sandbox that is gone stays gone; what was attached anew under its name meanwhile is not touched.
        """
        for orphan, tried in list(self._unrepaired.items()):
            if tried.until > time.monotonic() or not self.calls.turns.is_free(orphan.record.key):
                continue
            del self._unrepaired[orphan]
            if orphan.is_left(self.defaults):
                await self._repair(orphan, tried)

    async def _repair(self, orphan: Orphan, tried: _Tried | None) -> bool:
        attachment, plugin = orphan.record.attachment, orphan.job.plugin_type
        log("repair", attachment=attachment, plugin=plugin, proof=orphan.proof)
        report = await self.calls.carry_out(self.new_call(orphan.job))
        if report.is_success:
            self.calls.metrics.repaired("sandbox gone")
        else:
            self._unrepaired[orphan] = _Tried.after(tried, self.retry)
        return report.is_success

    def repair_claims(self, removed: Iterable[tuple[str, str]]) -> int:
        """Note the claims that are removed because their holder is gone, each with the proof."""
        repaired = 0
        for claim, proof in removed:
            log("repair", claim=claim, proof=proof)
            self.calls.metrics.repaired("void claim")
            repaired += 1
        return repaired

    def _task(self, kept: Kept) -> asyncio.Task[None]:
        task = self._running.get(kept.file)
        if task is None:
            task = self._running[kept.file] = asyncio.create_task(self._replay(kept))
            task.add_done_callback(lambda _: self._running.pop(kept.file, None))
        return task

    def _kept(self) -> list[Kept]:
        files = self.queue.files()
        present = set(files)
        self._known = {file: kept for file, kept in self._known.items() if file in present}
        self._tried = {file: tried for file, tried in self._tried.items() if file in self._known}
        for file in files:
            if file not in self._known:
                try:
                    kept = self.queue.read(file, self.defaults)
                except Malformed as error:
                    log("set aside", "error", file=str(self.queue.set_aside(file)), msg=str(error))
                    continue
                if kept:
                    self._known[file] = kept
        return list(self._known.values())

    async def _replay(self, kept: Kept) -> None:
        async with self.places:
            await self._tried_once(kept)

    async def _tried_once(self, kept: Kept) -> None:
        call = self.new_call(kept.job)
        proof = f"its runtime called DEL {_age(kept.file)} ago, and no ADD of it was served since"
        log("replay", trace=call.trace, attachment=call.request.attachment, file=kept.file.name, proof=proof)
        self._finish(kept, await self.calls.carry_out(call))
        self._tried[kept.file] = _Tried.after(self._tried.get(kept.file), self.retry)

    def _finish(self, kept: Kept, report: Report) -> None:
        if report.is_success:
            self.queue.remove(kept.file)
            self.calls.metrics.repaired("queued DEL")
        elif report.code in _FINAL or (report.code == Code.INVALID_NETWORK_CONFIG and not _is_readable(kept)):
            log("set aside", "error", file=str(self.queue.set_aside(kept.file)), msg=report.msg)


def _is_readable(kept: Kept) -> bool:
    """Tell whether the fault is elsewhere: in a kubeconfig, a right, a plugin that is not installed."""
    try:
        _ = Request("DEL", kept.job.environment, kept.job.stdin or b"").network
    except CniError:
        return False
    return True


def _age(file: Path) -> str:
    try:
        return f"{max(0, round(time.time() - file.stat().st_mtime))} s"
    except FileNotFoundError:
        return "some time"
