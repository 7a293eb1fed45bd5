"""Who has a device already: a pod, one whose sandbox is gone, or nobody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cni.attachment import Attachments, is_alive
from cni.device.moving import is_returning, not_back
from cni.device.record import Device
from cni.host.links import Links
from cni.plugins.host_device.config import HostDeviceConf
from cni.plugins.host_device.finding import STACKED_KINDS, DeviceNotFound, Found, find
from cni.plugins.host_device.record import HostDeviceRecord
from cni.protocol.errors import CniError, Code
from cni.protocol.notes import note
from cni.protocol.request import Request
from cni.state import Journal

Holders = Attachments[HostDeviceRecord]


@dataclass(frozen=True)
class Concerning:
    """A record of a device that a configuration names, where that device is, and whether the pod lives."""

    record: HostDeviceRecord
    is_here: bool
    is_alive: bool


def look(request: Request, conf: HostDeviceConf, host: Links, holders: Holders) -> Found | Device:
    """Find the configured device as ADD would, and change nothing: a device if ADD would restore it first.

    Raises:
        CniError: as find_or_restore.
    """
    conf.require_named()
    failure, found = _found(conf, host)
    for each in _concerning(request, conf, found, host, holders):
        if each.is_alive and not each.is_here:
            raise _in_use(each.record, conf) from failure
        if not each.is_alive and each.is_here:
            return each.record.device
        if not each.is_alive and is_returning(each.record):
            raise not_back(each.record) from failure
    if failure:
        raise failure
    return found


def find_or_restore(request: Request, conf: HostDeviceConf, host: Links, holders: Holders) -> Found:
    """Find the configured device; one that fell back to the host is restored first.

    Raises:
        CniError: code 7, there is no such device; code 104, another attachment holds it; code 11,
            one whose sandbox is gone had it, and it is not back yet.
    """
    conf.require_named()
    failure, found = _found(conf, host)
    restored = False
    for each in _concerning(request, conf, found, host, holders):
        record = each.record
        if each.is_alive:
            if not each.is_here:
                raise _in_use(record, conf) from failure
            if record.index is not None:
                # The Go plugin brought it home; what becomes of it from now on is not that one's affair.
                holders.journal(request).update(record.model_copy(update={"device": Device()}))
        elif each.is_here:
            # On the host while its sandbox is gone: whoever had it is gone too.
            note(request.attachment, f"restores {record.device.name}, which {record.attachment} left")
            holders.give_back(record.request(request), record)
            restored = True
        elif is_returning(record):
            raise not_back(record) from failure
    return find(conf, host) if failure or restored else found


def _found(conf: HostDeviceConf, host: Links) -> tuple[DeviceNotFound | None, Found]:
    try:
        return None, find(conf, host)
    except DeviceNotFound as error:
        return error, Found(None)


def _concerning(
    request: Request, conf: HostDeviceConf, found: Found, host: Links, holders: Holders
) -> Iterator[Concerning]:
    concerning = [record for record in holders.journal(request).all() if _concerns(record, found, conf)]
    on_host = host.all() if concerning else []
    for record in concerning:
        yield Concerning(record, record.on_host(on_host) is not None, is_alive(record))


def is_known(conf: HostDeviceConf, host: Links, journal: Journal[HostDeviceRecord]) -> bool:
    """Tell whether a pod of ours has the configured device, or an ADD would restore it."""
    on_host = host.all()
    known = [record for record in journal.all() if record.is_named(*conf.named)]
    return any(is_alive(record) or record.on_host(on_host) for record in known)


def _concerns(record: HostDeviceRecord, found: Found, conf: HostDeviceConf) -> bool:
    if found.link and record.on_host([found.link]):
        return True
    if found.link and found.link.kind not in STACKED_KINDS:
        return False
    if found.bus_device:  # with a userspace driver, there is no interface to know it by
        return not record.device.name and record.device.bus_address == found.bus_device.address
    # A link that rides on the device remains when the device itself is away.
    return record.device.kind not in STACKED_KINDS and record.is_named(*conf.named)


def _in_use(record: HostDeviceRecord, conf: HostDeviceConf) -> CniError:
    key, value = conf.named
    return CniError(
        f'the device with {key} "{value}" is in use',
        why=f"{record.attachment} has it since {record.created}.",
        fix="Detach it there first, or name another device.",
        code=Code.DEVICE_IN_USE,
    )
