"""The last step of ADD: a link gets its addresses and is set up, the neighbours are told; or its plan."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, Any

from cni.attachment import AttachmentConf, attached, missing_addresses
from cni.host import addressing
from cni.host.announce import announce
from cni.host.links import Link, Links, NewRoute
from cni.protocol import delegate, gojson
from cni.protocol.addresses import parse_cidr
from cni.protocol.request import Request
from cni.protocol.result import Interface, Result

if TYPE_CHECKING:
    from cni.protocol.planning import Plan, Planning


def activate(sandbox: Links, link: Link, request: Request, conf: AttachmentConf, ipam: Result | None) -> None:
    """Give a link in the sandbox what the IPAM plugin answered, if there is one, and set it up.

    Without one, the pod gives itself the addresses that were asked for, and where those are now is
    told all the same.

    Raises:
        CniError: the kernel refused something, or an address is in use (105).
    """
    if ipam:
        addressing.apply(sandbox, link, ipam, dad=conf.dad, announces=conf.announce, probes=conf.probe)
        return
    sandbox.set_up(link)
    if conf.announce:
        announce(sandbox.netns, link, _asked_for(request, conf))


def planned_addresses(request: Request, planning: Planning) -> Plan | None:
    """Return what the IPAM plugin would do; None if there is none.

    Raises:
        CniError: the IPAM plugin's, or code 7 if it would give no address.
    """
    ipam = request.network.ipam_type
    if not ipam:
        return None
    made = delegate.plan(ipam, request, planning)
    if made.is_known and not made.result.ips and not made.open:
        raise missing_addresses(ipam)
    return made


def planned(
    made: Plan, request: Request, conf: AttachmentConf, link: Interface, ipam: Plan | None, *, is_link: bool
) -> Plan:
    """Complete the plan of an attachment: the answer, and what its interface gets, if it has one.

    Raises:
        InvalidConfig: code 7, the interface cannot have an address or a route.
    """
    result = ipam.result if ipam and ipam.result.ips else None
    mtu = made.facts.get("mtu")
    if result and is_link:
        known = mtu if isinstance(mtu, int) else sys.maxsize  # what is not known is not refused
        addressing.check_possible(request.ifname, known, [ip.address for ip in result.ips])
    settings = (
        addressing.settings(request.ifname, result, dad=conf.dad, announces=conf.announce) if result else ()
    )
    routes = [addressing.new_route(each, result) for each in result.routes] if result else []
    return replace(
        made,
        result=attached(request, conf, link, result),
        settings={each.path: each.value for each in settings} if is_link else {},
        routes=tuple(_told_route(each) for each in dict.fromkeys(routes)) if is_link else (),
        steps=(ipam,) if ipam else (),
    )


def _told_route(route: NewRoute) -> dict[str, object]:
    told = {name: value for name, value in asdict(route).items() if value is not None}
    return told | {"network": str(route.network)}


def _asked_for(request: Request, conf: AttachmentConf) -> Iterator[IPv4Interface | IPv6Interface]:
    """Yield the addresses of runtimeConfig, else of `args`, else of CNI_ARGS.

    As nobody hands them out, one that is no address is nobody's mistake.
    """
    args = dict(piece.split("=", 1) for piece in request.variable("CNI_ARGS").split(";") if "=" in piece)
    asked = (
        gojson.get(conf.runtime_config, "ips")
        or gojson.get(_mapping(gojson.get(conf.args, "cni")), "ips")
        or args.get("IP", "").split(",")
    )
    for text in asked if isinstance(asked, list) else ():
        with suppress(ValueError):
            yield parse_cidr(text)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
