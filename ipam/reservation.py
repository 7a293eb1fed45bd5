"""Reservations of static addresses on this host: one small file per address, made by who holds it.

They lie at `<state>/reservations/<network>/<address>` and hold the container ID and the interface
name, a line each. The file is the reservation: it is made in one step, whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cni import durable
from cni.protocol.errors import CniError, Code
from cni.protocol.request import AttachmentKey


@dataclass(frozen=True)
class Reservations:
    """The reserved addresses of one network."""

    state: Path
    network: str

    @classmethod
    def of(cls, environment: Mapping[str, str], network: str) -> Reservations:
        return cls(durable.state_directory(environment), network)

    @property
    def _folder(self) -> Path:
        return self.state / "reservations" / durable.component(self.network)

    def take(self, address: str, owner: AttachmentKey) -> bool:
        """Reserve an address and tell whether that was new; its owner may do so again.

        Raises:
            CniError: code 105, another attachment of this host has it.
        """
        path = self._folder / address
        try:
            data = "\n".join((*owner, "")).encode("utf-8", "surrogateescape")
            durable.create(path, data, self.state, is_synced=True)
        except FileExistsError as error:
            holder = _owner(path)
            if holder == owner:
                return False
            raise self._taken(address, holder) from error
        return True

    def refuse_taken(self, address: str, owner: AttachmentKey) -> None:
        """Refuse what `take` would refuse, and reserve nothing.

        Raises:
            CniError: code 105.
        """
        holder = _owner(self._folder / address)
        if holder not in (None, owner):
            raise self._taken(address, holder)

    def _taken(self, address: str, holder: AttachmentKey | None) -> CniError:
        who = f"{holder[1]} of container {holder[0]}" if holder else "an attachment that just went"
        return CniError(
            f'the address {address} of network "{self.network}" is reserved',
            why=f"{who} has it; the reservation is {self._folder / address}.",
            fix="Give this pod another address, or detach that one first.",
            code=Code.ADDRESS_IN_USE,
        )

    def give_back(self, address: str) -> None:
        durable.remove(self._folder / address, self.state)

    def release(self, owner: AttachmentKey) -> None:
        """Give back all addresses of an owner."""
        for path in self._all():
            if _owner(path) == owner:
                self.give_back(path.name)
        durable.prune(self._folder, self.state)

    def release_others(self, keep: frozenset[AttachmentKey]) -> None:
        """Give back the addresses of all owners but those to keep."""
        for path in self._all():
            holder = _owner(path)
            if holder and holder not in keep:
                self.give_back(path.name)
        durable.tidy(self._folder, self.state)

    def _all(self) -> list[Path]:
        return durable.listed(self._folder, "[!.]*")


def _owner(path: Path) -> AttachmentKey | None:
    lines = (durable.read(path) or b"").decode("utf-8", "surrogateescape").split("\n")
    return (lines[0], lines[1]) if len(lines) > 1 else None
