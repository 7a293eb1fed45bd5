"""FileClaim: one claim in a pool of a file store, step by step.

The caller holds the store's lock. Each step leaves an owner's link that names all that the owner may hold, so
that its next call goes on from wherever this one is killed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from cni import durable
from cni.protocol.errors import CniError, Code
from cni.protocol.notes import note
from ipam.allocator import Held, Numbers, lowest_free
from ipam.pool import Allocation, Claim, Owner
from ipam.pool_files import PoolFiles
from ipam.store import AddressHeld, PoolExhausted, Wish, most_of


@dataclass(frozen=True)
class FileClaim:
    """What an owner asks of a pool and has there; what it has `lost` is another's through another pool."""

    pool: PoolFiles
    wish: Wish
    owner: Owner
    held: tuple[Allocation, ...]
    lost: tuple[Allocation, ...]

    @classmethod
    def of(cls, pool: PoolFiles, wish: Wish, owner: Owner, linked: Iterable[int]) -> Self:
        """Look what the owner has; `linked` is what its link names."""
        found = pool.held_by(owner, linked)
        lost = tuple(each for each in found if wish.is_unique and _is_anothers(pool, owner, each))
        return cls(pool, wish, owner, tuple(each for each in found if each not in lost), lost)

    @cached_property
    def kept(self) -> Allocation | None:
        """Which of the owner's addresses answers the wish; the wanted one need not be linked."""
        wanted, taken = self.wish.wanted, self.wish.taken
        if wanted is None:
            return next((each for each in self.held if each.address not in taken), None)
        found = self.pool.allocation(int(wanted)) if wanted not in taken else None
        return found if found and found.owner and found.owner.is_same_holder(self.owner) else None

    def choice(self) -> int:
        """Return the address that is wanted, or the lowest free one.

        Raises:
            CniError: it is another's, or there is none.
        """
        wanted = self.wish.wanted
        number = int(wanted) if wanted else lowest_free(self.wish.range, unavailable(self.pool, self.wish))
        if number is None:
            raise self._exhausted()
        if wanted and (holder := holder_of(self.pool, self.wish, number)):
            raise AddressHeld(wanted, self.wish.pool, holder)
        return number

    def free_lost(self) -> None:
        for each in self.lost:
            reserver = self.pool.reserver(int(each.address))
            note(self.owner.name, f"{each.address} is held through another pool by {reserver}")
            _drop(self.pool, each)

    def keep(self, kept: Allocation, draft: durable.Draft) -> Claim:
        """Let the owner hold what it holds already under its present container ID."""
        number = int(kept.address)
        self._link(number)
        if kept.owner != self.owner:
            draft.put_at(self.pool.tree.path(number))
        if self.wish.is_unique and (kept.owner != self.owner or not self.pool.reserver(number)):
            self.pool.reserve_again(number, draft)
        return Claim(self.wish.pool, kept.address, is_new=False, is_unique=self.wish.is_unique)

    def take(self, number: int, draft: durable.Draft) -> Claim:
        self.pool.begin()
        self._link(number)
        self.pool.tree.add(number, draft)
        if self.wish.is_unique:
            self.pool.reservations.add(number, draft)
        return Claim(self.wish.pool, self.pool.address(number), is_unique=self.wish.is_unique)

    def settle(self, claim: Claim) -> None:
        """Give back what the owner held in the claim's place."""
        others = [each for each in self.held if each.address not in (*self.wish.taken, claim.address)]
        surplus = others[: max(0, len(others) - self.wish.count + 1)]
        for each in surplus:
            note(self.owner.name, f"gives {each.address} back, because it has {claim.address} now")
            _drop(self.pool, each, self.wish.rest)
        if surplus:
            self._link(int(claim.address), without=surplus)

    def _link(self, number: int, without: Iterable[Allocation] = ()) -> None:
        held = [int(each.address) for each in self.held if each not in without]
        self.pool.link(self.owner, [*held, number])

    def _exhausted(self) -> CniError:
        range_, wish = self.wish.range, self.wish
        if wish.rest and lowest_free(range_, unavailable(self.pool, replace(wish, rest=0))) is not None:
            return CniError(
                f"no address is left in {wish.pool.network} ({range_.path}) just now",
                why=f"Of {range_.size}, some were given back in the last {wish.rest:g} s and rest.",
                fix='Call again later, shorten "rest_time", or make the range larger.',
                code=Code.TRY_AGAIN_LATER,
            )
        return PoolExhausted(wish, most_of(self.pool.owner_names()))


def unavailable(pool: PoolFiles, wish: Wish) -> list[Held]:
    """Return what tells which addresses of a pool a wish cannot have."""
    held: list[Held] = [pool.tree]
    if wish.is_unique:
        held.append(pool.reservations)
    if wish.rest:
        held.append(pool.asleep())
    return [*held, Numbers.of(map(int, wish.taken))] if wish.taken else held


def holder_of(pool: PoolFiles, wish: Wish, number: int) -> str:
    """Return who holds an address, in this pool or through another; empty if nobody does."""
    if pool.tree.holds(number):
        allocation = pool.allocation(number)
        return str(allocation.owner) if allocation and allocation.owner else "an unreadable entry"
    if wish.is_unique and pool.reservations.holds(number):
        return f"{pool.reserver(number) or 'an unreadable entry'}, through another pool"
    return "another range of this attachment" if pool.address(number) in wish.taken else ""


def give_back(pool: PoolFiles, number: int, owner: Owner, rest: float = 0, *, is_proven: bool) -> None:
    """Free an address if this sandbox of the owner has it; of an unreadable entry if that is proven."""
    allocation = pool.allocation(number)
    holder = allocation.owner if allocation else None
    if allocation and not _has(holder, owner, is_proven):
        return
    if _has(pool.reserver(number), owner, is_proven or holder is not None):
        pool.reservations.remove(number)
    if allocation and rest:
        try:
            pool.lay_to_rest(number, rest)
        except OSError as error:  # such as a full disk: better given out too early than never
            note(owner.name, f"{allocation.address} does not rest: {error.strerror}")
    pool.tree.remove(number)


def _has(holder: Owner | None, owner: Owner, is_proven: bool) -> bool:
    return holder.has_sandbox(owner.container_id, owner.ifname) if holder else is_proven


def _drop(pool: PoolFiles, held: Allocation, rest: float = 0) -> None:
    """Free what an owner holds with whichever sandbox."""
    if held.owner:
        give_back(pool, int(held.address), held.owner, rest, is_proven=True)


def _is_anothers(pool: PoolFiles, owner: Owner, held: Allocation) -> bool:
    reserver = pool.reserver(int(held.address))
    return reserver is not None and not reserver.is_same_holder(owner)
