"""What a PF holds of its virtual functions, as rtnetlink carries it (pure).

Source: the kernel's `include/uapi/linux/if_link.h`, `IFLA_VF_…`, and `rtnl_fill_vfinfo` and
`do_setvfinfo` of its `net/core/rtnetlink.c`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from cni.host.netlink import attribute, attributes, nested

LinkState = Literal["auto", "enable", "disable"]
VlanProto = Literal["802.1q", "802.1ad"]

IFLA_NUM_VF, IFLA_VFINFO_LIST = 21, 22
RTEXT_FILTER_VF = 1
_VF_INFO = 1
_MAC, _VLAN, _SPOOFCHK, _LINK_STATE, _RATE, _TRUST = 1, 2, 4, 5, 6, 9
_NODE_GUID, _PORT_GUID, _VLAN_LIST, _VLAN_INFO = 10, 11, 12, 1
_LINK_STATES: tuple[LinkState, ...] = ("auto", "enable", "disable")  # by the kernel's numbers
_PROTOCOLS: dict[int, VlanProto] = {0x8100: "802.1q", 0x88A8: "802.1ad"}
_UNTOLD = 0xFFFFFFFF  # of a switch that the driver does not have

_WORDS = {count: struct.Struct(f"={count}I") for count in (2, 3)}  # the VF's index, then values
_VLAN_WORDS = struct.Struct("=III")
_PROTOCOL = struct.Struct("!H2x")
_GUID = struct.Struct("=I4xQ")
_MAC_ROOM = 32  # bytes


@dataclass(frozen=True)
class Vlan:
    """The tag that a card adds and takes away; `id` 0 is none."""

    id: int
    qos: int = 0  # priority, 0 to 7
    proto: VlanProto = "802.1q"

    def __str__(self) -> str:
        return f"{self.id} (QoS {self.qos}, {self.proto})" if self.id else "0"


@dataclass(frozen=True)
class VfSettings:
    """What a PF holds of a VF; None is what the driver does not tell, or what is not asked for."""

    vlan: Vlan | None = None
    mac: str | None = None  # the administrative one
    rates: tuple[int, int] | None = None  # least and most, Mbit/s; 0 is no limit
    spoofchk: bool | None = None
    trust: bool | None = None
    link_state: LinkState | None = None
    guid: str | None = None  # of an InfiniBand VF: of node and port

    @property
    def names(self) -> tuple[str, ...]:
        """The settings that have a value, in the order in which they are applied."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)

    def only(self, keeps: Callable[[str], bool]) -> Self:
        """Return the settings with a name that is to be kept."""
        return type(self)(**{name: getattr(self, name) for name in self.names if keeps(name)})

    def unlike(self, other: VfSettings) -> Self:
        """Return the settings whose value is another one in `other`."""
        return self.only(lambda name: getattr(self, name) != getattr(other, name))

    def over(self, other: VfSettings) -> Self:
        """Return these settings, and for what they leave open those of `other`."""
        return type(self)(**{name: getattr(self, name) for name in self.names} | other._open(self))

    def _open(self, taken: VfSettings) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.names if getattr(taken, name) is None}

    def sentences(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each setting, and its value as an administrator would write it."""
        for name in self.names:
            yield name, _shown(name, getattr(self, name))


def _shown(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if name == "rates":
        return f"{value[0]} to {value[1]} Mbit/s"
    return str(value)


def encode(index: int, name: str, settings: VfSettings) -> bytes:
    """Return the attribute that changes one setting of a VF."""
    value = getattr(settings, name)
    encoders: dict[str, Callable[[], bytes]] = {
        "vlan": lambda: _vlan(index, value),
        "mac": lambda: attribute(_MAC, struct.pack("=I", index) + _padded(value)),
        "rates": lambda: attribute(_RATE, _WORDS[3].pack(index, *value)),
        "spoofchk": lambda: attribute(_SPOOFCHK, _WORDS[2].pack(index, value)),
        "trust": lambda: attribute(_TRUST, _WORDS[2].pack(index, value)),
        "link_state": lambda: attribute(_LINK_STATE, _WORDS[2].pack(index, _LINK_STATES.index(value))),
        "guid": lambda: b"".join(
            attribute(kind, _GUID.pack(index, int(value.replace(":", ""), 16)))
            for kind in (_NODE_GUID, _PORT_GUID)
        ),
    }
    return nested(IFLA_VFINFO_LIST, nested(_VF_INFO, encoders[name]()))


def _vlan(index: int, vlan: Vlan) -> bytes:
    words = _VLAN_WORDS.pack(index, vlan.id, vlan.qos)
    if vlan.proto == "802.1q":
        return attribute(_VLAN, words)  # every kernel and driver knows this form
    number = next(number for number, proto in _PROTOCOLS.items() if proto == vlan.proto)
    return nested(_VLAN_LIST, attribute(_VLAN_INFO, words + _PROTOCOL.pack(number)))


def _padded(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", "")).ljust(_MAC_ROOM, b"\0")


def decode(listed: bytes, mac_length: int) -> dict[int, VfSettings]:
    """Read an IFLA_VFINFO_LIST: settings by the VF's index; a MAC is as long as the PF's, in bytes."""
    found = {}
    for kind, info in attributes(listed):
        told = dict(attributes(info)) if kind == _VF_INFO else {}
        if _MAC in told:
            found[struct.unpack_from("=I", told[_MAC])[0]] = _settings(told, mac_length)
    return found


def _settings(told: dict[int, bytes], mac_length: int) -> VfSettings:
    rates = _WORDS[3].unpack(told[_RATE])[1:] if _RATE in told else None
    state = _word(told, _LINK_STATE)
    return VfSettings(
        vlan=_read_vlan(told),
        mac=told[_MAC][4 : 4 + mac_length].hex(":"),
        rates=rates,
        spoofchk=_switch(told, _SPOOFCHK),
        trust=_switch(told, _TRUST),
        link_state=_LINK_STATES[state] if state is not None and state < len(_LINK_STATES) else None,
        guid=_GUID.unpack(told[_PORT_GUID])[1].to_bytes(8, "big").hex(":") if _PORT_GUID in told else None,
    )


def _read_vlan(told: dict[int, bytes]) -> Vlan | None:
    (info,) = [value for _, value in attributes(told.get(_VLAN_LIST, b""))][:1] or (None,)
    words = info or told.get(_VLAN)
    if not words:
        return None
    _, vlan_id, qos = _VLAN_WORDS.unpack_from(words)
    number = _PROTOCOL.unpack_from(info, _VLAN_WORDS.size)[0] if info else 0x8100
    return Vlan(vlan_id, qos, _PROTOCOLS.get(number, "802.1q"))


def _word(told: dict[int, bytes], kind: int) -> int | None:
    return int(_WORDS[2].unpack(told[kind])[1]) if kind in told else None


def _switch(told: dict[int, bytes], kind: int) -> bool | None:
    word = _word(told, kind)
    return None if word in (None, _UNTOLD) else bool(word)
