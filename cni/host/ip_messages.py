"""Addresses and routes as rtnetlink carries them: their records, and the messages about them (pure).

Source: the kernel's `include/uapi/linux/{if_addr,rtnetlink}.h`.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from typing import Self

from cni.host.netlink import NLM_F_CREATE, NLM_F_EXCL, Message, attribute, attributes, nested, number, text
from cni.protocol.addresses import IpNetwork

_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
RTNLGRP_IPV6_IFADDR = 9

_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 3, 4, 8
_IFA_RT_PRIORITY, _IFA_PROTO = 9, 11
IFA_F_NODAD, IFA_F_OPTIMISTIC = 0x02, 0x04
_IFA_F_DADFAILED, _IFA_F_TENTATIVE, _IFA_F_PERMANENT = 0x08, 0x40, 0x80
_IFA_F_SETTABLE = IFA_F_NODAD | IFA_F_OPTIMISTIC | 0x200  # the last: no route for the prefix
_RT_SCOPE_LINK = 253
_IFAPROT_KERNEL_LL = 3  # the kernel's own link-local address; it says so since Linux 5.18

_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6
_RTA_METRICS, _RTA_MULTIPATH, _RTA_TABLE = 8, 9, 15
_RTAX_MTU, _RTAX_ADVMSS = 2, 8
_RTPROT_BOOT, _RTN_UNICAST, RT_TABLE_MAIN = 3, 1, 254
_RT_SCOPE_NOWHERE = 255  # deleting, it stands for any

_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst and src length, tos, table, protocol, scope, type, flags
_NEXTHOP = struct.Struct("=HBBi")  # length, flags, hops, index


@dataclass(frozen=True)
class Address:
    """An address on a link; `flags` are the kernel's IFA_F_…, `protocol` its IFAPROT_…."""

    cidr: IPv4Interface | IPv6Interface
    broadcast: str = ""
    peer: str = ""  # of a point-to-point link
    label: str = ""
    scope: int = 0  # RT_SCOPE_…
    flags: int = 0
    protocol: int = 0  # who gave it
    priority: int = 0  # of the route to its prefix; 0 is the kernel's own choice

    @classmethod
    def new(cls, cidr: IPv4Interface | IPv6Interface, flags: int = 0) -> Self:
        """Return an address with the usual broadcast address, as `ip addr add … brd +` has it."""
        has_broadcast = cidr.version == 4 and cidr.network.prefixlen < 31
        return cls(cidr, broadcast=str(cidr.network.broadcast_address) if has_broadcast else "", flags=flags)

    @property
    def is_tentative(self) -> bool:
        """Duplicate address detection is not done, and the address cannot be used before."""
        return bool(self.flags & _IFA_F_TENTATIVE) and not self.flags & IFA_F_OPTIMISTIC

    @property
    def is_duplicate(self) -> bool:
        return bool(self.flags & _IFA_F_DADFAILED)

    @property
    def is_configured(self) -> bool:
        """Somebody gave it to the link: no router for a time, not the kernel by itself."""
        is_automatic = self.scope == _RT_SCOPE_LINK and self.protocol == _IFAPROT_KERNEL_LL
        return bool(self.flags & _IFA_F_PERMANENT) and not is_automatic


@dataclass(frozen=True)
class Path:
    """A route as the kernel holds it, with all its next hops."""

    network: IpNetwork
    table: int
    scope: int
    priority: int = 0
    hops: tuple[tuple[int, str], ...] = ()  # link index and gateway, empty if there is none

    @property
    def indices(self) -> tuple[int, ...]:
        return tuple(index for index, _ in self.hops)


@dataclass(frozen=True)
class NewRoute:
    """A route to add; what is None the kernel decides."""

    network: IpNetwork
    gateway: str | None = None
    scope: int | None = None
    table: int | None = None
    priority: int | None = None
    mtu: int | None = None
    advmss: int | None = None


# -- questions -----------------------------------------------------------------------------------


def all_addresses(family: int, index: int) -> Message:
    """Ask for the addresses of a family that one link has, or of both families."""
    return Message(_RTM_GETADDR, 0, _ADDRESS.pack(family, 0, 0, 0, index))


def all_routes(family: int, index: int | None = None) -> Message:
    """Ask for the routes of a family, or only for those that may leave through one link."""
    through = attribute(_RTA_OIF, index) if index else b""
    return Message(_RTM_GETROUTE, 0, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + through)


# -- changes -------------------------------------------------------------------------------------


def new_address(index: int, address: Address) -> Message:
    cidr = address.cidr
    family = socket.AF_INET if cidr.version == 4 else socket.AF_INET6
    far_end = ip_address(address.peer).packed if address.peer else cidr.packed
    body = _ADDRESS.pack(family, cidr.network.prefixlen, 0, address.scope, index)
    body += attribute(_IFA_LOCAL, cidr.packed) + attribute(_IFA_ADDRESS, far_end)
    if address.broadcast:
        body += attribute(_IFA_BROADCAST, ip_address(address.broadcast).packed)
    if address.label:
        body += attribute(_IFA_LABEL, address.label)
    if flags := address.flags & _IFA_F_SETTABLE:
        body += attribute(_IFA_FLAGS, flags)
    if address.priority:
        body += attribute(_IFA_RT_PRIORITY, address.priority)
    if address.protocol:
        body += attribute(_IFA_PROTO, bytes([address.protocol]))
    return Message(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)


def new_route(index: int, route: NewRoute) -> Message:
    """Not exclusive: a twin of a route by another gateway is one more of its next hops."""
    network = route.network
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    table = RT_TABLE_MAIN if not route.table else route.table
    header = _ROUTE.pack(
        family, network.prefixlen, 0, 0, min(table, 255), _RTPROT_BOOT, route.scope or 0, _RTN_UNICAST, 0
    )
    body = header + attribute(_RTA_OIF, index) + attribute(_RTA_TABLE, table)
    if network.prefixlen:
        body += attribute(_RTA_DST, network.network_address.packed)
    if route.gateway:
        body += attribute(_RTA_GATEWAY, ip_address(route.gateway).packed)
    if route.priority:
        body += attribute(_RTA_PRIORITY, route.priority)
    metrics = ((_RTAX_MTU, route.mtu), (_RTAX_ADVMSS, route.advmss))
    encoded = [attribute(kind, value) for kind, value in metrics if value]
    if encoded:
        body += nested(_RTA_METRICS, *encoded)
    return Message(_RTM_NEWROUTE, NLM_F_CREATE, body)


def kept_route(body: bytes, flags: int) -> Message:
    """Return the message that adds a route which the kernel told before."""
    return Message(_RTM_NEWROUTE, NLM_F_CREATE | flags, body)


def deleted_hop(path: Path, index: int, gateway: str) -> Message:
    """Return the message that deletes one next hop of a route."""
    family = socket.AF_INET if path.network.version == 4 else socket.AF_INET6
    header = _ROUTE.pack(family, path.network.prefixlen, 0, 0, 0, 0, _RT_SCOPE_NOWHERE, 0, 0)
    body = header + attribute(_RTA_OIF, index) + attribute(_RTA_TABLE, path.table)
    if path.network.prefixlen:
        body += attribute(_RTA_DST, path.network.network_address.packed)
    if gateway:
        body += attribute(_RTA_GATEWAY, ip_address(gateway).packed)
    if path.priority:
        body += attribute(_RTA_PRIORITY, path.priority)
    return Message(_RTM_DELROUTE, 0, body)


# -- answers -------------------------------------------------------------------------------------


def parse_address(body: bytes) -> tuple[int, Address]:
    """Decode an RTM_NEWADDR body into the link's index and the address."""
    _, length, flags, scope, index = _ADDRESS.unpack_from(body)
    found = dict(attributes(body[_ADDRESS.size :]))
    # Of a point-to-point link, IFA_ADDRESS is the peer's.
    packed = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    far_end = found.get(_IFA_ADDRESS, packed)
    address = Address(
        cidr=ip_interface((packed, length)),
        broadcast=_ip_text(found.get(_IFA_BROADCAST)),
        peer=_ip_text(far_end) if far_end != packed else "",
        label=text(found.get(_IFA_LABEL)),
        scope=scope,
        flags=number(found.get(_IFA_FLAGS)) or flags,
        protocol=found.get(_IFA_PROTO, b"\0")[0],
        priority=number(found.get(_IFA_RT_PRIORITY)),
    )
    return index, address


def parse_route(body: bytes) -> Path | None:
    """Decode an RTM_NEWROUTE body; None for one that is not unicast."""
    family, length, _, _, table, _, scope, kind, _ = _ROUTE.unpack_from(body)
    if kind != _RTN_UNICAST:
        return None
    found = dict(attributes(body[_ROUTE.size :]))
    packed = found.get(_RTA_DST, bytes(4 if family == socket.AF_INET else 16))
    hops = [(number(found[_RTA_OIF]), _ip_text(found.get(_RTA_GATEWAY)))] if _RTA_OIF in found else []
    return Path(
        network=ip_network((packed, length)),
        table=number(found.get(_RTA_TABLE)) or table,
        scope=scope,
        priority=number(found.get(_RTA_PRIORITY)),
        hops=tuple(hops + _multipath(found.get(_RTA_MULTIPATH, b""))),
    )


def _multipath(data: bytes) -> list[tuple[int, str]]:
    hops = []
    while len(data) >= _NEXTHOP.size:
        length, _, _, index = _NEXTHOP.unpack_from(data)
        if length < _NEXTHOP.size:
            break
        hop = dict(attributes(data[_NEXTHOP.size : length]))
        hops.append((index, _ip_text(hop.get(_RTA_GATEWAY))))
        data = data[length + (-length % 4) :]
    return hops


def _ip_text(packed: bytes | None) -> str:
    return str(ip_address(packed)) if packed else ""
