"""The way into the sandbox and home; without DEL, the device falls back to the host when its sandbox dies."""

from __future__ import annotations

import errno
import itertools
import time

from cni.device.record import DeviceRecord
from cni.device.restore import restore
from cni.host import netns
from cni.host.link_messages import RTNLGRP_LINK
from cni.host.links import KernelRefused, Link, Links
from cni.host.netns import Netns
from cni.host.sysfs import Sysfs
from cni.protocol.errors import CniError, Code
from cni.protocol.notes import note

SYSFS = Sysfs()

# How long a physical device may take to come back from a namespace that is going away; the kernel
# needs a tenth of a second, and more where many go at once.
_RETURN_SECONDS = 2.0


def moved_in(link: Link, host: Links, sandbox: Links, ifname: str, alias: str) -> Link:
    """Move a device into the sandbox and return it as it arrived.

    Raises:
        CniError: the kernel refused it, or code 11: it is gone.
    """
    drop_altnames(host, link, sandbox, ifname)
    gone = None
    try:
        host.move(link, sandbox.netns, ifname, alias=alias)
    except KernelRefused as error:
        if error.errno != errno.ENODEV:
            raise
        gone = error
    moved = sandbox.find(ifname) if gone is None else None
    if moved is None:
        raise CniError(
            f'"{link.name}" vanished on its way to the sandbox',
            why="Another call or program took it at the same moment.",
            fix="Call again, and it says who has it.",
            code=Code.TRY_AGAIN_LATER,
        ) from gone
    return moved


def bring_home(record: DeviceRecord, sandbox: Netns | None) -> None:
    """Bring a device home and give it back what it was; a virtual one dies with its sandbox.

    After a boot nothing is given back: the device is what that made of it.
    """
    if not record.device.name:
        return
    if not netns.is_of_this_boot(record.sandbox):
        note(record.attachment, f'the machine has booted since; "{record.device.name}" is left as it is')
        return
    with netns.own() as home, Links(home, "on the host") as host:
        link = arrived(record, sandbox, host)
        if link:
            restore(record, host, link)


def arrived(record: DeviceRecord, sandbox: Netns | None, host: Links) -> Link | None:
    """Return the device as it is on the host, from the sandbox or fallen back; None if it is gone.

    Raises:
        CniError: code 11, it is neither here nor there, but not gone.
    """
    link = _brought_home(record, sandbox, host) if sandbox else None
    link = link or record.on_host(host.all())
    if link is None and is_returning(record):
        link = _awaited(record, host)
    if link is None:
        note(record.attachment, f'the device "{record.device.name}" is gone; there is nothing to restore')
    return link


def _brought_home(record: DeviceRecord, sandbox: Netns, host: Links) -> Link | None:
    """Move the device out of the sandbox, if it is there, and return it as it arrived.

    It keeps ADD's alias, by which a virtual device is known until all is restored.
    """
    device = record.device
    with Links(sandbox, "in the sandbox") as inside:
        link = record.in_sandbox(inside)
        if link is None:
            return None
        name = home_name(device.name, host, link)
        index = device.index if host.by_index(device.index) is None else None
        drop_altnames(inside, link, host, name)
        inside.move(link, host.netns, name, alias=device.name, index=index)
        return host.find(name)


def home_name(wanted: str, host: Links, link: Link) -> str:
    """Return the wanted name, or a free one if another interface has taken that."""
    if host.find(wanted) is None:
        return wanted
    numbers = itertools.chain((link.index,), itertools.count())
    return next(name for number in numbers if host.find(name := f"dev{number}") is None)


def drop_altnames(origin: Links, link: Link, target: Links, name: str) -> None:
    """Take away the alternative names without which the kernel would refuse to move and name a link."""
    for altname in link.altnames:
        if altname == name or target.find(altname):
            origin.remove_altname(link, altname)


def is_returning(record: DeviceRecord) -> bool:
    """Tell whether a device that was moved and is not to be found is still somewhere on this machine."""
    was_moved = record.index is not None and record.device.is_physical
    return was_moved and netns.is_of_this_boot(record.sandbox) and _has_network_driver(record.device.parent)


def _has_network_driver(address: str) -> bool:
    """Tell whether a device of that address is there and has an interface somewhere."""
    device = SYSFS.device(address)
    return device is not None and SYSFS.driver(device) is not None and not SYSFS.is_userspace(device)


def _awaited(record: DeviceRecord, host: Links) -> Link:
    """Wait a moment for a device to fall back to the host.

    Raises:
        CniError: code 11, it is not there yet.
    """
    deadline = time.monotonic() + _RETURN_SECONDS
    with host.events(RTNLGRP_LINK) as listener:
        while True:
            link = record.on_host(host.all())
            if link:
                return link
            if time.monotonic() > deadline:
                raise not_back(record)
            listener.events(deadline - time.monotonic())


def not_back(record: DeviceRecord) -> CniError:
    device = record.device
    return CniError(
        f'the device "{device.name}" ({device.parent}) is not back on the host yet',
        why=f"{record.attachment} had it; its namespace is still going away, or it is in another one.",
        fix="Call again; if it stays so, look for a process that keeps the namespace (lsns -t net).",
        code=Code.TRY_AGAIN_LATER,
    )
