"""Call: one call on its way through the daemon, and what it must wait for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import cached_property

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

    @cached_property
    def request(self) -> Request:
        """The call's environment, as errors and logs name it; stdin is left where it is."""
        return Request(self.verb, self.job.environment, b"")

    @cached_property
    def verb(self) -> str:
        return self.job.environment.get("CNI_COMMAND", "")

    @cached_property
    def key(self) -> AttachmentKey | None:
        """What only one call at a time may be about; None for verbs that are about no attachment."""
        return self.request.key if self.verb in ("ADD", "DEL", "CHECK") else None

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
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

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
