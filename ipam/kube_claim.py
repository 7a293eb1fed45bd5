"""Attempt: one claim in a pool that others use at the same time.

The lowest free address of the copy in hand is tried; after a lost race one of the next free ones, at
random among ever more, and after several the pool is read again. The answer to a patch is the whole pool:
it shows whether the same attachment had an address already that the cache did not know of.
"""

from __future__ import annotations

from itertools import islice

from cni.kube.errors import ApiError, Conflict, Invalid, NotFound, OutcomeUnknown
from cni.kube.retry import Backoff
from cni.kube.session import chance
from cni.protocol.errors import CniError, Code
from cni.protocol.notes import note
from ipam.kube_objects import Contended, Objects
from ipam.kube_pool import KubePool, Operation
from ipam.kube_reservations import Reservation
from ipam.pool import Claim, Owner, reservation_name
from ipam.ranges import Ip
from ipam.store import AddressHeld, PoolExhausted, Wish, most_of

_BACKOFF = Backoff(first=0.02, most=2.0)
_MOST_ATTEMPTS = 60
_LOSSES_PER_READING = 3
_SPREAD = 8  # after n losses one of the next 8^n is tried: 50 rivals settle in some 100 patches


class Attempt:
    """A claim under way. `fresh` is what it has taken, or may have."""

    def __init__(self, objects: Objects, wish: Wish, owner: Owner) -> None:
        self.wish = wish
        self.owner = owner
        self.fresh: set[int] = set()
        self.superseded: list[int] = []  # what the owner held before it asked for another address
        self._objects = objects
        self._pool: KubePool | None = None
        self._is_certain = False  # the copy in hand is no earlier state from a cache
        self._is_remembered = False  # it is of an earlier call
        self._taken = {int(address) for address in wish.taken}
        self._foreign: set[int] = set()  # reserved by others
        self._lost: set[int] = set()  # gone since the copy in hand was read
        self._losses = 0
        self._unsure: set[int] = set()  # patched without an answer
        self._reserved: dict[str, Reservation] = {}
        self._failure: ApiError | None = None

    def made(self) -> Claim:
        """Make the claim.

        Raises:
            CniError: see Store.claim; `fresh` is to be given back.
        """
        self._pool = self._objects.known.last(self.wish.pool)
        self._is_remembered = self._pool is not None
        if not self._pool:
            self._read(from_cache=True)
        for _ in self._objects.api.attempts(_MOST_ATTEMPTS, _BACKOFF):
            number = self._claimed()
            claim = None if number is None else self._reserved_too(number)
            if claim:
                return claim
        raise Contended(self.wish.pool, self._failure)

    def foreseen(self) -> Ip:
        """Return the address that the claim would get if nobody else claimed meanwhile.

        Raises:
            CniError: as `made`.
        """
        self._read()
        if self.wish.is_unique:
            self._reserved = self._objects.reservations.all()
        pool = self._present
        kept = self._kept([number for number in pool.held_by(self.owner) if number not in self._taken])
        number = self._chosen(pool) if kept is None else kept
        if number is None:
            raise self._exhausted(pool, len(pool.resting(self.wish.rest)))
        if self.wish.wanted and self._is_reserved(pool, number):
            raise AddressHeld(pool.address(number), self.wish.pool, "another, through another pool")
        return pool.address(number)

    def _read(self, *, from_cache: bool = False) -> None:
        self._pool = self._objects.pool(self.wish.pool, from_cache=from_cache)
        self._is_certain = not from_cache
        self._is_remembered = False
        self._lost.clear()

    def _claimed(self) -> int | None:
        """Take an address in the pool, or keep the one that is held; None if it must be looked at again."""
        pool = self._pool or KubePool.new(self.wish.pool)
        own = [number for number in pool.held_by(self.owner) if number not in self._taken]
        kept = self._kept(own)
        number = self._chosen(pool) if kept is None else kept
        if number is None:
            return None
        spare = [each for each in own if each != number and each in self.fresh | self._foreign]
        if not self._write(pool, number, spare, is_kept=kept is not None):
            return None
        self.fresh -= set(spare)
        held = [each for each in self._present.held_by(self.owner) if each not in self._taken]
        if self.wish.wanted:
            inside = range(self.wish.range.first, self.wish.range.last + 1)
            self.superseded = [each for each in held if each != number and each in inside]
        return number if self._kept(held) == number else None

    def _kept(self, own: list[int]) -> int | None:
        """Return which address of its own the owner is to keep: an earlier one before one of this claim."""
        fitting = [number for number in own if number not in self._foreign]
        if self.wish.wanted:
            return int(self.wish.wanted) if int(self.wish.wanted) in fitting else None
        range_ = self.wish.range
        by_claim = sorted(
            fitting, key=lambda each: (each in self.fresh, not range_.first <= each <= range_.last, each)
        )
        return by_claim[0] if by_claim else None

    def _chosen(self, pool: KubePool) -> int | None:
        if self.wish.wanted:
            return self._checked(pool, int(self.wish.wanted))
        for number in self._unsure:  # the same again: if the first one arrives late, it will be refused
            if not pool.holds(number):
                return number
        resting = pool.resting(self.wish.rest)
        unwilling = self._taken | self._foreign | self._lost | resting
        free = (
            number
            for number in pool.candidates(self.wish.range)
            if number not in unwilling and not self._is_reserved(pool, number)
        )
        window = list(islice(free, _SPREAD ** min(self._losses, _LOSSES_PER_READING)))
        if window:
            return window[int(chance() * len(window))]
        if self._is_certain and not self._lost:
            raise self._exhausted(pool, len(resting))
        self._read()
        return None

    def _checked(self, pool: KubePool, number: int) -> int | None:
        """Return the address that is wanted, once it is known that it can be had."""
        wanted = pool.address(number)
        if wanted in self.wish.taken:
            raise AddressHeld(wanted, self.wish.pool, "another range of this attachment")
        if number < pool.base:
            raise AddressHeld(
                wanted, self.wish.pool, f"nobody, but its keys begin at {pool.address(pool.base)}"
            )
        if not pool.holds(number):
            return number
        if not self._is_certain:
            self._read()
            return None
        raise AddressHeld(wanted, self.wish.pool, str(pool.owner_at(number) or "an unreadable entry"))

    def _write(self, pool: KubePool, number: int, spare: list[int], *, is_kept: bool) -> bool:
        """Change the pool; False if it is not as the copy in hand, or that is unknown."""
        if is_kept:
            operations = pool.adopting(number, self.owner)
        else:
            operations = pool.claiming(number, self.owner)
            self.fresh.add(number)
        operations += [each for other in spare for each in pool.releasing(pool.key_of(other))]
        try:
            written = self._sent(pool, operations)
        except OutcomeUnknown as error:
            self._failure = error
            if not is_kept:
                self._unsure.add(number)
            self._read()
            return False
        except NotFound:
            self._read()
            return False
        except (Invalid, Conflict) as error:
            self._lose(error, number, is_kept=is_kept, is_simple=not (is_kept or spare))
            return False
        if written:
            self._pool, self._is_certain, self._is_remembered = written, True, False
            self._unsure.discard(number)
        return written is not None

    def _sent(self, pool: KubePool, operations: list[Operation]) -> KubePool | None:
        if self._pool is not None:
            tests = pool.unchanged() if self._is_remembered else []
            return self._objects.patch(self.wish.pool, [*tests, *operations], pool)
        entry = operations[-1]
        made = self._objects.create(pool, {entry["path"].rpartition("/")[2]: entry["value"]})
        if made is None:
            self._read()
        return made

    def _lose(self, error: ApiError, number: int, *, is_kept: bool, is_simple: bool) -> None:
        """Note a refused patch: somebody was faster, unless the schema is what refuses it."""
        if isinstance(error, Invalid) and error.causes:
            raise error
        self._failure = error
        if number in self._unsure or self.wish.wanted or not is_simple or self._is_remembered:
            self._objects.known.forget(self.wish.pool)
            self._read()
        elif isinstance(error, Invalid):
            self._losses += 1
            self._lost.add(number)
            if self._losses % _LOSSES_PER_READING == 0:
                self._read()
        if not is_kept and number not in self._unsure:
            self.fresh.discard(number)

    def _reserved_too(self, number: int) -> Claim | None:
        """Complete a claim by its reservation; None if another pool's holder has that."""
        address = self._present.address(number)
        claim = Claim(self.wish.pool, address, number in self.fresh, self.wish.is_unique)
        if not self.wish.is_unique:
            return claim
        made = self._reservation(number)
        if made:
            return Claim(claim.pool, address, claim.is_new, reservation=made.mark)
        self._foreign.add(number)
        if not self._reserved:
            self._reserved = self._objects.reservations.all()
        holder = self._reserved.get(reservation_name(address, self.wish.pool.network_name))
        who = f"{holder.owner if holder else 'another'}, through another pool"
        if self.wish.wanted:
            raise AddressHeld(address, self.wish.pool, who)
        note(self.owner.name, f"{address} is held by {who}")
        return None

    def _reservation(self, number: int) -> Reservation | None:
        address, reservations = self._present.address(number), self._objects.reservations
        if number in self.fresh:
            made = reservations.reserve(self.wish.pool, address, self.owner)
            if made:
                return made
            if not self._reserved:
                self._reserved = reservations.all()
            listed = self._reserved.get(reservation_name(address, self.wish.pool.network_name))
            if listed and not listed.is_of(self.owner):
                return None
        return reservations.taken_over(self.wish.pool, address, self.owner)

    def _is_reserved(self, pool: KubePool, number: int) -> bool:
        if not self._reserved:
            return False
        found = self._reserved.get(reservation_name(pool.address(number), self.wish.pool.network_name))
        return found is not None and not found.is_of(self.owner)

    @property
    def _present(self) -> KubePool:
        return self._pool or KubePool.new(self.wish.pool)

    def _exhausted(self, pool: KubePool, resting: int) -> CniError:
        if not resting:
            holders = (holder.name for _, holder in pool.entries() if holder)
            return PoolExhausted(self.wish, most_of(holders))
        return CniError(
            f"no address is left in {self.wish.pool.network} ({self.wish.range.path}) just now",
            why=f"{resting} of {self.wish.range.size} rest: they were given back in the last "
            f"{self.wish.rest:g} s.",
            fix='Call again later, shorten "rest_time", or make the range larger.',
            code=Code.TRY_AGAIN_LATER,
        )
