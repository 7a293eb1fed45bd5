"""Who has a device already: a pod, one whose sandbox is gone, or nobody."""

from __future__ import annotations

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


def find_or_restore(request: Request, conf: HostDeviceConf, host: Links, holders: Holders) -> Found:
    """Find the configured device; one that fell back to the host is restored first.

    Raises:
        CniError: code 7, there is no such device; code 104, another attachment holds it; code 11,
            one whose sandbox is gone had it, and it is not back yet.
    """
    conf.require_named()
    failure = None
    try:
        found = find(conf, host)
    except DeviceNotFound as error:
        failure, found = error, Found(None)
    on_host = host.all()
    journal = holders.journal(request)
    for record in journal.all():
        if not _concerns(record, found, conf):
            continue
        is_here = record.on_host(on_host) is not None
        if is_alive(record):
            if not is_here:
                raise _in_use(record, conf) from failure
            if record.index is not None:
                # The Go plugin brought it home; what becomes of it from now on is not that one's affair.
                journal.update(record.model_copy(update={"device": Device()}))
        elif is_here:
            # On the host while its sandbox is gone: whoever had it is gone too.
            note(request.attachment, f"restores {record.device.name}, which {record.attachment} left")
            holders.give_back(record.request(request), record)
        elif is_returning(record):
            raise not_back(record) from failure
    return find(conf, host)


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
