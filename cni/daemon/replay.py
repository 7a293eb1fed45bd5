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
from cni.protocol.errors import Code
from cni.protocol.request import AttachmentKey

# What the same DEL will be answered however often it comes.
_FINAL = (
    Code.INCOMPATIBLE_VERSION,
    Code.INVALID_ENVIRONMENT,
    Code.DECODING_FAILURE,
    Code.INVALID_NETWORK_CONFIG,
)


@dataclass
class Replay:
    """Calls that the daemon makes by itself."""

    queue: Queue
    calls: Calls
    new_call: Callable[[Job], Call]
    defaults: Mapping[str, str]
    _running: dict[Path, asyncio.Task[None]] = field(default_factory=dict)
    _known: dict[Path, Kept] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """How many DELs are queued."""
        return len(self.queue.files())

    def holds(self, key: AttachmentKey) -> bool:
        """Tell whether a DEL of this attachment is queued."""
        return any(kept.key == key for kept in self._kept())

    async def settle(self, key: AttachmentKey | None = None) -> None:
        """Try the queued DELs, all or those of an attachment, and wait until each was tried."""
        tasks = [self._task(kept) for kept in self._kept() if key in (None, kept.key)]
        await asyncio.gather(*tasks)

    async def repair(self, orphans: Iterable[Orphan]) -> int:
        """Call DEL for attachments that nobody can want any more; return how many succeeded."""
        repaired = 0
        for orphan in orphans:
            log("repair", attachment=orphan.attachment, plugin=orphan.job.plugin_type, proof=orphan.proof)
            report = await self.calls.carry_out(self.new_call(orphan.job))
            if report.is_success:
                repaired += 1
                self.calls.metrics.repaired("sandbox gone")
        return repaired

    def _task(self, kept: Kept) -> asyncio.Task[None]:
        task = self._running.get(kept.file)
        if task is None:
            task = self._running[kept.file] = asyncio.create_task(self._replay(kept))
            task.add_done_callback(lambda _: self._running.pop(kept.file, None))
        return task

    def _kept(self) -> list[Kept]:
        files = self.queue.files()
        self._known = {file: kept for file, kept in self._known.items() if file in files}
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
        call = self.new_call(kept.job)
        proof = f"its runtime called DEL {_age(kept.file)} ago, and no ADD of it was served since"
        log("replay", trace=call.trace, attachment=call.request.attachment, file=kept.file.name, proof=proof)
        self._finish(kept, await self.calls.carry_out(call))

    def _finish(self, kept: Kept, report: Report) -> None:
        if report.is_success:
            self.queue.remove(kept.file)
            self.calls.metrics.repaired("queued DEL")
        elif report.code in _FINAL:
            log("set aside", "error", file=str(self.queue.set_aside(kept.file)), msg=report.msg)


def _age(file: Path) -> str:
    try:
        return f"{max(0, round(time.time() - file.stat().st_mtime))} s"
    except FileNotFoundError:
        return "some time"
