"""Pool, owner, claim: who holds what, as records, and the names they have in both stores (pure).

A pool is named after its network and, if there is one, the administrator's `network_name`; never after
the CNI network. Names and keys are Whereabouts' (`pkg/storage/kubernetes`), so that both can share a
cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from cni.protocol.addresses import IpNetwork
from cni.protocol.request import AttachmentKey
from ipam.ranges import Ip, parse_network


@dataclass(frozen=True)
class Owner:
    """An attachment that holds addresses.

    A pod's attachment is known by pod and interface, whichever sandbox it has just now; without a pod
    it is known by its container ID.
    """

    container_id: str
    ifname: str
    podref: str = ""  # namespace/name
    network: str = ""  # the CNI network, whose GC lists this attachment

    @property
    def key(self) -> AttachmentKey:
        return self.container_id, self.ifname

    @property
    def name(self) -> str:
        """What stays the same when the sandbox is made anew."""
        return f"{self.podref or self.container_id}@{self.ifname}"

    def is_same_holder(self, other: Owner) -> bool:
        """Whether both are one attachment; entries of old Whereabouts have no interface name."""
        if self.ifname and other.ifname and self.ifname != other.ifname:
            return False
        if self.podref and other.podref:
            return self.podref == other.podref
        return self.container_id == other.container_id

    def has_sandbox(self, container_id: str, ifname: str) -> bool:
        return self.container_id == container_id and self.ifname in ("", ifname)

    def __str__(self) -> str:
        who = " ".join(filter(None, (self.podref, self.ifname))) or "an unknown attachment"
        return f"{who} (container {self.container_id})" if self.container_id else who


@dataclass(frozen=True)
class PoolKey:
    """Which pool: `node` is set for the pool of a node's slice, whose network is the slice."""

    network: IpNetwork
    network_name: str = ""
    node: str = ""

    @property
    def name(self) -> str:
        """The pool's object name, such as `blue-10.0.0.0-24` or `fd00-1---64`."""
        parts = (self.network_name, self.node, str(self.network).replace(":", "-").replace("/", "-"))
        return _legal("-".join(filter(None, parts)))

    def to_json(self) -> dict[str, str]:
        fields = {"range": str(self.network), "network_name": self.network_name, "node": self.node}
        return {name: value for name, value in fields.items() if value}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> PoolKey:
        """Raises KeyError or ValueError if it is none."""
        return cls(parse_network(raw["range"]), raw.get("network_name", ""), raw.get("node", ""))

    def __str__(self) -> str:
        return (
            f"{self.network} of network_name {self.network_name}" if self.network_name else str(self.network)
        )


@dataclass(frozen=True)
class Claim:
    """One address held in a pool; `is_new` if this call has claimed it."""

    pool: PoolKey
    address: Ip
    is_new: bool = True
    is_unique: bool = True  # there is a reservation beside it, for pools that overlap
    reservation: str = ""  # the reservation's UID, where the store has such


@dataclass(frozen=True)
class Allocation:
    """One entry of a pool as a store has it; `since` is ISO 8601 or empty, `owner` None if unreadable."""

    pool: PoolKey
    address: Ip
    owner: Owner | None
    since: str = ""


def reservation_name(address: IPv4Address | IPv6Address, network_name: str = "") -> str:
    """Return the object name of an address's reservation, such as `blue-10.0.0.1` or `fd00-1--1`."""
    text = str(address)
    text = (f"{text}0" if text.endswith(":") else text).replace(":", "-")
    return _legal(f"{network_name}-{text}" if network_name else text)


def _legal(name: str) -> str:
    # A name must not begin with a dash; those of networks that begin with "::" would.
    return f"0{name}" if name.startswith("-") else name
