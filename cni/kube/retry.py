"""When to try again: exponential back-off with full jitter, and what Retry-After says. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Backoff:
    """A wait before each further attempt, drawn evenly from 0 to a bound that doubles.

    Full jitter spreads clients that lost one race together over the whole interval, so that they do
    not meet again at its end.
    """

    first: float = 0.1  # seconds, the bound before the second attempt
    most: float = 3.0  # seconds, the bound that no doubling exceeds

    def bound(self, failures: int) -> float:
        """Return the longest wait after that many failures, from 1 up."""
        return min(self.most, self.first * 2.0 ** min(failures - 1, 32))

    def wait(self, failures: int, chance: float) -> float:
        """Return the seconds to wait after that many failures; `chance` is drawn from [0, 1)."""
        return self.bound(failures) * chance


def retry_after(text: str, now: datetime | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks for; None if it says nothing readable.

    Both forms of RFC 9110, section 10.2.3: a number of seconds, or an HTTP date.
    """
    if text.strip().isdecimal():
        return float(text)
    from email.utils import parsedate_to_datetime  # 20 ms, and API servers send seconds

    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
