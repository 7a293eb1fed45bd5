"""Tell the neighbours where an address is now, and ask them whether they have it (frames by hand).

The kernel's `arp_notify` and `ndisc_notify` are not always honoured, so that peers keep sending to
the MAC that had the address before. Source: RFC 5227 for ARP, RFC 4861 section 7.2.6 for
neighbour advertisements.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from _thread import start_new_thread
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from cni.host.link_messages import ARPHRD_ETHER
from cni.host.links import Link
from cni.host.netns import Netns
from cni.protocol.errors import CniError, Code

_ETH_P_ARP, _ETH_P_IPV6 = 0x0806, 0x86DD
_ARP_REQUEST, _ARP_REPLY = 1, 2
_ARP = struct.Struct("!HHBBH6s4s6s4s")  # types and sizes, operation, sender MAC and IP, target MAC and IP
_BROADCAST = b"\xff" * 6
_ALL_NODES = IPv6Address("ff02::1")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ICMPV6, _NEIGHBOR_ADVERTISEMENT, _OVERRIDE = 58, 136, 0x20000000
_TARGET_LINK_LAYER_ADDRESS = 2

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
    frames: list[bytes] = []
    for cidr in addresses:
        if isinstance(cidr.ip, IPv4Address):
            for operation in (_ARP_REQUEST, _ARP_REPLY):
                frames.append(_arp(operation, mac, cidr.ip, cidr.ip))
        else:
            frames.append(_advertisement(mac, cidr.ip))
    if not frames:
        return
    with suppress(OSError):
        endpoint = netns.socket(socket.AF_PACKET, socket.SOCK_RAW)
        try:
            endpoint.bind((link.name, 0))
            for frame in frames:
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
    with netns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ARP)) as endpoint:
        endpoint.bind((link.name, _ETH_P_ARP))
        for _ in range(_PROBES):
            for address in wanted:
                endpoint.send(_arp(_ARP_REQUEST, mac, IPv4Address(0), address))
            deadline = time.monotonic() + _PROBE_SECONDS
            while (left := deadline - time.monotonic()) > 0:
                endpoint.settimeout(left)
                with suppress(TimeoutError):
                    _judge(endpoint.recv(1 << 11), wanted, mac)


def _judge(frame: bytes, wanted: list[IPv4Address], own: bytes) -> None:
    if len(frame) < 14 + _ARP.size:
        return
    *_, sender, address, _, _ = _ARP.unpack_from(frame, 14)
    if sender != own and IPv4Address(address) in wanted:
        raise CniError(
            f"the address {IPv4Address(address)} is in use",
            why=f"The host with MAC {sender.hex(':')} answers for it.",
            fix="Give the pod another address, or stop that host from using it.",
            code=Code.ADDRESS_IN_USE,
        )


def _arp(operation: int, mac: bytes, sender: IPv4Address, target: IPv4Address) -> bytes:
    target_mac = mac if operation == _ARP_REPLY else bytes(6)
    body = _ARP.pack(1, 0x0800, 6, 4, operation, mac, sender.packed, target_mac, target.packed)
    return _BROADCAST + mac + struct.pack("!H", _ETH_P_ARP) + body


def _advertisement(mac: bytes, address: IPv6Address) -> bytes:
    option = struct.pack("!BB", _TARGET_LINK_LAYER_ADDRESS, 1) + mac
    body = struct.pack("!I", _OVERRIDE) + address.packed + option
    ends = address.packed + _ALL_NODES.packed
    pseudo_header = ends + struct.pack("!II", 4 + len(body), _ICMPV6)
    icmp = struct.pack("!BBH", _NEIGHBOR_ADVERTISEMENT, 0, 0) + body
    icmp = icmp[:2] + struct.pack("!H", _checksum(pseudo_header + icmp)) + icmp[4:]
    header = struct.pack("!IHBB", 6 << 28, len(icmp), _ICMPV6, 255) + ends
    return _ALL_NODES_MAC + mac + struct.pack("!H", _ETH_P_IPV6) + header + icmp


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
