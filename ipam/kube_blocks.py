"""Blocks: how nodes claim parts of a range for themselves, in a NodeSlicePool.

An entry of `status.allocations` is a block; it is claimed by a patch that tests that nobody has it and
writes the node's name, so that two nodes never have one block. Whereabouts' tools read it, and what its
controller has given to a node is that node's block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from cni.kube.client import Client
from cni.kube.errors import AlreadyExists, ApiError, Conflict, Invalid, NotFound, OutcomeUnknown
from cni.kube.paths import resource
from cni.kube.retry import Backoff
from cni.kube.session import chance
from cni.protocol.addresses import IpNetwork
from cni.protocol.errors import CniError, Code, InvalidConfig
from cni.protocol.notes import note
from ipam.block_files import Block, BlockFiles
from ipam.kube_objects import SLICE_POOLS, Objects
from ipam.kube_pool import GROUP_VERSION, KubePool, Operation
from ipam.kube_status import FOR_BLOCKS, denied
from ipam.neighbours import CannotAsk, answering
from ipam.node_deaths import Deaths, addresses_of_pods
from ipam.node_slices import NETWORK_NAME, OVERLAPS, SlicePool, narrowed
from ipam.pool import PoolKey
from ipam.ranges import Ip, Range, parse_network
from ipam.store import Wish

_LISTED = 1024  # blocks that an object lists before they are needed; an entry has some 60 bytes
_BACKOFF = Backoff(first=0.05, most=2.0)
_MOST_ATTEMPTS = 40
_LOSSES_PER_READING = 3
_SPREAD = 8  # as for addresses: after n lost races one of the next 8^n blocks


@dataclass(frozen=True)
class BlockSource:
    """Where a node's blocks come from, as the configuration has it."""

    kubeconfig: str
    slice_pool: str  # name of the NodeSlicePool
    prefix: int  # length of a block's prefix
    node: str
    hold: float = 600.0  # seconds that a node must be gone before its blocks are taken
    link: str | None = None  # where is asked who still uses them; None if that is not known


class Blocks:
    """The blocks of one range, as one call claims and frees them."""

    def __init__(self, api: Client, namespace: str) -> None:
        self._api = api
        self._objects = Objects(api, namespace)
        self._namespace = namespace
        self._copy: SlicePool | None = None  # the NodeSlicePool as it was read
        self._lost: set[IpNetwork] = set()  # blocks that others have claimed since then

    def claim(self, source: BlockSource, wish: Wish, files: BlockFiles) -> Block:
        """Let the node have another block with room for a wish, and return it.

        It is recorded in `files` before it is claimed, as one that is to be given back: so it is found
        if this call is killed.

        Raises:
            CniError: code 100, no block is left; code 7, the range is divided otherwise; code 11.
        """
        losses, failure = 0, None
        self._forget()
        # Before anything is claimed: whom they name keeps what it has.
        taken = [each for each in self._objects.named_pools() if _is_beside(each.key, wish.pool)]
        rooms = _Rooms(wish, taken)
        known = {block.network for block in files.of(wish.pool)}
        for _ in self._api.attempts(_MOST_ATTEMPTS, _BACKOFF):
            block = None
            try:
                step = self._step(source, rooms, known, losses)
                block = _block(source, step.network, rooms, step.also_taken)
                files.write(block.leaving())
                step.send()
            except (Invalid, Conflict, AlreadyExists, NotFound, OutcomeUnknown) as error:
                if isinstance(error, Invalid) and error.causes:
                    raise
                failure, losses = error, losses + 1
                if block and not isinstance(error, OutcomeUnknown):
                    files.remove(block)
                if block and isinstance(error, Invalid) and losses % _LOSSES_PER_READING:
                    self._lost.add(block.network)
                else:
                    self._forget()
            except InvalidConfig:
                if block:
                    files.remove(block)
                raise
            else:
                files.write(block)
                return block
        raise CniError(
            f"no block of {wish.range.network} could be claimed: others were faster again and again",
            why=f"The last answer was: {failure.msg}." if failure else "",
            fix="Call again.",
            code=Code.TRY_AGAIN_LATER,
        )

    def free(self, block: Block) -> None:
        """Give a block back; nothing to do if it is not this node's.

        The whole object's version is tested: a patch that arrives after it was given up for lost must not
        free what the node has claimed anew.
        """
        failure: ApiError | None = None
        for _ in self._api.attempts(8, _BACKOFF):
            pool = self._objects.slice_pool(block.slice_pool, from_cache=False)
            entries = pool.indexed() if pool else ()
            index = next((i for i, node, net in entries if (node, net) == (block.node, block.network)), None)
            if pool is None or index is None:
                return
            version = {"op": "test", "path": "/metadata/resourceVersion", "value": pool.resource_version}
            try:
                self._api.patch(self._path(pool.name), [version, *_given(pool, index, "")])
            except (Invalid, Conflict, NotFound, OutcomeUnknown) as error:
                failure = error
            else:
                return
        if failure:
            raise failure

    def _step(self, source: BlockSource, rooms: _Rooms, known: set[IpNetwork], losses: int) -> _Step:
        """Return how a block can be had, given what the NodeSlicePool lists now."""
        while True:
            pool = self._copy or self._objects.slice_pool(source.slice_pool, from_cache=False)
            if pool is None:
                return self._creation(source, rooms)
            _check_division(pool, source, rooms.wish)
            if OVERLAPS in pool.annotations:
                self._unmarked(pool, source, rooms.wish)
            self._copy = pool
            step = self._choice(pool, source, rooms, known, losses)
            if step:
                return step
            is_as_read = not self._lost
            self._forget()
            if is_as_read and not self._grown(pool, source, rooms.range):
                return self._succession(pool, source, rooms)

    def _forget(self) -> None:
        """Let the NodeSlicePool be read again."""
        self._copy = None
        self._lost.clear()

    def _creation(self, source: BlockSource, rooms: _Rooms) -> _Step:
        """Make the object, with the first block that has room claimed in it."""
        network = rooms.range.network
        listed: list[IpNetwork] = list(islice(network.subnets(new_prefix=source.prefix), _LISTED))
        chosen = next((each for each in listed if rooms.has_room(each)), listed[0])
        entries = [_entry(source.node if each == chosen else "", each) for each in listed]
        body = {
            "apiVersion": GROUP_VERSION,
            "kind": "NodeSlicePool",
            "metadata": {
                "name": source.slice_pool,
                "annotations": {NETWORK_NAME: rooms.wish.pool.network_name},
            },
            "spec": {"range": str(network), "sliceSize": f"/{source.prefix}"},
            "status": {"allocations": entries},
        }

        def send() -> None:
            try:
                made = self._api.create(self._path(), body)
            except NotFound as error:
                raise _uncreatable(source.slice_pool, self._namespace, error) from error
            pool = SlicePool(source.slice_pool, made)
            index = next(i for i, _, net in pool.indexed() if net == chosen)
            self._refuse_overlap(source, rooms.wish, _given(pool, index, ""))

        return _Step(chosen, send)

    def _unmarked(self, pool: SlicePool, source: BlockSource, wish: Wish) -> None:
        """Let an object be used again that was not to be, if what it overlapped is no more."""
        self._refuse_overlap(source, wish)
        mark = f"/metadata/annotations/{OVERLAPS.replace('/', '~1')}"
        test = {"op": "test", "path": mark, "value": pool.annotations[OVERLAPS]}
        self._api.patch(self._path(pool.name), [test, {"op": "remove", "path": mark}])
        self._refuse_overlap(source, wish, [])

    def _refuse_overlap(
        self, source: BlockSource, wish: Wish, undoing: list[Operation] | None = None
    ) -> None:
        """Refuse to divide a range of which another NodeSlicePool divides a part.

        What nodes give out of blocks is on no list, so two divisions would give addresses twice. It is
        looked at after the object is there: of two that are made at once at least one sees the other, and
        is marked as not to be used, and its first claim is undone.
        """
        if not wish.is_unique:
            return
        for other in self._objects.slice_pools():
            if other.name != source.slice_pool and other.may_share_addresses(wish.pool):
                told = f'the NodeSlicePool "{other.name}" divides {other.raw["spec"]["range"]}'
                if undoing is not None:
                    path = f"/metadata/annotations/{OVERLAPS.replace('/', '~1')}"
                    mark = {"op": "add", "path": path, "value": told}
                    self._api.patch(self._path(source.slice_pool), [*undoing, mark])
                raise InvalidConfig(
                    f"{wish.range.network} ({wish.range.path}) cannot have node blocks: {told}",
                    why="They overlap, and nodes that give addresses out of blocks do not ask each other.",
                    fix='Let networks with one range share a "network_name"; give those that shall not see '
                    "each other different ones; or delete that NodeSlicePool if its network is no more.",
                )

    def _choice(
        self, pool: SlicePool, source: BlockSource, rooms: _Rooms, known: set[IpNetwork], losses: int
    ) -> _Step | None:
        """Return a block that is free, or listed for this node already; None if none has room."""
        entries = list(pool.indexed())
        for _, node, network in entries:
            if node == source.node and network not in known and rooms.has_room(network):
                # Perhaps the node has lost its records: whom it runs keeps what it has.
                mine = addresses_of_pods(self._api, fieldSelector=f"spec.nodeName={node}")
                return _Step(network, lambda: None, frozenset(mine or ()))
        free = (
            (index, network)
            for index, node, network in entries
            if not node and network not in self._lost and rooms.has_room(network)
        )
        window = list(islice(free, _SPREAD ** min(losses, 3)))
        if window:
            index, network = window[int(chance() * len(window))]
            return self._patching(pool, network, _given(pool, index, source.node))
        return None

    def _patching(self, pool: SlicePool, network: IpNetwork, operations: list[Operation]) -> _Step:
        return _Step(network, lambda: self._api.patch(self._path(pool.name), operations))

    def _grown(self, pool: SlicePool, source: BlockSource, range_: Range) -> bool:
        """List further blocks of the range; False if all are listed."""
        total = 1 << source.prefix - range_.network.prefixlen
        start = len(pool.entries)
        if start >= total:
            return False
        listed = {network for _, network in pool.slices}
        size = 1 << range_.network.max_prefixlen - source.prefix
        networks = (
            type(range_.network)((int(range_.network[0]) + number * size, source.prefix))
            for number in range(start, min(start + _LISTED, total))
        )
        added = [
            {"op": "add", "path": "/status/allocations/-", "value": _entry("", each)}
            for each in networks
            if each not in listed
        ]
        version = {"op": "test", "path": "/metadata/resourceVersion", "value": pool.resource_version}
        if added:
            self._api.patch(self._path(pool.name), [version, *added])
        return bool(added)

    def _succession(self, pool: SlicePool, source: BlockSource, rooms: _Rooms) -> _Step:
        """Return the take-over of a block of a node that is gone for long enough, or say that none is left.

        Raises:
            CniError: code 100.
        """
        deaths = Deaths(self._api, pool, timedelta(seconds=source.hold))
        fitting = [(i, node, net) for i, node, net in pool.indexed() if node and rooms.has_room(net)]
        gone = deaths.of(node for _, node, _ in fitting)
        noted = deaths.noting([(node, net) for _, node, net in fitting if node in gone], gone)
        if noted:
            self._api.patch(self._path(pool.name), noted)
        for index, node, network in fitting:
            if node in gone and deaths.are_long_past(node, network) and deaths.nobody_runs(network):
                if not _is_silent(source, rooms.range, node, network):
                    continue
                given = _given(pool, index, source.node)
                return self._patching(pool, network, [*given, *deaths.forgetting(network)])
        held = len(fitting)
        raise CniError(
            f'no block of {rooms.range.network} ({rooms.range.path}) is left for node "{source.node}"',
            why=f"All {len(pool.entries)} blocks of /{source.prefix} are held. "
            f"{deaths.told(gone, held)}".rstrip(),
            fix="Make the range larger or blocks smaller; `podrail ipam show` lists what nodes hold.",
            code=Code.POOL_EXHAUSTED,
        )

    def complaints(self, source: BlockSource, wish: Wish) -> list[str]:
        """Return why no block could be claimed, as far as that can be told without claiming one."""
        pool = self._objects.slice_pool(source.slice_pool)
        total = 1 << source.prefix - wish.range.network.prefixlen
        if pool is None or len(pool.entries) < total or any(not node for node, _ in pool.slices):
            return denied(self._objects, FOR_BLOCKS)
        return [f'no block of {wish.range.network} is left for node "{source.node}"']

    def _path(self, name: str | None = None) -> str:
        return resource(GROUP_VERSION, SLICE_POOLS, namespace=self._namespace, name=name)


@dataclass(frozen=True)
class _Step:
    """A block that can be had, and the write that claims it."""

    network: IpNetwork
    send: Callable[[], object]
    also_taken: frozenset[Ip] = frozenset()


@dataclass(frozen=True)
class _Rooms:
    """Where in its range a wish could be met, whatever IPPools have."""

    wish: Wish
    pools: list[KubePool]

    @property
    def range(self) -> Range:
        return self.wish.range

    def has_room(self, network: IpNetwork) -> bool:
        wanted = self.wish.wanted
        if wanted:
            return wanted in network
        if network.version != self.range.network.version:
            return False
        try:
            inner = narrowed(self.range, network)
        except InvalidConfig:
            return False
        taken = self.held(network)
        return sum(last - first + 1 for first, last in inner.spans) > len(taken) or any(
            number not in taken for first, last in inner.spans for number in range(first, last + 1)
        )

    def held(self, network: IpNetwork) -> set[int]:
        first, last = int(network[0]), int(network[-1])
        return {number for pool in self.pools for number in pool.numbers() if first <= number <= last}


def _block(source: BlockSource, network: IpNetwork, rooms: _Rooms, also_taken: frozenset[Ip]) -> Block:
    taken = rooms.held(network) | {int(address) for address in also_taken if address in network}
    return Block(
        block=str(network),
        range=str(rooms.range.network),
        network_name=rooms.wish.pool.network_name,
        node=source.node,
        kubeconfig=source.kubeconfig,
        slice_pool=source.slice_pool,
        taken=tuple(str(rooms.range.address(number)) for number in sorted(taken)),
    )


def _is_silent(source: BlockSource, range_: Range, node: str, network: IpNetwork) -> bool:
    """Whether nobody answers for the addresses of a block, where there is somebody to ask."""
    if source.link is None:
        return True
    inner = narrowed(range_, network)
    addresses = (inner.address(n) for first, last in inner.spans for n in range(first, last + 1))
    try:
        found = answering(source.link, addresses)
    except CannotAsk as error:
        note("whereabouts", f'the block {network} of node "{node}" is left alone: {error.msg}')
        return False
    if found:
        note(
            "whereabouts",
            f'the block {network} of node "{node}" is left alone: {found} answers on "{source.link}", '
            "though the node is gone",
        )
    return found is None


def _uncreatable(name: str, namespace: str, error: NotFound) -> InvalidConfig:
    return InvalidConfig(
        f'the NodeSlicePool "{name}" cannot be made in namespace "{namespace}"',
        why=f"{error.why} Either its definition is not installed, or the namespace does not exist.",
        fix="Apply Whereabouts' CustomResourceDefinitions, and correct the namespace of the kubeconfig's "
        "context.",
    )


def _check_division(pool: SlicePool, source: BlockSource, wish: Wish) -> None:
    spec = pool.raw.get("spec") or {}
    written = str(spec.get("range")), str(spec.get("sliceSize")).removeprefix("/")
    try:
        network: object = parse_network(written[0])
    except ValueError:
        network = None
    if network != wish.range.network or written[1] != str(source.prefix):
        raise InvalidConfig(
            f'the NodeSlicePool "{pool.name}" divides {written[0]} into blocks of /{written[1]}',
            why=f"The configuration ({wish.range.path}) has {wish.range.network} and /{source.prefix}.",
            fix='Let all networks of one "network_name" agree; or delete the object, once nobody holds an '
            "address of the range.",
        )


def _is_beside(pool: PoolKey, range_key: PoolKey) -> bool:
    same = pool.network.version == range_key.network.version and pool.network_name == range_key.network_name
    return same and pool.network.overlaps(range_key.network)


def _entry(node: str, network: IpNetwork) -> dict[str, str]:
    return {"nodeName": node, "sliceRange": str(network)}


def _given(pool: SlicePool, index: int, node: str) -> list[Operation]:
    """Return the patch by which a block changes hands."""
    path, entry = f"/status/allocations/{index}", pool.entries[index]
    return [
        {"op": "test", "path": path, "value": entry},
        {"op": "replace", "path": path, "value": {**entry, "nodeName": node}},
    ]
