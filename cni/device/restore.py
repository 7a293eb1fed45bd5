"""Give a device that is on the host again back what it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from cni.device.mac import give_mac
from cni.device.record import Device, DeviceRecord
from cni.host import sysctl
from cni.host.links import KernelRefused, Link, Links
from cni.host.routes import KeptRoute, give_again
from cni.protocol.errors import CniError, Code, all_of
from cni.protocol.notes import note


def restore(record: DeviceRecord, host: Links, link: Link) -> None:
    """Give a device on the host back what differs from the record, whatever of it fails.

    Raises:
        CniError: what could not be given back.
    """
    failures = []
    for step in _steps(record, record.device, host, link):
        try:
            step()
        except CniError as error:
            failures.append(error)
    if failures:
        raise all_of(failures)


def _steps(record: DeviceRecord, device: Device, host: Links, link: Link) -> Iterator[Callable[[], None]]:
    if link.name != device.name:
        yield partial(_restore_name, record, host, link)
    if link.mac != device.mac:
        yield partial(give_mac, host, link, device.mac)
    if link.mtu != device.mtu:
        yield partial(host.set_mtu, link, device.mtu)
    if device.manners and link.manners != device.manners:
        yield partial(host.set_manners, link, *device.manners)
    yield partial(_restore_altnames, record, host, link)
    if device.upper_index not in (0, link.upper_index):
        yield partial(_restore_upper, record, host, link)
    yield partial(_restore_settings, device, host, link)
    if device.is_up:
        yield partial(host.set_up, link)
    yield partial(_restore_addresses, device, host, link)
    for route in device.routes:
        yield partial(_restore_route, record, host, link, route)
    yield partial(host.set_alias, link, device.alias)  # last: it tells that something is left to do


def _restore_name(record: DeviceRecord, host: Links, link: Link) -> None:
    wanted = record.device.name
    if host.find(wanted):
        note(
            record.attachment, f'the name "{wanted}" is taken on the host; the device is "{link.name}" there'
        )
        return
    host.set_down(link)  # kernels before 6.2 rename no link that is up
    host.rename(link, wanted)


def _restore_altnames(record: DeviceRecord, host: Links, link: Link) -> None:
    """Give all of them anew if one is missing or foreign: the kernel keeps them in the order they came in."""
    if link.altnames == record.device.altnames:
        return
    for altname in link.altnames:
        host.remove_altname(link, altname)
    for altname in record.device.altnames:
        if host.find(altname):
            note(record.attachment, f'the alternative name "{altname}" is taken on the host')
        else:
            host.add_altname(link, altname)


def _restore_upper(record: DeviceRecord, host: Links, link: Link) -> None:
    """Make it a port again, before it is up: a bond takes no other."""
    device = record.device
    upper = host.by_index(device.upper_index)
    if upper and upper.name == device.upper_name:
        host.set_master(link, upper.index)
    else:
        note(record.attachment, f'"{device.upper_name}", of which it was a port, is gone')


def _restore_settings(device: Device, host: Links, link: Link) -> None:
    """Before it is up, for the kernel makes addresses then."""
    now = host.by_index(link.index)
    if now:
        sysctl.write_settings(now.name, device.settings)


def _restore_addresses(device: Device, host: Links, link: Link) -> None:
    present = {address.cidr for address in host.addresses(link.index)}
    absent = [address for address in device.addresses if address.cidr not in present]
    # The kernel lists the newest IPv6 address first, and prefers it among equals.
    ipv6 = [address for address in reversed(absent) if address.cidr.version == 6]
    host.add_addresses(link, [address for address in absent if address.cidr.version == 4] + ipv6)


def _restore_route(record: DeviceRecord, host: Links, link: Link, route: KeptRoute) -> None:
    """A route that does not fit any more, because the host's others have changed, is no failure."""
    try:
        give_again(host, link, route)
    except KernelRefused as error:
        if error.code not in (Code.KERNEL_REFUSED, Code.INVALID_NETWORK_CONFIG):
            raise
        note(record.attachment, f"{error.msg}; it is not restored")
