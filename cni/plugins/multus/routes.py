"""default-route: which attachment of a pod has its default routes.

Where none asks, each plugin's routes stay. Otherwise an address family goes to the attachment with a
gateway of it, or, if that asks with an empty list, to it for the families that its plugin set. What
others have of that family goes; families that nobody asks for stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from cni.host.ip_messages import RT_TABLE_MAIN
from cni.host.links import Links, NewRoute
from cni.plugins.multus.plan import Planned
from cni.protocol.addresses import parse_ip
from cni.protocol.errors import InvalidConfig
from cni.protocol.result import Result, Route

_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(frozen=True)
class Owner:
    """Who has the default route of a family; without a gateway it keeps what its plugin set."""

    position: int
    ifname: str
    gateway: str | None


def check(plan: Sequence[Planned]) -> None:
    """Refuse requests that contradict each other, before anything is attached.

    Raises:
        InvalidConfig: code 7.
    """
    asking = [each for each in plan if each.selection and each.selection.default_route is not None]
    gateways = [
        gateway for each in asking if each.selection for gateway in each.selection.default_route or ()
    ]
    for version in (4, 6):
        of_family = [gateway for gateway in gateways if parse_ip(gateway).version == version]
        if len(of_family) > 1:
            raise InvalidConfig(
                f"multus does not support ECMP: {len(of_family)} IPv{version} default routes are asked for",
                why=f'"default-route" of its networks names {", ".join(of_family)}.',
                fix="Keep one gateway of each address family.",
            )
    if len(asking) > 1 and any(each.selection and not each.selection.default_route for each in asking):
        raise InvalidConfig(
            "several networks of the pod ask for its default routes",
            why=f"They are {', '.join(each.name for each in asking)}, and not all of them name a gateway.",
            fix='Keep one "default-route", or give each a gateway of its own address family.',
        )


def settle(links: Links, plan: Sequence[Planned], results: Sequence[Result]) -> tuple[Result, ...]:
    """Give the default routes to who asks for them, and return the results with what is there now.

    Raises:
        CniError: the kernel refused a route, such as one by a gateway that nothing reaches.
    """
    for owner, version in _owners(plan, results):
        _move(links, owner, version)
    return foreseen(plan, results)


def foreseen(plan: Sequence[Planned], results: Sequence[Result]) -> tuple[Result, ...]:
    """Return the results with the default routes that their attachments have in the end."""
    settled = tuple(results)
    for owner, version in _owners(plan, results):
        settled = tuple(
            _told(result, owner, version, is_owner=position == owner.position)
            for position, result in enumerate(settled)
        )
    return settled


def _owners(plan: Sequence[Planned], results: Sequence[Result]) -> list[tuple[Owner, int]]:
    owners = ((_owner(plan, results, version), version) for version in (4, 6))
    return [(owner, version) for owner, version in owners if owner]


def _owner(plan: Sequence[Planned], results: Sequence[Result], version: int) -> Owner | None:
    for position, each in enumerate(plan):
        requested = each.selection.default_route if each.selection else None
        if requested is None:
            continue
        gateway = next((text for text in requested if parse_ip(text).version == version), None)
        keeps = not requested and any(_is_default(route, version) for route in results[position].routes)
        if gateway or keeps:
            return Owner(position, each.ifname, gateway)
    return None


def _move(links: Links, owner: Owner, version: int) -> None:
    link = links.find(owner.ifname)
    if link is None:
        raise InvalidConfig(
            f'"{owner.ifname}" cannot have the default route: the sandbox has no such interface',
            why="The network's plugins made none of that name.",
            fix='Ask for the default route on a network with an interface, or leave "default-route" out.',
        )
    for path in links.routes():
        is_default = not path.network.prefixlen and path.network.version == version
        if not is_default or path.table != RT_TABLE_MAIN:
            continue
        if owner.gateway or any(index != link.index for index in path.indices):
            links.delete_route(path)
    if owner.gateway:
        links.configure(link, (), [NewRoute(ip_network(_ANYWHERE[version]), owner.gateway)])


def _told(result: Result, owner: Owner, version: int, *, is_owner: bool) -> Result:
    """Return a result with the default routes of a family that its attachment has now."""
    if is_owner and not owner.gateway:
        return result
    routes = [route for route in result.routes if not _is_default(route, version)]
    if is_owner:
        routes.append(Route.model_validate({"dst": _ANYWHERE[version], "gw": owner.gateway}))
    return result.model_copy(update={"routes": tuple(routes)})


def _is_default(route: Route, version: int) -> bool:
    return not route.network.prefixlen and route.dst.version == version
