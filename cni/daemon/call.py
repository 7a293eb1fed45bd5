"""Call: one call on its way through the daemon, and what it must wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cni.daemon.job import Job
from cni.protocol.errors import CniError, Code
from cni.protocol.plugin import stated_version
from cni.protocol.request import AttachmentKey, Request

TRACE = "PODRAIL_TRACE_ID"  # follows a call through delegates; by it, a call made within another is known

# They take something, and so wait for what is to be given back first.
TAKING = ("ADD", "GC")
# They free something or are quick: first among those that wait.
_URGENT = ("DEL", "STATUS", "VERSION")


@dataclass(eq=False)
class Call:
    """A call that the daemon took, from a client or from its own queue."""

    trace: str
    job: Job
    deadline: float  # by the monotonic clock
    arrived: float = field(default_factory=time.monotonic)
    began: float | None = None
    # Done when the caller is gone or asks for an end; never for the daemon's own calls.
    gone: asyncio.Future[None] | None = None
    # Its stdin as far as it had come before a worker took it, to answer in the caller's version.
    seen: bytes = b""
    is_overtaken: bool = False  # a DEL of its attachment came before its turn

    verb: str = field(init=False)
    # The call's environment, as errors and logs name it; stdin is left where it is.
    request: Request = field(init=False)
    # What only one call at a time may be about; None for verbs that are about no attachment.
    key: AttachmentKey | None = field(init=False)

    def __post_init__(self) -> None:
        self.verb = self.job.environment.get("CNI_COMMAND", "")
        self.request = Request(self.verb, self.job.environment, b"")
        self.key = self.request.key if self.verb in ("ADD", "DEL", "CHECK") else None

    @property
    def version(self) -> str:
        """The cniVersion that an error is to have: the caller's, if it can be told and is one of ours."""
        return stated_version(self.request.with_stdin(self.job.stdin or self.seen))

    @property
    def is_urgent(self) -> bool:
        return self.verb in _URGENT

    @property
    def ends_with_its_caller(self) -> bool:
        """DEL and GC do no harm when nobody waits for them, and would only have to come again."""
        return self.verb not in ("DEL", "GC")

    @property
    def is_given_up(self) -> bool:
        """Tell whether nobody waits for it any more, so that it is to end."""
        return self.gone is not None and self.gone.done() and self.ends_with_its_caller

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Within the block, call `end` when the call's time is over, or when nobody waits for it any more."""
        gone = self.gone if self.ends_with_its_caller else None
        is_within = True

        def over(_: object = None) -> None:
            nonlocal is_within
            if is_within:  # a future's callback comes a moment later, and cannot be called back by then
                is_within = False
                end()

        timer = asyncio.get_running_loop().call_later(max(0.0, self.seconds_left), over)
        if gone:
            gone.add_done_callback(over)
        try:
            yield
        finally:
            is_within = False
            timer.cancel()
            if gone:
                gone.remove_done_callback(over)

    def refusal(self, what: str, why: str, fix: str = "Call again.") -> CniError:
        """Return the error of a call that is not carried out; STATUS has a code of its own for that."""
        code = Code.NOT_AVAILABLE if self.verb == "STATUS" else Code.TRY_AGAIN_LATER
        return CniError(what, why=why, fix=fix, code=code)

    def overtaken(self) -> CniError:
        """Return the refusal of a call that had not begun when a DEL of its attachment came."""
        return self.refusal(
            f"{self.verb} was overtaken by a DEL of the same attachment",
            "It had not begun, so nothing was done.",
            "Call again if the attachment is still wanted.",
        )


class CallerGone(Exception):
    """Nobody waits for the call any more, so it is not begun."""
