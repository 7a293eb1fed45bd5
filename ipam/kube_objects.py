"""Objects: the custom resources of one namespace as one call reads and writes them.

What an administrator can do about an answer is said here: a missing definition, an object at its limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cni.kube.client import METADATA_ONLY, Client
from cni.kube.errors import AlreadyExists, Conflict, Forbidden, NotFound, TooLarge
from cni.kube.paths import resource
from cni.protocol.addresses import IpNetwork
from cni.protocol.errors import CniError, Code, InvalidConfig
from ipam.known_pools import KnownPools
from ipam.kube_pool import GROUP_VERSION, KubePool, Operation
from ipam.kube_reservations import Reservations
from ipam.node_slices import SlicePool
from ipam.pool import PoolKey
from ipam.ranges import parse_network

SLICE_POOLS = "nodeslicepools"

# Who has set which entry is in the metadata, at 60 bytes each: half of a pool. This lets all but the last go.
_WITHOUT_MANAGERS: Operation = {"op": "add", "path": "/metadata/managedFields", "value": [{}]}


class Contended(CniError):
    """Others were faster again and again."""

    code = Code.TRY_AGAIN_LATER

    def __init__(self, key: PoolKey, cause: CniError | None) -> None:
        super().__init__(
            f'the IPPool "{key.name}" could not be changed: others changed it first, again and again',
            why=f"The last answer was: {cause.msg}. {cause.details}".strip() if cause else "",
            fix="Call again.",
        )


class Objects:
    """The pools and reservations in a namespace."""

    def __init__(self, api: Client, namespace: str, known: KnownPools | None = None) -> None:
        self.api = api
        self.namespace = namespace
        self.reservations = Reservations(api, namespace)
        self.known = known or KnownPools()

    def pool(self, key: PoolKey, *, from_cache: bool = False) -> KubePool | None:
        """Return a pool, None if there is none; from the API server's cache it may be an earlier state."""
        query = {"resourceVersion": "0"} if from_cache else {}
        try:
            pool = KubePool(key, self.api.get(self._path(key), **query))
        except NotFound:
            self.known.forget(key)
            return None
        if from_cache and self.known.is_outdated(pool):
            return self.pool(key)
        self.known.saw(pool)
        return pool

    def create(self, pool: KubePool, allocations: dict[str, Any]) -> KubePool | None:
        """Make a pool's object with its first entries; None if there is one by now."""
        spec = {**pool.raw["spec"], "allocations": allocations}
        try:
            made = KubePool(pool.key, self.api.create(self._pools_path(), {**pool.raw, "spec": spec}))
            self.known.saw(made)
            return made
        except (AlreadyExists, Conflict):
            return None
        except NotFound as error:
            raise InvalidConfig(
                f'the IPPool "{pool.key.name}" cannot be made in namespace "{self.namespace}"',
                why=f"{error.why} Either the definition of {GROUP_VERSION} is not installed, "
                "or the namespace does not exist.",
                fix="Apply Whereabouts' CustomResourceDefinitions, and correct the namespace of the "
                "kubeconfig's context.",
            ) from error

    def patch(self, key: PoolKey, operations: list[Operation], copy: KubePool | None = None) -> KubePool:
        """Change entries of a pool and return it as it is then.

        Of a large one, of which we have a `copy`, only the metadata is asked for: it tells whether somebody
        else has changed it as well, and only then it is read.

        Raises:
            Invalid: one of the entries is not as expected.
        """
        try:
            if copy is None or not copy.is_large:
                pool = KubePool(key, self.api.patch(self._path(key), operations))
            else:
                asked = [*operations, _WITHOUT_MANAGERS]
                answer = self.api.patch(self._path(key), asked, accept=METADATA_ONLY)
                whole = "spec" in answer  # as a proxy may have it
                changed = KubePool(key, answer) if whole else copy.after(operations, answer["metadata"])
                if changed is None:
                    return self.pool(key) or KubePool.new(key)
                pool = changed
            self.known.saw(pool, changes=1)
            return pool
        except TooLarge as error:
            raise CniError(
                f'the IPPool "{key.name}" can record no further address: the object is at its limit',
                why="A pool is one object, and etcd takes 1.5 MB, some 6,000 to 12,000 addresses. "
                f"{error.why}",
                fix='Split the range into several; or let nodes have blocks of their own: "node_slice_size" '
                'with "node_blocks": true.',
                code=Code.POOL_EXHAUSTED,
            ) from error

    def pools(self) -> Iterator[dict[str, Any]]:
        yield from self.api.list(self._pools_path())

    def are_defined(self) -> bool:
        """Whether the API server knows pools at all; True where that may not be asked."""
        try:
            next(iter(self.api.list(self._pools_path(), limit=1)), None)
        except NotFound:
            return False
        except Forbidden:
            return True
        return True

    def named_pools(self) -> Iterator[KubePool]:
        """Yield the pools whose names are those of their ranges, of slices too."""
        nodes: dict[IpNetwork, set[str]] | None = None
        for raw in self.pools():
            network = network_of(raw)
            name = raw["metadata"]["name"]
            if network and name != PoolKey(network).name and nodes is None:
                nodes = self._nodes()
            key = _key_of(name, network, nodes or {}) if network else None
            if key:
                yield KubePool(key, raw)

    def slice_pool(self, name: str, *, from_cache: bool = True) -> SlicePool | None:
        query = {"resourceVersion": "0"} if from_cache else {}
        path = resource(GROUP_VERSION, SLICE_POOLS, namespace=self.namespace, name=name)
        try:
            return SlicePool(name, self.api.get(path, **query))
        except NotFound:
            return None

    def slice_pools(self) -> Iterator[SlicePool]:
        for raw in self.api.list(resource(GROUP_VERSION, SLICE_POOLS, namespace=self.namespace)):
            yield SlicePool(raw["metadata"]["name"], raw)

    def _nodes(self) -> dict[IpNetwork, set[str]]:
        """Return the nodes that slices are listed for, by slice; none where that may not be asked."""
        nodes: dict[IpNetwork, set[str]] = {}
        try:
            for pool in self.slice_pools():
                for node, network in pool.slices:
                    nodes.setdefault(network, set()).add(node)
        except (NotFound, Forbidden):
            return {}
        return nodes

    def _pools_path(self) -> str:
        return resource(GROUP_VERSION, "ippools", namespace=self.namespace)

    def _path(self, key: PoolKey) -> str:
        return resource(GROUP_VERSION, "ippools", namespace=self.namespace, name=key.name)


def network_of(raw: dict[str, Any]) -> IpNetwork | None:
    """Return the network of an object's `spec.range`, None if that is none."""
    try:
        return parse_network(str((raw.get("spec") or {}).get("range")))
    except ValueError:
        return None


def _key_of(name: str, network: IpNetwork, nodes: dict[IpNetwork, set[str]]) -> PoolKey | None:
    """Return which pool an object is, None if its name and its range do not go together."""
    bare = PoolKey(network).name
    prefix = name.removesuffix(bare)
    if prefix == name or prefix[-1:] not in ("", "-"):
        return None
    prefix = prefix.removesuffix("-")
    for node in nodes.get(network, ()):
        if node and (prefix == node or prefix.endswith(f"-{node}")):
            return PoolKey(network, prefix.removesuffix(node).removesuffix("-"), node)
    return PoolKey(network, prefix)
