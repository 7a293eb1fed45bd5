"""Per-interface settings under /proc/sys/net.

These files show the namespace of the calling thread, so call from inside `Netns.run`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from cni.protocol.errors import CniError, Code

# Written last and even if it is as usual: writing an IPv6 secret changes it.
_ALWAYS = ("addr_gen_mode",)


def write(family: str, ifname: str, name: str, value: str, *, kind: str = "conf") -> None:
    """Write `net/<family>/<kind>/<ifname>/<name>`, if it has not that value already.

    Raises:
        CniError: code 106, the kernel has no such setting or refused it.
    """
    path = _path(family, kind, ifname, name)
    try:
        if read(family, ifname, name, kind=kind) != value:
            with open(path, "wb", buffering=0) as file:
                file.write(value.encode())
    except OSError as error:
        raise CniError(
            f'cannot set {name}={value} on "{ifname}"',
            why=f"Writing {path} failed: {error.strerror}.",
            fix=f"Look whether this kernel has {family} and the container may change its sysctls.",
            code=Code.KERNEL_REFUSED,
        ) from error


def read(family: str, ifname: str, name: str, *, kind: str = "conf") -> str | None:
    """Return a setting's value, or None where the kernel does not have it."""
    try:
        with open(_path(family, kind, ifname, name), "rb", buffering=0) as file:
            return file.read().decode().strip()
    except OSError:
        return None


def own_settings(ifname: str) -> dict[str, str]:
    """Return what of a link's settings can be written and is not as a new link has it.

    Keys are as in `ipv6/conf/accept_ra`. That makes 260 files to read, in 2 ms.
    """
    found = {}
    for family, kind, name in _settings_of(ifname):
        value = read(family, ifname, name, kind=kind)
        is_usual = value == read(family, "default", name, kind=kind) and name not in _ALWAYS
        if value is None or is_usual:
            continue
        if os.access(_path(family, kind, ifname, name), os.W_OK):
            found[f"{family}/{kind}/{name}"] = value
    return found


def write_settings(ifname: str, settings: dict[str, str]) -> None:
    """Write what `own_settings` returned."""
    for key in sorted(settings, key=lambda key: (key.endswith(_ALWAYS), key)):
        family, kind, name = key.split("/")
        write(family, ifname, name, settings[key], kind=kind)


def _settings_of(ifname: str) -> Iterator[tuple[str, str, str]]:
    for family in ("ipv4", "ipv6"):
        for kind in ("conf", "neigh"):
            with suppress(OSError):  # a kernel or a link without that family
                for name in sorted(os.listdir(_path(family, kind, ifname))):  # noqa: PTH208
                    if name != "mtu":  # the link's, again each time that it is set up
                        yield family, kind, name


def _path(*parts: str) -> str:
    return "/".join(("/proc/sys/net", *parts))  # a Path would take longer than the file behind it
