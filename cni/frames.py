"""Ethernet frames by which neighbours are asked who has an address and told who has it (pure).

Source: RFC 5227 for ARP, RFC 4861 sections 4.3, 4.4 and 7.2 for neighbour solicitations and advertisements.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD
ARP_REQUEST, ARP_REPLY = 1, 2

_ARP = struct.Struct("!HHBBH6s4s6s4s")  # types and sizes, operation, sender MAC and IP, target MAC and IP
_BROADCAST = b"\xff" * 6
_ALL_NODES = IPv6Address("ff02::1")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_NOBODY = IPv6Address("::")
_SOLICITED = int(IPv6Address("ff02::1:ff00:0"))
_ICMPV6, _SOLICITATION, _ADVERTISEMENT, _OVERRIDE = 58, 135, 136, 0x20000000
_TARGET_LINK_LAYER_ADDRESS = 2
_ETHERNET, _IPV6 = 14, 40  # bytes of a header


def arp(operation: int, mac: bytes, sender: IPv4Address, target: IPv4Address) -> bytes:
    """Ask for `target`, or with ARP_REPLY tell that `mac` has `sender`."""
    target_mac = mac if operation == ARP_REPLY else bytes(6)
    body = _ARP.pack(1, 0x0800, 6, 4, operation, mac, sender.packed, target_mac, target.packed)
    return _BROADCAST + mac + struct.pack("!H", ETH_P_ARP) + body


def arp_sender(frame: bytes) -> tuple[bytes, IPv4Address] | None:
    """Return which MAC says that it has which address; None if it is no whole ARP packet."""
    if len(frame) < _ETHERNET + _ARP.size or frame[12:14] != struct.pack("!H", ETH_P_ARP):
        return None
    *_, mac, address, _, _ = _ARP.unpack_from(frame, _ETHERNET)
    return mac, IPv4Address(address)


def solicitation(mac: bytes, target: IPv6Address) -> bytes:
    """Ask for an address on behalf of nobody, as duplicate address detection does: the answer is for all."""
    group = IPv6Address(_SOLICITED | int(target) & 0xFFFFFF)
    body = bytes(4) + target.packed
    return b"\x33\x33" + group.packed[12:] + mac + _icmp(_SOLICITATION, body, _NOBODY, group)


def advertisement(mac: bytes, address: IPv6Address) -> bytes:
    """Tell all that `mac` has an address."""
    option = struct.pack("!BB", _TARGET_LINK_LAYER_ADDRESS, 1) + mac
    body = struct.pack("!I", _OVERRIDE) + address.packed + option
    return _ALL_NODES_MAC + mac + _icmp(_ADVERTISEMENT, body, address, _ALL_NODES)


def advertised(frame: bytes) -> tuple[bytes, IPv6Address] | None:
    """Return which MAC says that it has which address; None if it is no neighbour advertisement."""
    start = _ETHERNET + _IPV6
    if len(frame) < start + 24 or frame[12:14] != struct.pack("!H", ETH_P_IPV6):
        return None
    if frame[_ETHERNET + 6] != _ICMPV6 or frame[start] != _ADVERTISEMENT:
        return None
    return frame[6:12], IPv6Address(frame[start + 8 : start + 24])


def _icmp(kind: int, body: bytes, source: IPv6Address, target: IPv6Address) -> bytes:
    ends = source.packed + target.packed
    pseudo_header = ends + struct.pack("!II", 4 + len(body), _ICMPV6)
    icmp = struct.pack("!BBH", kind, 0, 0) + body
    icmp = icmp[:2] + struct.pack("!H", _checksum(pseudo_header + icmp)) + icmp[4:]
    # A hop limit of 255 shows that no router has passed it on.
    return struct.pack("!HIHBB", ETH_P_IPV6, 6 << 28, len(icmp), _ICMPV6, 255) + ends + icmp


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
