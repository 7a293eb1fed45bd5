"""A step that is killed before a call which changes files: a forked child runs it and ends itself there.

Python's audit events tell of each such call just before it is made, so shipped code needs no switches.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

_CHANGES = {"os.link", "os.symlink", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def killed_before(change: int, step: Callable[[], object]) -> bool:
    """Run a step and end it, by SIGKILL, before its change of that number, from 0; tell if it came to that.

    The step happens in another process: what it does to objects is lost, what it does to files is not.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _arm(change)
            step()
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert status == 0, "the step failed; its traceback is on stderr"
    return False


def _arm(change: int) -> None:
    waiting = change

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal waiting
        if event in _CHANGES or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        ):
            if waiting == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            waiting -= 1

    sys.addaudithook(hook)
