"""Network namespaces: open one, enter it, tell it from another of the same path.

Source: setns(2), namespaces(7), ioctl_ns(2); SO_NETNS_COOKIE in the kernel's
`include/uapi/asm-generic/socket.h`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from cni.boot import boot_id
from cni.protocol.errors import InvalidNetns
from cni.protocol.request import Request

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703
_SO_NETNS_COOKIE = 71
# Namespaces belong to threads: /proc/self would name the main thread's.
_OWN_NETNS = "/proc/thread-self/ns/net"
# What open(2) says of a path where no namespace can be; ENXIO: it is a socket.
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)

T = TypeVar("T")

_Opener = Callable[[str, int], int]
# How paths of namespaces are opened; who has them in another way says so for the calls that it makes.
_opener: ContextVar[_Opener] = ContextVar("opener", default=os.open)


@dataclass(frozen=True)
class Netns:
    """An open network namespace; `path` is how the caller calls it."""

    path: str
    fd: int

    def identity(self) -> str:
        """Return a text that no other namespace, later or elsewhere, has.

        A namespace's inode number is used again at once, so it is the cookie that tells (Linux
        5.14 and later, unique per boot). Without one, device, inode and change time must do: they
        may take the same namespace for another, never another for the same.
        """
        boot = boot_id()
        with self.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe, suppress(OSError):
            cookie = probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
            return f"{boot}/cookie-{int.from_bytes(cookie, sys.byteorder)}"
        found = os.fstat(self.fd)
        return f"{boot}/{found.st_dev}-{found.st_ino}-{found.st_ctime_ns}"

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Return a socket that belongs to this namespace and stays there."""
        try:
            return self.run(lambda: socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol))
        except OSError as error:
            raise OSError(error.errno, error.strerror, error.filename or self.path) from error

    def run(self, work: Callable[[], T]) -> T:
        """Call `work` with this thread inside, then put the thread back where it was.

        Only for what has no form that takes a namespace: opening sockets, sysctls.
        """
        home = os.open(_OWN_NETNS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                _setns(self.fd)
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.path) from error
            try:
                return work()
            finally:
                _setns(home)
        finally:
            os.close(home)


@contextmanager
def opened(path: str) -> Iterator[Netns]:
    """Open the network namespace at `path`.

    Raises:
        InvalidNetns: code 8, it is gone, or is a file of another kind.
        OSError: it cannot be opened for another reason, which tells nothing of whether it is there.
    """
    try:
        # O_NONBLOCK: a FIFO in that place must not hold us.
        fd = _opener.get()(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in _NOWHERE:
            raise
        raise InvalidNetns(
            f'failed to open netns "{path}"',
            why=f"{getattr(error, 'strerror', None) or error}.",
            fix="Give the path of a sandbox that exists.",
        ) from error
    try:
        if not _is_netns(fd):
            raise InvalidNetns(
                f'"{path}" is not a network namespace',
                why="It may be the mount point that a deleted namespace left.",
                fix="Give the path of a sandbox that exists.",
            )
        yield Netns(path, fd)
    finally:
        os.close(fd)


@contextmanager
def opening_by(opener: _Opener) -> Iterator[None]:
    """Within the block, open paths of namespaces by `opener`, which takes what `os.open` takes."""
    token = _opener.set(opener)
    try:
        yield
    finally:
        _opener.reset(token)


@contextmanager
def opened_if_present(path: str) -> Iterator[Netns | None]:
    """As `opened`, but None where there is no namespace at `path`, or `path` is empty."""
    with ExitStack() as stack:
        try:
            netns = stack.enter_context(opened(path))
        except InvalidNetns:
            netns = None
        yield netns


class _OwnNetns(Netns):
    """The namespace that the thread is in anyway."""

    def run(self, work: Callable[[], T]) -> T:
        return work()


@contextmanager
def own() -> Iterator[Netns]:
    """Open the namespace that this thread is in: the host's."""
    fd = os.open(_OWN_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield _OwnNetns(_OWN_NETNS, fd)
    finally:
        os.close(fd)


def refuse_own_namespace(request: Request) -> None:
    """Refuse a sandbox that is the caller's own namespace, before anything is touched.

    A path where no namespace is, is not judged here. CNI_NETNS_OVERRIDE lifts the check, as in the
    Go library.

    Raises:
        InvalidNetns: code 8.
        OSError: as of `opened`; what could not be looked at may be the host's.
    """
    if request.variable("CNI_NETNS_OVERRIDE").lower() in ("1", "true"):
        return
    with opened_if_present(request.netns) as sandbox, own() as here:
        is_own = sandbox and os.path.sameopenfile(sandbox.fd, here.fd)
    if is_own:
        raise InvalidNetns(
            f'CNI_NETNS "{request.netns}" is the namespace that the plugin itself runs in',
            why="Acting there would change the host's own interfaces.",
            fix="Give the sandbox's path, or set CNI_NETNS_OVERRIDE=1 if the host is really meant.",
        )


def is_of_this_boot(identity: str) -> bool:
    """Tell whether an identity was taken since the machine booted; no namespace is older than that."""
    return identity.partition("/")[0] == boot_id()


def _is_netns(fd: int) -> bool:
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False


if sys.version_info >= (3, 12):

    def _setns(fd: int) -> None:
        os.setns(fd, _CLONE_NEWNET)

else:
    import ctypes  # 6 ms; os.setns comes with Python 3.12

    _libc = ctypes.CDLL(None, use_errno=True)

    def _setns(fd: int) -> None:
        if _libc.setns(fd, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "setns")
