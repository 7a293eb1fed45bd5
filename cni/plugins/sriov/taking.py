"""A VF is taken: nobody has it any more, and what it is now is known before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cni.device import rdma
from cni.device.record import Device
from cni.host.links import Link, Links, PhysicalFunction
from cni.host.vf import VfSettings
from cni.plugins.sriov import discovery, settings
from cni.plugins.sriov.config import SriovConf
from cni.plugins.sriov.discovery import Vf
from cni.plugins.sriov.holders import make_free
from cni.plugins.sriov.record import SriovRecord
from cni.plugins.sriov.refusals import check_guid
from cni.protocol.errors import InvalidConfig
from cni.protocol.request import Request
from cni.state import Journal


@dataclass(frozen=True)
class Taken:
    """A VF with its interface, if it has one, its PF, if that is here, and what both are now."""

    vf: Vf
    link: Link | None
    pf: PhysicalFunction | None
    present: VfSettings
    to_remember: dict[str, Any]  # fields of the record


def take(
    request: Request, conf: SriovConf, wanted: VfSettings, host: Links, journal: Journal[SriovRecord]
) -> Taken:
    """Make a VF free, and look at it; the caller holds its lock.

    Raises:
        CniError: another pod has it, or it cannot be attached or be given what is wanted.
    """
    last = make_free(discovery.identify(conf.device), request, journal, host)
    return look(conf, wanted, host, last)


def look(conf: SriovConf, wanted: VfSettings, host: Links, last: SriovRecord | None = None) -> Taken:
    """Look at a VF that is free; `last` is the attachment that had it before, if it was restored for this.

    Raises:
        CniError: it cannot be attached or be given what is wanted.
    """
    vf = discovery.identify(conf.device)
    discovery.check_attachable(vf)
    link = None if vf.is_userspace else _interface(vf, host)
    if link:
        check_guid(link, wanted, vf)
    pf = settings.held(vf.pf, host) if vf.pf else None
    present = pf.vfs.get(vf.index, VfSettings()) if pf else VfSettings()
    if pf:
        _check_told(wanted, present, vf)
    device = Device.of(link, host, vf.address) if link else Device(bus_address=vf.address)
    to_remember = {
        "vf": vf.address,
        "incarnation": discovery.SYSFS.incarnation(vf.device),
        "wanted": wanted if pf else VfSettings(),
        "original": present,
        "device": device,
        "rdma": rdma.movable(vf.address) if conf.moves_rdma else None,
    }
    if last:
        to_remember |= _first_found(last, present, device)
    return Taken(vf, link, pf, present, to_remember)


def _first_found(last: SriovRecord, present: VfSettings, device: Device) -> dict[str, Any]:
    """Return what the attachment before this one had found, which is what the VF is to be again."""
    original = last.original.only(lambda name: name in last.wanted.names).over(present)
    if not device.name or not last.device.name:
        return {"original": original}
    return {"original": original, "device": last.device.model_copy(update={"index": device.index})}


def _interface(vf: Vf, host: Links) -> Link:
    for port in vf.ports:
        link = host.find(port.name)
        if link and link.parent in ("", vf.address):  # kernels before 5.14 do not tell
            return link
    raise discovery.elsewhere(vf)


def _check_told(wanted: VfSettings, present: VfSettings, vf: Vf) -> None:
    """Refuse to change what could not be given back, because the driver does not tell what it is."""
    for name in wanted.names:
        if getattr(present, name) is None:
            key = settings.KEYS.get(name, name)
            raise InvalidConfig(
                f'"{key}" cannot be set: {vf.pf} does not tell what VF {vf.index} has',
                why="So it could not be given back either; the driver has no such setting.",
                fix=f'Remove "{key}".',
            )
