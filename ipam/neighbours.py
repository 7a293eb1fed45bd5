"""Neighbours: whether anybody on a network's link answers for addresses that seem to be nobody's.

A plugin that hands out addresses has no link of its own. It knows the one that the interface plugin's
configuration names: the `master` of macvlan, ipvlan and vlan, or the host's side of the default route where
macvlan and ipvlan have none, and the `bridge` of bridge. Devices that are moved into pods leave none behind.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path
from typing import Any

from cni import frames
from cni.protocol import gojson
from cni.protocol.errors import CniError, Code
from ipam.ranges import Ip

MOST = 1024  # addresses that are asked for: the lowest, which are given out first
_ROUNDS = 3
_SECONDS = 0.2  # after each round; an answer on an Ethernet takes less than one of them
_ETHERNET = 1  # ARPHRD_ETHER, of linux/if_arp.h
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_ALLMULTI = 263, 1, 2
_MEMBERSHIP = struct.Struct("iHH8s")  # struct packet_mreq
_DEFAULT_KINDS = ("macvlan", "ipvlan")


class CannotAsk(CniError):
    """The link is known, and cannot be used now."""

    code = Code.TRY_AGAIN_LATER


def link_of(raw: Mapping[str, Any], routes: Path = Path("/proc/self/net/route")) -> str | None:
    """Return the host's link that a network configuration names, None if it names none."""
    kind = gojson.get(raw, "type")
    if gojson.get(raw, "linkInContainer"):
        return None
    named = gojson.get(raw, "bridge" if kind == "bridge" else "master")
    if isinstance(named, str) and named:
        return named
    return _default_link(routes) if kind in _DEFAULT_KINDS else None


def _default_link(routes: Path) -> str | None:
    with suppress(OSError, ValueError):
        for line in routes.read_text().splitlines()[1:]:
            link, target, *_ = line.split()
            if target == "00000000":
                return link
    return None


def answering(link: str, addresses: Iterable[Ip], wait: float = _SECONDS) -> Ip | None:
    """Return one of these addresses, of one family, for which somebody answers; None if nobody does.

    The first 1,024 are asked for. A link that is no Ethernet knows no such question: None too.

    Raises:
        CannotAsk: code 11, there is no such link, it is down, or it may not be used.
    """
    wanted = list(islice(addresses, MOST))
    try:
        return _asked(link, wanted, wait) if wanted else None
    except OSError as error:
        raise CannotAsk(
            f'nobody can be asked on the link "{link}": {error.strerror or error}',
            why="Whether addresses of a node that is gone are still used is asked there.",
            fix="Bring the link up, or correct its name.",
        ) from error


def _asked(link: str, wanted: list[Ip], wait: float) -> Ip | None:
    sought = frozenset(wanted)
    kind = frames.ETH_P_ARP if wanted[0].version == 4 else frames.ETH_P_IPV6
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind)) as endpoint:
        endpoint.bind((link, kind))
        *_, hardware, mac = endpoint.getsockname()
        if hardware != _ETHERNET:
            return None
        if kind == frames.ETH_P_IPV6:  # answers to nobody go to all nodes
            every = _MEMBERSHIP.pack(socket.if_nametoindex(link), _PACKET_MR_ALLMULTI, 0, b"")
            endpoint.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, every)
        for _ in range(_ROUNDS):
            for address in wanted:
                endpoint.settimeout(wait)
                endpoint.send(_question(mac, address))
            for sender, address in _answers(endpoint, wait):
                if sender != mac and address in sought:
                    return address
    return None


def _question(mac: bytes, address: Ip) -> bytes:
    if isinstance(address, IPv6Address):
        return frames.solicitation(mac, address)
    return frames.arp(frames.ARP_REQUEST, mac, IPv4Address(0), address)


def _answers(endpoint: socket.socket, wait: float) -> Iterator[tuple[bytes, Ip]]:
    """Yield what is told within the time."""
    deadline = time.monotonic() + wait
    while (left := deadline - time.monotonic()) > 0:
        endpoint.settimeout(left)
        with suppress(TimeoutError):
            frame = endpoint.recv(1 << 11)
            told = frames.arp_sender(frame) or frames.advertised(frame)
            if told:
                yield told
