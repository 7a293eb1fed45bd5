"""BlockStore: addresses of blocks that this node has claimed, given out from files with no API call.

The API server is asked when all blocks of the node are full, and when one has become empty. Then the range
is worked on by one call at a time; whoever finds room in a block does not wait for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address

from cni.protocol.errors import CniError, Code, InvalidConfig
from cni.protocol.notes import note
from ipam.block_files import Block, BlockFiles
from ipam.file_store import FileStore
from ipam.kube_blocks import Blocks, BlockSource
from ipam.node_slices import narrowed
from ipam.pool import Allocation, Claim, Owner, PoolKey
from ipam.ranges import Ip
from ipam.store import PoolExhausted, Wish

_FREEING = 5.0  # seconds that a DEL waits for others that claim or free blocks
_PAUSE = 10.0  # seconds before freeing is tried again where it failed


@dataclass(frozen=True)
class BlockStore:
    """The store of a node with blocks; pools are ranges, whose blocks are pools of the file store."""

    files: FileStore
    blocks: BlockFiles
    api: Callable[[str], Blocks]  # for a kubeconfig
    hasty_api: Callable[[str], Blocks]  # the same for what can wait
    source: Callable[[Wish], BlockSource] | None = None  # None where nothing is claimed
    patience: float = 40.0
    wants_notes = False

    def claim(self, wish: Wish, owner: Owner) -> Claim:
        # What is held already counts first, even in a block that is about to go.
        for block in self.blocks.of(wish.pool):
            if self.files.find(block.key, owner, wish.taken):
                claim = self._claimed(block, wish, owner)
                if claim:
                    return claim
        claim = self._from_blocks(wish, owner)
        if claim:
            return claim
        with self.blocks.locked(wish.pool, self.patience):
            return self._from_blocks(wish, owner) or self._from_new_block(wish, owner)

    def candidate(self, wish: Wish, owner: Owner) -> Ip | None:
        blocks = self.blocks.of(wish.pool)
        held = [block for block in blocks if self.files.find(block.key, owner, wish.taken)]
        for block in (*held, *(block for block in blocks if not block.is_leaving)):
            inner = _within(block, wish)
            if inner and (block in held or self.files.has_room(inner)):
                return self.files.candidate(inner, owner)
        return None

    def _from_blocks(self, wish: Wish, owner: Owner) -> Claim | None:
        for block in self.blocks.of(wish.pool):
            inner = _within(block, wish)
            if inner and not block.is_leaving and self.files.has_room(inner):
                claim = self._claimed(block, wish, owner)
                if claim:
                    return claim
        return None

    def _from_new_block(self, wish: Wish, owner: Owner) -> Claim:
        if self.source is None:
            raise PoolExhausted(wish, "")
        present = self.blocks.of(wish.pool)
        for block in present:
            if block.is_leaving:
                self._free(block)
        source = self.source(wish)
        block = self.api(source.kubeconfig).claim(source, wish, self.blocks)
        claim = self._claimed(block, wish, owner)
        if claim is None:
            raise PoolExhausted(wish, "")
        return claim

    def _claimed(self, block: Block, wish: Wish, owner: Owner) -> Claim | None:
        """Claim an address of a block; None if it has none to give."""
        inner = _within(block, wish)
        if inner is None:
            return None
        try:
            claim = self.files.claim(inner, owner)
        except CniError as error:
            if error.code in (Code.POOL_EXHAUSTED, Code.TRY_AGAIN_LATER) and not wish.wanted:
                return None
            raise
        if claim.is_new and not self.blocks.is_held(block):
            self.files.release(owner, (), [claim])
            return None
        return claim

    def release(
        self,
        owner: Owner,
        pools: Iterable[PoolKey],
        claims: Iterable[Claim] = (),
        *,
        rest: float = 0,
        is_recorded: bool = False,
    ) -> None:
        ranges = list(pools)
        blocks = [block for key in ranges for block in self.blocks.of(key)]
        keys = [block.key for block in blocks]
        held = list(claims)
        self.files.release(owner, keys, held, rest=rest, is_recorded=is_recorded)
        touched = {claim.pool for claim in held}
        blocks += [block for block in self.blocks.all() if block.key in touched and block not in blocks]
        for block in blocks:
            if self._is_idle(block, rest):
                self._give_back(block, rest)

    def _is_idle(self, block: Block, rest: float) -> bool:
        return not self.files.is_in_use(block.key, rest)

    def _give_back(self, block: Block, rest: float) -> None:
        """Give an empty block back; what cannot be done now is left for the next call."""
        if block.retry_at > time.time():
            return
        try:
            with self.blocks.locked(block.range_key, _FREEING):
                if not block.is_leaving and not self.blocks.is_held(block):
                    return  # another call has given it back meanwhile
                self.blocks.write(block.leaving())
                if self._is_idle(block, rest):
                    self.hasty_api(block.kubeconfig).free(block)
                    self.blocks.remove(block)
                elif not block.is_leaving:
                    self.blocks.write(block)
        except CniError as error:
            self.blocks.write(block.leaving().model_copy(update={"retry_at": time.time() + _PAUSE}))
            note("whereabouts", f"the block {block.block} is empty and still this node's: {error.msg}")

    def _free(self, block: Block) -> None:
        if self.files.is_in_use(block.key):
            return
        self.api(block.kubeconfig).free(block)
        self.blocks.remove(block)

    def find(self, pool: PoolKey, owner: Owner, beside: frozenset[Ip] = frozenset()) -> Allocation | None:
        found = (self.files.find(block.key, owner, beside) for block in self.blocks.of(pool))
        return next(filter(None, found), None)

    def allocations(self, pool: PoolKey) -> Iterator[Allocation]:
        blocks = self.blocks.of(pool)
        for block in blocks:
            yield from self.files.allocations(block.key)
        if not blocks:
            yield from self.files.allocations(pool)

    def pools(self) -> list[PoolKey]:
        return self.files.pools()

    def complaints(self, wishes: Iterable[Wish]) -> list[str]:
        """Return why a claim would fail, as far as that is known without claiming a block."""
        faults = self.files.complaints(())
        for wish in wishes:
            parts = [_within(block, wish) for block in self.blocks.of(wish.pool) if not block.is_leaving]
            if self.source and not any(self.files.has_room(part) for part in parts if part):
                source = self.source(wish)
                faults += self.api(source.kubeconfig).complaints(source, wish)
        return faults


def _within(block: Block, wish: Wish) -> Wish | None:
    """Return a wish as its part in a block, None if there is none."""
    if wish.wanted and wish.wanted not in block.network:
        return None
    taken = tuple(int(ip_address(text)) for text in block.taken)
    try:
        range_ = narrowed(wish.range, block.network)
    except InvalidConfig:
        return None
    range_ = replace(range_, kept_back=(*range_.kept_back, *taken))
    return replace(wish, pool=block.key, range=range_)
