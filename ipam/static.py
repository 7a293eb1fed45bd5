"""static: the addresses that the configuration or the caller names.

Nothing is kept of them, unless the configuration wants them reserved on this host.

Source: `plugins/ipam/static` of the Go plugins; where this differs is in docs/compatibility.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from cni.protocol import versions
from cni.protocol.addresses import Cidr, parse_cidr, parse_ip
from cni.protocol.config import Dns, Flag, OptionalIp, PluginConf, Section, Text
from cni.protocol.errors import CniError, Code, InvalidConfig
from cni.protocol.notes import note
from cni.protocol.plugin import Plugin
from cni.protocol.request import AttachmentKey, Request, listed, parse_cni_args
from cni.protocol.result import IpConfig, Result, Route, required_prev_result
from cni.undo import too_late, undo_on_error, uninterrupted
from ipam.reservation import Reservations

if TYPE_CHECKING:
    from cni.protocol.planning import Plan, Planning

# The same CNI_ARGS reach the interface plugin, so its keys are no mistake here.
_CNI_ARGS = frozenset({"IP", "GATEWAY", "MAC"})


class StaticAddress(Section):
    address: Cidr
    gateway: OptionalIp = None


class StaticSection(Section):
    """The `ipam` section."""

    type: Text = None
    addresses: tuple[StaticAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: Dns = Dns()
    reserve: Flag = False  # ours: refuse an address that another attachment of this host has


class RequestedAddresses(Section):
    is_open = True
    ips: tuple[Cidr, ...] = ()


class Args(Section):
    is_open = True
    cni: RequestedAddresses = RequestedAddresses()


class StaticConf(PluginConf):
    is_open = True  # the same stdin is the interface plugin's
    ipam: StaticSection  # type: ignore[assignment]  # a section of its own, where others see an open one
    args: Args = Args()  # type: ignore[assignment]  # likewise
    runtime_config: RequestedAddresses = Field(default=RequestedAddresses(), alias="runtimeConfig")  # type: ignore[assignment]  # likewise


def add(request: Request, conf: StaticConf) -> Result:
    addresses = _addresses(request, conf)
    _check_version_can_express(request, addresses)
    if conf.ipam.reserve:
        _reserve(request, addresses)
    return _answer(conf, addresses)


def plan(request: Request, conf: StaticConf, _planning: Planning) -> Plan:
    """Return what ADD would answer."""
    from cni.protocol.planning import Plan  # calls have no use for it

    addresses = _addresses(request, conf)
    _check_version_can_express(request, addresses)
    if conf.ipam.reserve:
        reservations = Reservations.of(request.environment, request.network.name)
        for each in addresses:
            reservations.refuse_taken(str(each.address.ip), request.key)
    return Plan("static", request.network.name, request.ifname, result=_answer(conf, addresses))


def _answer(conf: StaticConf, addresses: list[StaticAddress]) -> Result:
    ips = tuple(IpConfig(address=each.address, gateway=each.gateway) for each in addresses)
    return Result(ips=ips, routes=conf.ipam.routes, dns=conf.ipam.dns)


def _reserve(request: Request, addresses: list[StaticAddress]) -> None:
    reservations = Reservations.of(request.environment, request.network.name)
    with undo_on_error() as undo:
        for each in addresses:
            # What the same attachment had reserved before is not this call's to give back.
            with uninterrupted():
                if reservations.take(str(each.address.ip), request.key):
                    undo.callback(reservations.give_back, str(each.address.ip))
        too_late()


def delete(request: Request) -> None:
    """Give back what was reserved, whatever the configuration says now."""
    Reservations.of(request.environment, request.network.name).release(request.key)


def check(request: Request, conf: StaticConf) -> None:
    """Every address that ADD would give must be in prevResult, with its gateway."""
    result = required_prev_result(conf.prev_result, request.network.version, "configuration")
    answered = {ip.address: ip.gateway for ip in result.ips}
    for each in _addresses(request, conf):
        if each.address not in answered:
            raise _differs(f"the address {each.address} is not in prevResult")
        if each.gateway and answered[each.address] != each.gateway:
            told = answered[each.address] or "none"
            raise _differs(f"the gateway of {each.address} is {told} in prevResult, not {each.gateway}")


def status(_request: Request, _conf: StaticConf) -> None:
    """A configuration that could be read is all that ADD needs."""


def gc(request: Request, keep: frozenset[AttachmentKey]) -> None:
    Reservations.of(request.environment, request.network.name).release_others(keep)


def _addresses(request: Request, conf: StaticConf) -> list[StaticAddress]:
    """Return the addresses of the configuration and CNI_ARGS, or those asked for in their stead.

    `runtimeConfig.ips` comes before `args.cni.ips`, and either replaces all others; an address
    that was asked for keeps the gateway that the configuration has for its subnet.
    """
    args = parse_cni_args(request.variable("CNI_ARGS"), _CNI_ARGS)
    requested = conf.runtime_config.ips or conf.args.cni.ips
    if requested:
        gateways = [each.gateway for each in conf.ipam.addresses if each.gateway]
        return _distinct(_with_gateway(StaticAddress(address=cidr), gateways) for cidr in requested)
    added = [StaticAddress(address=cidr) for cidr in listed(args, "IP", parse_cidr)]
    gateways = listed(args, "GATEWAY", parse_ip)
    addresses = _distinct(_with_gateway(each, gateways) for each in (*conf.ipam.addresses, *added))
    for gateway in gateways:
        if gateway not in [each.gateway for each in addresses]:
            note(request.attachment, f"CNI_ARGS: GATEWAY {gateway} is in no address's subnet and is not used")
    return addresses


def _with_gateway(address: StaticAddress, gateways: Iterable[Any]) -> StaticAddress:
    """Return `address` with the last of the gateways that lie in its subnet, if any does."""
    for gateway in gateways:
        if gateway in address.address.network:
            address = address.model_copy(update={"gateway": gateway})
    return address


def _distinct(addresses: Iterable[StaticAddress]) -> list[StaticAddress]:
    """An address that is named twice is one address: the kernel refuses to take it twice."""
    first: dict[object, StaticAddress] = {}
    for each in addresses:
        first.setdefault(each.address, each)
    return list(first.values())


def _check_version_can_express(request: Request, addresses: list[StaticAddress]) -> None:
    version = request.network.version
    if versions.shape(version) != "0.2.0":
        return
    for family in (4, 6):
        if sum(each.address.version == family for each in addresses) > 1:
            raise InvalidConfig(
                f"CNI version {version} does not support more than 1 address per family",
                why=f'"ipam.addresses" and what was added to it have several of IPv{family}.',
                fix='Set "cniVersion" to 0.3.1 or newer, or keep one.',
            )


def _differs(difference: str) -> CniError:
    return CniError(
        f"the addresses are not as configured: {difference}",
        fix="Recreate the pod, or put the configuration back.",
        code=Code.DIFFERS,
    )


PLUGIN = Plugin(conf=StaticConf, add=add, delete=delete, check=check, status=status, gc=gc)
