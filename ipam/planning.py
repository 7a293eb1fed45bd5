"""What ADD of whereabouts would do: which address of which pool, as the store is now."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from cni.protocol.planning import Plan, Planning
from cni.protocol.request import Request
from cni.protocol.result import IpConfig, Result
from ipam.asked import Asked
from ipam.config import WhereaboutsConf
from ipam.holding import Place
from ipam.store import Store, Wish
from ipam.stores import opened, place_of, wishes_of
from ipam.whereabouts import check_pod_is_named, emptiness_explained, ip_config, patience_of, source_of


def plan(request: Request, conf: WhereaboutsConf, planning: Planning) -> Plan:
    asked = Asked.of(request, conf)
    made = Plan("whereabouts", request.network.name, request.ifname)
    ips: tuple[IpConfig, ...] = ()
    if asked.wishes:
        place = place_of(request, conf)
        check_pod_is_named(place, asked)
        source = source_of(request, conf, place)
        store = opened(
            place, request.environment, patience=patience_of(conf), source=source, memory=request.memory
        )
        wishes = wishes_of(request, conf, asked.wishes, store)
        ips, open_ = _addresses(replace(asked, wishes=wishes), conf, place, store, planning)
        pools = ", ".join(dict.fromkeys(str(wish.pool) for wish in wishes))
        made = replace(made, facts={"pool": pools, "store": f"{place.kind} {place.path}"}, open=open_)
    result = Result(ips=ips + asked.static, routes=conf.ipam.routes, dns=conf.ipam.dns)
    return replace(made, result=result)


def _addresses(
    asked: Asked, conf: WhereaboutsConf, place: Place, store: Store, planning: Planning
) -> tuple[tuple[IpConfig, ...], tuple[str, ...]]:
    """Return an address for each wish, and a sentence for each that is not known yet."""
    ips: list[IpConfig] = []
    unknown: list[str] = []
    for wish in asked.wishes:
        scope = _scope(place, wish)
        beside = {ip.address.ip for ip in ips} | {ip_address(text) for text in planning.taken(scope)}
        with emptiness_explained(wish):
            address = store.candidate(replace(wish, taken=frozenset(beside)), asked.owner)
        if address is None:
            unknown.append(
                f"a block of {wish.pool} is claimed from the cluster first, for this node has no room"
            )
            continue
        planning.take(scope, str(address))
        ips.append(ip_config(wish, address, conf))
    return tuple(ips), tuple(unknown)


def _scope(place: Place, wish: Wish) -> str:
    """Return within what an address is given once: a pool, or all pools of a network_name."""
    return f"{place.kind} {place.path} {wish.pool.network_name if wish.is_unique else wish.pool.name}"
