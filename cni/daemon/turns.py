"""Turns: which call may run when.

As many at once as there are places, one per attachment, what frees something before what takes
something. A DEL overtakes what waits for the same attachment: that is refused, for its attachment
is not wanted any more. A call that was made by a running one, such as the IPAM of somebody else's
plugin, has no place to wait for, or the two would wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cni.daemon.call import TAKING, Call, CallerGone
from cni.protocol.errors import CniError
from cni.protocol.request import AttachmentKey


@dataclass(eq=False)
class _Waiting:
    call: Call
    turn: asyncio.Future[None]  # done when it came, and when it is not waited for any more


@dataclass
class Turns:
    """The calls that run and those that wait, in the order in which they will."""

    places: int
    queue_places: int
    taking_is_open: bool = False  # before that, ADD and GC wait
    _running: dict[str, list[Call]] = field(default_factory=dict)  # by trace, those within others last
    _keys: set[AttachmentKey] = field(default_factory=set)
    _urgent: list[_Waiting] = field(default_factory=list)  # go first
    _others: list[_Waiting] = field(default_factory=list)
    _taken: int = 0

    @property
    def running(self) -> int:
        return sum(map(len, self._running.values()))

    @property
    def waiting(self) -> int:
        return len(self._urgent) + len(self._others)

    def is_free(self, key: AttachmentKey) -> bool:
        """Tell whether no call about an attachment runs; one that begins at once meets none."""
        return key not in self._keys

    def open_taking(self) -> None:
        """From now on, let ADD and GC run too."""
        self.taking_is_open = True
        self._begin_next()

    def refuse_waiting(self, *, taking_only: bool) -> None:
        """Refuse what waits, because the daemon stops: all of it, or what takes something."""
        for entry in [*self._urgent, *self._others]:
            if not entry.turn.done() and (not taking_only or entry.call.verb in TAKING):
                self._line_of(entry.call).remove(entry)
                entry.turn.set_exception(
                    entry.call.refusal(
                        "the node daemon is stopping",
                        "The call had not begun, so nothing was done.",
                        "Call again; the next daemon will serve it.",
                    )
                )

    @asynccontextmanager
    async def of(self, call: Call) -> AsyncIterator[None]:
        """Run the block when it is the call's turn.

        Raises:
            CniError: too many wait, it waited too long, or a DEL of its attachment came.
            CallerGone: its caller did not wait so long.
        """
        is_within = call.trace in self._running
        if not is_within:
            await self._wait(call)
        self._running.setdefault(call.trace, []).append(call)
        try:
            yield
        finally:
            self._running[call.trace].remove(call)
            if not self._running[call.trace]:
                del self._running[call.trace]
            if not is_within:
                self._taken -= 1
                if call.key:
                    self._keys.discard(call.key)
                self._begin_next()

    def too_many(self, call: Call, waiting: int) -> CniError:
        """Return the refusal of a call for which there is no place in the queue."""
        return call.refusal(
            "the node daemon has too many calls to do",
            f"{waiting} wait already, and {self._taken} run.",
            "Call again in a while; if that does not help, look at what the running ones wait for.",
        )

    async def _wait(self, call: Call) -> None:
        if self.waiting >= self.queue_places:
            raise self.too_many(call, self.waiting)
        if call.verb == "DEL":
            self._refuse_overtaken(call)
        entry = _Waiting(call, asyncio.get_running_loop().create_future())
        self._line_of(call).append(entry)
        self._begin_next()
        try:
            if not entry.turn.done():
                with call.ending(lambda: self._give_up(entry)):
                    await entry.turn
            entry.turn.result()
        except BaseException:
            self._forget(entry)
            raise

    def _give_up(self, entry: _Waiting) -> None:
        call = entry.call
        if entry.turn.done():
            return
        entry.turn.set_exception(
            CallerGone()
            if call.is_given_up
            else call.refusal(
                f"{call.verb} had to wait too long",
                f"{self.waiting} calls wait at the node daemon, and {self._taken} run.",
                "Call again; look at what the running ones wait for.",
            )
        )

    def _forget(self, entry: _Waiting) -> None:
        line = self._line_of(entry.call)
        if entry in line:
            line.remove(entry)
        elif entry.turn.done() and not entry.turn.cancelled() and not entry.turn.exception():
            # Its turn came in the moment in which it gave up.
            self._taken -= 1
            if entry.call.key:
                self._keys.discard(entry.call.key)
        self._begin_next()

    def _refuse_overtaken(self, deleting: Call) -> None:
        for entry in list(self._others):
            if entry.call.key != deleting.key or entry.turn.done():
                continue
            self._others.remove(entry)
            entry.turn.set_exception(entry.call.overtaken())

    def _line_of(self, call: Call) -> list[_Waiting]:
        return self._urgent if call.is_urgent else self._others

    def _begin_next(self) -> None:
        for entry in [*self._urgent, *self._others]:
            if self._taken >= self.places:
                return
            call = entry.call
            if (
                entry.turn.done()
                or call.key in self._keys
                or (call.verb in TAKING and not self.taking_is_open)
            ):
                continue
            self._line_of(call).remove(entry)
            self._taken += 1
            if call.key:
                self._keys.add(call.key)
            entry.turn.set_result(None)
