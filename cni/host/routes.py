"""Routes through a link, kept to the letter, so that they can be given again when it is back.

Source: rtnetlink(7), the kernel's `include/uapi/linux/rtnetlink.h`.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass

from cni.host.ip_messages import parse_route
from cni.host.links import KernelRefused, Link, Links
from cni.host.netlink import NLM_F_APPEND, NLM_F_EXCL, attribute, attributes

_RTA_OIF, _RTA_MULTIPATH, _RTA_CACHEINFO, _RTA_VIA, _RTA_NH_ID = 4, 9, 12, 18, 30
_RTPROT_REDIRECT, _RTPROT_KERNEL, _RTPROT_RA = 1, 2, 9
_RTNH_F_ONLINK = 4  # the only flag of a next hop that is not the kernel's

_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst and src length, tos, table, protocol, scope, type, flags
_NEXTHOP = struct.Struct("=HBBi")  # length, flags, hops, index
_CACHEINFO = struct.Struct("=IIi")  # references, last use, expiry


@dataclass(frozen=True)
class KeptRoute:
    """A route that somebody gave: neither the kernel by itself nor a router for a time."""

    name: str  # for people: `10.9.0.0/16 via 10.0.0.254`
    message: str  # the kernel's, in hexadecimal digits, without what it adds
    index: int  # of the link in it
    has_gateway: bool

    def through(self, index: int) -> bytes:
        """Return the message with that link in the place of the kept one."""
        body = bytes.fromhex(self.message)
        parts = [body[: _ROUTE.size]]
        for kind, value in attributes(body[_ROUTE.size :]):
            if kind == _RTA_OIF:
                value = struct.pack("=I", index)
            elif kind == _RTA_MULTIPATH:
                value = _hops_through(value, self.index, index)
            parts.append(attribute(kind, value))
        return b"".join(parts)


def routes_through(links: Links, link: Link) -> tuple[KeptRoute, ...]:
    """Return the routes that are lost when a link leaves, those first that need no gateway."""
    kept = [route for body in links.raw_routes(link.index) if (route := _kept(body, link))]
    return tuple(sorted(kept, key=lambda route: route.has_gateway))


def give_again(links: Links, link: Link, route: KeptRoute) -> None:
    """Add a kept route; one that is there is content.

    Raises:
        KernelRefused: it is not possible any more.
    """
    body = route.through(link.index)
    # An IPv4 twin comes after the others; an IPv6 one would become one more next hop of theirs.
    flags = NLM_F_APPEND if body[0] == socket.AF_INET else NLM_F_EXCL
    try:
        links.add_raw_route(body, flags, f'add the route {route.name} through "{link.name}"')
    except KernelRefused as error:
        if error.errno != errno.EEXIST:
            raise


def _kept(body: bytes, link: Link) -> KeptRoute | None:
    path = parse_route(body)
    family, dst, src, tos, table, protocol, scope, kind, flags = _ROUTE.unpack_from(body)
    if path is None or link.index not in path.indices:
        return None
    if protocol in (_RTPROT_REDIRECT, _RTPROT_KERNEL, _RTPROT_RA):
        return None
    found = list(attributes(body[_ROUTE.size :]))
    if any(_expires(what, value) for what, value in found):
        return None
    header = _ROUTE.pack(family, dst, src, tos, table, protocol, scope, kind, flags & _RTNH_F_ONLINK)
    message = header + b"".join(
        attribute(what, value) for what, value in found if what not in (_RTA_CACHEINFO, _RTA_NH_ID)
    )
    gateways = [gateway for _, gateway in path.hops if gateway]
    return KeptRoute(
        name=f"{path.network} via {', '.join(gateways)}" if gateways else str(path.network),
        message=message.hex(),
        index=link.index,
        has_gateway=bool(gateways) or any(what == _RTA_VIA for what, _ in found),
    )


def _expires(what: int, value: bytes) -> bool:
    return what == _RTA_CACHEINFO and len(value) >= _CACHEINFO.size and _CACHEINFO.unpack_from(value)[2] != 0


def _hops_through(data: bytes, was: int, now: int) -> bytes:
    hops = b""
    while len(data) >= _NEXTHOP.size:
        length, flags, weight, index = _NEXTHOP.unpack_from(data)
        if length < _NEXTHOP.size:
            break
        index = now if index == was else index
        hops += _NEXTHOP.pack(length, flags & _RTNH_F_ONLINK, weight, index)
        hops += data[_NEXTHOP.size : length + (-length % 4)]
        data = data[length + (-length % 4) :]
    return hops
