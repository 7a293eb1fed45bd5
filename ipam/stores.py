"""Which store a configuration means, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cni import durable
from cni.protocol import gojson
from cni.protocol.errors import InvalidConfig
from cni.protocol.memory import Memory
from cni.protocol.notes import note
from cni.protocol.request import AttachmentKey, Request
from cni.state import Journal
from ipam.asked import owner_of
from ipam.config import WhereaboutsConf, flat_file, searched
from ipam.file_store import FileStore
from ipam.holding import Holding, Patience, Place
from ipam.pool import Owner, PoolKey
from ipam.ranges import Range
from ipam.store import Store, Wish

if TYPE_CHECKING:
    from cni.kube.client import Client
    from cni.kube.deadline import Limits
    from ipam.kube_blocks import Blocks, BlockSource


def place_of(request: Request, conf: WhereaboutsConf) -> Place:
    """Return where the configuration keeps its pools; never silently on the node if it is a cluster's.

    Raises:
        InvalidConfig: code 7, it should be a cluster, and nothing tells which.
    """
    ipam = conf.ipam
    state = durable.state_directory(request.environment)
    in_files = Place(kind="file", path=ipam.data_dir or str(state / "ipam"))
    if ipam.datastore == "file":
        return in_files
    if ipam.node_blocks and ipam.node_slice_size is None:
        raise InvalidConfig(
            'the network configuration is not valid: "ipam.node_blocks" without "node_slice_size"',
            why="How large the blocks are is not said.",
            fix='Set "node_slice_size", such as "/26"; or leave "node_blocks" out.',
        )
    if ipam.kubernetes.kubeconfig and ipam.node_blocks:
        return Place(kind="blocks", path=in_files.path)
    if ipam.kubernetes.kubeconfig:
        return Place(kind="kubernetes", path=ipam.kubernetes.kubeconfig)
    written = gojson.get(request.network.raw, "ipam")
    flat = flat_file(written)
    if not (ipam.datastore or flat or owner_of(request).podref):
        return in_files
    places = ", ".join(str(path) for path in searched(written))
    found = f"{flat.path} has none" if flat else f"There is no flat file at {places}"
    raise InvalidConfig(
        'no kubeconfig: "ipam.kubernetes.kubeconfig" is not set',
        why=f"The addresses of this network are the cluster's, and nothing tells how to reach it. {found}.",
        fix='Set it here or in a flat file; or set "datastore" to "file" for addresses of this node alone.',
    )


def opened(
    place: Place,
    environment: Mapping[str, str],
    journal: Journal[Holding] | None = None,
    patience: Patience | None = None,
    source: Callable[[Wish], BlockSource] | None = None,
    *,
    unproven: AttachmentKey | None = None,
    memory: Memory | None = None,
) -> Store:
    """Open a store for one call; with a journal, that proves whose unreadable entries are.

    In `memory` are connections and large pools of the calls before it.

    The `unproven` record proves nothing.

    Raises:
        InvalidConfig: code 7, of a kubeconfig.
    """
    state = durable.state_directory(environment)
    patience, memory = patience or Patience(), memory or Memory()
    if place.kind == "kubernetes":
        from ipam.known_pools import KnownPools
        from ipam.kube_store import KubeStore

        api, namespace, limits = _cluster(place.path, patience, memory)
        known = memory.kept(("pools", api.config, namespace), KnownPools)
        return KubeStore(api, namespace, limits, known)
    root = Path(place.path)
    top = state if root.is_relative_to(state) else root.parent
    files = FileStore(root, top, _witness(journal, unproven))
    if place.kind == "file":
        return files
    from ipam.block_files import BlockFiles
    from ipam.node_blocks import BlockStore

    apis = partial(_blocks, patience, memory), partial(_blocks, patience.for_what_can_wait(), memory)
    return BlockStore(files, BlockFiles(root, top), *apis, source, patience.total_timeout)


def _blocks(patience: Patience, memory: Memory, kubeconfig: str) -> Blocks:
    from ipam.kube_blocks import Blocks

    return Blocks(*_cluster(kubeconfig, patience, memory)[:2])


def _cluster(kubeconfig: str, patience: Patience, memory: Memory) -> tuple[Client, str, Limits]:
    """Return the API server and the namespace of the kubeconfig's context, as Whereabouts finds it."""
    # 45 ms, which a node's own store does without.
    from cni.kube.client import Client
    from cni.kube.config import load
    from cni.kube.deadline import Limits

    silence = patience.request_timeout * 0.9  # what is left is for starting and ending
    limits = Limits(
        connect=min(3.0, silence),
        request=min(8.0, silence * 0.6),  # a lost answer must be looked up after it
        silence=silence,
        operation=patience.total_timeout * 0.95,
    )
    config = load(kubeconfig)
    return Client(config, limits, memory), config.namespace or "kube-system", limits


def wishes_of(
    request: Request, conf: WhereaboutsConf, wishes: tuple[Wish, ...], store: Store
) -> tuple[Wish, ...]:
    """Return what is asked of a store: of this node's slice in the place of a range, if there are slices.

    Raises:
        CniError: code 11 or 7, there is no slice for this node, or its name is not known.
    """
    slicing = getattr(store, "sliced", None)
    if conf.ipam.node_slice_size is None or slicing is None or not wishes:
        return wishes
    if len(wishes) > 1:
        note(request.attachment, f"with node slices only {wishes[0].range.path} counts, as in Whereabouts")
    name = conf.ipam.network_name or request.network.name
    sliced: tuple[Wish, ...] = slicing(wishes, name, _node(request, conf))
    return sliced


def pools_of(request: Request, conf: WhereaboutsConf, store: Store) -> list[PoolKey]:
    """Return the pools in which an attachment of a configuration may hold something."""
    keys = [PoolKey(range_.network, conf.ipam.network_name) for range_ in conf.ranges()]
    slices = getattr(store, "slices", None)
    if conf.ipam.node_slice_size is None or slices is None or not keys:
        return keys
    found: list[PoolKey] = slices(keys[0], _node(request, conf))
    return found


def block_source(request: Request, conf: WhereaboutsConf) -> Callable[[Wish], BlockSource]:
    """Return what tells where the blocks of a wish's range come from."""
    from ipam.kube_blocks import BlockSource
    from ipam.neighbours import link_of

    def source(wish: Wish) -> BlockSource:
        name = conf.ipam.network_name or request.network.name
        if wish.range.network != conf.ranges()[0].network:
            name = f"{name}-{PoolKey(wish.range.network).name}"  # an object divides one range
        prefix = _prefix(conf.ipam.node_slice_size or 0, wish.range)
        return BlockSource(
            conf.ipam.kubernetes.kubeconfig or "",
            name,
            prefix,
            _node(request, conf),
            conf.ipam.block_hold_time,
            link_of(request.network.raw),
        )

    return source


def _prefix(size: int, range_: Range) -> int:
    """Return the prefix length of a range's blocks; that of IPv4 means as many addresses of IPv6."""
    network = range_.network
    prefix = size + 96 if network.version == 6 and size <= 32 and size < network.prefixlen else size
    if not network.prefixlen <= prefix <= network.max_prefixlen:
        raise InvalidConfig(
            f'the network configuration is not valid: "ipam.node_slice_size" is /{size}',
            why=f"{range_.path}.range is {network}, which has no part of /{prefix}.",
            fix=f"Use /{network.prefixlen} to /{network.max_prefixlen}.",
        )
    return prefix


def _node(request: Request, conf: WhereaboutsConf) -> str:
    from ipam.node_slices import node_name

    flat = flat_file(gojson.get(request.network.raw, "ipam"))
    return node_name(request.environment, conf.ipam.configuration_path, flat.path if flat else None)


def _witness(
    journal: Journal[Holding] | None, unproven: AttachmentKey | None
) -> Callable[[PoolKey, Owner], Owner | None]:
    """Return what the journal says of who holds an address in a pool: the last who asked."""

    def holder(pool: PoolKey, owner: Owner) -> Owner | None:
        fitting = [
            holding
            for holding in (journal.all() if journal else ())
            if holding.owner.name == owner.name and pool in holding.pool_keys() and holding.key != unproven
        ]
        return max(fitting, key=lambda holding: holding.created).owner if fitting else None

    return holder
