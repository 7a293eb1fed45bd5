"""Range: which addresses a configuration allows (pure).

Nothing is materialised: bounds and exclusions are intervals of numbers, so a /8 costs what a /30 costs.
Bounds and exclusions mean what they mean to Whereabouts (its `pkg/iphelpers`); what is surely a mistake in
them is told in `warnings`, and harmless otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_network

from cni.protocol.addresses import IpNetwork, parse_cidr, parse_ip
from cni.protocol.errors import InvalidConfig

Ip = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Span = tuple[int, int]  # first and last address as numbers, both included


@dataclass(frozen=True)
class Range:
    """The addresses of a network that may be given out.

    `path` is where the configuration has it, such as `ipam.ipRanges[0]`; `exclude` is as written, since
    an entry that cannot be read must not keep a pod from the address that it holds already.
    """

    network: IpNetwork
    first: int
    last: int
    exclude: tuple[str, ...] = ()
    path: str = "ipam"
    idle_bounds: tuple[str, ...] = ()  # a warning for each
    kept_back: tuple[int, ...] = ()  # single addresses beside the exclusions, such as a gateway
    is_whole: bool = False  # the network's first and last address are no exception

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The intervals that may be given out, lowest first.

        Raises:
            InvalidConfig: an entry of `exclude` cannot be read.
        """
        spans, lowest = [], self.first
        for first, last in sorted(self._holes()):
            if first > lowest:
                spans.append((lowest, min(first - 1, self.last)))
            lowest = max(lowest, last + 1)
        return tuple(span for span in (*spans, (lowest, self.last)) if span[0] <= span[1])

    @property
    def size(self) -> int:
        """How many addresses may be given out."""
        return sum(last - first + 1 for first, last in self.spans)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is surely a mistake and harmless: bounds and exclusions that have no effect."""
        return (*self.idle_bounds, *self._idle_exclusions())

    def _idle_exclusions(self) -> Iterator[str]:
        for index, text in enumerate(self.exclude):
            with suppress(ValueError):  # told where it matters
                subnet = _subnet(text)
                if subnet.version != self.network.version or not subnet.overlaps(self.network):
                    yield (
                        f'"{self.path}.exclude[{index}]" is "{text}", which has nothing of {self.network}: '
                        "it is ignored"
                    )

    def interface(self, address: Ip) -> Interface:
        """Return an address with the prefix length of the network."""
        kind = IPv4Interface if address.version == 4 else IPv6Interface
        return kind((int(address), self.network.prefixlen))

    def address(self, number: int) -> Ip:
        return type(self.network.network_address)(number)

    def _holes(self) -> list[Span]:
        holes = [(number, number) for number in self.kept_back]
        for index, text in enumerate(self.exclude):
            try:
                subnet = _subnet(text)
            except ValueError as error:
                raise InvalidConfig(
                    f'the network configuration is not valid: "{self.path}.exclude[{index}]"',
                    why=f"{error}.",
                    fix='Write it as "10.0.0.0/30" or "10.0.0.1".',
                ) from error
            if subnet.version == self.network.version:
                holes.append((int(subnet.network_address), int(subnet.broadcast_address)))
        return holes


@lru_cache(maxsize=64)  # the pods of a node ask for the same few, call by call
def parse_range(
    text: str,
    *,
    start: str | None = None,
    end: str | None = None,
    exclude: tuple[str, ...] = (),
    path: str = "ipam",
    whole: bool = False,
) -> Range:
    """Read `10.0.0.0/24` or `10.0.0.5-10.0.0.20/24`, whose bounds override `start` and `end`.

    The first and the last address are kept back, of IPv6 networks too, save in networks of at most two
    addresses and where `whole` says otherwise. A bound that lies outside is as if it were not there.

    Raises:
        ValueError: with a sentence that shows `text`.
    """
    low, dash, high = text.partition("-")
    network = parse_cidr(_without_leading_zeros(high if dash else text)).network
    names = ("range_start", "range_end")
    if dash:
        start, end, names = low, high.partition("/")[0], ("range", "range")
        if _number(low, network) is None:
            raise ValueError(f'"{text}" begins at {low}, which is no address of {network}')
    first, last = int(network.network_address), int(network.broadcast_address)
    if last - first > 1 and not whole:
        first, last = first + 1, last - 1
    bounds = _Bounds(network, first, last, path)
    bounds.narrow_start(names[0], start)
    bounds.narrow_end(names[1], end)
    return Range(network, bounds.first, bounds.last, exclude, path, tuple(bounds.warnings), is_whole=whole)


class _Bounds:
    """First and last, as they are narrowed by what the configuration says."""

    def __init__(self, network: IpNetwork, first: int, last: int, path: str) -> None:
        self.network, self.first, self.last, self.path = network, first, last, path
        self.warnings: list[str] = []

    def narrow_start(self, name: str, text: str | None) -> None:
        number = self._within(name, text)
        self.first = self.first if number is None else number

    def narrow_end(self, name: str, text: str | None) -> None:
        number = self._within(name, text)
        self.last = self.last if number is None else number

    def _within(self, name: str, text: str | None) -> int | None:
        """Return a bound as a number, None if there is none or it lies outside."""
        if text is None:
            return None
        number = _number(text, self.network)
        if number is not None and self.first <= number <= self.last:
            return number
        address = type(self.network.network_address)
        self.warnings.append(
            f'"{self.path}.{name}" has the bound "{text}", which is not within {address(self.first)} to '
            f"{address(self.last)} (of {self.network}): it is ignored"
        )
        return None


def _subnet(text: str) -> IpNetwork:
    """Read an exclusion, a network or a single address."""
    if "/" in text:
        return parse_cidr(text).network
    address = parse_ip(text)
    return ip_network(address)


def _number(text: str, network: IpNetwork) -> int | None:
    try:
        address = parse_ip(_without_leading_zeros(text))
    except ValueError:
        return None
    return int(address) if address in network else None


def parse_ip_leniently(text: str) -> Ip:
    """Read an address whose IPv4 octets may have leading zeros, as Whereabouts does.

    Raises:
        ValueError: with a sentence that shows `text`.
    """
    return parse_ip(_without_leading_zeros(text))


def _without_leading_zeros(text: str) -> str:
    """Drop the zeros before the decimal digits of IPv4 octets."""
    host, slash, length = text.partition("/")
    if ":" in host:
        return text
    return ".".join(octet.lstrip("0") or octet[:1] for octet in host.split(".")) + slash + length


def parse_network(text: str) -> IpNetwork:
    """Read a network as pools record it; host bits are dropped."""
    return ip_network(text, strict=False)
