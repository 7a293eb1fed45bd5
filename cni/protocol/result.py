"""Result: what ADD gives, held in its newest form and converted from and to every version's.

Source: the CNI spec, "Success", and the Go library's `pkg/types/{020,040,100}` for conversions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, Strict

from cni.protocol import versions
from cni.protocol.addresses import Cidr, IpNetwork
from cni.protocol.config import Count, Dns, OptionalIp, Section, Text, parse_section
from cni.protocol.errors import CniError, Code, IncompatibleVersion, InvalidConfig

Number = Annotated[int, Strict(), Field(ge=0, le=2**32 - 1)]


class Interface(Section):
    """A link that an attachment made or moved; `sandbox` is empty for one on the host."""

    name: Text = None
    mac: Text = None
    mtu: Count = None  # bytes
    sandbox: Text = None
    socket_path: Text = Field(default=None, alias="socketPath")
    pci_id: Text = Field(default=None, alias="pciID")


class IpConfig(Section):
    """An address with its prefix length; `interface` counts the result's interfaces from 0."""

    interface: Annotated[int | None, Strict()] = None
    address: Cidr
    gateway: OptionalIp = None


class Route(Section):
    """A route as configured: `table` and `scope` may be 0, the other numbers vanish at 0."""

    dst: Cidr
    gw: OptionalIp = None
    mtu: Count = None  # bytes
    advmss: Count = None  # bytes
    priority: Count = None
    table: Number | None = None
    scope: Annotated[int | None, Strict(), Field(ge=0, le=255)] = None

    @property
    def network(self) -> IpNetwork:
        """The destination without host bits, as the kernel wants it."""
        return self.dst.network

    def to_json(self) -> dict[str, object]:
        fields = ("dst", "gw", "mtu", "advmss", "priority", "table", "scope")
        return {name: _plain(getattr(self, name)) for name in fields if getattr(self, name) is not None}


class Result(Section):
    """What ADD gives: interfaces, addresses, routes, DNS, in the spec's newest form."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[IpConfig, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: Dns = Dns()

    @classmethod
    def parse(cls, raw: Mapping[str, Any], assumed: str, what: str, *, under: str = "") -> Result:
        """Read a result of any version; one that does not tell its version has the `assumed` one.

        Raises:
            DecodingFailure: code 6, it is malformed; `under` begins the paths.
            IncompatibleVersion: code 1, a version that we do not speak.
        """
        version = parse_section(_Versioned, raw, what, under=under, code=Code.DECODING_FAILURE).version
        version = version or assumed
        if version not in versions.SUPPORTED:
            raise IncompatibleVersion(
                f'{what} has the unknown version "{version}"',
                why=f"Known are {', '.join(versions.SUPPORTED)}.",
                fix="Let the plugin that made it answer in the configuration's cniVersion.",
            )
        if versions.shape(version) == "0.2.0":
            return parse_section(_Result020, raw, what, under=under, code=Code.DECODING_FAILURE).upgraded()
        return parse_section(cls, raw, what, under=under, code=Code.DECODING_FAILURE)

    def render(self, version: str) -> dict[str, object]:
        """Return the JSON object of `version`.

        Raises:
            CniError: code 2, the versions 0.1.0 and 0.2.0 cannot express a result without address.
        """
        if versions.shape(version) == "0.2.0":
            return self._render_020(version)
        rendered: dict[str, object] = {"cniVersion": version}
        is_newest_shape = versions.shape(version) == "1.0.0"
        if self.interfaces:
            rendered["interfaces"] = [_interface_json(link, is_newest_shape) for link in self.interfaces]
        if self.ips:
            rendered["ips"] = [_ip_json(ip, is_newest_shape) for ip in self.ips]
        if self.routes:
            rendered["routes"] = [route.to_json() for route in self.routes]
        if self.dns.to_json() or not is_newest_shape:
            rendered["dns"] = self.dns.to_json()
        return rendered

    def told_in(self, version: str) -> Result:
        """Return what a reader makes of this result in a version, which may have no words for all of it.

        Raises:
            CniError: as `render`.
        """
        shape = versions.shape(version)
        if shape == "1.0.0":
            return self
        if shape == "0.2.0":
            return self._told_in_020(version)
        unknown = {"mtu": None, "socket_path": None, "pci_id": None}
        return self.model_copy(
            update={"interfaces": tuple(link.model_copy(update=unknown) for link in self.interfaces)}
        )

    def check_expressible(self, version: str) -> None:
        """Refuse, before anything is done, what `render` would have to refuse afterwards."""
        if versions.shape(version) == "0.2.0" and not self.ips:
            raise CniError(
                "cannot convert: no valid IP addresses",
                why=f"A result of version {version} cannot express an attachment without an address.",
                fix='Set "cniVersion" to 0.3.1 or newer, or configure "ipam".',
                code=Code.UNSUPPORTED_FIELD,
            )

    def _told_in_020(self, version: str) -> Result:
        """Return the first address of each family, and their families' routes."""
        self.check_expressible(version)
        of_families = [[ip for ip in self.ips if ip.address.version == family] for family in (4, 6)]
        firsts = [ips[0] for ips in of_families if ips]
        return Result(
            ips=tuple(IpConfig(address=ip.address, gateway=ip.gateway) for ip in firsts),
            routes=tuple(
                Route(dst=route.dst, gw=route.gw)
                for ip in firsts
                for route in self.routes
                if route.dst.version == ip.address.version
            ),
            dns=self.dns,
        )

    def _render_020(self, version: str) -> dict[str, object]:
        told = self._told_in_020(version)
        rendered: dict[str, object] = {"cniVersion": version}
        for ip in told.ips:
            block: dict[str, object] = {"ip": str(ip.address)}
            if ip.gateway:
                block["gateway"] = str(ip.gateway)
            routes = [r.to_json() for r in told.routes if r.dst.version == ip.address.version]
            if routes:
                block["routes"] = routes
            rendered[f"ip{ip.address.version}"] = block
        rendered["dns"] = told.dns.to_json()
        return rendered

    def merged_into(self, previous: Result | None) -> Result:
        """Return `previous` with this result added, as the spec wants of a chained plugin."""
        if previous is None:
            return self
        offset = len(previous.interfaces)
        moved = tuple(
            ip if ip.interface is None else ip.model_copy(update={"interface": ip.interface + offset})
            for ip in self.ips
        )
        return Result(
            interfaces=previous.interfaces + self.interfaces,
            ips=previous.ips + moved,
            routes=previous.routes + self.routes,
            dns=self.dns if self.dns.to_json() else previous.dns,
        )

    def interface_index(self, name: str, sandbox: str) -> int | None:
        """Return the place of the sandbox's interface `name` among the interfaces."""
        for index, link in enumerate(self.interfaces):
            if (link.name, link.sandbox) == (name, sandbox):
                return index
        return None

    def ips_on(self, index: int) -> tuple[IpConfig, ...]:
        """Return the addresses on an interface, those that name no interface included."""
        return tuple(ip for ip in self.ips if ip.interface in (None, index))

    def gateway_of(self, family: int) -> Any:
        """Return the first gateway of an address family, 4 or 6, or None."""
        return next((ip.gateway for ip in self.ips if ip.gateway and ip.gateway.version == family), None)


class _Versioned(Section):
    is_open = True
    version: Text = Field(default=None, alias="cniVersion")


class _Route020(Section):
    dst: Cidr
    gw: OptionalIp = None


class _Block020(Section):
    ip: Cidr
    gateway: OptionalIp = None
    routes: tuple[_Route020, ...] = ()


class _Result020(Section):
    """A result of version 0.1.0 or 0.2.0: at most one address of each family."""

    ip4: _Block020 | None = None
    ip6: _Block020 | None = None
    dns: Dns = Dns()

    def upgraded(self) -> Result:
        blocks = [block for block in (self.ip4, self.ip6) if block]
        return Result(
            ips=tuple(IpConfig(address=block.ip, gateway=block.gateway) for block in blocks),
            routes=tuple(Route(dst=route.dst, gw=route.gw) for block in blocks for route in block.routes),
            dns=self.dns,
        )


def prev_result(raw: Mapping[str, Any] | None, version: str) -> Result | None:
    """Return a configuration's prevResult, which must have the shape of the configuration's version.

    Raises:
        CniError: code 7, it is malformed or of another shape.
    """
    if raw is None:
        return None
    try:
        told = parse_section(_Versioned, raw, "prevResult", under="prevResult").version or version
        result = Result.parse(raw, version, "prevResult", under="prevResult")
    except CniError as error:
        error.code = Code.INVALID_NETWORK_CONFIG
        raise
    if versions.shape(told) != versions.shape(version):
        raise CniError(
            f'prevResult has version "{told}" under a configuration of version "{version}"',
            why=f"Their results have different shapes ({versions.shape(told)}, {versions.shape(version)}).",
            fix="Let the runtime convert prevResult, or give the whole list one cniVersion.",
            code=Code.INVALID_NETWORK_CONFIG,
        )
    _check_indices(result)
    return result


def _check_indices(result: Result) -> None:
    """Refuse an address on an interface that is none: merged with ours it might become ours."""
    for number, ip in enumerate(result.ips):
        if ip.interface is not None and ip.interface not in range(len(result.interfaces)):
            raise InvalidConfig(
                f"prevResult.ips[{number}].interface is {ip.interface}, which is no interface of it",
                why=f"prevResult has {len(result.interfaces)} interfaces, counted from 0.",
                fix="Correct the plugin that gave this result; it comes before this one in the list.",
            )


def required_prev_result(raw: Mapping[str, Any] | None, version: str, subject: str) -> Result:
    """Return CHECK's prevResult, which it compares with `subject`.

    Raises:
        CniError: code 7, it is missing, malformed or of another shape.
    """
    result = prev_result(raw, version)
    if result is None:
        raise InvalidConfig(
            "required prevResult missing",
            why=f"CHECK compares the {subject} with what ADD answered.",
            fix='Let the runtime pass the result of ADD as "prevResult".',
        )
    return result


def _interface_json(link: Interface, is_newest_shape: bool) -> dict[str, object]:
    fields: dict[str, object] = {"name": link.name or "", "mac": link.mac, "sandbox": link.sandbox}
    if is_newest_shape:
        fields |= {"mtu": link.mtu, "socketPath": link.socket_path, "pciID": link.pci_id}
    return {name: value for name, value in fields.items() if value is not None}


def _ip_json(ip: IpConfig, is_newest_shape: bool) -> dict[str, object]:
    fields: dict[str, object] = {} if is_newest_shape else {"version": str(ip.address.version)}
    if ip.interface is not None:
        fields["interface"] = ip.interface
    fields["address"] = str(ip.address)
    if ip.gateway:
        fields["gateway"] = str(ip.gateway)
    return fields


def _plain(value: object) -> object:
    return value if isinstance(value, int) else str(value)
