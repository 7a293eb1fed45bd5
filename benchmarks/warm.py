"""ADD and DEL of macvlan with static inside one process that has everything imported.

Run by the interpreter of an installed podrail, in the host's namespace, as
`warm.py EXECUTABLE ROUNDS`, with the CNI environment of the attachment and its configuration on
stdin. Prints JSON: for each verb a list of calls, each with its wall and CPU seconds, its fsyncs
and the seconds in them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from cni.host.netns import refuse_own_namespace
from cni.protocol.plugin import run
from cni.protocol.request import Request

MARK = "/podrail-benchmark"  # a path that nobody has: looking for it marks a place in strace's output


class TimedFsync:
    """os.fsync with a clock beside it."""

    def __init__(self) -> None:
        self.fsync = os.fsync
        self.times: list[float] = []

    def __call__(self, fd: int) -> None:
        began = time.perf_counter()
        self.fsync(fd)
        self.times.append(time.perf_counter() - began)


def main() -> None:
    executable, rounds = sys.argv[1], int(sys.argv[2])
    environment, stdin = dict(os.environ), sys.stdin.buffer.read()
    timed_fsync = os.fsync = TimedFsync()  # type: ignore[assignment]
    calls: dict[str, list[dict[str, float]]] = {"ADD": [], "DEL": []}
    for turn in range(-1, rounds):
        for verb, taken in calls.items():
            request = Request(verb, environment | {"CNI_COMMAND": verb}, stdin, executable)
            timed_fsync.times.clear()
            mark(f"begin-{verb}")
            wall, cpu = time.perf_counter(), time.process_time()
            reply = run("macvlan", request, precondition=refuse_own_namespace)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            mark(f"end-{verb}")
            if reply.exit_status:
                sys.exit(reply.stdout.decode())
            if turn >= 0:  # the first turn imports the plugins
                fsyncs = timed_fsync.times
                taken.append({"wall": wall, "cpu": cpu, "fsyncs": len(fsyncs), "in_fsync": sum(fsyncs)})
    json.dump(calls, sys.stdout)


def mark(name: str) -> None:
    with suppress(FileNotFoundError):
        Path(MARK, name).stat()


main()
