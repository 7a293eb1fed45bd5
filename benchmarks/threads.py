"""What the daemon could be instead: a thread per call, in one process. To be measured, not to be used.

Run as `threads.py SOCKET PLACES`. It serves the static client's protocol as the daemon does, but a call
cannot be ended, and one that crashes takes the others along.
"""

from __future__ import annotations

import socket
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath

from cni.daemon import wire
from cni.daemon.main import warm
from cni.protocol.plugin import run
from cni.protocol.request import Request

_SIZES = struct.Struct("=8sIIIIIi")


def serve(connection: socket.socket) -> None:
    with connection:
        connection.sendall(wire.GREETING)
        head = connection.recv(_SIZES.size, socket.MSG_WAITALL)  # the open sandbox is not taken
        header = wire.Header.parse(head)
        name = connection.recv(header.name, socket.MSG_WAITALL).decode()
        environment = wire.parse_environment(connection.recv(header.environment, socket.MSG_WAITALL))
        stdin = connection.recv(header.stdin, socket.MSG_WAITALL)
        request = Request(environment["CNI_COMMAND"], environment, stdin, executable=name)
        connection.sendall(wire.reply(run(PurePath(name).name, request)))


def main() -> None:
    warm()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening,
        ThreadPoolExecutor(int(sys.argv[2])) as pool,
    ):
        listening.bind(sys.argv[1])
        listening.listen(1024)
        print("ready", flush=True)
        while True:
            pool.submit(serve, listening.accept()[0])


main()
