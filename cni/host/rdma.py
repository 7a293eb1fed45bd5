"""RDMA devices of a network namespace: which there are, and moving one to another namespace.

A module of our own, for pyroute2 has none for this. The kernel moves devices only in its exclusive
mode, in which each belongs to one namespace; in the shared mode all see all.

Source: the kernel's `include/uapi/rdma/rdma_netlink.h` and `drivers/infiniband/core/nldev.c`.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from cni.host.links import KernelRefused
from cni.host.netlink import Message, Netlink, attribute, attributes
from cni.host.netns import Netns
from cni.protocol.errors import CniError, Code, InvalidConfig

_NETLINK_RDMA = 20
_NLDEV = 5 << 10  # the client that knows devices; commands are added
_GET, _SET, _SYS_GET = _NLDEV + 1, _NLDEV + 2, _NLDEV + 6
_DEV_INDEX, _DEV_NAME, _SYS_NETNS_MODE, _NET_NS_FD = 1, 2, 66, 68
_EXCLUSIVE = 0


class RdmaDevices:
    """The RDMA devices of a namespace; `where` says in errors which."""

    def __init__(self, netns: Netns, where: str) -> None:
        self.where = where
        try:
            self._netlink = Netlink(netns.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_RDMA))
        except OSError as error:
            if error.errno != errno.EPROTONOSUPPORT:
                raise KernelRefused(f"open an RDMA netlink socket {where}", error) from error
            raise InvalidConfig(
                "this kernel has no RDMA",
                why="Its module ib_core is not loaded.",
                fix='Load the card\'s RDMA driver, or leave out "rdma".',
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._netlink.__exit__(kind, error, trace)

    def require_exclusive(self) -> None:
        """Refuse a system in which devices belong to all namespaces.

        Raises:
            InvalidConfig: code 7.
        """
        with _refusals("ask for the mode of the RDMA system"):
            told = dict(attributes(self._netlink.get(Message(_SYS_GET, 0, b""))))
        if told.get(_SYS_NETNS_MODE, b"\1")[0] != _EXCLUSIVE:
            raise InvalidConfig(
                "the RDMA system is in shared mode",
                why="Every namespace sees every RDMA device then, and none can be moved.",
                fix='Boot with "options ib_core netns_mode=0" in /etc/modprobe.d: it can be changed only '
                "while there is no other network namespace.",
            )

    def all(self) -> dict[str, int]:
        """Return the devices' indices, which they keep wherever they are, by name."""
        with _refusals(f"list the RDMA devices {self.where}"):
            bodies = self._netlink.dump(Message(_GET, 0, b""))
        found = [dict(attributes(body)) for body in bodies]
        return {
            told[_DEV_NAME].rstrip(b"\0").decode("utf-8", "surrogateescape"): struct.unpack(
                "=I", told[_DEV_INDEX]
            )[0]
            for told in found
        }

    def move(self, name: str, index: int, into: Netns) -> None:
        """Move a device to another namespace under the name that it has."""
        body = attribute(_DEV_INDEX, index) + attribute(_NET_NS_FD, into.fd)
        with _refusals(f'move the RDMA device "{name}" {self.where} to {into.path}'):
            try:
                self._netlink.change(Message(_SET, 0, body))
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                raise CniError(
                    f'the RDMA device "{name}" cannot be moved to another namespace',
                    why="Its driver does not support that; soft-RoCE is one of those.",
                    fix='Use a card whose driver does, or leave out "rdma".',
                    code=Code.INVALID_NETWORK_CONFIG,
                ) from error


@contextmanager
def _refusals(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KernelRefused(doing, error) from error
