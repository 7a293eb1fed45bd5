"""The checks of several networks and pods together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from cni.cli.lint.finding import Finding
from cni.cli.lint.kinds import Inputs, Pod
from cni.cli.lint.network import Network, Range, ranges_of
from cni.cli.selected import selected
from cni.protocol import gojson

_ROUTES_BY_SOURCE = {"sbr"}  # plugins whose chain makes replies leave where requests came in


def check(inputs: Inputs) -> Iterator[Finding]:
    yield from _overlaps(inputs.networks)
    yield from _mtus(inputs.networks)
    yield from _resources(inputs)
    for pod in inputs.pods:
        yield from _pod(pod, inputs.networks)


def _overlaps(networks: list[Network]) -> Iterator[Finding]:
    """Two pools that share addresses and neither a network_name nor the check of overlaps."""
    pools = [
        (network, path, raw, each)
        for network in networks
        for path, raw in network.plugins()
        for each in ranges_of(raw)
    ]
    for one, other in combinations(pools, 2):
        if one[0] is other[0] or not one[3].network.overlaps(other[3].network):
            continue
        if one[3].network.version == other[3].network.version and _may_collide(
            one[2], other[2], one[3], other[3]
        ):
            network, path, _, range_ = other
            yield network.finding(
                "overlap",
                ".".join(filter(None, (path, f"{range_.path}.range"))),
                f'{range_.network} of "{network.name}" overlaps {one[3].network} of "{one[0].name}" '
                f"({one[0].document.file})",
                why="Both give the same addresses to different pods.",
                fix='Give both the same "network_name" and the check of overlaps, or separate ranges.',
                severity="warning",
            )


def _may_collide(one: Mapping[str, Any], other: Mapping[str, Any], first: Range, second: Range) -> bool:
    """Whether two ranges give out an address twice: no check joins them, and they are not one pool."""
    mine, theirs = (gojson.get(raw, "ipam") or {} for raw in (one, other))
    names = [gojson.get(section, "network_name") or "" for section in (mine, theirs)]
    are_checked = all(
        gojson.get(section, "enable_overlapping_ranges") is not False for section in (mine, theirs)
    )
    is_one_pool = first.network == second.network
    shares = any(low <= last and begin <= high for low, high in first.spans for begin, last in second.spans)
    return shares and not (names[0] == names[1] and (is_one_pool or are_checked))


def _mtus(networks: list[Network]) -> Iterator[Finding]:
    """An interface that rides on one which another file makes smaller."""
    masters: dict[str, tuple[int, Network]] = {}
    for network in networks:
        for _, raw in network.plugins():
            device, mtu = gojson.get(raw, "device"), gojson.get(raw, "mtu")
            if isinstance(device, str) and isinstance(mtu, int):
                masters[device] = (mtu, network)
    for network in networks:
        for path, raw in network.plugins():
            master, mtu = gojson.get(raw, "master"), gojson.get(raw, "mtu")
            if isinstance(mtu, int) and isinstance(master, str) and masters.get(master, (mtu,))[0] < mtu:
                limit, where = masters[master]
                yield network.finding(
                    "mtu-over-master",
                    ".".join(filter(None, (path, "mtu"))),
                    f'{mtu} is more than the {limit} of "{master}" ({where.document.file})',
                    fix=f"Use at most {limit}.",
                )


def _resources(inputs: Inputs) -> Iterator[Finding]:
    """A resource that no device plugin among the files defines, if there is one at all."""
    for network in inputs.networks:
        if network.resource and inputs.resources and network.resource not in inputs.resources:
            yield network.finding(
                "unknown-resource",
                "",
                f'"{network.name}" needs {network.resource}, which no device plugin defines',
                why=f"Defined are {', '.join(sorted(inputs.resources))}.",
            )


def _pod(pod: Pod, networks: list[Network]) -> Iterator[Finding]:
    try:
        names = list(selected(pod.networks, pod.namespace))
    except ValueError as error:
        yield Finding(
            pod.document.place(pod.path),
            "annotation",
            f"the list of networks cannot be read: {error}",
            pod.path,
            fix='Write it as "ns/name@net1,…" or as a JSON list of objects with "name".',
        )
        return
    known = {(network.namespace, network.name): network for network in networks if network.namespace}
    if not known:
        return  # the definitions are elsewhere
    for namespace, name in names:
        if (namespace, name) not in known:
            yield Finding(
                pod.document.place(pod.path),
                "unknown-network",
                f"{namespace}/{name} is not among these files",
                pod.path,
                why=f"There are {', '.join(sorted('/'.join(key) for key in known))}.",
                severity="warning",
            )
    yield from _same_subnet(pod, [known[key] for key in names if key in known])


def _same_subnet(pod: Pod, rails: list[Network]) -> Iterator[Finding]:
    for one, other in combinations(rails, 2):
        if one is other or any(_routes_by_source(network) for network in (one, other)):
            continue
        shared = [
            (first, second)
            for first in _subnets(one)
            for second in _subnets(other)
            if first.version == second.version and first.overlaps(second)
        ]
        if shared:
            yield Finding(
                pod.document.place(pod.path),
                "same-subnet",
                f'"{one.name}" and "{other.name}" are both in {shared[0][0]}',
                pod.path,
                why="The kernel sends all replies through the first of them.",
                fix='Give each rail a subnet of its own, or chain "sbr" behind both for routes by source.',
                severity="warning",
            )


def _subnets(network: Network) -> list[Any]:
    return [each.network for _, raw in network.plugins() for each in ranges_of(raw)]


def _routes_by_source(network: Network) -> bool:
    return any(gojson.get(raw, "type") in _ROUTES_BY_SOURCE for _, raw in network.plugins())
