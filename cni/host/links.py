"""Links, addresses and routes of one network namespace, behind a few plain verbs.

Every refusal of the kernel becomes a CniError that names the object. Nothing here decides what a
plugin wants, nor knows what messages look like.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from types import TracebackType
from typing import Self

from cni.host import ip_messages, link_messages
from cni.host.ip_messages import RT_TABLE_MAIN
from cni.host.ip_messages import Address as Address
from cni.host.ip_messages import NewRoute as NewRoute
from cni.host.ip_messages import Path as Path
from cni.host.link_messages import Link as Link  # what the verbs take and give
from cni.host.link_messages import PhysicalFunction as PhysicalFunction
from cni.host.netlink import Message, Netlink
from cni.host.netns import Netns
from cni.host.vf import VfSettings
from cni.protocol.errors import CniError, Code

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
        if not link_messages.can_be_a_name(name):
            return None
        body = self._look(link_messages.by_name(name), name)
        return link_messages.parse_link(body) if body else None

    def by_index(self, index: int) -> Link | None:
        body = self._look(link_messages.by_index(index), f"link {index}")
        return link_messages.parse_link(body) if body else None

    def find_pf(self, name: str) -> PhysicalFunction | None:
        """Return a card's link and its VFs in one look; the driver is asked for each VF, which takes time."""
        body = self._look(link_messages.by_name(name, with_vfs=True), name)
        return link_messages.parse_pf(body) if body else None

    def _look(self, question: Message, what: str) -> bytes | None:
        try:
            return self._netlink.get(question)
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.EINVAL, errno.ERANGE):
                return None  # EINVAL: kernels before 5.5 for a name that cannot exist
            raise KernelRefused(f'look at "{what}" {self.where}', error) from error

    def all(self) -> list[Link]:
        return [link_messages.parse_link(body) for body in self._list(link_messages.by_index(0), "links")]

    def addresses(self, index: int, family: int = socket.AF_UNSPEC) -> list[Address]:
        """Return the addresses of a link; `family` is AF_INET, AF_INET6 or both."""
        bodies = self._list(ip_messages.all_addresses(family, index), "addresses")
        found = [ip_messages.parse_address(body) for body in bodies]
        return [address for owner, address in found if owner == index]

    def routes(self) -> list[Path]:
        """Return the unicast routes of all tables, IPv4 first, in the kernel's order."""
        return [path for body in self.raw_routes() if (path := ip_messages.parse_route(body))]

    def raw_routes(self, index: int | None = None) -> list[bytes]:
        """Return the kernel's own messages of all routes, or of those that may leave through one link.

        A host may have a million others.
        """
        return [
            body
            for family in (socket.AF_INET, socket.AF_INET6)
            for body in self._list(ip_messages.all_routes(family, index), "routes")
        ]

    def _list(self, question: Message, what: str) -> list[bytes]:
        """Return what answers a dump; of a link that is gone, nothing."""
        try:
            return self._netlink.dump(question)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return []
            raise KernelRefused(f"list the {what} {self.where}", error) from error

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
        message = link_messages.new_macvlan(
            name, master, mode, mac=mac, mtu=mtu, queue_length=queue_length, netns_fd=into.fd
        )
        self._change(message, f'make the macvlan "{name}" on master "{master.name}"')

    def delete(self, link: Link) -> None:
        """Delete a link; one that is gone is content."""
        try:
            self._change(link_messages.deleted(link), f'delete "{link.name}" {self.where}')
        except KernelRefused as error:
            if error.errno != errno.ENODEV:
                raise

    def move(self, link: Link, into: Netns, name: str, alias: str, index: int | None = None) -> None:
        """Move a link to another namespace and give it a name and an alias there, in one message.

        The link comes out administratively down and without addresses. Linux changes the namespace
        first: if the name is refused there, the link has moved already. It keeps its index where that
        is free, unless it is to get another free one (Linux 5.11; older kernels do not listen).
        """
        message = link_messages.moved(link, into.fd, name, alias, index)
        self._change(message, f'move "{link.name}" {self.where} to {into.path} as "{name}"')

    def rename(self, link: Link, name: str) -> None:
        self._change(link_messages.with_name(link, name), f'rename "{link.name}" to "{name}" {self.where}')

    def set_alias(self, link: Link, alias: str) -> None:
        self._change(link_messages.with_alias(link, alias), f'set the alias of "{link.name}" {self.where}')

    def set_mac(self, link: Link, mac: str) -> None:
        self._change(link_messages.with_mac(link, mac), f'give "{link.name}" the MAC {mac} {self.where}')

    def set_mtu(self, link: Link, mtu: int) -> None:
        self._change(link_messages.with_mtu(link, mtu), f'give "{link.name}" the MTU {mtu} {self.where}')

    def set_vf(self, pf: Link, index: int, settings: VfSettings) -> None:
        """Change settings of a VF, each by a message of its own, in one round trip.

        One message could carry them all, but then the kernel does not say which one it refused.

        Raises:
            KernelRefused: the first refusal; `position` counts the settings. The others are applied.
        """
        batch = _Batch()
        for name, value in settings.sentences():
            message = link_messages.with_vf(pf, index, name, settings)
            batch.append(message, f'set {name} {value} of VF {index} of "{pf.name}"')
        self._change_all(batch)

    def set_master(self, link: Link, upper_index: int) -> None:
        """Make a link a port of a bridge, bond, …; a bond takes none that is up."""
        message = link_messages.with_upper(link, upper_index)
        self._change(message, f'make "{link.name}" a port again {self.where}')

    def set_manners(self, link: Link, flags: int, queue_length: int, group: int) -> None:
        """Set flags, `txqueuelen` and group of a link: `Link.manners`."""
        message = link_messages.with_manners(link, flags, queue_length, group)
        self._change(message, f'set flags and queue of "{link.name}" {self.where}')

    def set_up(self, link: Link) -> None:
        self._change(link_messages.up(link), f'set "{link.name}" up {self.where}')

    def set_down(self, link: Link) -> None:
        self._change(link_messages.down(link), f'set "{link.name}" down {self.where}')

    def add_altname(self, link: Link, altname: str) -> None:
        message = link_messages.with_altname(link, altname)
        self._change(message, f'give "{link.name}" the name "{altname}" too {self.where}')

    def remove_altname(self, link: Link, altname: str) -> None:
        message = link_messages.without_altname(link, altname)
        self._change(message, f'take the name "{altname}" from "{link.name}" {self.where}')

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
            batch.append(
                ip_messages.new_address(link.index, address), f'give "{link.name}" the address {cidr}'
            )
        batch.append(link_messages.up(link), f'set "{link.name}" up')
        for route in routes:
            via = f" via {route.gateway}" if route.gateway else ""
            doing = f'add the route {route.network}{via} through "{link.name}"'
            batch.append(ip_messages.new_route(link.index, route), doing)
        self._change_all(batch)

    def delete_route(self, path: Path) -> None:
        """Delete a route with all its next hops; one that is gone is content."""
        for index, gateway in path.hops:
            message = ip_messages.deleted_hop(path, index, gateway)
            try:
                self._change(message, f"delete the route {path.network} {self.where}")
            except KernelRefused as error:
                if error.errno != errno.ESRCH:
                    raise

    def add_addresses(self, link: Link, addresses: Sequence[Address]) -> None:
        batch = _Batch()
        for address in addresses:
            doing = f'give "{link.name}" the address {address.cidr}'
            batch.append(ip_messages.new_address(link.index, address), doing)
        self._change_all(batch)

    def add_raw_route(self, body: bytes, flags: int, doing: str) -> None:
        self._change(ip_messages.kept_route(body, flags), f"{doing} {self.where}")

    @contextmanager
    def events(self, *groups: int) -> Iterator[Netlink]:
        """Open a second socket that receives the events of this namespace from now on."""
        with self._open() as listener:
            for group in groups:
                listener.subscribe(group)
            yield listener

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
