"""Asked: what a call wants of whereabouts, from the configuration and what the caller adds (pure).

`runtimeConfig.ips` asks for addresses: one inside a range is claimed from its pool, in the place of the
lowest free one; any other is added as it is. CNI_ARGS' `IP` is added beside the pool's, as in Whereabouts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cni.protocol import versions
from cni.protocol.addresses import parse_cidr, parse_ip
from cni.protocol.errors import InvalidConfig
from cni.protocol.request import Request, listed, parse_cni_args
from cni.protocol.result import IpConfig
from ipam.config import WhereaboutsConf
from ipam.pool import Owner, PoolKey
from ipam.ranges import Ip, Range
from ipam.store import Wish

_CNI_ARGS = frozenset(
    {
        *("IP", "GATEWAY", "MAC"),
        *("K8S_POD_NAME", "K8S_POD_NAMESPACE", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID"),
    }
)


@dataclass(frozen=True)
class Asked:
    """A wish for each range, and the addresses that are added as they are, recorded nowhere."""

    owner: Owner
    wishes: tuple[Wish, ...]
    static: tuple[IpConfig, ...]

    @classmethod
    def of(cls, request: Request, conf: WhereaboutsConf) -> Asked:
        """Read a call.

        Raises:
            InvalidEnvironment: code 4, of CNI_ARGS.
            InvalidConfig: code 7.
        """
        args = parse_cni_args(request.variable("CNI_ARGS"), _CNI_ARGS)
        ranges = conf.ranges()
        requested = [(path, *_requested(path, text, ranges)) for path, text in _ips(conf)]
        wanted = _wanted(requested)
        wishes = _wishes(conf, ranges, wanted)
        added = [ip for _, index, ip in requested if index is None]
        asked = cls(owner_of(request), wishes, _static(conf, args, added))
        asked._check_is_something(conf)
        asked._check_version_can_express(request.network.version)
        return asked

    def _check_is_something(self, conf: WhereaboutsConf) -> None:
        if not self.wishes and not self.static:
            raise InvalidConfig(
                'the network configuration is not valid: "ipam.range" is missing',
                why="There is neither a range nor an address, so the pod would get none.",
                fix='Set "range", "ipRanges" or "addresses".',
            )

    def _check_version_can_express(self, version: str) -> None:
        if versions.shape(version) != "0.2.0":
            return
        families = [wish.pool.network.version for wish in self.wishes]
        families += [ip.address.version for ip in self.static]
        for family in (4, 6):
            if families.count(family) > 1:
                raise InvalidConfig(
                    f"CNI version {version} does not support more than 1 address per family",
                    why=f"Ranges and addresses would give {families.count(family)} of IPv{family}.",
                    fix='Set "cniVersion" to 0.3.1 or newer, or keep one.',
                )


def owner_of(request: Request) -> Owner:
    """Return whose call this is; CNI_ARGS that cannot be read name no pod."""
    podref = request.pod if "K8S_POD_NAME=" in request.variable("CNI_ARGS") else ""
    podref = "" if podref == request.container_id else podref
    return Owner(request.container_id, request.ifname, podref, request.network.name)


def _ips(conf: WhereaboutsConf) -> Iterable[tuple[str, str]]:
    for index, text in enumerate(conf.runtime_config.ips):
        yield f"runtimeConfig.ips[{index}]", text


def _requested(path: str, text: str, ranges: tuple[Range, ...]) -> tuple[int | None, Any]:
    """Return the range that an address lies in and the address, or none and the address with its prefix."""
    try:
        address = parse_cidr(text).ip if "/" in text else parse_ip(text)
        for index, range_ in enumerate(ranges):
            if address in range_.network:
                _check_can_be_given(address, range_)
                return index, address
        return None, parse_cidr(text)
    except ValueError as error:
        raise InvalidConfig(
            f'the network configuration is not valid: "{path}"',
            why=f"{path}: {error}.",
            fix="Ask for an address of a range, or for another with its prefix length.",
        ) from error


def _check_can_be_given(address: Ip, range_: Range) -> None:
    edges = (range_.network.network_address, range_.network.broadcast_address)
    if address in edges and range_.network.num_addresses > 2 and not range_.is_whole:
        raise ValueError(f"{address} is the first or last address of {range_.network} and kept back")


def _wanted(requested: list[tuple[str, int | None, Any]]) -> dict[int, Ip]:
    wanted: dict[int, Ip] = {}
    for path, index, address in requested:
        if index is not None and wanted.setdefault(index, address) != address:
            raise InvalidConfig(
                f'the network configuration is not valid: "{path}"',
                why=f"{path}: {wanted[index]} and {address} lie in the same range, which gives one address.",
                fix="Ask for one address of each range.",
            )
    return wanted


def _wishes(conf: WhereaboutsConf, ranges: tuple[Range, ...], wanted: dict[int, Ip]) -> tuple[Wish, ...]:
    keys = [PoolKey(range_.network, conf.ipam.network_name) for range_ in ranges]
    return tuple(
        Wish(
            key,
            range_,
            wanted.get(index),
            is_unique=conf.ipam.enable_overlapping_ranges,
            rest=conf.ipam.rest_time,
            count=keys.count(key),
        )
        for index, (key, range_) in enumerate(zip(keys, ranges, strict=True))
    )


def _static(conf: WhereaboutsConf, args: dict[str, str], added: list[Any]) -> tuple[IpConfig, ...]:
    """Return the addresses that are added as they are, each with the last gateway of its subnet."""
    gateways = listed(args, "GATEWAY", parse_ip)
    ips = [(each.address, each.gateway) for each in conf.ipam.addresses]
    ips += [(cidr, None) for cidr in (*listed(args, "IP", parse_cidr), *added)]
    return tuple(
        IpConfig(
            address=cidr, gateway=next((each for each in reversed(gateways) if each in cidr.network), gateway)
        )
        for cidr, gateway in ips
    )
