"""How long the kernel works on the netlink messages of an ADD: what nobody saves who asks it for the same.

Run as `python -m benchmarks.kernel_floor` in the host's namespace: a warm process that makes calls as the
daemon's workers do, with a clock beside each netlink socket. Journal, IPAM and Python are not counted, nor is
what else the kernel does: files, packets, the way into the sandbox.
"""

from __future__ import annotations

import marshal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from benchmarks.measure import Helper
from cni.daemon.main import warm
from cni.host import links
from cni.host.netlink import Netlink
from cni.host.netns import refuse_own_namespace
from cni.protocol.memory import Memory
from cni.protocol.plugin import run
from cni.protocol.request import Request
from tests.support.world import Namespace


class Kernel(Helper):
    """Makes calls inside a namespace, and tells how long the kernel worked on their netlink messages."""

    def __init__(self, host: Namespace) -> None:
        super().__init__(host, "-m", __name__)

    def run(self, argv: list[str], environment: dict[str, str], stdin: bytes) -> float:
        """Make a call that must succeed; return seconds."""
        return float(self.ask((argv, environment, stdin)))


class Clock:
    """How long calls of netlink sockets took, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return work(*arguments)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


class TimedSocket:
    """A socket with a clock beside it."""

    def __init__(self, endpoint: socket.socket, clock: Clock) -> None:
        self._endpoint = endpoint
        self._clock = clock

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self._clock.timed(getattr(self._endpoint, name))


def serve() -> None:
    warm()
    clock, memory = Clock(), Memory()

    def timed(endpoint: Any) -> Netlink:
        return Netlink(TimedSocket(endpoint, clock))  # type: ignore[arg-type]

    links.Netlink = timed  # type: ignore[attr-defined, assignment]
    while True:
        try:
            (executable,), environment, stdin = marshal.load(sys.stdin.buffer)  # from `Kernel`, nobody else
        except EOFError:
            return
        request = Request(environment["CNI_COMMAND"], environment, stdin, executable, memory=memory)
        clock.seconds = 0.0
        reply = run(PurePath(executable).name, request, precondition=refuse_own_namespace)
        if reply.exit_status:
            sys.exit(reply.stdout.decode())
        marshal.dump(clock.seconds, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
