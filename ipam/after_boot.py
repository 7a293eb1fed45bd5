"""What a loss of power leaves in a file store, removed by the first call after the next boot.

An ADD does not wait for the disk, so what was written in the last half minute may be there with a name
and without contents. Nobody has it: a sandbox does not survive its machine. A file that is found empty later,
in the same boot, is another matter, and goes on holding its address.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from cni import durable
from cni.boot import boot_id
from ipam.address_tree import AddressTree
from ipam.pool_files import remove_dangling, sweep


def is_looked_through(lock: Path) -> bool:
    """Tell by the contents of a store's lock whether that has been done in this boot."""
    return durable.read(lock) == boot_id().encode()


def look_through(root: Path, lock: Path) -> None:
    """Remove what is empty, and owners' links that lead nowhere; the caller holds the lock."""
    for folder in (*_folders(root / "pools"), *_folders(root / "reservations")):
        for version in (4, 6):
            AddressTree(folder, version).remove_empty()
        remove_dangling(folder / "owners")
        if durable.read(folder / "pool.json") == b"":
            (folder / "pool.json").unlink()
        sweep(folder)
    with suppress(OSError):  # a full disk must not keep anybody from giving back; it is done again then
        lock.write_bytes(boot_id().encode())


def _folders(parent: Path) -> list[Path]:
    with suppress(FileNotFoundError):
        return [each for each in parent.iterdir() if not each.name.startswith(".")]
    return []
