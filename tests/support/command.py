"""The command `podrail`, run in this process within a host's namespace, which spares a start of Python's."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

from cni.host import netns
from tests.support.world import World


def called(
    world: World, main: Callable[[list[str]], int], *arguments: str, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Call a command's `main` with the environment of a world; return its status and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    told = io.TextIOWrapper(io.BytesIO(stdin.encode()))
    with (
        patch.dict(os.environ, world.environment("", **variables), clear=True),
        patch.object(sys, "stdin", told),
        redirect_stdout(out),
        redirect_stderr(err),
        netns.opened(world.host.path) as host,
    ):
        status = host.run(lambda: main(list(arguments)))
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())
