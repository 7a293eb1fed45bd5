"""Tell the neighbours where an address is now, and ask them whether they have it.

The kernel's `arp_notify` and `ndisc_notify` are not always honoured, so that peers keep sending to
the MAC that had the address before.
"""

from __future__ import annotations

import os
import socket
import time
from _thread import start_new_thread
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

from cni import frames
from cni.host.link_messages import ARPHRD_ETHER
from cni.host.links import Link
from cni.host.netns import Netns
from cni.protocol.errors import CniError, Code

_PROBES = 3
_PROBE_SECONDS = 0.1  # after each; RFC 5227's second is for networks of its day


def announce(netns: Netns, link: Link, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
    """Send gratuitous ARP and unsolicited neighbour advertisements for addresses of an Ethernet link.

    ARP goes out both as a request and as a reply: some peers heed only one. It is a courtesy, so a
    frame that cannot be sent is no failure.
    """
    if link.hardware_type != ARPHRD_ETHER:
        return
    mac = _packed(link.mac)
    told: list[bytes] = []
    for cidr in addresses:
        if isinstance(cidr.ip, IPv4Address):
            for operation in (frames.ARP_REQUEST, frames.ARP_REPLY):
                told.append(frames.arp(operation, mac, cidr.ip, cidr.ip))
        else:
            told.append(frames.advertisement(mac, cidr.ip))
    if not told:
        return
    with suppress(OSError):
        endpoint = netns.socket(socket.AF_PACKET, socket.SOCK_RAW)
        try:
            endpoint.bind((link.name, 0))
            for frame in told:
                with suppress(OSError):
                    endpoint.send(frame)
        finally:
            _close_beside(endpoint.detach())


def _close_beside(fd: int) -> None:
    """Close a packet socket: the kernel lets who does it wait for an RCU grace period, 10 ms and more."""
    try:
        start_new_thread(os.close, (fd,))  # nothing depends on its end
    except RuntimeError:  # no memory, or no process more, for a thread
        os.close(fd)


def refuse_taken(netns: Netns, link: Link, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
    """Ask by ARP who has these IPv4 addresses; the link must be up.

    Raises:
        CniError: code 105, somebody answered.
    """
    wanted = [cidr.ip for cidr in addresses if isinstance(cidr.ip, IPv4Address)]
    if not wanted or link.hardware_type != ARPHRD_ETHER:
        return
    mac = _packed(link.mac)
    with netns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(frames.ETH_P_ARP)) as endpoint:
        endpoint.bind((link.name, frames.ETH_P_ARP))
        for _ in range(_PROBES):
            for address in wanted:
                endpoint.send(frames.arp(frames.ARP_REQUEST, mac, IPv4Address(0), address))
            deadline = time.monotonic() + _PROBE_SECONDS
            while (left := deadline - time.monotonic()) > 0:
                endpoint.settimeout(left)
                with suppress(TimeoutError):
                    _judge(endpoint.recv(1 << 11), wanted, mac)


def _judge(frame: bytes, wanted: list[IPv4Address], own: bytes) -> None:
    told = frames.arp_sender(frame)
    if told and told[0] != own and told[1] in wanted:
        raise CniError(
            f"the address {told[1]} is in use",
            why=f"The host with MAC {told[0].hex(':')} answers for it.",
            fix="Give the pod another address, or stop that host from using it.",
            code=Code.ADDRESS_IN_USE,
        )


def _packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
