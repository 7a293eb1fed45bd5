"""What ADD of sriov would do."""

from __future__ import annotations

from contextlib import ExitStack

from cni.activation import planned, planned_addresses
from cni.attachment import check_expressible, refuse_own_ipam, refuse_taken_name
from cni.host import netns
from cni.host.links import Links
from cni.host.vf import VfSettings
from cni.plugins.sriov import discovery
from cni.plugins.sriov.config import SriovConf
from cni.plugins.sriov.holders import left_by
from cni.plugins.sriov.plugin import description, program_mac
from cni.plugins.sriov.record import SriovRecord
from cni.plugins.sriov.refusals import check_possible
from cni.plugins.sriov.taking import Taken, look
from cni.protocol.planning import Plan, Planning
from cni.protocol.request import Request
from cni.protocol.result import prev_result
from cni.state import Journal


def plan(request: Request, conf: SriovConf, planning: Planning) -> Plan:
    prev_result(conf.prev_result, request.network.version)
    check_expressible(request, conf)
    refuse_own_ipam(request.network.ipam_type, "sriov")
    wanted = conf.settings(conf.requested_mac(request))
    vf = discovery.identify(conf.device)
    check_possible(conf, wanted, vf, request)
    conf.check_fabric()
    with ExitStack() as stack:
        if request.netns:
            inside = stack.enter_context(netns.opened(request.netns))
            refuse_taken_name(stack.enter_context(Links(inside, "in the sandbox")), request.ifname)
        host = stack.enter_context(Links(stack.enter_context(netns.own()), "on the host"))
        left = left_by(vf, request, Journal(SriovRecord, "sriov", request.environment), host)
        taken = look(conf, wanted, host)
    planning.take_device("VF", vf.address)
    if left:
        open_: tuple[str, ...] = (f"{left.attachment} left the VF, which is restored first",)
    else:
        open_ = ()
    made = Plan(
        "sriov",
        request.network.name,
        request.ifname,
        facts=_facts(conf, wanted, taken),
        open=open_,
    )
    if taken.link:
        mac, mtu = wanted.mac or (None if left else taken.link.mac), conf.mtu or taken.link.mtu
        link = description(request, taken, mac=mac, mtu=mtu)
    else:
        link = description(request, taken, mac=program_mac(wanted, taken))
    ipam = planned_addresses(request, planning)
    return planned(made, request, conf, link, ipam, is_link=taken.link is not None)


def _facts(conf: SriovConf, wanted: VfSettings, taken: Taken) -> dict[str, object]:
    told: dict[str, object] = {"VF": taken.vf.address}
    if taken.link:
        told |= {"device": taken.link.name, "mtu": conf.mtu or taken.link.mtu}
    if taken.vf.pf:
        told |= {"PF": taken.vf.pf.port.name, "VF index": taken.vf.index}
    if taken.vf.is_userspace:
        told["driver"] = taken.vf.driver
    if taken.pf:
        told |= dict(wanted.sentences())
    if conf.moves_rdma:
        told["RDMA device"] = taken.to_remember["rdma"].name
    return told
