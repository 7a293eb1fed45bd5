"""Notes to the administrator on stderr, the only place where anything but the answer goes."""

from __future__ import annotations

import sys
from contextlib import suppress


def note(about: str, text: str) -> None:
    """Write a line such as `podrail: default/web net1: …`."""
    say(f"podrail: {about}: {text}\n" if about else f"podrail: {text}\n")


def say(line: str) -> None:
    """Write a line as it is; a closed stderr is no failure."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(line)
        sys.stderr.flush()
