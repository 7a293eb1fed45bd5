"""Deaths: when a node's blocks may be taken by others.

Only when its Node object is gone, has been for a time since somebody first saw that, and no pod that runs has
an address of the block. When it was first seen is noted in an annotation of the NodeSlicePool.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from cni.kube.client import Client
from cni.kube.errors import Forbidden
from cni.kube.paths import resource
from cni.protocol.addresses import IpNetwork
from ipam import kube_pods
from ipam.kube_pool import Operation
from ipam.node_slices import SlicePool
from ipam.ranges import Ip

_GONE = "podrail.whereabouts/gone-"  # and the block: when its node was first seen to be gone


class Deaths:
    """What is known of the nodes that a NodeSlicePool lists."""

    def __init__(self, api: Client, pool: SlicePool, hold: timedelta) -> None:
        self._api = api
        self._hold = hold
        self._annotations = pool.annotations
        self._version = pool.resource_version
        self._is_unknown = False

    def of(self, nodes: Iterable[str]) -> set[str]:
        """Return those nodes that have no Node object; none where that may not be asked."""
        try:
            present = {raw["metadata"]["name"] for raw in self._api.list(resource("v1", "nodes"))}
        except Forbidden:
            self._is_unknown = True
            return set()
        return set(nodes) - present

    def noting(self, blocks: list[tuple[str, IpNetwork]], gone: set[str]) -> list[Operation]:
        """Return the patch that notes blocks whose node is gone, as seen just now, and no others any more."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        wanted = {_name(net): f"{now} {node}" for node, net in blocks if self._since(node, net) is None}
        present = {_name(net) for _, net in blocks}
        stale = [] if self._is_unknown else [n for n in self._annotations if _is_ours(n) and n not in present]
        if not wanted and not stale:
            return []
        operations: list[Operation] = [_test("/metadata/resourceVersion", self._version)]
        if not self._annotations:
            operations.append({"op": "add", "path": "/metadata/annotations", "value": {}})
        operations += [{"op": "add", "path": _path(name), "value": text} for name, text in wanted.items()]
        return operations + [{"op": "remove", "path": _path(name)} for name in stale]

    def are_long_past(self, node: str, network: IpNetwork) -> bool:
        since = self._since(node, network)
        return since is not None and since + self._hold <= datetime.now(UTC)

    def nobody_runs(self, network: IpNetwork) -> bool:
        """Whether no pod that runs has an address of a block, as far as the API knows."""
        if self._addresses is None:
            return False
        return not any(address in network for address in self._addresses)

    def forgetting(self, network: IpNetwork) -> list[Operation]:
        return [{"op": "remove", "path": _path(_name(network))}]

    def told(self, gone: set[str], held: int) -> str:
        if self._is_unknown:
            return "Whether nodes are gone is not known: the credential may not list nodes."
        if not gone:
            return "" if held else "None has room within the bounds."
        names = ", ".join(sorted(gone)[:5])
        minutes = self._hold / timedelta(minutes=1)
        return (
            f"The nodes {names} are gone; their blocks may be taken {minutes:g} minutes after that was seen, "
            "once nobody uses them."
        )

    def _since(self, node: str, network: IpNetwork) -> datetime | None:
        text, _, whose = self._annotations.get(_name(network), "").partition(" ")
        try:
            return datetime.fromisoformat(text).astimezone(UTC) if whose == node else None
        except ValueError:
            return None

    @cached_property
    def _addresses(self) -> frozenset[Ip] | None:
        return addresses_of_pods(self._api)


def addresses_of_pods(api: Client, **selector: Any) -> frozenset[Ip] | None:
    """Return the addresses of all pods that run; None where that may not be asked."""
    found: set[Ip] = set()
    try:
        for pod in api.list(resource("v1", "pods"), **selector):
            if not kube_pods.is_over(pod):
                found |= kube_pods.addresses(pod) or frozenset()
    except Forbidden:
        return None
    return frozenset(found)


def _is_ours(name: str) -> bool:
    return name.startswith(_GONE)


def _name(network: IpNetwork) -> str:
    return _GONE + str(network).replace(":", "-").replace("/", "-")


def _path(name: str) -> str:
    return f"/metadata/annotations/{name.replace('/', '~1')}"


def _test(path: str, value: object) -> Operation:
    return {"op": "test", "path": path, "value": value}
