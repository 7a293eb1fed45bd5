"""KubeStore: allocations as Whereabouts' own custom resources, which both can use at once.

A claim is a JSON patch that tests and adds one key of the pool's object, so that nobody waits for anybody
who wants another key, and no leader is needed. Most claims are three requests: read the pool from the API
server's cache, claim, reserve; two without a reservation.

The pool's entry is claimed before the reservation and given back after it. What a lost answer leaves in
doubt is looked up before anything else is done about it, and given back if the claim fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice

from cni.kube.client import Client
from cni.kube.deadline import Limits
from cni.kube.errors import ApiError, Conflict, Invalid, NotFound, OutcomeUnknown, Unreachable
from cni.protocol.errors import CniError, all_of
from ipam.known_pools import KnownPools
from ipam.kube_claim import Attempt
from ipam.kube_objects import Contended, Objects, network_of
from ipam.kube_pool import KubePool, known_release
from ipam.kube_status import FOR_POOLS, FOR_RESERVATIONS, denied
from ipam.node_slices import missing, sliced
from ipam.pool import Allocation, Claim, Owner, PoolKey, reservation_name
from ipam.ranges import Ip
from ipam.store import PoolExhausted, Wish

_FEW = 8  # free addresses: with so many left a pool is not called full
_UNDOING = 0.1  # of the time for a call: kept for giving back what a failed claim took


class KubeStore:
    """The pools in one namespace of a cluster, for one call."""

    wants_notes = True  # two requests instead of four, and none that reads a pool

    def __init__(self, api: Client, namespace: str, limits: Limits, known: KnownPools | None = None) -> None:
        share = replace(limits, operation=limits.operation * (1 - _UNDOING))
        known = known or KnownPools()
        self._claiming = Objects(api.operation(share), namespace, known)
        self.objects = Objects(api.operation(limits), namespace, known)
        self._owed: list[tuple[PoolKey, Owner, set[int]]] = []  # what failed claims may have left
        self._silence: CniError | None = None  # nothing answers: it is not asked again in this call

    def claim(self, wish: Wish, owner: Owner) -> Claim:
        attempt = Attempt(self._claiming, wish, owner)
        try:
            claim = attempt.made()
            for number in attempt.superseded:
                self.release_entries(wish.pool, _numbered({number}, owner, is_any_sandbox=True), wish.rest)
            return claim
        except BaseException as error:
            self._undo(attempt, error)
            raise

    def candidate(self, wish: Wish, owner: Owner) -> Ip:
        return Attempt(self._claiming, wish, owner).foreseen()

    def _undo(self, attempt: Attempt, error: BaseException) -> None:
        if isinstance(error, Unreachable):
            self._silence = error
        if attempt.fresh:
            self._owed.append((attempt.wish.pool, attempt.owner, attempt.fresh))
            try:
                self._settle()
            except CniError as second:
                error.add_note(f"While undoing: {second}.")

    def _settle(self) -> None:
        """Give back what failed claims of this call left, or may have."""
        while self._owed:
            if self._silence:
                raise self._silence
            pool, owner, numbers = self._owed[-1]
            self.release_entries(pool, _numbered(numbers, owner))
            self._owed.pop()

    def release(
        self,
        owner: Owner,
        pools: Iterable[PoolKey],
        claims: Iterable[Claim] = (),
        *,
        rest: float = 0,
        is_recorded: bool = False,
    ) -> None:
        self._settle()
        whole = set(pools)
        known: dict[PoolKey, list[Claim]] = {key: [] for key in whole}
        for claim in claims:
            known.setdefault(claim.pool, []).append(claim)
        failures = []
        for key, held in known.items():
            numbers = _numbered({int(claim.address) for claim in held}, owner, is_proven=is_recorded)
            try:
                if self._silence:
                    raise self._silence
                if rest or not held or not self._release_known(key, owner, held, is_all=key in whole):
                    found = _of_sandbox(owner, numbers) if key in whole else numbers
                    self.release_entries(key, found, rest)
            except CniError as error:
                failures.append(error)
        if failures:
            raise all_of(failures)

    def _release_known(self, key: PoolKey, owner: Owner, claims: list[Claim], *, is_all: bool) -> bool:
        """Give back what was noted, without reading the pool; False if it must be looked at."""
        if any(claim.is_unique and not claim.reservation for claim in claims):
            return False
        reservations = self.objects.reservations
        for claim in claims:
            if claim.is_unique and not reservations.delete(
                reservation_name(claim.address, key.network_name), claim.reservation
            ):
                return False
        operations = [each for claim in claims for each in known_release(key, int(claim.address), owner)]
        try:
            pool = self.objects.patch(key, operations, self.objects.known.last(key))
        except NotFound:
            return True
        except (Invalid, Conflict, OutcomeUnknown):
            return False
        return not (is_all and pool.keys_of_sandbox(owner))

    def release_entries(self, key: PoolKey, fits: Callable[[KubePool], list[str]], rest: float = 0) -> None:
        """Give back the entries of a pool that `fits` names, as long as it names some."""
        failure: ApiError | None = None
        for _ in self.objects.api.attempts():
            pool = self.objects.pool(key)
            keys = fits(pool) if pool else []
            if not pool or not keys:
                return
            try:
                if all(self._is_unreserved(pool, each) for each in keys):
                    operations = [each for name in keys for each in pool.releasing(name)]
                    resting = pool.laying_to_rest(keys, rest) if rest else []
                    self.objects.patch(key, operations + resting, pool)
                    return
            except (NotFound, Invalid, Conflict, OutcomeUnknown) as error:
                failure = error
        raise Contended(key, failure)

    def _is_unreserved(self, pool: KubePool, key: str) -> bool:
        """Delete the reservation that goes with an entry; False if it is unknown whether that is gone."""
        number, holder = pool.number_of(key), pool.owner_of(key)
        if number is None or holder is None:
            return True
        found = self.objects.reservations.find(pool.key, pool.address(number))
        if found is None or not found.is_of(holder):
            return True
        return self.objects.reservations.delete(found.name, found.mark)

    def find(self, pool: PoolKey, owner: Owner, beside: frozenset[Ip] = frozenset()) -> Allocation | None:
        found = self.objects.pool(pool)
        held = (_allocation(found, number) for number in found.held_by(owner)) if found else iter(())
        return next((each for each in held if each.address not in beside), None)

    def allocations(self, pool: PoolKey) -> Iterator[Allocation]:
        found = self.objects.pool(pool)
        if found:
            yield from (_allocation(found, number) for number in found.numbers())

    def pools(self) -> list[PoolKey]:
        return [pool.key for pool in self.objects.named_pools()]

    def sliced(self, wishes: tuple[Wish, ...], name: str, node: str) -> tuple[Wish, ...]:
        """Return what is asked of this node's slice: Whereabouts slices the first range and knows no other.

        Raises:
            CniError: code 11 or 7, there is no slice that could be used.
        """
        pool = self.objects.slice_pool(name)
        if pool is None:
            raise missing(name, self.objects.namespace)
        return (sliced(wishes[0], pool, node),)

    def slices(self, range_key: PoolKey, node: str) -> list[PoolKey]:
        """Return the pools of a node's slices of a range, whatever any NodeSlicePool lists by now."""
        return [
            PoolKey(network, range_key.network_name, node)
            for raw in self.objects.pools()
            if (network := network_of(raw)) and network.version == range_key.network.version
            if network.overlaps(range_key.network)
            if PoolKey(network, range_key.network_name, node).name == raw["metadata"]["name"]
        ]

    def complaints(self, wishes: Iterable[Wish]) -> list[str]:
        faults = []
        asked = list(wishes)
        for wish in asked:
            found = self.objects.pool(wish.pool, from_cache=True)
            if found is None and not self.objects.are_defined():
                return ["the definition of IPPools is not installed in the cluster"]
            pool = found or KubePool.new(wish.pool)
            if self._is_full(pool, wish):
                faults.append(str(PoolExhausted(wish, "").msg))
        is_unique = any(wish.is_unique for wish in asked)
        return faults + denied(self.objects, {**FOR_POOLS, **(FOR_RESERVATIONS if is_unique else {})})

    def _is_full(self, pool: KubePool, wish: Wish) -> bool:
        unwilling = pool.resting(wish.rest) | {int(address) for address in wish.taken}
        free = (number for number in pool.candidates(wish.range) if number not in unwilling)
        few = list(islice(free, _FEW))
        if len(few) == _FEW or not (few and wish.is_unique):
            return not few
        # The last ones may be held through other pools, at the price of one request.
        reserved = self.objects.reservations.all()
        return all(reservation_name(pool.address(n), pool.key.network_name) in reserved for n in few)


def _of_sandbox(owner: Owner, also: Callable[[KubePool], list[str]]) -> Callable[[KubePool], list[str]]:
    return lambda pool: list(dict.fromkeys([*pool.keys_of_sandbox(owner), *also(pool)]))


def _numbered(
    numbers: set[int], owner: Owner, *, is_proven: bool = False, is_any_sandbox: bool = False
) -> Callable[[KubePool], list[str]]:
    """Return a choice of those of some addresses that are the owner's, or unreadable if that is proven."""

    def is_own(holder: Owner | None) -> bool:
        if holder is None:
            return is_proven
        if is_any_sandbox:
            return holder.is_same_holder(owner)
        return holder.has_sandbox(owner.container_id, owner.ifname)

    def choose(pool: KubePool) -> list[str]:
        held = (number for number in sorted(numbers) if pool.holds(number))
        return [pool.key_of(number) for number in held if is_own(pool.owner_at(number))]

    return choose


def _allocation(pool: KubePool, number: int) -> Allocation:
    return Allocation(pool.key, pool.address(number), pool.owner_at(number))
