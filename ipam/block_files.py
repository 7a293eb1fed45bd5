"""Which blocks of a range this node has: one small file for each, beside the file store that serves them.

    <dataDir>/blocks/<pool of the range>/10.0.0.64-26.json

A block that is being given back is `leaving`: whoever has just claimed an address of it sees that and
gives the address back; whoever has claimed before is seen by the one who gives the block back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cni import durable
from cni.locks import locked
from cni.protocol.addresses import IpNetwork
from cni.protocol.notes import note
from ipam.pool import PoolKey
from ipam.ranges import parse_network


class Block(BaseModel):
    """One block that the NodeSlicePool `slice_pool` lists for this node."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    block: str  # 10.0.0.64/26
    range: str
    network_name: str
    node: str
    kubeconfig: str
    slice_pool: str
    taken: tuple[str, ...] = ()  # what IPPools had of it when it was claimed
    is_leaving: bool = False
    retry_at: float = 0.0  # seconds since 1970: giving it back has failed

    def leaving(self) -> Block:
        return self.model_copy(update={"is_leaving": True})

    @property
    def network(self) -> IpNetwork:
        return parse_network(self.block)

    @property
    def key(self) -> PoolKey:
        """The pool that the file store keeps for it."""
        return PoolKey(self.network, self.network_name, self.node)

    @property
    def range_key(self) -> PoolKey:
        return PoolKey(parse_network(self.range), self.network_name)


class BlockFiles:
    """The blocks of all ranges below one data directory."""

    def __init__(self, root: Path, top: Path) -> None:
        self._root = root
        self._top = top  # directories that become empty go, up to this one
        self._folder = root / "blocks"

    def of(self, range_key: PoolKey) -> list[Block]:
        """Return the blocks of a range, lowest first; those too that are leaving."""
        return self._read(self._folder / durable.component(range_key.name))

    def all(self) -> Iterator[Block]:
        for folder in sorted(self._folder.glob("[!.]*")):
            yield from self._read(folder)

    def is_held(self, block: Block) -> bool:
        """Whether a block is ours still, and not leaving."""
        found = self._parsed(self._path(block))
        return found is not None and not found.is_leaving

    def write(self, block: Block) -> None:
        data = block.model_dump_json(indent=2).encode() + b"\n"
        durable.replace(self._path(block), data, self._root, is_lasting=True)

    def remove(self, block: Block) -> None:
        self._path(block).unlink(missing_ok=True)

    @contextmanager
    def locked(self, range_key: PoolKey, seconds: float) -> Iterator[None]:
        """Keep out who else would claim or give back a block of a range; not who gives out addresses."""
        folder = self._folder / durable.component(range_key.name)
        with locked(folder / ".lock", seconds):
            try:
                yield
            finally:
                if not any(folder.glob("[!.]*")):
                    (folder / ".lock").unlink()
                    durable.prune(folder, self._top)

    def _path(self, block: Block) -> Path:
        name = block.block.replace(":", "-").replace("/", "-")
        return self._folder / durable.component(block.range_key.name) / f"{name}.json"

    def _read(self, folder: Path) -> list[Block]:
        found = [block for path in folder.glob("[!.]*.json") if (block := self._parsed(path))]
        return sorted(found, key=lambda block: int(block.network[0]))

    def _parsed(self, path: Path) -> Block | None:
        data = durable.read(path)
        if data is None:
            return None
        try:
            return Block.model_validate_json(data)
        except ValidationError:
            note("whereabouts", f"the record {path} of a block cannot be read")
            return None
