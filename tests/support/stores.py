"""Stores of one test: opened anew for every call, as a plugin does."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from cni.kube.deadline import Limits
from cni.kube.paths import resource
from ipam.known_pools import KnownPools
from ipam.kube_pool import GROUP_VERSION
from ipam.kube_store import KubeStore
from ipam.pool import Claim, Owner, PoolKey
from ipam.ranges import Ip, parse_range
from ipam.store import Store, Wish
from tests.support.apiserver import ApiServer

QUICK = Limits(connect=2, request=1.5, silence=4, operation=10)
PATIENT = Limits(connect=10, request=30, silence=60, operation=120)


def wish(
    text: str = "10.0.0.0/24",
    *,
    network_name: str = "",
    wanted: str = "",
    start: str | None = None,
    end: str | None = None,
    exclude: tuple[str, ...] = (),
    whole: bool = False,
    **more: Any,
) -> Wish:
    range_ = parse_range(text, start=start, end=end, exclude=exclude, whole=whole)
    key = PoolKey(range_.network, network_name)
    return Wish(key, range_, ip_address(wanted) if wanted else None, **more)


def owner(number: int = 1, *, sandbox: str = "", ifname: str = "net1") -> Owner:
    return Owner(sandbox or f"sandbox-{number}", ifname, f"default/web-{number}", "rail")


@dataclass(frozen=True)
class Stores:
    """What opens a store; claims are answered as text."""

    opened: Callable[[], Store]
    claims: list[Claim] = field(default_factory=list)

    def claim(self, asked: Wish | None = None, by: Owner | None = None) -> str:
        claim = self.opened().claim(asked or wish(), by or owner())
        self.claims.append(claim)
        return str(claim.address)

    def release(self, by: Owner | None = None, asked: Wish | None = None, **more: Any) -> None:
        self.opened().release(by or owner(), [(asked or wish()).pool], **more)

    def held(self, asked: Wish | None = None) -> dict[str, str]:
        """Return the pool's addresses with the sandboxes that hold them."""
        found = self.opened().allocations((asked or wish()).pool)
        return {str(each.address): each.owner.container_id if each.owner else "?" for each in found}


class Cluster(Stores):
    """Stores in the namespace of an API server."""

    server: ApiServer
    namespace: str

    @classmethod
    def of(cls, server: Any, namespace: str = "kube-system", limits: Limits = QUICK, **user: str) -> Cluster:
        return cls._of(server, namespace, limits, KnownPools, **user)

    @classmethod
    def _of(
        cls, server: Any, namespace: str, limits: Limits, known: Callable[[], KnownPools], **user: str
    ) -> Cluster:
        api = server.client(**user)
        stores = cls(lambda: KubeStore(api, namespace, limits, known()))
        object.__setattr__(stores, "server", server)
        object.__setattr__(stores, "namespace", namespace)
        return stores

    @classmethod
    def of_its_own(cls, server: Any) -> Cluster:
        """Return the stores of a new namespace: the real API server is one for all tests."""
        namespace = f"test-{uuid.uuid4().hex[:8]}"
        with server.client() as api:
            api.create(resource("v1", "namespaces"), {"metadata": {"name": namespace}})
        # As in a warm process: the cache of the real one may lag behind what the test has just written.
        known = KnownPools()
        return cls._of(server, namespace, PATIENT, lambda: known)

    @property
    def api(self) -> Any:
        return self.server.client()

    def path(self, plural: str, name: str | None = None) -> str:
        return resource(GROUP_VERSION, plural, namespace=self.namespace, name=name)

    def entries(self, name: str = "10.0.0.0-24") -> dict[str, Any]:
        """Return what an IPPool records, key by key."""
        return dict(self.api.get(self.path("ippools", name))["spec"]["allocations"])

    def reservations(self) -> dict[str, dict[str, str]]:
        found = self.api.list(self.path("overlappingrangeipreservations"))
        return {raw["metadata"]["name"]: raw["spec"] for raw in found}

    def record(
        self,
        allocations: Mapping[str, Any] | None = None,
        *,
        name: str = "10.0.0.0-24",
        range_: str = "10.0.0.0/24",
    ) -> None:
        """Make an IPPool as somebody else would."""
        spec: dict[str, Any] = {"range": range_, "allocations": dict(allocations or {})}
        kind = {"apiVersion": GROUP_VERSION, "kind": "IPPool"}
        body: dict[str, Any] = {**kind, "metadata": {"name": name}, "spec": spec}
        self.api.create(self.path("ippools"), body)

    def reserve(self, name: str, **spec: str) -> None:
        """Make a reservation as somebody else would."""
        kind = {"apiVersion": GROUP_VERSION, "kind": "OverlappingRangeIPReservation"}
        body: dict[str, Any] = {**kind, "metadata": {"name": name}, "spec": spec}
        self.api.create(self.path("overlappingrangeipreservations"), body)

    def divide(
        self, name: str = "rail", range_: str = "10.0.0.0/24", size: str = "/26", **nodes: str
    ) -> None:
        """Make a NodeSlicePool as Whereabouts' controller would; keywords are slices of nodes."""
        entries = [{"nodeName": node.replace("_", "-"), "sliceRange": part} for node, part in nodes.items()]
        body: dict[str, Any] = {
            "apiVersion": GROUP_VERSION,
            "kind": "NodeSlicePool",
            "metadata": {"name": name},
            "spec": {"range": range_, "sliceSize": size},
            "status": {"allocations": entries},
        }
        self.api.create(self.path("nodeslicepools"), body)

    def blocks(self, name: str = "rail") -> dict[str, str]:
        """Return which node has which part of a range; free ones are left out."""
        entries = self.api.get(self.path("nodeslicepools", name))["status"]["allocations"]
        return {each["sliceRange"]: each["nodeName"] for each in entries if each["nodeName"]}

    def write(self, key: str, value: object, name: str = "10.0.0.0-24") -> None:
        """Change one entry of an IPPool as a rival would; None removes it."""
        path = f"/spec/allocations/{key}"
        operation: dict[str, Any] = {"op": "add", "path": path, "value": value}
        if value is None:
            operation = {"op": "remove", "path": path}
        self.api.patch(self.path("ippools", name), [operation])


def address(text: str) -> Ip:
    return ip_address(text)
