"""Where sandboxes lie for this process: at their paths, or where the host's first process sees them.

In a container, such as the node daemon's, the runtime's paths lead nowhere; a sandbox is gone only where the
host has it no more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from cni.host.mounts import Mounts
from cni.host.netns import opening_by

HOST_PID = "PODRAIL_HOST_PID"  # another process than the first, whose mounts are the host's


@contextmanager
def sandboxes_of_the_host(environment: Mapping[str, str]) -> Iterator[None]:
    """Within the block, open sandboxes at their path, else at that of the host."""
    mounts = None
    with suppress(OSError, ValueError):  # no right to look: then this process is no container of ours
        mounts = Mounts.of(int(environment.get(HOST_PID) or 1))
    if mounts is None:
        yield
        return

    def opened(path: str, flags: int) -> int:
        try:
            return os.open(path, flags)
        except (FileNotFoundError, NotADirectoryError):
            return mounts.open(path, flags)

    with opening_by(opened):
        yield
