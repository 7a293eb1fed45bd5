"""host-device: an interface of the host moves into the sandbox and comes back as it was.

ADD records the device's identity and settings before it touches it. DEL finds the device by them,
under whatever name it has and wherever it is: in the sandbox, or fallen back to the host after the
sandbox died.
"""

from __future__ import annotations

from contextlib import ExitStack

from cni.activation import activate
from cni.attachment import (
    Attachments,
    attached,
    check_expressible,
    differs,
    interface_in,
    previous,
    refuse_taken_name,
)
from cni.device.moving import bring_home, moved_in
from cni.device.record import Device
from cni.host import addressing, netns
from cni.host.links import Link, Links
from cni.plugins.host_device.adopt import adopt
from cni.plugins.host_device.config import HostDeviceConf
from cni.plugins.host_device.finding import Found, find, names_userspace_device
from cni.plugins.host_device.holders import find_or_restore, is_known
from cni.plugins.host_device.record import HostDeviceRecord
from cni.protocol import versions
from cni.protocol.errors import CniError, Code
from cni.protocol.plugin import Plugin
from cni.protocol.request import Request
from cni.protocol.result import Interface, Result, prev_result


def add(request: Request, conf: HostDeviceConf) -> Result:
    prev_result(conf.prev_result, request.network.version)
    check_expressible(request, conf)
    with ExitStack() as stack:
        into = stack.enter_context(netns.opened(request.netns))
        host = stack.enter_context(Links(stack.enter_context(netns.own()), "on the host"))
        sandbox = stack.enter_context(Links(into, "in the sandbox"))
        found = find_or_restore(request, conf, host, ATTACHMENTS)
        refuse_taken_name(sandbox, request.ifname)
        attaching = stack.enter_context(
            ATTACHMENTS.attaching(request, into, device=_to_remember(found, host))
        )
        if found.link is None:
            attaching.made()
            described = description(request, found, None)
            return attaching.done(attached(request, conf, described, attaching.addresses()))
        moved = moved_in(found.link, host, sandbox, request.ifname, alias=found.link.name)
        attaching.made(index=moved.index)
        ipam = attaching.addresses()
        activate(sandbox, moved, request, conf, ipam)
        return attaching.done(attached(request, conf, description(request, found, moved), ipam))


def check(request: Request, conf: HostDeviceConf) -> None:
    result = previous(request, conf)
    index = interface_in(result, request)
    record = ATTACHMENTS.journal(request).find(request.network.name, *request.key)
    if record is None:
        conf.require_named()
    has_interface = bool(record.device.name) if record else not names_userspace_device(conf)
    if has_interface:
        with netns.opened(request.netns) as sandbox, Links(sandbox, "in the sandbox") as links:
            link = links.find(request.ifname)
            if link is None:
                raise differs(request, ["it does not exist in the sandbox"])
            differences = _link_differences(links, link, result.interfaces[index], record)
            differences += addressing.missing(links, link, result.ips_on(index), result.routes)
            if differences:
                raise differs(request, differences)
    ATTACHMENTS.check_ipam(request)


def status(request: Request, conf: HostDeviceConf) -> None:
    """A device that a pod has is no fault; one that is nowhere is. None may be named yet."""
    if conf.named[0]:
        with netns.own() as own, Links(own, "on the host") as host:
            try:
                find(conf, host)
            except CniError as error:
                if not is_known(conf, host, ATTACHMENTS.journal(request)):
                    error.code = Code.NOT_AVAILABLE
                    raise
    ATTACHMENTS.status_ipam(request)


def _to_remember(found: Found, host: Links) -> Device:
    address = found.bus_device.address if found.bus_device else ""
    return Device.of(found.link, host, address) if found.link else Device(bus_address=address)


def description(request: Request, found: Found, moved: Link | None) -> Interface:
    knows_pci_id = versions.at_least(request.network.version, "1.1.0")
    pci_id = found.bus_device.address if found.bus_device and found.bus_device.bus == "pci" else None
    return Interface(
        name=request.ifname,
        mac=moved.mac if moved else None,
        sandbox=request.netns,
        pciID=pci_id if knows_pci_id else None,
    )


def _link_differences(
    inside: Links, link: Link, told: Interface, record: HostDeviceRecord | None
) -> list[str]:
    differences = []
    if told.mac and told.mac.lower() != link.mac:
        differences.append(f"its MAC is {link.mac}, ADD answered {told.mac}")
    if record and not record.is_in_sandbox_as(link, inside):
        differences.append(f'it is not the device "{record.device.name}" that ADD moved')
    if not link.is_up:
        differences.append("it is administratively down")
    return differences


ATTACHMENTS: Attachments[HostDeviceRecord] = Attachments(
    "host-device",
    HostDeviceRecord,
    release=bring_home,
    adopt=lambda request: adopt(request, ATTACHMENTS.journal(request)),
)

PLUGIN = Plugin(
    conf=HostDeviceConf,
    add=add,
    delete=ATTACHMENTS.delete,
    check=check,
    status=status,
    gc=ATTACHMENTS.gc,
)
