"""Addresses as text: IPs, CIDRs and MACs as Go's net package reads and prints them (pure).

An IPv4-mapped IPv6 address is IPv4. Zones, netmasks and leading zeros are refused, and a CIDR
needs its prefix length.
"""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)
from typing import Annotated, Any

from pydantic import PlainValidator

_MAC_LENGTHS = (6, 8, 20)  # EUI-48, EUI-64, IPoIB
_MAPPED_BITS = 96


def parse_ip(text: Any) -> IPv4Address | IPv6Address:
    """Raises ValueError with a sentence that shows `text`."""
    if isinstance(text, IPv4Address | IPv6Address):
        return text
    _must_be_plain(text, "an IP address")
    try:
        address = ip_address(text)
    except ValueError as error:
        raise ValueError(f'"{text}" is not an IP address') from error
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def parse_cidr(text: Any) -> IPv4Interface | IPv6Interface:
    """Return an address with its prefix length; host bits are kept.

    Raises ValueError with a sentence that shows `text`.
    """
    if isinstance(text, IPv4Interface | IPv6Interface):
        return text
    _must_be_plain(text, "an address with a prefix length")
    host, slash, length = text.partition("/")
    if not slash:
        example = f"{text or '10.0.0.2'}/{64 if ':' in text else 24}"
        raise ValueError(f'"{text}" has no prefix length; write it as "{example}"')
    if not (length.isascii() and length.isdigit() and len(length) < 4):
        raise ValueError(f'"{text}" is not an address with a prefix length, such as "10.0.0.2/24"')
    try:
        interface = ip_interface(f"{host}/{int(length)}")
    except ValueError as error:
        raise ValueError(f'"{text}" is not an address with a prefix length: {error}') from error
    mapped = interface.ip.ipv4_mapped if isinstance(interface, IPv6Interface) else None
    if mapped is None:
        return interface
    if interface.network.prefixlen < _MAPPED_BITS:
        raise ValueError(f'"{text}" is an IPv4-mapped address with a prefix of under {_MAPPED_BITS} bits')
    return IPv4Interface(f"{mapped}/{interface.network.prefixlen - _MAPPED_BITS}")


def parse_mac(text: Any) -> str:
    """Return a hardware address in lower case with colons, from any of the usual spellings.

    Raises ValueError with a sentence that shows `text`.
    """
    _must_be_plain(text, "a MAC address")
    pairs = re.fullmatch(r"[0-9a-fA-F]{2}(?:([:-])[0-9a-fA-F]{2})(?:\1[0-9a-fA-F]{2})*", text)
    quads = re.fullmatch(r"[0-9a-fA-F]{4}(?:\.[0-9a-fA-F]{4})+", text)
    digits = re.sub(r"[:.\-]", "", text) if pairs or quads else ""
    if len(digits) not in (2 * length for length in _MAC_LENGTHS):
        raise ValueError(f'"{text}" is not a MAC address such as "02:00:00:00:00:01"')
    return bytes.fromhex(digits).hex(":")


def parse_unicast_mac(text: Any) -> str:
    """Return an EUI-48 that an Ethernet link can have.

    Raises ValueError with a sentence that shows `text`.
    """
    mac = parse_mac(text)
    octets = bytes.fromhex(mac.replace(":", ""))
    if len(octets) != _MAC_LENGTHS[0]:
        raise ValueError(f'"{text}" has {len(octets)} bytes; an Ethernet address has 6')
    if octets[0] & 1:
        raise ValueError(f'"{text}" is a multicast address; the first byte must be even')
    if not any(octets):
        raise ValueError(f'"{text}" is all zero')
    return mac


def _must_be_plain(text: Any, what: str) -> None:
    if not isinstance(text, str):
        raise ValueError(f"must be a string that holds {what}")
    if not text.isascii() or "%" in text or any(char.isspace() for char in text):
        raise ValueError(f'"{text}" is not {what}')


Ip = Annotated[IPv4Address | IPv6Address, PlainValidator(parse_ip)]
Cidr = Annotated[IPv4Interface | IPv6Interface, PlainValidator(parse_cidr)]
Mac = Annotated[str, PlainValidator(parse_mac)]
UnicastMac = Annotated[str, PlainValidator(parse_unicast_mac)]

IpNetwork = IPv4Network | IPv6Network
