"""Links, addresses and routes of one network namespace, behind a few plain verbs.

Every refusal of the kernel becomes a CniError that names the object. Nothing here decides what a
plugin wants.

Source: the kernel's `include/uapi/linux/{if_link,if_addr,rtnetlink}.h`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Interface,
    IPv6Interface,
    ip_address,
    ip_interface,
    ip_network,
)
from types import TracebackType
from typing import Self

from cni.host import netlink, vf
from cni.host.netlink import Message, Netlink, attribute, attributes, nested
from cni.host.netns import Netns
from cni.host.vf import VfSettings
from cni.protocol.addresses import IpNetwork
from cni.protocol.errors import CniError, Code

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWLINKPROP, RTM_DELLINKPROP = 108, 109
RTNLGRP_LINK, RTNLGRP_IPV6_IFADDR = 1, 9

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_TXQLEN, _IFLA_GROUP = 13, 27
_IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_NET_NS_FD, _IFLA_LINK_NETNSID = 18, 20, 28, 37
_IFLA_NEW_IFINDEX = 49
_IFLA_PROP_LIST, _IFLA_ALT_IFNAME, _IFLA_PERM_ADDRESS = 52, 53, 54
_IFLA_PARENT_DEV_NAME = 56
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND = 1, 2, 4
_MACVLAN_MODE, _MACVLAN_BC_QUEUE_LEN = 1, 7
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
_MACVLAN_MODE_NAMES = {number: name for name, number in MACVLAN_MODES.items()}

_IFF_UP, _IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000
# IFF_NOARP, _PROMISC, _ALLMULTI, _MULTICAST, _DYNAMIC: what `ip link set` turns on and off beside up.
_IFF_SETTABLE = 0x80 | 0x100 | 0x200 | 0x1000 | 0x8000
ARPHRD_ETHER, ARPHRD_INFINIBAND = 1, 32

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

_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, mask of flags to change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst and src length, tos, table, protocol, scope, type, flags
_NEXTHOP = struct.Struct("=HBBi")  # length, flags, hops, index

_IFLA_EXT_MASK, _SKIP_STATISTICS = 29, 8
_WITHOUT_STATISTICS = attribute(_IFLA_EXT_MASK, _SKIP_STATISTICS)
_WITH_VFS = attribute(_IFLA_EXT_MASK, _SKIP_STATISTICS | vf.RTEXT_FILTER_VF)

_IFNAMSIZ = 16  # bytes, with the final NUL; longer names are alternative names
_ALTIFNAMSIZ = 128  # likewise
# The kernel was busy or short of memory: the same call may succeed later.
_OUT_OF_MEANS = (errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_TRANSIENT = (errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR, *_OUT_OF_MEANS)


class KernelRefused(CniError):
    """The kernel refused a change; `errno` tells how."""

    def __init__(self, doing: str, error: OSError) -> None:
        self.errno = error.errno or 0
        self.position = getattr(error, "position", 0)  # which of several changes it was, from 0
        sentence = getattr(error, "sentence", "")
        name = errno.errorcode.get(self.errno, str(self.errno))
        code, fix = Code.KERNEL_REFUSED, "Look at the kernel's log for more."
        if self.errno in _TRANSIENT:
            code, fix = Code.TRY_AGAIN_LATER, "Call again; if it stays so, look at what holds it."
        elif self.errno == errno.ENETUNREACH:
            code, fix = (
                Code.INVALID_NETWORK_CONFIG,
                "Give a gateway that an address of the link reaches directly.",
            )
        elif self.errno == errno.EADDRNOTAVAIL:
            code, fix = Code.INVALID_NETWORK_CONFIG, "Give an address that an interface can have."
        elif self.errno == errno.EPERM:
            code, fix = Code.INVALID_ENVIRONMENT, "Run the plugin as root with CAP_NET_ADMIN."
        super().__init__(
            f"cannot {doing}: {(error.strerror or str(error)).lower()}",
            why=f"The kernel answered {name}{f': {sentence}' if sentence else ''}.",
            fix=fix,
            code=code,
        )


@dataclass(frozen=True)
class Link:
    """A network interface as the kernel describes it."""

    index: int
    name: str
    mac: str
    mtu: int  # bytes
    is_up: bool  # administratively
    has_carrier: bool
    hardware_type: int  # ARPHRD_…
    is_loopback: bool = False
    kind: str = ""  # "macvlan", "veth", …; empty for a physical device
    parent_index: int = 0  # of the link it rides on
    parent_netns: int | None = None  # the parent's namespace as numbered here; None: this one
    mode: str = ""  # of a macvlan
    alias: str = ""
    altnames: tuple[str, ...] = ()
    permanent_mac: str = ""
    parent: str = ""  # the device below, such as "0000:af:00.1", where the kernel tells (Linux 5.14)
    upper_index: int = 0  # of the bridge, bond, … that it is a port of
    port_kind: str = ""  # what it is a port of: "bridge", "bond", …
    # Those of IFF_… that an administrator sets beside up, `txqueuelen` in frames, and the group.
    manners: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True)
class PhysicalFunction:
    """A link of a card with virtual functions, and what it holds of each, by index.

    `vfs` is empty where the driver does not tell.
    """

    link: Link
    vfs: dict[int, VfSettings]


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


@dataclass
class _Batch:
    """Messages for one round trip, each with what it does for the error's sake."""

    messages: list[Message] = field(default_factory=list)
    doings: list[str] = field(default_factory=list)

    def append(self, message: Message, doing: str) -> None:
        self.messages.append(message)
        self.doings.append(doing)


class Links:
    """The links of a namespace; `where` says in errors which: "on the host", "in the sandbox"."""

    def __init__(self, netns: Netns, where: str) -> None:
        self.netns = netns
        self.where = where
        self._netlink = self._open()

    def _open(self) -> Netlink:
        with self._refusals(f"open a netlink socket {self.where}"):
            return Netlink(self.netns.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._netlink.__exit__(kind, error, trace)

    # -- looking ---------------------------------------------------------------------------------

    def find(self, name: str) -> Link | None:
        """Return the link of that name or alternative name."""
        if not _can_be_a_name(name):
            return None
        body = self._look(_link_header() + _named(name) + _WITHOUT_STATISTICS, name)
        return parse_link(body) if body else None

    def by_index(self, index: int) -> Link | None:
        body = self._look(_link_header(index) + _WITHOUT_STATISTICS, f"link {index}")
        return parse_link(body) if body else None

    def find_pf(self, name: str) -> PhysicalFunction | None:
        """Return a card's link and its VFs in one look; the driver is asked for each VF, which takes time."""
        body = self._look(_link_header() + _named(name) + _WITH_VFS, name)
        return parse_pf(body) if body else None

    def _look(self, request: bytes, what: str) -> bytes | None:
        try:
            return self._netlink.get(Message(RTM_GETLINK, 0, request))
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.EINVAL, errno.ERANGE):
                return None  # EINVAL: kernels before 5.5 for a name that cannot exist
            raise KernelRefused(f'look at "{what}" {self.where}', error) from error

    def all(self) -> list[Link]:
        with self._refusals(f"list the links {self.where}"):
            request = Message(RTM_GETLINK, 0, _link_header() + _WITHOUT_STATISTICS)
            return [parse_link(body) for body in self._netlink.dump(request)]

    def addresses(self, index: int, family: int = socket.AF_UNSPEC) -> list[Address]:
        """Return the addresses of a link; `family` is AF_INET, AF_INET6 or both."""
        request = Message(RTM_GETADDR, 0, _ADDRESS.pack(family, 0, 0, 0, 0))
        with self._refusals(f"list the addresses {self.where}"):
            found = [parse_address(body) for body in self._netlink.dump(request)]
        return [address for owner, address in found if owner == index]

    def routes(self) -> list[Path]:
        """Return the unicast routes of all tables, IPv4 first, in the kernel's order."""
        found: list[Path] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            request = Message(RTM_GETROUTE, 0, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
            with self._refusals(f"list the routes {self.where}"):
                found += [path for body in self._netlink.dump(request) if (path := parse_route(body))]
        return found

    def raw_routes(self, link: Link) -> list[bytes]:
        """Return the kernel's own messages of the routes that may leave through a link, for `routes`."""
        with self._refusals(f"list the routes {self.where}"), self._open() as asking:
            asking.filter_dumps()  # a host may have a million
            return [
                body
                for family in (socket.AF_INET, socket.AF_INET6)
                for body in asking.dump(
                    Message(
                        RTM_GETROUTE,
                        0,
                        _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_OIF, link.index),
                    )
                )
            ]

    def default_route_link(self) -> Link | None:
        """Return the link of the best default route of the main table: IPv4's, else IPv6's.

        Of several next hops it is the first.
        """
        defaults = [path for path in self.routes() if not path.network.prefixlen and path.hops]
        defaults = [path for path in defaults if path.table == RT_TABLE_MAIN]
        for version in (4, 6):
            of_family = [path for path in defaults if path.network.version == version]
            if of_family:
                best = min(of_family, key=lambda path: path.priority)
                return self.by_index(best.indices[0])
        return None

    # -- changing --------------------------------------------------------------------------------

    def add_macvlan(
        self,
        name: str,
        master: Link,
        mode: str,
        *,
        mac: str,
        mtu: int | None,
        queue_length: int | None,
        into: Netns,
    ) -> None:
        """Make a macvlan on `master`, which is here, directly in another namespace under its name.

        The kernel looks for the name and makes the link in one step, so nothing can come between.
        """
        data = [attribute(_MACVLAN_MODE, MACVLAN_MODES[mode])]
        if queue_length:
            data.append(attribute(_MACVLAN_BC_QUEUE_LEN, queue_length))
        body = _link_header() + b"".join(
            (
                attribute(_IFLA_IFNAME, name),
                attribute(_IFLA_LINK, master.index),
                attribute(_IFLA_ADDRESS, _mac_bytes(mac)),
                attribute(_IFLA_MTU, mtu) if mtu else b"",
                attribute(_IFLA_NET_NS_FD, into.fd),
                nested(_IFLA_LINKINFO, attribute(_INFO_KIND, "macvlan"), nested(_INFO_DATA, *data)),
            )
        )
        message = Message(RTM_NEWLINK, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, body)
        self._change(message, f'make the macvlan "{name}" on master "{master.name}"')

    def delete(self, link: Link) -> None:
        """Delete a link; one that is gone is content."""
        try:
            self._change(
                Message(RTM_DELLINK, 0, _link_header(link.index)), f'delete "{link.name}" {self.where}'
            )
        except KernelRefused as error:
            if error.errno != errno.ENODEV:
                raise

    def move(self, link: Link, into: Netns, name: str, alias: str, index: int | None = None) -> None:
        """Move a link to another namespace and give it a name and an alias there, in one message.

        The link comes out administratively down and without addresses. Linux changes the namespace
        first: if the name is refused there, the link has moved already. It keeps its index where that
        is free, unless it is to get another free one (Linux 5.11; older kernels do not listen).
        """
        body = _link_header(link.index) + b"".join(
            (
                attribute(_IFLA_NET_NS_FD, into.fd),
                attribute(_IFLA_IFNAME, name),
                attribute(_IFLA_IFALIAS, os.fsencode(alias)),  # without NUL: empty takes it away
                attribute(_IFLA_NEW_IFINDEX, index) if index else b"",
            )
        )
        self._change(
            Message(RTM_SETLINK, 0, body), f'move "{link.name}" {self.where} to {into.path} as "{name}"'
        )

    def rename(self, link: Link, name: str) -> None:
        self._set(link, attribute(_IFLA_IFNAME, name), f'rename "{link.name}" to "{name}"')

    def set_alias(self, link: Link, alias: str) -> None:
        self._set(link, attribute(_IFLA_IFALIAS, os.fsencode(alias)), f'set the alias of "{link.name}"')

    def set_mac(self, link: Link, mac: str) -> None:
        self._set(link, attribute(_IFLA_ADDRESS, _mac_bytes(mac)), f'give "{link.name}" the MAC {mac}')

    def set_mtu(self, link: Link, mtu: int) -> None:
        self._set(link, attribute(_IFLA_MTU, mtu), f'give "{link.name}" the MTU {mtu}')

    def set_vf(self, pf: Link, index: int, settings: VfSettings) -> None:
        """Change settings of a VF, each by a message of its own, in one round trip.

        One message could carry them all, but then the kernel does not say which one it refused.

        Raises:
            KernelRefused: the first refusal; `position` counts the settings. The others are applied.
        """
        batch = _Batch()
        for name, value in settings.sentences():
            body = _link_header(pf.index) + vf.encode(index, name, settings)
            batch.append(Message(RTM_SETLINK, 0, body), f'set {name} {value} of VF {index} of "{pf.name}"')
        self._change_all(batch)

    def set_master(self, link: Link, upper_index: int) -> None:
        """Make a link a port of a bridge, bond, …; a bond takes none that is up."""
        self._set(link, attribute(_IFLA_MASTER, upper_index), f'make "{link.name}" a port again')

    def set_manners(self, link: Link, flags: int, queue_length: int, group: int) -> None:
        """Set flags, `txqueuelen` and group of a link: `Link.manners`."""
        body = _LINK.pack(socket.AF_UNSPEC, 0, link.index, flags, _IFF_SETTABLE)
        body += attribute(_IFLA_TXQLEN, queue_length) + attribute(_IFLA_GROUP, group)
        self._change(Message(RTM_SETLINK, 0, body), f'set flags and queue of "{link.name}" {self.where}')

    def set_up(self, link: Link) -> None:
        self._change(_up_or_down(link.index, is_up=True), f'set "{link.name}" up {self.where}')

    def set_down(self, link: Link) -> None:
        self._change(_up_or_down(link.index, is_up=False), f'set "{link.name}" down {self.where}')

    def add_altname(self, link: Link, altname: str) -> None:
        body = _link_header(link.index) + nested(_IFLA_PROP_LIST, attribute(_IFLA_ALT_IFNAME, altname))
        flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL | netlink.NLM_F_APPEND
        self._change(Message(RTM_NEWLINKPROP, flags, body), f'give "{link.name}" the name "{altname}" too')

    def remove_altname(self, link: Link, altname: str) -> None:
        body = _link_header(link.index) + nested(_IFLA_PROP_LIST, attribute(_IFLA_ALT_IFNAME, altname))
        self._change(
            Message(RTM_DELLINKPROP, 0, body),
            f'take the name "{altname}" from "{link.name}" {self.where}',
        )

    def configure(
        self,
        link: Link,
        addresses: Sequence[IPv4Interface | IPv6Interface],
        routes: Sequence[NewRoute] = (),
        *,
        ipv6_flags: int = 0,
    ) -> None:
        """Give a link addresses, set it up and add routes through it, in one round trip."""
        batch = _Batch()
        for cidr in addresses:
            address = Address.new(cidr, ipv6_flags if cidr.version == 6 else 0)
            batch.append(_new_address(link.index, address), f'give "{link.name}" the address {cidr}')
        batch.append(_up_or_down(link.index, is_up=True), f'set "{link.name}" up')
        for route in routes:
            via = f" via {route.gateway}" if route.gateway else ""
            doing = f'add the route {route.network}{via} through "{link.name}"'
            batch.append(_new_route(link.index, route), doing)
        self._change_all(batch)

    def delete_route(self, path: Path) -> None:
        """Delete a route with all its next hops; one that is gone is content."""
        family = socket.AF_INET if path.network.version == 4 else socket.AF_INET6
        for index, gateway in path.hops:
            header = _ROUTE.pack(family, path.network.prefixlen, 0, 0, 0, 0, _RT_SCOPE_NOWHERE, 0, 0)
            body = header + attribute(_RTA_OIF, index) + attribute(_RTA_TABLE, path.table)
            if path.network.prefixlen:
                body += attribute(_RTA_DST, path.network.network_address.packed)
            if gateway:
                body += attribute(_RTA_GATEWAY, ip_address(gateway).packed)
            if path.priority:
                body += attribute(_RTA_PRIORITY, path.priority)
            try:
                self._change(Message(RTM_DELROUTE, 0, body), f"delete the route {path.network} {self.where}")
            except KernelRefused as error:
                if error.errno != errno.ESRCH:
                    raise

    def add_addresses(self, link: Link, addresses: Sequence[Address]) -> None:
        batch = _Batch()
        for address in addresses:
            doing = f'give "{link.name}" the address {address.cidr}'
            batch.append(_new_address(link.index, address), doing)
        self._change_all(batch)

    def add_raw_route(self, body: bytes, flags: int, doing: str) -> None:
        self._change(Message(RTM_NEWROUTE, netlink.NLM_F_CREATE | flags, body), f"{doing} {self.where}")

    @contextmanager
    def events(self, *groups: int) -> Iterator[Netlink]:
        """Open a second socket that receives the events of this namespace from now on."""
        with self._open() as listener:
            for group in groups:
                listener.subscribe(group)
            yield listener

    def _set(self, link: Link, what: bytes, doing: str) -> None:
        message = Message(RTM_SETLINK, 0, _link_header(link.index) + what)
        self._change(message, f"{doing} {self.where}")

    def _change(self, message: Message, doing: str) -> None:
        self._change_all(_Batch([message], [doing]))

    def _change_all(self, batch: _Batch) -> None:
        if not batch.messages:
            return
        try:
            self._netlink.change(*batch.messages)
        except OSError as error:
            raise KernelRefused(batch.doings[getattr(error, "position", 0)], error) from error

    @contextmanager
    def _refusals(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise KernelRefused(doing, error) from error


# -- encoding ------------------------------------------------------------------------------------


def _link_header(index: int = 0) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)


def _can_be_a_name(name: str) -> bool:
    """Whether the kernel would read all of it: it stops at a NUL, and a message has room for so much."""
    return "\0" not in name and len(os.fsencode(name)) < _ALTIFNAMSIZ


def _named(name: str) -> bytes:
    return attribute(_IFLA_IFNAME if len(os.fsencode(name)) < _IFNAMSIZ else _IFLA_ALT_IFNAME, name)


def _up_or_down(index: int, *, is_up: bool) -> Message:
    header = _LINK.pack(socket.AF_UNSPEC, 0, index, _IFF_UP if is_up else 0, _IFF_UP)
    return Message(RTM_SETLINK, 0, header)


def _new_address(index: int, address: Address) -> Message:
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
    return Message(RTM_NEWADDR, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, body)


def _new_route(index: int, route: NewRoute) -> Message:
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
    return Message(RTM_NEWROUTE, netlink.NLM_F_CREATE, body)


def _mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


# -- decoding ------------------------------------------------------------------------------------


def parse_link(body: bytes) -> Link:
    """Decode an RTM_NEWLINK body."""
    _, hardware_type, index, flags, _ = _LINK.unpack_from(body)
    found = dict(attributes(body[_LINK.size :]))
    info = dict(attributes(found.get(_IFLA_LINKINFO, b"")))
    kind = _text(info.get(_INFO_KIND))
    data = dict(attributes(info.get(_INFO_DATA, b""))) if kind == "macvlan" else {}
    names = attributes(found.get(_IFLA_PROP_LIST, b""))
    return Link(
        index=index,
        name=_text(found.get(_IFLA_IFNAME)),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=_number(found.get(_IFLA_MTU)),
        is_up=bool(flags & _IFF_UP),
        has_carrier=bool(flags & _IFF_LOWER_UP),
        hardware_type=hardware_type,
        is_loopback=bool(flags & _IFF_LOOPBACK),
        kind=kind,
        parent_index=_number(found.get(_IFLA_LINK)),
        parent_netns=_number(found[_IFLA_LINK_NETNSID]) if _IFLA_LINK_NETNSID in found else None,
        mode=_MACVLAN_MODE_NAMES.get(_number(data.get(_MACVLAN_MODE)), ""),
        alias=_text(found.get(_IFLA_IFALIAS)),
        altnames=tuple(_text(name) for what, name in names if what == _IFLA_ALT_IFNAME),
        permanent_mac=found.get(_IFLA_PERM_ADDRESS, b"").hex(":"),
        parent=_text(found.get(_IFLA_PARENT_DEV_NAME)),
        upper_index=_number(found.get(_IFLA_MASTER)),
        port_kind=_text(info.get(_INFO_SLAVE_KIND)),
        manners=(
            flags & _IFF_SETTABLE,
            _number(found.get(_IFLA_TXQLEN)),
            _number(found.get(_IFLA_GROUP)),
        ),
    )


def parse_pf(body: bytes) -> PhysicalFunction:
    """Decode an RTM_NEWLINK body that tells of VFs."""
    link = parse_link(body)
    found = dict(attributes(body[_LINK.size :]))
    mac_length = len(found.get(_IFLA_ADDRESS, b""))
    return PhysicalFunction(link, vf.decode(found.get(vf.IFLA_VFINFO_LIST, b""), mac_length))


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
        label=_text(found.get(_IFA_LABEL)),
        scope=scope,
        flags=_number(found.get(_IFA_FLAGS)) or flags,
        protocol=found.get(_IFA_PROTO, b"\0")[0],
        priority=_number(found.get(_IFA_RT_PRIORITY)),
    )
    return index, address


def parse_route(body: bytes) -> Path | None:
    """Decode an RTM_NEWROUTE body; None for one that is not unicast."""
    family, length, _, _, table, _, scope, kind, _ = _ROUTE.unpack_from(body)
    if kind != _RTN_UNICAST:
        return None
    found = dict(attributes(body[_ROUTE.size :]))
    packed = found.get(_RTA_DST, bytes(4 if family == socket.AF_INET else 16))
    hops = [(_number(found[_RTA_OIF]), _ip_text(found.get(_RTA_GATEWAY)))] if _RTA_OIF in found else []
    return Path(
        network=ip_network((packed, length)),
        table=_number(found.get(_RTA_TABLE)) or table,
        scope=scope,
        priority=_number(found.get(_RTA_PRIORITY)),
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


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode("utf-8", "surrogateescape")


def _number(value: bytes | None) -> int:
    return struct.unpack("=I", value[:4])[0] if value and len(value) >= 4 else 0
