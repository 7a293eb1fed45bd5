"""Per-interface settings under /proc/sys/net.

These files show the namespace of the calling thread, so call from inside `Netns.run`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from cni.protocol.errors import CniError, Code

_FOLDERS = (("ipv4", "conf"), ("ipv4", "neigh"), ("ipv6", "conf"), ("ipv6", "neigh"))
# Written last and even if it is as usual: writing an IPv6 secret changes it.
_ALWAYS = ("addr_gen_mode",)
_LONGEST = 256  # bytes of a value


def write(family: str, ifname: str, name: str, value: str, *, kind: str = "conf") -> None:
    """Write `net/<family>/<kind>/<ifname>/<name>`, if it has not that value already.

    Raises:
        CniError: code 106, the kernel has no such setting or refused it.
    """
    path = _path(family, kind, ifname, name)
    try:
        if read(family, ifname, name, kind=kind) != value:
            with _opened(path, os.O_WRONLY) as fd:
                os.write(fd, value.encode())
    except OSError as error:
        raise CniError(
            f'cannot set {name}={value} on "{ifname}"',
            why=f"Writing {path} failed: {error.strerror}.",
            fix=f"Look whether this kernel has {family} and the container may change its sysctls.",
            code=Code.KERNEL_REFUSED,
        ) from error


def read(family: str, ifname: str, name: str, *, kind: str = "conf") -> str | None:
    """Return a setting's value, or None where the kernel does not have it."""
    value = _value(_path(family, kind, ifname, name), os.O_RDONLY)
    return None if value is None else value.decode().strip()


def own_settings(ifname: str) -> dict[str, str]:
    """Return what of a link's settings can be written and is not as a new link has it.

    Keys are as in `ipv6/conf/accept_ra`. That makes 250 files to read, in 1.2 ms: netlink tells
    most of the values too, but not what is usual.
    """
    found = {}
    for family, kind in _FOLDERS:
        own = _values(_path(family, kind, ifname), os.O_RDWR)
        usual = _values(_path(family, kind, "default"), os.O_RDONLY, own)
        own.pop("mtu", None)  # the link's, again each time that it is set up
        for name, value in own.items():
            if value != usual.get(name) or name in _ALWAYS:
                found[f"{family}/{kind}/{name}"] = value.decode().strip()
    return found


def write_settings(ifname: str, settings: dict[str, str]) -> None:
    """Write what `own_settings` returned."""
    for key in sorted(settings, key=lambda key: (key.endswith(_ALWAYS), key)):
        family, kind, name = key.split("/")
        write(family, ifname, name, settings[key], kind=kind)


def _values(path: str, flags: int, names: Iterable[str] = ()) -> dict[str, bytes]:
    """Return what is in a folder, or those of some names, as far as it can be opened so.

    That is nothing if there is no folder.
    """
    with suppress(OSError), _opened(path, os.O_DIRECTORY) as folder:  # a path would be walked each time
        names = names or os.listdir(folder)  # noqa: PTH208 (no Path is an open folder)
        return {name: value for name in names if (value := _value(name, flags, folder)) is not None}
    return {}


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _value(path: str, flags: int, folder: int | None = None) -> bytes | None:
    try:
        fd = os.open(path, flags | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    try:
        return os.read(fd, _LONGEST)
    except OSError:  # a secret that was never set
        return None
    finally:
        os.close(fd)


def _path(*parts: str) -> str:
    return "/".join(("/proc/sys/net", *parts))  # a Path would take longer than the file behind it
