"""Reconciler: one pass over all pools and reservations of a namespace.

It frees what is proven to be free, makes the reservation that an address in use lacks, and the entry that
a reservation in use lacks. Each only when an earlier pass, at least the grace before, saw the same. Every
change tests what it was decided by, so that several may run at once, beside Whereabouts too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import ip_address

from cni.kube.errors import ApiError, Conflict, Invalid, NotFound, OutcomeUnknown
from cni.kube.paths import resource
from ipam import kube_pods
from ipam.evidence import PodFacts, proof
from ipam.kube_pool import KubePool
from ipam.kube_reservations import Reservation
from ipam.kube_store import KubeStore
from ipam.pool import Owner, PoolKey, reservation_name
from ipam.ranges import Ip

_MOST_CHANGES = 200  # of a pass: some 4 requests each


@dataclass(frozen=True)
class Finding:
    """Something that is to be changed, why, and how that is done."""

    identity: str  # the same in every pass that sees it
    what: str
    why: str
    act: Callable[[], bool]  # False if it is no longer so


@dataclass
class Pass:
    """What one look at the cluster finds."""

    store: KubeStore
    _pods: dict[str, PodFacts] = field(default_factory=dict)

    def findings(self) -> Iterator[Finding]:
        """Look at everything; pools before pods, so that no pod is younger than its entry."""
        pools = list(self.store.objects.named_pools())
        reservations = self.store.objects.reservations.all()
        self._pods = self._listed_pods(_podrefs(pools, reservations))
        ledger = _Ledger(pools, reservations)
        for pool in pools:
            for key in pool.allocations:
                found = self._of_entry(ledger, pool, key)
                if found:
                    yield found
        for reservation in reservations.values():
            found = self._of_reservation(ledger, reservation)
            if found:
                yield found

    def _of_entry(self, ledger: _Ledger, pool: KubePool, key: str) -> Finding | None:
        holder, number = pool.owner_of(key), pool.number_of(key)
        if holder is None:
            return None
        address = None if number is None else pool.address(number)
        told = f"{address or f'the key {key}'} of {pool.key} ({holder})"
        why = proof(holder.podref, self._pods.get(holder.podref), address)
        identity = f"{pool.key.name} {key} {holder.container_id} {holder.name}"
        if why:
            return Finding(identity, f"free {told}", why, lambda: self._free(pool, key, holder, address))
        pod = self._pods.get(holder.podref)
        if (
            address is None
            or pod is None
            or not pod.has(address)
            or not ledger.lacks_reservation(pool, address)
        ):
            return None
        return Finding(
            f"{identity} reservation",
            f"make the reservation of {told}",
            "the pod uses the address, and there is none",
            lambda: self.store.objects.reservations.reserve(pool.key, address, holder) is not None,
        )

    def _of_reservation(self, ledger: _Ledger, reservation: Reservation) -> Finding | None:
        """Judge a reservation that no entry stands behind."""
        if ledger.has_entry_of(reservation):
            return None
        place = ledger.place_of(reservation)
        address = place[1] if place else None
        pod = self._pods.get(reservation.owner.podref)
        told = f"the reservation {reservation.name} ({reservation.owner})"
        why = proof(reservation.owner.podref, pod, address)
        if why:
            return Finding(
                f"reservation {reservation.name} {reservation.mark}",
                f"delete {told}",
                f"no entry of a pool goes with it, and {why}",
                lambda: self._delete(reservation, address),
            )
        if place and pod and pod.has(place[1]) and not place[0].holds(int(place[1])):
            return Finding(
                f"entry of {reservation.name} {reservation.mark}",
                f"make the entry of {place[1]} in {place[0].key} ({reservation.owner})",
                "the pod uses the address, and only its reservation is there",
                lambda: self._restore(*place, reservation.owner),
            )
        return None

    def _free(self, pool: KubePool, key: str, holder: Owner, address: Ip | None) -> bool:
        if not self._is_proven_now(holder, address):
            return False
        entry = pool.allocations[key]
        self.store.release_entries(pool.key, lambda now: [key] if now.allocations.get(key) == entry else [])
        return True

    def _delete(self, reservation: Reservation, address: Ip | None) -> bool:
        if not self._is_proven_now(reservation.owner, address):
            return False
        return self.store.objects.reservations.delete(reservation.name, reservation.mark)

    def _restore(self, pool: KubePool, address: Ip, holder: Owner) -> bool:
        # Whereabouts' reservations name no container; an id must not be empty.
        known = replace(holder, container_id=holder.container_id or "unknown")
        try:
            self.store.objects.patch(pool.key, pool.claiming(int(address), known))
        except (Invalid, Conflict, NotFound, OutcomeUnknown):
            return False  # the next pass sees what became of it
        return True

    def _is_proven_now(self, holder: Owner, address: Ip | None) -> bool:
        """Ask for the pod once more: one of the same name may have come."""
        namespace, _, name = holder.podref.partition("/")
        try:
            pod = PodFacts.of(
                self.store.objects.api.get(resource("v1", "pods", namespace=namespace, name=name))
            )
        except NotFound:
            return True
        return bool(proof(holder.podref, pod, address))

    def _listed_pods(self, podrefs: set[str]) -> dict[str, PodFacts]:
        listed = self.store.objects.api.list(resource("v1", "pods"))
        wanted = ((kube_pods.podref(pod), pod) for pod in listed)
        return {podref: PodFacts.of(pod) for podref, pod in wanted if podref in podrefs}


def _podrefs(pools: list[KubePool], reservations: dict[str, Reservation]) -> set[str]:
    entries = {holder.podref for pool in pools for _, holder in pool.entries() if holder}
    return entries | {each.owner.podref for each in reservations.values()}


@dataclass(frozen=True)
class _Ledger:
    """Entries and reservations, side by side."""

    pools: list[KubePool]
    reservations: dict[str, Reservation]

    @cached_property
    def _entries(self) -> dict[str, list[Owner]]:
        """Who holds the address of a reservation's name, in whichever pools."""
        entries: dict[str, list[Owner]] = {}
        for pool in self.pools:
            for number in pool.numbers():
                holder = pool.owner_at(number)
                if holder:
                    name = reservation_name(pool.address(number), pool.key.network_name)
                    entries.setdefault(name, []).append(holder)
        return entries

    def has_entry_of(self, reservation: Reservation) -> bool:
        return any(reservation.is_of(holder) for holder in self._entries.get(reservation.name, ()))

    def lacks_reservation(self, pool: KubePool, address: Ip) -> bool:
        """Whether an entry should have a reservation and has none.

        Where overlapping ranges are not looked at there are none, and nothing says so but that of several
        entries not one has a reservation.
        """
        if reservation_name(address, pool.key.network_name) in self.reservations:
            return False
        return pool.key in self._reserving

    @cached_property
    def _reserving(self) -> set[PoolKey]:
        """The pools whose entries go with reservations, as far as that can be told."""
        found = set()
        for pool in self.pools:
            names = [reservation_name(pool.address(n), pool.key.network_name) for n in pool.numbers()]
            if len(names) < 2 or not self.reservations.keys().isdisjoint(names):
                found.add(pool.key)
        return found

    def place_of(self, reservation: Reservation) -> tuple[KubePool, Ip] | None:
        """Return the smallest pool that a reservation's address can be of, and the address."""
        for pool in sorted(self.pools, key=lambda each: -each.key.network.prefixlen):
            address = _address_in(reservation.name, pool.key)
            if address:
                return pool, address
        return None


def _address_in(name: str, key: PoolKey) -> Ip | None:
    """Return the address that a reservation's name means in a pool, None if it means none there."""
    text = name.removeprefix(f"{key.network_name}-") if key.network_name else name
    try:
        address = ip_address(text.replace("-", ":") if key.network.version == 6 else text)
    except ValueError:
        return None
    fits = address in key.network and reservation_name(address, key.network_name) == name
    return address if fits else None


def settle(findings: list[Finding], tell: Callable[[str], None], *, is_dry: bool) -> None:
    """Do what was found, and tell of each; what fails is told, and found again by the next pass."""
    for finding in findings[:_MOST_CHANGES]:
        if is_dry:
            tell(f"would {finding.what}: {finding.why}")
            continue
        try:
            outcome = "" if finding.act() else "no longer so: "
        except ApiError as error:
            tell(f"could not {finding.what}: {error.msg}")
            continue
        tell(f"{outcome}{finding.what}: {finding.why}")
    if len(findings) > _MOST_CHANGES:
        tell(f"{len(findings) - _MOST_CHANGES} more are left to the next pass")
