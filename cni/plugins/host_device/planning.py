"""What ADD of host-device would do."""

from __future__ import annotations

from contextlib import ExitStack

from cni.activation import planned, planned_addresses
from cni.attachment import check_expressible, refuse_own_ipam, refuse_taken_name
from cni.device.record import Device
from cni.host import netns
from cni.host.links import Links
from cni.plugins.host_device.config import HostDeviceConf
from cni.plugins.host_device.finding import Found
from cni.plugins.host_device.holders import look
from cni.plugins.host_device.plugin import ATTACHMENTS, description
from cni.protocol.planning import Plan, Planning
from cni.protocol.request import Request
from cni.protocol.result import Interface, prev_result


def plan(request: Request, conf: HostDeviceConf, planning: Planning) -> Plan:
    prev_result(conf.prev_result, request.network.version)
    check_expressible(request, conf)
    refuse_own_ipam(request.network.ipam_type, "host-device")
    with ExitStack() as stack:
        if request.netns:
            inside = stack.enter_context(netns.opened(request.netns))
            refuse_taken_name(stack.enter_context(Links(inside, "in the sandbox")), request.ifname)
        host = stack.enter_context(Links(stack.enter_context(netns.own()), "on the host"))
        found = look(request, conf, host, ATTACHMENTS)
    if isinstance(found, Device):
        told, link, name = _of_device(found, request), bool(found.name), found.name or found.bus_address
        open_: tuple[str, ...] = (f"{name} was left by a pod that is gone, and is restored first",)
        facts: dict[str, object] = {"device": name, "bus address": found.bus_address, "mtu": found.mtu}
    else:
        told, link, name = description(request, found, found.link), found.link is not None, _name(found)
        open_ = ()
        address = found.bus_device.address if found.bus_device else ""
        mtu = found.link.mtu if found.link else 0
        facts = {"device": name, "bus address": address, "mtu": mtu}
    planning.take_device("device", name)
    made = Plan(
        "host-device",
        request.network.name,
        request.ifname,
        facts={key: value for key, value in facts.items() if value},
        open=open_,
    )
    ipam = planned_addresses(request, planning)
    return planned(made, request, conf, told, ipam, is_link=link)


def _name(found: Found) -> str:
    if found.link:
        return found.link.name
    return found.bus_device.address if found.bus_device else ""


def _of_device(device: Device, request: Request) -> Interface:
    return Interface(name=request.ifname, mac=device.mac or None, sandbox=request.netns)
