"""systemd: sockets that it opened for us, and telling it how we are.

Source: sd_listen_fds(3) and sd_notify(3), whose protocols are an environment and a datagram.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from cni.daemon.log import log

_FIRST_FD = 3


def listening_sockets(environment: Mapping[str, str]) -> list[socket.socket]:
    """Return the sockets that were handed over to this process; none without socket activation."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    number = int(environment.get("LISTEN_FDS") or 0)
    sockets = [socket.socket(fileno=fd) for fd in range(_FIRST_FD, _FIRST_FD + number)]
    for each in sockets:
        each.set_inheritable(False)
    return sockets


def notify(environment: Mapping[str, str], *told: str) -> None:
    """Tell systemd, such as `READY=1`; without systemd nobody is told."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as endpoint:
        try:
            endpoint.sendto("\n".join(told).encode(), address)
        except OSError as error:  # no reason to serve nobody
            log("systemd not told", "warning", told=" ".join(told), msg=str(error))
