"""Attachments without a record: a device that the Go plugin moved comes home.

That plugin leaves the host's name as the interface's alias.
"""

from __future__ import annotations

from cni.attachment import told_mac
from cni.device.moving import drop_altnames, home_name
from cni.host import netns
from cni.host.links import Link, Links
from cni.host.netns import Netns
from cni.plugins.host_device.record import HostDeviceRecord
from cni.protocol.notes import note
from cni.protocol.request import Request, ifname_fault
from cni.state import Journal


def adopt(request: Request, journal: Journal[HostDeviceRecord]) -> None:
    """Bring home what the call names, unless it is the device of an attachment in the journal."""
    with (
        netns.own() as home,
        Links(home, "on the host") as host,
        netns.opened_if_present(request.netns) as sandbox,
    ):
        if sandbox:
            _adopt_from(sandbox, request, host, journal)
        else:
            _adopt_fallen_back(request, host)


def _adopt_from(sandbox: Netns, request: Request, host: Links, journal: Journal[HostDeviceRecord]) -> None:
    with Links(sandbox, "in the sandbox") as inside:
        link = inside.find(request.ifname)
        if link is None:
            return
        owner = _owner(link, inside, sandbox, journal)
        if owner:
            note(request.attachment, f"{request.ifname} is left alone: it is {owner.attachment}")
            return
        if not _is_home_name(link.alias):
            note(request.attachment, f"{request.ifname} is left alone: no record or alias says whose it is")
            return
        name = home_name(link.alias, host, link)
        drop_altnames(inside, link, host, name)
        inside.move(link, host.netns, name, alias="")


def _adopt_fallen_back(request: Request, host: Links) -> None:
    """Rename what fell back to the host under the pod's name, if the result of ADD proves that it is it."""
    mac = told_mac(request)
    for link in host.all():
        is_it = not link.kind and mac == link.mac and _is_home_name(link.alias) and link.alias != link.name
        if is_it and host.find(link.alias) is None:
            host.set_down(link)  # kernels before 6.2 rename no link that is up
            host.rename(link, link.alias)
            host.set_alias(link, "")


def _owner(
    link: Link, inside: Links, sandbox: Netns, journal: Journal[HostDeviceRecord]
) -> HostDeviceRecord | None:
    """Return the attachment whose device a link of the sandbox is."""
    identity = sandbox.identity()
    here = (record for record in journal.all() if record.sandbox == identity)
    return next((record for record in here if record.is_in_sandbox_as(link, inside)), None)


def _is_home_name(alias: str) -> bool:
    """Tell whether an alias can be what the Go plugin left, and not an administrator's words."""
    return bool(alias) and not ifname_fault(alias)
