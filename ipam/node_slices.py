"""Node slices: the part of a range that a NodeSlicePool gives to this node.

Whereabouts' controller cuts a range into slices and lists which node has which. A node gives addresses
only out of its own, from an IPPool of its own. Unlike the original, bounds and exclusions of the
configuration count, and whatever is missing is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cni.protocol.addresses import IpNetwork
from cni.protocol.errors import CniError, Code, InvalidConfig
from ipam.pool import PoolKey
from ipam.ranges import Range, parse_network
from ipam.store import Wish

HOSTNAME = Path("/etc/hostname")
OVERLAPS = "podrail.whereabouts/overlaps"  # annotation: why nobody may use an object
NETWORK_NAME = "podrail.whereabouts/network-name"  # annotation: that of the networks that an object is for


def node_name(
    environment: Mapping[str, str],
    configuration_path: str | None,
    flat: Path | None,
    hostname: Path = HOSTNAME,
) -> str:
    """Return what this node is called: NODENAME, else a file `nodename`, else the host's name.

    The file lies in `configuration_path` if that is a directory, else beside it, or beside the flat file.

    Raises:
        InvalidConfig: code 7, with the places searched.
    """
    if told := environment.get("NODENAME", "").strip():
        return told
    places = [*_beside(configuration_path, flat), hostname]
    for place in places:
        try:
            text = place.read_text().strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text:
            return text
    raise InvalidConfig(
        "the name of this node is not known, by which its slice is found",
        why=f"NODENAME is not set, and there is no name in {', '.join(map(str, places))}.",
        fix="Write the Node object's name into the first of these files.",
    )


def _beside(configuration_path: str | None, flat: Path | None) -> Iterator[Path]:
    if configuration_path:
        path = Path(configuration_path)
        yield (path if path.is_dir() else path.parent) / "nodename"
    if flat:
        yield flat.parent / "nodename"


@dataclass(frozen=True)
class SlicePool:
    """A NodeSlicePool as it was read: who has which slice of a range."""

    name: str
    raw: Mapping[str, Any]

    @property
    def slices(self) -> list[tuple[str, IpNetwork]]:
        """Return the nodes ("" is free) and their slices; what cannot be read is left out."""
        return [(node, network) for _, node, network in self.indexed()]

    def indexed(self) -> Iterator[tuple[int, str, IpNetwork]]:
        for index, entry in enumerate(self.entries):
            try:
                yield index, str(entry.get("nodeName") or ""), parse_network(str(entry.get("sliceRange")))
            except (ValueError, AttributeError):
                continue

    def may_share_addresses(self, pool: PoolKey) -> bool:
        """Whether it divides a network that overlaps a pool's, and may be for the same `network_name`.

        An object of Whereabouts' controller has that name, if there is one, or else that of a CNI network.
        """
        try:
            network = parse_network(str((self.raw.get("spec") or {}).get("range")))
        except ValueError:
            return False
        if network.version != pool.network.version or not network.overlaps(pool.network):
            return False
        if OVERLAPS in self.annotations:
            return False
        told = self.annotations.get(NETWORK_NAME)
        if told is not None:
            return bool(told == pool.network_name)
        return f"{self.name}-".startswith(f"{pool.network_name}-") or not pool.network_name

    @property
    def entries(self) -> list[Any]:
        status = self.raw.get("status") or {}
        found = status.get("allocations")
        return found if isinstance(found, list) else []

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.raw.get("metadata", {}).get("annotations") or {}

    @property
    def resource_version(self) -> str:
        return str(self.raw.get("metadata", {}).get("resourceVersion", ""))

    def of_node(self, node: str) -> list[IpNetwork]:
        return [network for name, network in self.slices if name == node]


def missing(name: str, namespace: str) -> CniError:
    """Return the error for a NodeSlicePool that does not exist."""
    return CniError(
        f'the NodeSlicePool "{name}" does not exist in namespace "{namespace}"',
        why='"node_slice_size" is set, so this node may only use the slice of the range that it lists.',
        fix='Run the node-slice controller of Whereabouts, which makes it; or set "node_blocks": true, '
        "with which nodes need none.",
        code=Code.TRY_AGAIN_LATER,
    )


def sliced(wish: Wish, pool: SlicePool, node: str) -> Wish:
    """Return what a node asks of its slice in the place of the whole range.

    Raises:
        CniError: code 11, the node has no slice; code 7, there is nothing of the range in it.
    """
    fitting = [each for each in pool.of_node(node) if _is_within(each, wish.range.network)]
    if not fitting:
        others = sorted({name for name, _ in pool.slices if name})
        names = f"{', '.join(others[:5])}{', …' if others[5:] else ''}"
        listed = f"It has slices of {names}." if others else "It has slices of no node."
        raise CniError(
            f'the NodeSlicePool "{pool.name}" has no slice of {wish.range.network} for node "{node}"',
            why=f"{listed} {sum(not name for name, _ in pool.slices)} slices are free.",
            fix="Wait until the controller has given it one; make the range larger or slices smaller if none "
            "is free; or correct the node's name (NODENAME, or a file nodename beside the flat file).",
            code=Code.TRY_AGAIN_LATER,
        )
    network = fitting[0]
    if wish.wanted and wish.wanted not in network:
        raise InvalidConfig(
            f"the address {wish.wanted}, which was asked for, is not of this node's slice",
            why=f'Node "{node}" has {network}.',
            fix="Ask for one of the slice, or let the pod run on the node whose slice has it.",
        )
    key = PoolKey(network, wish.pool.network_name, node)
    return replace(wish, pool=key, range=narrowed(wish.range, network))


def narrowed(range_: Range, part: IpNetwork) -> Range:
    """Return what a range allows of a part of its network: that part's first and last address are kept back.

    Raises:
        InvalidConfig: nothing.
    """
    first, last = int(part[0]), int(part[-1])
    if last - first > 1 and not range_.is_whole:
        first, last = first + 1, last - 1
    inner = replace(range_, first=max(first, range_.first), last=min(last, range_.last))
    if inner.first > inner.last:
        raise InvalidConfig(
            f"nothing of {range_.network} ({range_.path}) can be given out on this node",
            why=f"Its part is {part}; the bounds are {range_.address(range_.first)} to "
            f"{range_.address(range_.last)}.",
            fix='Correct "range_start" and "range_end", which count for all nodes.',
        )
    return inner


def _is_within(part: IpNetwork, whole: IpNetwork) -> bool:
    return part.version == whole.version and int(whole[0]) <= int(part[0]) and int(part[-1]) <= int(whole[-1])
