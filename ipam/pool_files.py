"""PoolFiles: the files of one pool in a file store, and what they say.

What changes them needs the store's lock. An owner's link names all that the owner may hold in the pool: it is
made before an entry and goes after it, so whoever is killed leaves nothing that its owner does not find.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from cni import durable
from cni.protocol.errors import CniError, Code
from cni.protocol.notes import note
from ipam.address_tree import AddressTree
from ipam.allocator import Held, Numbers
from ipam.pool import Allocation, Owner, PoolKey
from ipam.ranges import Ip

FORMAT = 1

_STEPS_OF_REST = 16  # addresses wake together, at most a sixteenth of their rest too late


@dataclass(frozen=True)
class PoolFiles:
    """The files of the pool `key` in the store below `root`."""

    root: Path
    key: PoolKey

    @cached_property
    def folder(self) -> Path:
        return self.root.joinpath("pools", durable.component(self.key.name))

    @cached_property
    def tree(self) -> AddressTree:
        network = self.key.network
        return AddressTree(self.folder, network.version, int(network.network_address))

    @cached_property
    def reservations(self) -> AddressTree:
        folder = self.root.joinpath("reservations", durable.component(self.key.network_name or "_"))
        return AddressTree(folder, self.key.network.version)

    @cached_property
    def resting(self) -> AddressTree:
        return AddressTree(self.folder / "resting", self.key.network.version)

    @cached_property
    def _until(self) -> Path:
        return self.folder.joinpath("resting", "until")

    def address(self, number: int) -> Ip:
        return type(self.key.network.network_address)(number)

    def begin(self) -> None:
        """Say what the pool is, if that is not said yet.

        Raises:
            CniError: code 5, another podrail keeps it in a way that this one does not know.
        """
        path, line = self.folder / "pool.json", _line({"format": FORMAT, **self.key.to_json()})
        data = durable.read(path)
        if data == line or key_of(data) == self.key:
            return
        if data is not None and key_of(data) is None:
            _refuse_newer(path, data)
            durable.replace(
                self.root / "corrupt" / self.folder.name / "pool.json", data, self.root, is_synced=True
            )
            note(self.key.name, f"{path} could not be read; it was set aside and written anew")
        durable.replace(path, line, self.root)

    def allocation(self, number: int) -> Allocation | None:
        data = durable.read(self.tree.path(number))
        if data is None:
            return None
        raw = decoded(data) or {}
        return Allocation(self.key, self.address(number), _owner(raw), str(raw.get("since", "")))

    def held_by(self, owner: Owner, linked: Iterable[int] | None = None) -> list[Allocation]:
        """Return what the owner holds, with whichever sandbox, in the order of its claims.

        `linked` is what its link names, if that has been read.
        """
        found = [self.allocation(number) for number in (self.linked(owner) if linked is None else linked)]
        return [each for each in found if each and each.owner and each.owner.is_same_holder(owner)]

    def reserver(self, number: int) -> Owner | None:
        """Return who has an address' reservation; None if nobody has, or it cannot be read."""
        return _owner(decoded(durable.read(self.reservations.path(number))) or {})

    def reserve_again(self, number: int, draft: durable.Draft) -> None:
        if self.reservations.holds(number):
            draft.put_at(self.reservations.path(number))
        else:
            self.reservations.add(number, draft)

    def linked(self, owner: Owner) -> list[int]:
        """Return the addresses that the owner's link names; one may be another's by now."""
        parts = [part for path in self._links(owner) for part in _targets(path)]
        return list(dict.fromkeys(number for part in parts if (number := self._number(part)) is not None))

    def link(self, owner: Owner, numbers: Iterable[int]) -> None:
        """Let the owner's link name these addresses; without any there is none."""
        targets = [f"../{self.tree.place(number)}" for number in dict.fromkeys(numbers)]
        path, *others = self._links(owner)
        present = _targets(path)
        if targets and not present:
            durable.make_directory(path.parent)
            _make_link(path, targets)
        elif targets != present:
            beside = path.with_name(f".{path.name}")
            beside.unlink(missing_ok=True)
            if targets:
                _make_link(beside, targets)
                beside.rename(path)
            else:
                path.unlink()
        for other in others:
            other.unlink(missing_ok=True)

    def is_linked_once(self, number: int) -> bool:
        """Tell whether one owner only may hold an address; this looks at all."""
        links = (self.folder / "owners").glob("[!.]*")
        return sum(self._number(part) == number for path in links for part in _targets(path)) == 1

    def owner_names(self) -> Iterator[str]:
        with suppress(FileNotFoundError):
            yield from (unquote(path.name) for path in (self.folder / "owners").glob("[!.]*"))

    def lay_to_rest(self, number: int, rest: float) -> None:
        """Keep an address that is about to be given back from being given out for `rest` seconds.

        The entry's file gets two more names: one to be found by address, one by the time when it wakes.
        """
        step = rest / _STEPS_OF_REST
        wakes = (int((time.time() + rest) / step) + 1) * step
        sleeper = self._until / f"{wakes:.3f}" / str(self.address(number))
        entry = durable.Draft(str(self.tree.path(number)))
        entry.put_at(sleeper)
        self.resting.remove(number)
        self.resting.add(number, entry)

    def rests(self) -> bool:
        """Tell whether any address rests just now."""
        with suppress(FileNotFoundError):
            return any(float(bed.name) > time.time() for bed in self._until.iterdir())
        return False

    def asleep(self) -> Held:
        """Return the addresses that rest, without those that `wake` would let go now."""
        if not self._until.exists():
            return self.resting
        late = [bed for bed in self._until.iterdir() if float(bed.name) <= time.time()]
        if not late:
            return self.resting
        beds = (bed for bed in self._until.iterdir() if bed not in late)
        numbers = (self._number(sleeper.name) for bed in beds for sleeper in bed.iterdir())
        return Numbers.of(number for number in numbers if number is not None)

    def wake(self) -> None:
        """Let those go whose rest has ended."""
        if not self._until.exists():
            return
        for bed in sorted(self._until.iterdir()):
            if float(bed.name) <= time.time():
                self._wake(bed)
        durable.prune(self._until, self.folder)

    def _wake(self, bed: Path) -> None:
        for sleeper in bed.iterdir():
            number = self._number(sleeper.name)
            resting = None if number is None else self.resting.path(number)
            # It may have been given out, and given back again, in the meantime.
            if number is not None and resting and resting.exists() and resting.samefile(sleeper):
                self.resting.remove(number)
            sleeper.unlink()
        bed.rmdir()

    def prune(self) -> None:
        """Remove what says nothing any more, if the pool is empty."""
        durable.prune(self.folder / "owners", self.folder)
        if not (self.folder / "owners").exists():
            sweep(self.folder)
        if not any((self.folder / name).exists() for name in ("addresses", "owners", "resting")):
            durable.remove(self.folder / "pool.json", self.root)
        durable.prune(self.reservations.root, self.root)

    def sync_released(self, *numbers: int) -> None:
        """Let releases survive a loss of power, in the order that undoes a claim.

        Claims need not, as no sandbox does: a journaling file system keeps the order in which links and
        entries were made, so that what is left of a claim is what its owner's DEL finds.
        """
        self._sync(*self._folders(self.reservations, numbers))
        self._sync(*self._folders(self.tree, numbers), self.folder / "owners")

    @staticmethod
    def _folders(tree: AddressTree, numbers: Iterable[int]) -> list[Path]:
        return list(dict.fromkeys(tree.path(number).parent for number in numbers))

    @staticmethod
    def _sync(*folders: Path) -> None:
        """Sync directories; where one is gone, the next above it that is not, or it might come back."""
        for each in dict.fromkeys(next(filter(Path.is_dir, (each, *each.parents))) for each in folders):
            with suppress(FileNotFoundError):  # somebody else's release removes it just now, and syncs that
                durable.sync_directory(each)

    def _number(self, target: str) -> int | None:
        with suppress(ValueError):
            address = ip_address(target.rpartition("/")[2])
            return int(address) if address in self.key.network else None
        return None

    def _links(self, owner: Owner) -> list[Path]:
        """Return where the owner's link is, and where it was before its pod was known."""
        names = dict.fromkeys((owner.name, Owner(owner.container_id, owner.ifname).name))
        files = (durable.component(quote(name, safe="@+:,= ")) for name in names)
        return [self.folder.joinpath("owners", file) for file in files]


def remove_dangling(owners: Path) -> None:
    """Remove links that lead to no address."""
    for path in durable.listed(owners, "[!.]*"):
        if not any((owners / target).exists() for target in _targets(path)):
            path.unlink(missing_ok=True)


def _targets(path: Path) -> list[str]:
    """Return what a link names, such as `../addresses/10.0.3.0-24/10.0.3.7`; nothing if there is none."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return str(path.readlink()).split(" ")
    return []


def _make_link(path: Path, targets: list[str]) -> None:
    try:
        path.symlink_to(" ".join(targets))
    except OSError as error:  # it names the targets only
        raise OSError(error.errno, error.strerror, str(path)) from error


def sweep(folder: Path) -> None:
    """Remove empty directories, which a loss of power may have left."""
    for path, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            Path(path).rmdir()


def encoded(owner: Owner) -> bytes:
    """Return the contents of an entry."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    fields = {"id": owner.container_id, "podref": owner.podref, "ifname": owner.ifname}
    return _line({**fields, "network": owner.network, "since": since})


def decoded(data: bytes | None) -> dict[str, Any] | None:
    """Return an entry's fields, None if it cannot be read."""
    with suppress(ValueError, RecursionError):
        raw = json.loads(data or b"")
        if isinstance(raw, dict) and all(isinstance(raw.get(name), str) for name in ("id", "ifname")):
            return raw
    return None


def described(path: Path) -> PoolKey | None:
    """Return which pool a pool.json describes, None if it is absent or cannot be read."""
    return key_of(durable.read(path))


def key_of(data: bytes | None) -> PoolKey | None:
    """Return which pool these contents of a pool.json describe, None if they cannot be read."""
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raw = json.loads(data or b"")
        return PoolKey.from_json(raw) if raw["format"] == FORMAT else None
    return None


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _owner(raw: dict[str, Any]) -> Owner | None:
    if "id" not in raw:
        return None
    return Owner(raw["id"], raw["ifname"], str(raw.get("podref", "")), str(raw.get("network", "")))


def _refuse_newer(path: Path, data: bytes) -> None:
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        if (version := json.loads(data)["format"]) != FORMAT:
            raise CniError(
                f"{path} has format {version}",
                why=f"This podrail knows format {FORMAT}; a newer one wrote it.",
                fix="Use that one, or another dataDir.",
                code=Code.IO_FAILURE,
            )
