"""A network interface as rtnetlink carries it: its record, and the messages about it (pure).

Source: the kernel's `include/uapi/linux/{if_link,rtnetlink,if}.h`.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

from cni.host import vf
from cni.host.netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Message,
    attribute,
    attributes,
    nested,
    number,
    text,
)
from cni.host.vf import VfSettings

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
_RTM_NEWLINKPROP, _RTM_DELLINKPROP = 108, 109
RTNLGRP_LINK = 1

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_TXQLEN, _IFLA_GROUP = 13, 27
_IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_NET_NS_FD, _IFLA_LINK_NETNSID = 18, 20, 28, 37
_IFLA_NEW_IFINDEX = 49
_IFLA_PROP_LIST, _IFLA_ALT_IFNAME, _IFLA_PERM_ADDRESS = 52, 53, 54
_IFLA_PARENT_DEV_NAME = 56
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND = 1, 2, 4
_MACVLAN_MODE, _MACVLAN_BC_QUEUE_LEN = 1, 7
_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
_MACVLAN_MODE_NAMES = {value: name for name, value in _MACVLAN_MODES.items()}

_IFF_UP, _IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000
# IFF_NOARP, _PROMISC, _ALLMULTI, _MULTICAST, _DYNAMIC: what `ip link set` turns on and off beside up.
_IFF_SETTABLE = 0x80 | 0x100 | 0x200 | 0x1000 | 0x8000
ARPHRD_ETHER, ARPHRD_INFINIBAND = 1, 32

_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, mask of flags to change

_IFLA_EXT_MASK, _SKIP_STATISTICS = 29, 8
_WITHOUT_STATISTICS = attribute(_IFLA_EXT_MASK, _SKIP_STATISTICS)
_WITH_VFS = attribute(_IFLA_EXT_MASK, _SKIP_STATISTICS | vf.RTEXT_FILTER_VF)

_IFNAMSIZ = 16  # bytes, with the final NUL; longer names are alternative names
_ALTIFNAMSIZ = 128  # likewise


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


def can_be_a_name(name: str) -> bool:
    """Whether the kernel would read all of it: it stops at a NUL, and a message has room for so much."""
    return "\0" not in name and len(os.fsencode(name)) < _ALTIFNAMSIZ


# -- questions -----------------------------------------------------------------------------------


def by_name(name: str, *, with_vfs: bool = False) -> Message:
    """Ask for the link of a name or alternative name; a card's driver takes time to tell of its VFs."""
    kind = _IFLA_IFNAME if len(os.fsencode(name)) < _IFNAMSIZ else _IFLA_ALT_IFNAME
    extent = _WITH_VFS if with_vfs else _WITHOUT_STATISTICS
    return Message(_RTM_GETLINK, 0, _header() + attribute(kind, name) + extent)


def by_index(index: int) -> Message:
    """Ask for a link, or for all of them by the index 0."""
    return Message(_RTM_GETLINK, 0, _header(index) + _WITHOUT_STATISTICS)


# -- changes -------------------------------------------------------------------------------------


def new_macvlan(
    name: str, master: Link, mode: str, *, mac: str, mtu: int | None, queue_length: int | None, netns_fd: int
) -> Message:
    data = [attribute(_MACVLAN_MODE, _MACVLAN_MODES[mode])]
    if queue_length:
        data.append(attribute(_MACVLAN_BC_QUEUE_LEN, queue_length))
    body = _header() + b"".join(
        (
            attribute(_IFLA_IFNAME, name),
            attribute(_IFLA_LINK, master.index),
            attribute(_IFLA_ADDRESS, _mac_bytes(mac)),
            attribute(_IFLA_MTU, mtu) if mtu else b"",
            attribute(_IFLA_NET_NS_FD, netns_fd),
            nested(_IFLA_LINKINFO, attribute(_INFO_KIND, "macvlan"), nested(_INFO_DATA, *data)),
        )
    )
    return Message(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def deleted(link: Link) -> Message:
    return Message(_RTM_DELLINK, 0, _header(link.index))


def moved(link: Link, netns_fd: int, name: str, alias: str, index: int | None) -> Message:
    body = _header(link.index) + b"".join(
        (
            attribute(_IFLA_NET_NS_FD, netns_fd),
            attribute(_IFLA_IFNAME, name),
            attribute(_IFLA_IFALIAS, os.fsencode(alias)),  # without NUL: empty takes it away
            attribute(_IFLA_NEW_IFINDEX, index) if index else b"",
        )
    )
    return Message(RTM_SETLINK, 0, body)


def with_name(link: Link, name: str) -> Message:
    return _set(link, attribute(_IFLA_IFNAME, name))


def with_alias(link: Link, alias: str) -> Message:
    return _set(link, attribute(_IFLA_IFALIAS, os.fsencode(alias)))


def with_mac(link: Link, mac: str) -> Message:
    return _set(link, attribute(_IFLA_ADDRESS, _mac_bytes(mac)))


def with_mtu(link: Link, mtu: int) -> Message:
    return _set(link, attribute(_IFLA_MTU, mtu))


def with_upper(link: Link, upper_index: int) -> Message:
    return _set(link, attribute(_IFLA_MASTER, upper_index))


def with_manners(link: Link, flags: int, queue_length: int, group: int) -> Message:
    body = _LINK.pack(socket.AF_UNSPEC, 0, link.index, flags, _IFF_SETTABLE)
    body += attribute(_IFLA_TXQLEN, queue_length) + attribute(_IFLA_GROUP, group)
    return Message(RTM_SETLINK, 0, body)


def with_vf(pf: Link, index: int, name: str, settings: VfSettings) -> Message:
    """Return the message that sets one setting of a VF."""
    return _set(pf, vf.encode(index, name, settings))


def up(link: Link) -> Message:
    return Message(RTM_SETLINK, 0, _LINK.pack(socket.AF_UNSPEC, 0, link.index, _IFF_UP, _IFF_UP))


def down(link: Link) -> Message:
    return Message(RTM_SETLINK, 0, _LINK.pack(socket.AF_UNSPEC, 0, link.index, 0, _IFF_UP))


def with_altname(link: Link, altname: str) -> Message:
    return Message(_RTM_NEWLINKPROP, NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND, _altname(link, altname))


def without_altname(link: Link, altname: str) -> Message:
    return Message(_RTM_DELLINKPROP, 0, _altname(link, altname))


def _altname(link: Link, altname: str) -> bytes:
    return _header(link.index) + nested(_IFLA_PROP_LIST, attribute(_IFLA_ALT_IFNAME, altname))


def _set(link: Link, what: bytes) -> Message:
    return Message(RTM_SETLINK, 0, _header(link.index) + what)


def _header(index: int = 0) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)


def _mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


# -- answers -------------------------------------------------------------------------------------


def parse_link(body: bytes) -> Link:
    """Decode an RTM_NEWLINK body."""
    _, hardware_type, index, flags, _ = _LINK.unpack_from(body)
    found = dict(attributes(body[_LINK.size :]))
    info = dict(attributes(found.get(_IFLA_LINKINFO, b"")))
    kind = text(info.get(_INFO_KIND))
    data = dict(attributes(info.get(_INFO_DATA, b""))) if kind == "macvlan" else {}
    names = attributes(found.get(_IFLA_PROP_LIST, b""))
    return Link(
        index=index,
        name=text(found.get(_IFLA_IFNAME)),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=number(found.get(_IFLA_MTU)),
        is_up=bool(flags & _IFF_UP),
        has_carrier=bool(flags & _IFF_LOWER_UP),
        hardware_type=hardware_type,
        is_loopback=bool(flags & _IFF_LOOPBACK),
        kind=kind,
        parent_index=number(found.get(_IFLA_LINK)),
        parent_netns=number(found[_IFLA_LINK_NETNSID]) if _IFLA_LINK_NETNSID in found else None,
        mode=_MACVLAN_MODE_NAMES.get(number(data.get(_MACVLAN_MODE)), ""),
        alias=text(found.get(_IFLA_IFALIAS)),
        altnames=tuple(text(name) for what, name in names if what == _IFLA_ALT_IFNAME),
        permanent_mac=found.get(_IFLA_PERM_ADDRESS, b"").hex(":"),
        parent=text(found.get(_IFLA_PARENT_DEV_NAME)),
        upper_index=number(found.get(_IFLA_MASTER)),
        port_kind=text(info.get(_INFO_SLAVE_KIND)),
        manners=(
            flags & _IFF_SETTABLE,
            number(found.get(_IFLA_TXQLEN)),
            number(found.get(_IFLA_GROUP)),
        ),
    )


def parse_pf(body: bytes) -> PhysicalFunction:
    """Decode an RTM_NEWLINK body that tells of VFs."""
    link = parse_link(body)
    found = dict(attributes(body[_LINK.size :]))
    mac_length = len(found.get(_IFLA_ADDRESS, b""))
    return PhysicalFunction(link, vf.decode(found.get(vf.IFLA_VFINFO_LIST, b""), mac_length))
