"""Reservations: OverlappingRangeIPReservation objects, one for each address that pools may not share.

Whereabouts' own, and `spec.containerid`, which its schema has and it never writes. A reservation is
deleted only as the version of it that is known to be one's own: the pod's next sandbox may have taken it
over meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cni.kube.client import Client
from cni.kube.errors import AlreadyExists, ApiError, Conflict, Invalid, NotFound, OutcomeUnknown
from cni.kube.paths import resource
from cni.protocol.errors import CniError, Code
from ipam.kube_pool import GROUP_VERSION
from ipam.pool import Owner, PoolKey, reservation_name
from ipam.ranges import Ip

PLURAL = "overlappingrangeipreservations"


@dataclass(frozen=True)
class Reservation:
    """One object. `mark` names this version of it."""

    name: str
    owner: Owner
    mark: str

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Reservation:
        metadata, spec = raw["metadata"], raw.get("spec") or {}
        told = (spec.get(name) or "" for name in ("containerid", "ifname", "podref"))
        mark = f"{metadata.get('uid', '')}/{metadata.get('resourceVersion', '')}"
        return cls(metadata["name"], Owner(*map(str, told)), mark)

    def is_of(self, owner: Owner) -> bool:
        """Whether it is this attachment's; Whereabouts takes any of the same pod for its own."""
        return self.owner.is_same_holder(owner)


class Reservations:
    """The reservations in one namespace."""

    def __init__(self, api: Client, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    def reserve(self, pool: PoolKey, address: Ip, owner: Owner) -> Reservation | None:
        """Make the reservation of an address that was claimed just now; None if there is one already."""
        spec = {"podref": owner.podref, "ifname": owner.ifname, "containerid": owner.container_id}
        body = {
            "apiVersion": GROUP_VERSION,
            "kind": "OverlappingRangeIPReservation",
            "metadata": {"name": reservation_name(address, pool.network_name)},
            "spec": spec,
        }
        for _ in self._api.attempts():
            try:
                return Reservation.of(self._api.create(self._path(), body))
            except AlreadyExists:
                return None
            except (Conflict, OutcomeUnknown) as error:
                unknown = error
            found = self.find(pool, address)
            if found:
                return found if found.is_of(owner) and found.owner == _named(owner) else None
        raise unknown

    def taken_over(self, pool: PoolKey, address: Ip, owner: Owner) -> Reservation | None:
        """Make the reservation of an address that the owner held before, or let it name its present sandbox.

        None if it is another attachment's.
        """
        refused: ApiError | None = None
        for _ in self._api.attempts():
            found = self.find(pool, address)
            if found is None:
                made = self.reserve(pool, address, owner)
                if made:
                    return made
                continue
            if not found.is_of(owner) or found.owner == _named(owner):
                return found if found.is_of(owner) else None
            try:
                return self._renamed(found, owner)
            except (NotFound, Invalid, Conflict, OutcomeUnknown) as error:
                refused = error
        raise CniError(
            f"the reservation of {address} could not be taken over: it comes and goes",
            why=f"The last answer was: {refused.msg}." if refused else "",
            fix="Call again.",
            code=Code.TRY_AGAIN_LATER,
        )

    def find(self, pool: PoolKey, address: Ip) -> Reservation | None:
        name = reservation_name(address, pool.network_name)
        try:
            return Reservation.of(self._api.get(self._path(name)))
        except NotFound:
            return None

    def all(self) -> dict[str, Reservation]:
        """Return all of them by name, as the API server's cache has them: one request, however many."""
        found = self._api.list(self._path(), resourceVersion="0")
        return {raw["metadata"]["name"]: Reservation.of(raw) for raw in found}

    def delete(self, name: str, mark: str) -> bool:
        """Delete one version of a reservation; False if it is unknown whether that is gone."""
        uid, _, version = mark.partition("/")
        path = self._path(name)
        try:
            self._api.delete(path, uid=uid or None, resource_version=version or None)
        except NotFound:
            return True
        except (Conflict, OutcomeUnknown):
            return False
        return True

    def _renamed(self, found: Reservation, owner: Owner) -> Reservation:
        version = found.mark.partition("/")[2]
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/spec/containerid", "value": owner.container_id},
            {"op": "add", "path": "/spec/ifname", "value": owner.ifname},
        ]
        return Reservation.of(self._api.patch(self._path(found.name), patch))

    def _path(self, name: str | None = None) -> str:
        return resource(GROUP_VERSION, PLURAL, namespace=self._namespace, name=name)


def _named(owner: Owner) -> Owner:
    return Owner(owner.container_id, owner.ifname, owner.podref)
