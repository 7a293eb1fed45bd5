"""Put an IPAM result on a link in the sandbox, and compare the two later.

Source: section "Success" of the CNI spec for the result, `pkg/ipam` of the Go plugins for what is
set along with addresses.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Literal

from cni.host import sysctl
from cni.host.announce import announce, refuse_taken
from cni.host.ip_messages import IFA_F_NODAD, IFA_F_OPTIMISTIC, RT_TABLE_MAIN, RTNLGRP_IPV6_IFADDR
from cni.host.link_messages import RTNLGRP_LINK
from cni.host.links import Link, Links, NewRoute, Path
from cni.host.netlink import Netlink
from cni.protocol.errors import CniError, Code, InvalidConfig
from cni.protocol.result import IpConfig, Result, Route

Dad = Literal["wait", "optimistic", "off"]

_DAD_SECONDS = 5.0  # how long duplicate address detection may take, as in Go's library
_LEAST_IPV6_MTU = 1280  # bytes
_CARRIER_SECONDS = 0.2  # what is announced before a card has carrier nobody hears; a VF has it at once
_DAD_LOOK_SECONDS = 0.25  # an event that was lost is made up for by a look
_Pace = dict[tuple[str, str], str]  # kind and name of settings, and their values
# While an ADD waits: no random delay before the first probe, and a quarter second for answers,
# where the kernel's defaults make it one to two seconds.
_FAST_DAD: _Pace = {("conf", "router_solicitation_delay"): "0", ("neigh", "retrans_time_ms"): "250"}
_SCOPE_LINK = 253  # RT_SCOPE_LINK and above are on-link: they have no gateway


def apply(links: Links, link: Link, result: Result, *, dad: Dad, announces: bool, probes: bool) -> None:
    """Give a link the addresses and routes of an IPAM result, set it up, and tell the neighbours.

    With an IPv6 gateway it waits until duplicate address detection is done, so that the pod can
    use its addresses at once; without carrier there is nothing to wait for.

    Raises:
        CniError: the kernel refused something, or an address is in use (105).
    """
    addresses = list(dict.fromkeys(ip.address for ip in result.ips))
    check_possible(link.name, link.mtu, addresses)
    has_ipv6 = any(cidr.version == 6 for cidr in addresses)
    links.netns.run(lambda: _prepare_sysctls(settings(link.name, result, dad=dad, announces=announces)))
    if probes:
        links.set_up(link)
        refuse_taken(links.netns, link, addresses)
    waits = has_ipv6 and dad == "wait" and result.gateway_of(6) is not None
    flags = {"wait": 0, "optimistic": IFA_F_OPTIMISTIC, "off": IFA_F_NODAD}[dad]
    routes = list(dict.fromkeys(new_route(route, result) for route in result.routes))
    with _watched(links, link) if waits else nullcontext() as listener:
        links.configure(link, addresses, routes, ipv6_flags=flags)
        if not link.kind and (announces or waits):
            _await_carrier(links, link)
        if listener:
            _wait_until_unique(links, link, listener)
    if announces:
        settled = [cidr for cidr in addresses if cidr.version == 4 or waits or dad == "off"]
        announce(links.netns, link, settled)


def check_possible(name: str, mtu: int, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
    """Refuse addresses with which the kernel would do nothing, or nothing that can be understood.

    Raises:
        InvalidConfig: code 7.
    """
    for cidr in addresses:
        if cidr.ip.is_unspecified or cidr.ip.is_multicast:
            kind = "no address at all" if cidr.ip.is_unspecified else "a group's"
            raise InvalidConfig(
                f'"{name}" cannot have the address {cidr}',
                why=f"It is {kind}, and nobody could be reached by it.",
                fix="Give an address that one interface can have.",
            )
        if cidr.version == 6 and mtu < _LEAST_IPV6_MTU:
            raise InvalidConfig(
                f'"{name}" can have no IPv6 address: its MTU is {mtu}',
                why=f"IPv6 needs an MTU of at least {_LEAST_IPV6_MTU}, and the kernel has none below that.",
                fix=f'Set "mtu" to at least {_LEAST_IPV6_MTU}, or give IPv4 addresses alone.',
            )


def new_route(route: Route, result: Result) -> NewRoute:
    """Return a route of a result as the kernel gets it: the gateway is its own or its family's first.

    Raises:
        InvalidConfig: code 7, the gateway is of another family.
    """
    is_on_link = route.scope is not None and route.scope >= _SCOPE_LINK
    gateway = route.gw or (None if is_on_link else result.gateway_of(route.dst.version))
    if gateway and gateway.version != route.dst.version:
        raise InvalidConfig(
            f"the route to {route.dst} cannot go over {gateway}",
            why="The gateway is of another address family.",
            fix='Set the route\'s "gw" to an address of its own family.',
        )
    return NewRoute(
        network=route.network,
        gateway=str(gateway) if gateway and not gateway.is_unspecified else None,
        scope=route.scope,
        table=route.table,
        priority=route.priority,
        mtu=route.mtu,
        advmss=route.advmss,
    )


@dataclass(frozen=True)
class Setting:
    """A sysctl of an interface in the sandbox."""

    family: Literal["ipv4", "ipv6"]
    ifname: str
    name: str
    value: str
    is_usual: bool = False  # most sandboxes have it so: it is looked at before it is written
    is_needed: bool = True  # without it ADD fails

    @property
    def path(self) -> str:
        """Its path below /proc/sys, as `sysctl` takes it too."""
        return f"net/{self.family}/conf/{self.ifname}/{self.name}"


def settings(ifname: str, result: Result, *, dad: Dad, announces: bool) -> tuple[Setting, ...]:
    """Return the sysctls that go with the addresses of a result."""
    found: list[Setting] = []
    if any(ip.address.version == 6 for ip in result.ips):
        found += [Setting("ipv6", name, "disable_ipv6", "0", is_usual=True) for name in ("lo", ifname)]
        found.append(Setting("ipv6", ifname, "keep_addr_on_down", "1"))
        if dad == "optimistic":  # without it the kernel drops IFA_F_OPTIMISTIC, and detection is as usual
            found.append(Setting("ipv6", ifname, "optimistic_dad", "1", is_needed=False))
    if announces:  # the kernel's own notices, for what sets the link down and up again later
        found.append(Setting("ipv4", ifname, "arp_notify", "1", is_needed=False))
        found.append(Setting("ipv6", ifname, "ndisc_notify", "1", is_needed=False))
    return tuple(found)


def _prepare_sysctls(wanted: tuple[Setting, ...]) -> None:
    for each in wanted:
        if each.is_usual and sysctl.read(each.family, each.ifname, each.name) in (each.value, None):
            continue
        with nullcontext() if each.is_needed else suppress(CniError):
            sysctl.write(each.family, each.ifname, each.name, each.value)


# -- IPv6 duplicate address detection --------------------------------------------------------------


@contextmanager
def _watched(links: Links, link: Link) -> Iterator[Netlink]:
    """Listen for address events, with detection made fast for as long."""
    before = links.netns.run(lambda: _set_dad_pace(link.name, _FAST_DAD))
    try:
        with links.events(RTNLGRP_IPV6_IFADDR, RTNLGRP_LINK) as listener:
            yield listener
    finally:
        with suppress(CniError):
            links.netns.run(lambda: _set_dad_pace(link.name, before))


def _set_dad_pace(ifname: str, settings: _Pace) -> _Pace:
    """Write settings, as far as this kernel has them, and return what they were before."""
    before: _Pace = {}
    for (kind, name), value in settings.items():
        found = sysctl.read("ipv6", ifname, name, kind=kind)
        if found is not None:
            before[kind, name] = found
            sysctl.write("ipv6", ifname, name, value, kind=kind)
    return before


def _wait_until_unique(links: Links, link: Link, listener: Netlink) -> None:
    deadline = time.monotonic() + _DAD_SECONDS
    while True:
        found = links.addresses(link.index, socket.AF_INET6)
        duplicate = next((address for address in found if address.is_duplicate), None)
        if duplicate:
            raise CniError(
                f"the address {duplicate.cidr.ip} is in use",
                why="IPv6 duplicate address detection found another host that has it.",
                fix="Give the pod another address, or stop that host from using it.",
                code=Code.ADDRESS_IN_USE,
            )
        tentative = [address for address in found if address.is_tentative]
        if not tentative or not _has_carrier(links, link):
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise CniError(
                f"the address {tentative[0].cidr.ip} stayed tentative for {_DAD_SECONDS:g} s",
                why=f'Duplicate address detection on "{link.name}" did not end.',
                fix='Look at the network, or set "dad" to "optimistic" or "off".',
                code=Code.TRY_AGAIN_LATER,
            )
        listener.events(min(left, _DAD_LOOK_SECONDS))


def _await_carrier(links: Links, link: Link) -> None:
    """Wait until a card that is up has carrier, but not for long: it may have none."""
    deadline = time.monotonic() + _CARRIER_SECONDS
    with links.events(RTNLGRP_LINK) as listener:
        while not _has_carrier(links, link) and (left := deadline - time.monotonic()) > 0:
            listener.events(left)


def _has_carrier(links: Links, link: Link) -> bool:
    now = links.by_index(link.index)
    return now is not None and now.has_carrier


# -- comparing ------------------------------------------------------------------------------------


def missing(links: Links, link: Link, ips: tuple[IpConfig, ...], routes: tuple[Route, ...]) -> list[str]:
    """Return a sentence for each address and route of a result that the sandbox lacks.

    What others added is no difference. A route without `table` may be in any: plugins such as sbr
    move routes.
    """
    sentences = []
    held = {address.cidr for address in links.addresses(link.index)} if ips else set()
    for ip in ips:
        if ip.address not in held:
            sentences.append(f"the address {ip.address} is not on it")
    paths = links.routes() if routes else []
    for route in routes:
        if not any(_is_route(path, route) for path in paths):
            via = f" via {route.gw}" if route.gw else ""
            table = f" in table {route.table}" if route.table else ""
            sentences.append(f"there is no route to {route.network}{via}{table}")
    return sentences


def _is_route(path: Path, route: Route) -> bool:
    return (
        path.network == route.network
        and (route.table is None or path.table == (route.table or RT_TABLE_MAIN))
        and (
            not route.gw or route.gw.is_unspecified or str(route.gw) in [gateway for _, gateway in path.hops]
        )
    )
