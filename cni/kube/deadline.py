"""Points in time that calls must have ended by, and how long each part of one may take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Limits:
    """Seconds. Every one is wall time in total: a server that sends a byte a second does not renew it."""

    connect: float = 3.0  # TCP and TLS of one connection
    request: float = 8.0  # one request with its whole answer
    silence: float = 9.0  # since the first request after the last answer, while nothing answers
    operation: float = 40.0  # all requests of one ADD, DEL, ... with the waits between them


@dataclass(frozen=True)
class Deadline:
    """A point on the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Return the seconds until then; 0.0 if it has passed."""
        return max(0.0, self.at - time.monotonic())

    def or_at(self, other: Deadline) -> Deadline:
        """Return whichever is sooner."""
        return min(self, other, key=lambda deadline: deadline.at)

    def or_after(self, seconds: float) -> Deadline:
        """Return this one, or the one that many seconds from now if it is sooner."""
        return self.or_at(Deadline.after(seconds))

    def sleep(self, seconds: float) -> None:
        """Sleep, but not beyond this point."""
        time.sleep(min(seconds, self.left()))
