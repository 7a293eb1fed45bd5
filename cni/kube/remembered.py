"""Objects that an earlier call of this process read: for whom they are as good as read anew."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_MOST = 256
_SECONDS = 10.0  # that an object is remembered
_AT_ONCE = 1.0  # seconds for an answer whose time is that of the reading
# Times are in whole seconds, and the reading may have been one before the answer; another is for the
# clocks of several servers.
_MARGIN = timedelta(seconds=3)


@dataclass(frozen=True)
class Dated:
    """An object as it was answered, when by the server's clock (an HTTP date), and how long that took."""

    body: dict[str, Any]
    date: str
    seconds: float


class Objects:
    """Objects of one API server by their paths. Threads may share them."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Dated, float]] = {}  # with when they are forgotten

    def recall(self, path: str, created: str) -> dict[str, Any] | None:
        """Return an object if it is remembered as it was after `created`, a creationTimestamp.

        Whoever changes an object, and only then creates another which depends on it, is sure to meet
        the change: for that one, what is remembered is too old.
        """
        found, until = self._found.get(path, (None, 0.0))
        if found is None or time.monotonic() > until:
            return None
        read_at, since = _http_date(found.date), _timestamp(created)
        return found.body if read_at and since and since + _MARGIN <= read_at else None

    def remember(self, path: str, answer: Dated) -> None:
        now = time.monotonic()
        if answer.seconds < _AT_ONCE:
            self._found[path] = answer, now + _SECONDS
        if len(self._found) > _MOST:
            self._found = {key: each for key, each in list(self._found.items()) if each[1] > now}
        if len(self._found) > _MOST:
            self._found = {}


def _http_date(text: str) -> datetime | None:
    from email.utils import parsedate_to_datetime  # 20 ms that the executables save

    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except ValueError:
        return None


def _timestamp(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None
