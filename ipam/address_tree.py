"""Files named after addresses, kept so that the lowest free address is found at once.

The files lie in blocks of 256 addresses: `addresses/10.0.3.0-24/10.0.3.7`. A block that is full has a mark
in the block above, `full/10.0.0.0-16/10.0.3.0-24`, and so on upwards. Marks are made from the lowest up,
after the last file, and removed from the highest down, before the first, so none ever lies; one that is
missing is found out by looking. The caller holds a lock that keeps other writers out.

A pool's first block would never be full, since the network's own address is not given out as a rule, and
each claim would look at all of it. So its mark says nothing of that address, at which a search looks itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_ntoa, inet_pton

from cni import durable
from ipam.ranges import Ip

_BITS = 8  # 256 files or marks in a directory, which is listed at once
_WAYS = 1 << _BITS


@dataclass(frozen=True)
class AddressTree:
    """The tree below `root`, of IPv4 or IPv6 addresses."""

    root: Path
    version: int  # 4 or 6
    lowest: int = -1  # the number below which there are none, and of which no mark speaks; -1: no such

    def path(self, number: int) -> Path:
        return Path(f"{self.root}/{self.place(number)}")

    def place(self, number: int) -> str:
        """Where an address' file is, below the root."""
        return f"addresses/{self._node(1, number >> _BITS)}/{self._text(number)}"

    def holds(self, number: int) -> bool:
        return os.path.exists(f"{self.root}/{self.place(number)}")  # noqa: PTH110  # a Path takes longer than that

    def add(self, number: int, draft: durable.Draft) -> None:
        """Give `draft` the name of an address.

        Raises:
            FileExistsError: it is held.
        """
        path = self.path(number)
        draft.link_to(path)
        level, block, filled = 1, number >> _BITS, path.parent
        while self._is_full(level, block):
            mark = self._mark(level, block)
            durable.make_directory(mark.parent)
            durable.sync_directory(filled)  # no mark may survive what it speaks of
            mark.touch(mode=0o600)
            level, block, filled = level + 1, block >> _BITS, mark.parent

    def remove(self, number: int) -> None:
        """Remove an address' file, if any."""
        for mark in reversed(self._marks(number)):
            mark.unlink()
            durable.sync_directory(mark.parent)  # nor what it spoke of
            durable.prune(mark.parent, self.root)
        durable.remove(self.path(number), self.root)

    def remove_empty(self) -> None:
        """Remove addresses' files that hold nothing."""
        root = f"{self.root}/addresses"
        for block in _listed(root):
            with os.scandir(f"{root}/{block}") as entries:
                names = [entry.name for entry in entries if entry.stat().st_size == 0]
            for number in map(self._read, names):
                if number is not None:
                    self.remove(number)

    def next_free(self, first: int, last: int) -> int | None:
        """Return the lowest number from `first` to `last` that has no file, None if all have one."""
        if not self.holds(first):
            return first
        level = 1
        while first >> _BITS * level != last >> _BITS * level:
            level += 1
        return self._next_free(level, first >> _BITS * level, first, last)

    def addresses(self) -> Iterator[Ip]:
        """All addresses, lowest first."""
        blocks = {
            first: name
            for name in _listed(f"{self.root}/addresses")
            if (first := self._read(name.rpartition("-")[0])) is not None
        }
        for first in sorted(blocks):
            for number in sorted(self._numbers(blocks[first])):
                yield self._address(number)

    def count(self) -> int:
        """How many addresses have a file, without looking at their names."""
        root = f"{self.root}/addresses"
        return sum(len(_listed(f"{root}/{block}")) for block in _listed(root))

    def _next_free(self, level: int, block: int, first: int, last: int) -> int | None:
        """Search a block of 256^level addresses, which holds `first` to `last`."""
        taken, shift = self._taken(level, block), _BITS * (level - 1)
        for child in range(first >> shift, (last >> shift) + 1):
            if child % _WAYS in taken:
                continue
            if level == 1:
                return child
            lowest, highest = child << shift, ((child + 1) << shift) - 1
            found = self._next_free(level - 1, child, max(first, lowest), min(last, highest))
            if found is not None:
                return found
        return None

    def _taken(self, level: int, block: int) -> set[int]:
        """Return the places of a block, from 0 to 255, that are held or full, by the names of the files."""
        taken, family = set(), AF_INET if self.version == 4 else AF_INET6
        for name in _listed(self._folder(level, block)):
            try:  # ip_address takes ten times as long, and a claim's time is here; so would suppress()
                taken.add(inet_pton(family, name.partition("-")[0])[-level])
            except OSError:
                continue  # neither an address nor a block
        return taken

    def _is_full(self, level: int, block: int) -> bool:
        last = block * _WAYS + _WAYS - 1
        # It is the last to be taken, as a rule, so that most blocks need not be listed.
        if not (self._mark(level - 1, last).exists() if level > 1 else self.holds(last)):
            return False
        is_without_lowest = level == 1 and block << _BITS == self.lowest and not self.holds(self.lowest)
        return len(_listed(self._folder(level, block))) == _WAYS - is_without_lowest

    def _marks(self, number: int) -> list[Path]:
        """Return the marks of the blocks that an address lies in, lowest first."""
        marks, level, block = [], 1, number >> _BITS
        while (mark := self._mark(level, block)).exists():
            marks.append(mark)
            level, block = level + 1, block >> _BITS
        return marks

    def _mark(self, level: int, block: int) -> Path:
        return Path(self._folder(level + 1, block >> _BITS), self._node(level, block))

    def _folder(self, level: int, block: int) -> str:
        """Return where a block of 256^level addresses has its files, or the marks of the blocks in it."""
        return f"{self.root}/{'addresses' if level == 1 else 'full'}/{self._node(level, block)}"

    def _node(self, level: int, block: int) -> str:
        """Return the name of the block of 256^level addresses with this number, such as `10.0.3.0-24`."""
        width = self._width
        bits = min(_BITS * level, width)
        return f"{self._text((block << bits) % (1 << width))}-{width - bits}"

    def _text(self, number: int) -> str:
        if self.version == 4:
            return inet_ntoa(number.to_bytes(4, "big"))  # IPv4Address takes four times as long
        return str(IPv6Address(number))

    def _numbers(self, block: str) -> Iterator[int]:
        for name in _listed(f"{self.root}/addresses/{block}"):
            if (number := self._read(name)) is not None:
                yield number

    def _read(self, name: str) -> int | None:
        """Return the address that a file or a block is named after, None if it is named otherwise."""
        with suppress(ValueError):
            address = ip_address(name)
            return int(address) if address.version == self.version else None
        return None

    @property
    def _width(self) -> int:
        return 32 if self.version == 4 else 128

    def _address(self, number: int) -> Ip:
        return IPv4Address(number) if self.version == 4 else IPv6Address(number)


def _listed(folder: str) -> list[str]:
    """Return the names in a directory without drafts, which begin with a dot."""
    with suppress(FileNotFoundError):
        return [name for name in os.listdir(folder) if name[0] != "."]  # noqa: PTH208  # names, at a third of the time
    return []
