"""A node daemon of a test's own, and worlds whose calls go through it."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cni.protocol.registry import TYPES
from tests.support.client import STATIC, built
from tests.support.world import BIN, GO_BIN, Answer, World, rail

STUBBED = rail(ipam={"type": "stub-ipam"})
_SECONDS = 60  # longer than anything here takes


class Daemon:
    """`podrail daemon` in a world's host namespace, from its readiness to the end of the block."""

    def __init__(
        self,
        world: World,
        *options: str,
        under: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        **variables: str,
    ) -> None:
        self._world = world
        self._options = options
        self._under = under
        self._pass_fds = pass_fds
        self._variables = variables
        self._is_started = False
        self.process: subprocess.Popen[bytes]
        self.log_file = world.state.parent / "daemon.log"

    def __enter__(self) -> Self:
        if not self._is_started:
            self.start()
        self.wait_until_ready()
        return self

    def start(self) -> None:
        """Start it, and do not wait until it is ready."""
        self._is_started = True
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = self._world.state.parent / "notify.sock"
        path.unlink(missing_ok=True)
        self._notices.bind(str(path))
        own_mounts = ("--host-pid", str(os.getpid()))
        command = ["nsenter", f"--net={self._world.host.path}", *self._under, str(BIN / "podrail"), "daemon"]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *own_mounts, *self._options],
                env={**self._world.environment(""), "NOTIFY_SOCKET": str(path), **self._variables},
                stdin=subprocess.DEVNULL,
                stderr=log,
                pass_fds=self._pass_fds,
            )

    def wait_until_ready(self) -> None:
        assert self.next_notice() == "READY=1", self.log_file.read_text()

    def next_notice(self) -> str:
        """What systemd would be told next; empty if the daemon ends without a word."""
        ended = os.pidfd_open(self.process.pid)
        ready, _, _ = select.select([self._notices, ended], [], [], _SECONDS)
        os.close(ended)
        assert ready, "the daemon neither says anything nor ends"
        return self._notices.recv(4096).decode() if self._notices in ready else ""

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._notices.close()
        if kind and self.process.poll() is None:
            self.kill()
        elif self.process.poll() is None:
            assert self.stop() == 0, self.log_file.read_text()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(_SECONDS)

    def kill(self) -> None:
        """kill -9; its workers end by themselves."""
        self.process.kill()
        self.process.wait(_SECONDS)

    def log(self, event: str = "") -> list[dict[str, Any]]:
        """The lines of the log, all or those of one event."""
        text = self.log_file.read_text()
        assert all(line.startswith("{") for line in text.splitlines()), text  # no traceback, no warning
        lines = [json.loads(line) for line in text.splitlines()]
        return [line for line in lines if event in ("", line["event"])]

    def workers(self) -> list[int]:
        """The process IDs of its workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def clients(self) -> int:
        """How many clients it has: its sockets but one that listens, asyncio's two, the workers'."""
        links = [str(path.readlink()) for path in Path(f"/proc/{self.process.pid}/fd").iterdir()]
        return sum("socket:" in link for link in links) - 3 - len(self.workers())

    def resident(self) -> float:
        """Memory of daemon and workers in MiB, where what they share counts once."""
        total = 0
        for pid in (self.process.pid, *self.workers()):
            with suppress(OSError, StopIteration):  # a worker that has ended holds nothing
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                total += int(next(line for line in rollup if line.startswith("Pss:")).split()[1])
        return total / 1024


@dataclass
class NodeWorld(World):
    """A world whose executables are the static client."""

    own: Path = field(init=False)

    def __post_init__(self) -> None:
        self.own = self.state.parent / "clients"
        self.own.mkdir(exist_ok=True)
        for plugin_type in TYPES:
            shutil.copy(built(STATIC), self.own / plugin_type)
        self.bin = self.own
        self.path = f"{self.own}:{GO_BIN}"

    @property
    def socket(self) -> Path:
        return self.state.parent / "run" / "daemon.sock"

    @property
    def queue(self) -> Path:
        return self.state / "queue"

    def start(self, command: str, conf: Mapping[str, Any], **variables: str) -> subprocess.Popen[bytes]:
        """Begin a call; `ended` waits for its answer."""
        process = subprocess.Popen(
            [self.bin / str(conf["type"])],
            env=self.environment(command, **variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin
        process.stdin.write(json.dumps(conf).encode())
        process.stdin.close()
        process.stdin = None
        return process


def ended(process: subprocess.Popen[bytes]) -> Answer:
    """Wait for the answer of a call that was begun."""
    stdout, stderr = process.communicate(timeout=_SECONDS)
    return Answer(process.returncode, stdout.decode(), stderr.decode())


class Gate:
    """A FIFO at which a shell script waits until the test lets it pass."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._arrivals, self._passes = folder / "arrivals", folder / "passes"
        os.mkfifo(self._arrivals)
        os.mkfifo(self._passes)
        self._reading = os.open(self._arrivals, os.O_RDWR)
        self._writing = os.open(self._passes, os.O_RDWR)

    @property
    def line(self) -> str:
        """A line of shell that says that it is there, then waits."""
        return f"echo $$ >{self._arrivals}; read pass <{self._passes}"

    def arrival(self) -> int:
        """Wait until a script is at the gate; return its process ID."""
        ready, _, _ = select.select([self._reading], [], [], _SECONDS)
        assert ready, "nobody came"
        text = b""
        while not text.endswith(b"\n"):
            text += os.read(self._reading, 1)
        return int(text)

    def let_pass(self, number: int = 1) -> None:
        os.write(self._writing, b"\n" * number)

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


@contextmanager
def gate(folder: Path) -> Iterator[Gate]:
    it = Gate(folder)
    try:
        yield it
    finally:
        it.close()


def until(is_so: Callable[[], bool]) -> None:
    """Wait for what another process does; there is nothing that would tell."""
    deadline = time.monotonic() + _SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


STOP = signal.SIGSTOP
