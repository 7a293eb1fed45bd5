"""The static client as tests build it, and a stand-in for the daemon at the other end of its socket."""

from __future__ import annotations

import array
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import pytest

from tests.support.world import Answer

SOURCE = Path(__file__).parents[2] / "packaging" / "client"
_SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all -g"
_folder = TemporaryDirectory(prefix="client-")

REQUEST = struct.Struct(
    "=8sIIIIIi"
)  # magic, version, size, then lengths of name, environment, stdin; sandbox
GREETING = struct.Struct("=8sII")
REPLY = struct.Struct("=IIII")
MAGIC = b"PODRAIL\0"


@dataclass(frozen=True)
class Build:
    """A way to build the client and to run what comes of it."""

    label: str
    compiler: str
    package: str
    architecture: str = os.uname().machine
    flags: str = ""
    runner: tuple[str, ...] = ()  # `{name}` becomes the name that the client is to have

    def __str__(self) -> str:
        return self.label


STATIC = Build("static", "musl-gcc", "musl-tools")
SANITIZED = Build("sanitized", "gcc", "gcc", flags=_SANITIZERS)
AARCH64 = Build(
    "aarch64",
    "aarch64-linux-gnu-gcc",
    "gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user",
    architecture="aarch64",
    runner=("qemu-aarch64", "-0", "{name}"),
)


@cache
def built(build: Build, source: Path = SOURCE) -> Path:
    """Build the client, once per test run; skip where the compiler is missing."""
    missing = [program for program in (build.compiler, *build.runner[:1]) if not shutil.which(program)]
    if missing:
        pytest.skip(f"not installed: Debian's {build.package}; ./dev test installs it")
    output = Path(_folder.name, f"{build.label}-{source.name}")
    environment = {**os.environ, "CC": build.compiler, "CFLAGS": build.flags}
    if build is SANITIZED:  # a sanitizer is no part of a static program
        command = ["gcc", *_SANITIZERS.split(), "-Wall", "-o", str(output), str(source / "client.c")]
    else:
        command = [str(source / "build"), build.architecture, str(output)]
    subprocess.run(command, env=environment, check=True)
    return output


@dataclass
class Client:
    """The client under a plugin's name, with a socket and a state directory of its own."""

    build: Build
    folder: Path
    file: Path = field(init=False)
    plugin: str = "macvlan"

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.file = self.folder / self.plugin
        shutil.copy(built(self.build), self.file)

    @property
    def socket(self) -> Path:
        return self.folder / "run" / "daemon.sock"

    @property
    def queue(self) -> Path:
        return self.folder / "state" / "queue"

    def command(self) -> list[str]:
        return [part.format(name=self.file) for part in self.build.runner] + [str(self.file)]

    def environment(self, verb: str, **variables: str) -> dict[str, str]:
        return {
            "PODRAIL_RUN_DIR": str(self.folder / "run"),
            "PODRAIL_STATE_DIR": str(self.folder / "state"),
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "pod-1",
            "CNI_IFNAME": "net1",
            "CNI_NETNS": "/proc/self/ns/net",
            "CNI_PATH": str(self.folder),
            **variables,
        }

    def start(
        self, verb: str, under: Sequence[str] = (), close: Sequence[int] = (), **variables: str
    ) -> subprocess.Popen[bytes]:
        """Start a call, with some of its standard streams closed."""
        closing = " ".join(f"{number}>&-" if number else "0<&-" for number in close)
        shell = ["sh", "-c", f'exec "$@" {closing}', "sh"] if close else []
        return subprocess.Popen(
            [*shell, *under, *self.command()],
            env=self.environment(verb, **variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def call(
        self,
        verb: str,
        stdin: bytes = b'{"cniVersion": "1.0.0", "name": "rail"}',
        under: Sequence[str] = (),
        close: Sequence[int] = (),
        **variables: str,
    ) -> Answer:
        process = self.start(verb, under, close, **variables)
        stdout, stderr = process.communicate(stdin, timeout=60)
        return Answer(process.returncode, stdout.decode(), stderr.decode())


@dataclass(frozen=True)
class Received:
    """A call as it came over the socket."""

    version: int
    name: str
    environment: Mapping[str, str]
    stdin: bytes
    sandbox: tuple[int, int] | int  # device and inode of the open file, or what the header says instead


@dataclass(frozen=True)
class Sent:
    """What the stand-in answers, and in which pieces."""

    stdout: bytes = b"{}"
    status: int = 0
    stderr: bytes = b""
    version: int = 1
    more: int = 0  # bytes that its headers have more than those of version 1
    piece: int = 1 << 20

    def greeting(self) -> bytes:
        return GREETING.pack(MAGIC, self.version, GREETING.size + self.more) + bytes(self.more)

    def reply(self) -> bytes:
        size = REPLY.size + self.more
        header = REPLY.pack(size, self.status, len(self.stdout), len(self.stderr)) + bytes(self.more)
        return header + self.stdout + self.stderr


class StandIn:
    """Listens where a daemon would and does with each connection what the test says."""

    def __init__(self, path: Path, serve: Callable[[StandIn, socket.socket], None]) -> None:
        path.parent.mkdir(exist_ok=True)
        self.received: list[Received] = []
        self._serve = serve
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(200)
        self._path = path
        self._thread = threading.Thread(target=self._accept)

    @classmethod
    def answering(cls, path: Path, *sent: Sent) -> Self:
        """One that answers each call in turn, the last answer for all that follow."""
        answers = list(sent)

        def serve(self: StandIn, connection: socket.socket) -> None:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            connection.sendall(answer.greeting())
            self.received.append(receive(connection))
            reply = answer.reply()
            for start in range(0, len(reply), answer.piece):
                connection.sendall(reply[start : start + answer.piece])

        return cls(path, serve)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            # The client is gone when a test wants it so.
            with connection, suppress(ConnectionError, EOFError):
                self._serve(self, connection)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        self._path.unlink()


def receive(connection: socket.socket) -> Received:
    """Read one call."""
    fds = array.array("i")
    head, control, _, _ = connection.recvmsg(REQUEST.size, socket.CMSG_SPACE(fds.itemsize))
    for _, kind, data in control:
        assert kind == socket.SCM_RIGHTS
        fds.frombytes(data)
    head += _exactly(connection, REQUEST.size - len(head))
    magic, version, size, name, environment, stdin, sandbox = REQUEST.unpack(head)
    assert magic == MAGIC
    _exactly(connection, size - REQUEST.size)
    place: Any = sandbox
    if fds:
        found = os.fstat(fds[0])
        place = (found.st_dev, found.st_ino)
        os.close(fds[0])
    return Received(
        version,
        _exactly(connection, name).decode(),
        dict(pair.split("=", 1) for pair in _exactly(connection, environment).decode().split("\0")[:-1]),
        _exactly(connection, stdin),
        place,
    )


def kept(file: Path) -> Received:
    """Read a call from the queue, which holds it as it would have gone over the socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(file.read_bytes())
        return receive(theirs)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(min(1 << 20, size - len(data)))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
