"""Holding: the journal's record of what an attachment may hold, and in which store."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cni.state import Journal, Record
from ipam.pool import Claim, Owner, PoolKey


class Place(BaseModel):
    """Which store: a data directory, the cluster of a kubeconfig, or a data directory with blocks."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["file", "kubernetes", "blocks"]
    path: str

    @property
    def is_elsewhere(self) -> bool:
        """Whether claims are kept where this node's loss of power takes nothing of them."""
        return self.kind == "kubernetes"


class Patience(BaseModel):
    """How long a call waits for a cluster, in seconds."""

    model_config = ConfigDict(frozen=True)

    request_timeout: float = 10.0  # without any answer
    total_timeout: float = 40.0  # in all

    def for_what_can_wait(self) -> Patience:
        """Return that for a request which a later call may make as well."""
        return Patience(
            request_timeout=min(self.request_timeout, 3.0), total_timeout=min(self.total_timeout, 6.0)
        )


class Holding(Record):
    """Every pool that an attachment's ADD has asked, and its claims where the store wants them noted."""

    place: Place
    podref: str
    pools: tuple[dict[str, str], ...]
    claims: tuple[dict[str, Any], ...] = ()
    rest: float = 0.0  # seconds, see `rest_time`
    patience: Patience = Patience()

    @property
    def owner(self) -> Owner:
        return Owner(self.container_id, self.ifname, self.podref, self.network)

    def pool_keys(self) -> list[PoolKey]:
        return [PoolKey.from_json(raw) for raw in self.pools]


def journal_of(environment: Mapping[str, str]) -> Journal[Holding]:
    return Journal(Holding, "whereabouts", environment)


def noted(claim: Claim) -> dict[str, Any]:
    fields = {"pool": claim.pool.to_json(), "address": str(claim.address), "is_unique": claim.is_unique}
    return fields | ({"reservation": claim.reservation} if claim.reservation else {})


def claim_of(raw: Mapping[str, Any]) -> Claim:
    """Return the claim that was noted."""
    return Claim(
        PoolKey.from_json(raw["pool"]),
        ip_address(raw["address"]),
        is_unique=raw["is_unique"],
        reservation=raw.get("reservation", ""),
    )
