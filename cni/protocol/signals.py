"""When the signals that stop a call may do so."""

from __future__ import annotations

import signal
from _signal import pthread_sigmask  # type: ignore[import-not-found]  # signal's makes an enum of each, in 4 µs
from collections.abc import Iterator
from contextlib import contextmanager

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let the signals that stop a call wait until the block has ended.

    For a step and the note of how it is undone: a signal between them would leave the step. And for
    imports: a module in C turns what a signal raises into something else.
    """
    before = pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        pthread_sigmask(signal.SIG_SETMASK, before)


def too_late() -> None:
    """Let these signals wait from now on: what the call has done stands, and its answer is owed.

    The last step of what a signal would undo. One that came before it is raised here at the latest.
    """
    pthread_sigmask(signal.SIG_BLOCK, STOPPING)


@contextmanager
def again_in_time() -> Iterator[None]:
    """After the block, such as a delegate's call, signals may stop the call that it is a part of."""
    before = pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        yield
    finally:
        pthread_sigmask(signal.SIG_SETMASK, before)
