"""Address pools as `podrail ipam show --json` tells them, for those who only look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cni.protocol import registry
from cni.protocol.request import AttachmentKey


@dataclass(frozen=True)
class Entry:
    """An address that somebody holds."""

    address: str
    podref: str = ""  # namespace/name
    ifname: str = ""
    container_id: str = ""
    network: str = ""
    since: str = ""  # ISO 8601
    state: str = ""  # alive, gone, unknown, unreadable

    @property
    def key(self) -> AttachmentKey:
        return self.container_id, self.ifname

    @property
    def holder(self) -> str:
        return self.podref or self.container_id


@dataclass(frozen=True)
class Pool:
    """A pool with its entries; or in its place, a store with the error that it gives."""

    store: str  # file, kubernetes, blocks
    path: str
    name: str = ""
    range: str = ""
    network_name: str = ""
    held: int = 0
    size: int = 0
    allocations: tuple[Entry, ...] = ()
    error: str = ""


def pools(environment: Mapping[str, str]) -> list[Pool]:
    """Return what this node's journal leads to."""
    found = []
    for told in registry.load_pools()(environment):
        entries = tuple(Entry(**each) for each in told.get("allocations", ()))
        found.append(Pool(**(told | {"allocations": entries})))
    return found
