"""Calls of plugins in processes that this one forks: beside one another, or ended before one of their steps.

The plugins are imported already, so a call costs a fork. What ends it is the interpreter's profile hook,
so shipped code needs no switches and a trial depends on no time. Where the executables themselves are
meant, or strace is at hand, see `strace`.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable

# What a plugin calls that others can see afterwards: files, messages to the kernel.
_VISIBLE = {"sendto", "send", "link", "rename", "unlink", "rmdir", "mkdir", "write"}


def forked(work: Callable[[], int]) -> int:
    """Run something in a process of its own, which ends with what it returns; return the process's number."""
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        status = work()
    finally:
        os._exit(status)


def status_of(pid: int) -> int:
    """Wait for a process; return its exit status, or the signal that ended it as a negative number."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def steps(call: Callable[[], object]) -> int:
    """Return how many calls that others can see a plugin makes, in a process of its own."""
    reading, writing = os.pipe()

    def counted() -> int:
        number = itertools.count()
        sys.setprofile(lambda _, event, called: next(number) if _is_visible(event, called) else None)
        call()
        sys.setprofile(None)
        os.write(writing, str(next(number)).encode())
        return 0

    assert status_of(forked(counted)) == 0
    os.close(writing)
    with os.fdopen(reading) as told:
        return int(told.read())


def killed_before(step: int, call: Callable[[], object]) -> bool:
    """Run a plugin in a process of its own that ends, by SIGKILL, before that step, counted from 0.

    False if it had fewer steps this time: how often it looks for what it waits for depends on time.
    """

    def mortal() -> int:
        number = itertools.count()

        def watch(_: object, event: str, called: object) -> None:
            if _is_visible(event, called) and next(number) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(watch)
        call()
        return 0

    status = status_of(forked(mortal))
    assert status in (0, -signal.SIGKILL)
    return status != 0


def _is_visible(event: str, called: object) -> bool:
    return event == "c_call" and getattr(called, "__name__", "") in _VISIBLE
