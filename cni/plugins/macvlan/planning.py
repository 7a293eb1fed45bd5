"""What ADD of macvlan would do."""

from __future__ import annotations

from contextlib import ExitStack

from cni.activation import planned, planned_addresses
from cni.attachment import check_expressible, is_alive, refuse_own_ipam, refuse_taken_name
from cni.host import netns
from cni.host.links import Link, Links
from cni.plugins.macvlan.config import MacvlanConf, MacvlanRecord
from cni.plugins.macvlan.master import check_mtu, find_master, lower_index
from cni.plugins.macvlan.plugin import ATTACHMENTS, mac_of_address
from cni.plugins.macvlan.refusals import refuse_unfit
from cni.protocol.planning import Plan, Planning
from cni.protocol.request import Request
from cni.protocol.result import Interface, Result, prev_result


def plan(request: Request, conf: MacvlanConf, planning: Planning) -> Plan:
    requested = conf.requested_mac(request)
    prev_result(conf.prev_result, request.network.version)
    check_expressible(request, conf)
    refuse_own_ipam(request.network.ipam_type, "macvlan")
    open_: list[str] = []
    master = _master(request, conf, open_)
    ipam = planned_addresses(request, planning)
    mac = _mac(conf, master, requested, ipam.result if ipam else None)
    if mac is None:
        open_.append("the MAC is chosen by ADD, at random unless an address decides it")
    made = Plan(
        "macvlan",
        request.network.name,
        request.ifname,
        facts=_facts(conf, master),
        open=tuple(open_),
    )
    link = Interface(name=request.ifname, mac=mac, sandbox=request.netns)
    return planned(made, request, conf, link, ipam, is_link=True)


def _master(request: Request, conf: MacvlanConf, open_: list[str]) -> Link | None:
    """Return the master; None if it is to be in a sandbox that is not there yet."""
    with ExitStack() as stack:
        sandbox = None
        if request.netns:
            inside = stack.enter_context(netns.opened(request.netns))
            sandbox = stack.enter_context(Links(inside, "in the sandbox"))
            refuse_taken_name(sandbox, request.ifname)
        if not conf.link_in_container:
            parents = stack.enter_context(Links(stack.enter_context(netns.own()), "on the host"))
        elif sandbox:
            parents = sandbox
        else:
            open_.append("the master is looked for in the sandbox (linkInContainer)")
            return None
        master = find_master(parents, conf)
        check_mtu(conf, master)
        refuse_unfit(request.ifname, conf, master, parents, _riders(request, master))
        return master


def _riders(request: Request, master: Link) -> list[MacvlanRecord]:
    records = ATTACHMENTS.journal(request).all()
    return [each for each in records if each.lower_index == lower_index(master) and is_alive(each)]


def _mac(conf: MacvlanConf, master: Link | None, requested: str | None, ipam: Result | None) -> str | None:
    if conf.mode == "passthru":
        return master.mac if master else None
    if requested is None and conf.mac_from_address and ipam and ipam.ips:
        return mac_of_address(conf, ipam)
    return requested


def _facts(conf: MacvlanConf, master: Link | None) -> dict[str, object]:
    told: dict[str, object] = {"master": master.name if master else conf.master, "mode": conf.mode}
    mtu = conf.mtu or (master.mtu if master else None)
    return {key: value for key, value in (told | {"mtu": mtu}).items() if value is not None}
