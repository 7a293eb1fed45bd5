"""The pod's annotations: which networks it wants, in either of the two forms.

Source: the NPWG's multi-network specification 1.3, section 4.1; the original where it takes more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, Strict

from cni.plugins.multus.selection import Selection
from cni.protocol import gojson
from cni.protocol.addresses import Ip, parse_cidr, parse_ip, parse_mac
from cni.protocol.config import Section, Text, parse_section
from cni.protocol.errors import CniError, InvalidConfig
from cni.protocol.gojson import JsonObject
from cni.protocol.request import ifname_fault

NETWORKS = "k8s.v1.cni.cncf.io/networks"
DEFAULT_NETWORK = "v1.multus-cni.io/default-network"

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_GUID_OCTETS = 8


def of_pod(pod: JsonObject) -> JsonObject:
    """Return a pod's annotations as the API server has them."""
    found = pod["metadata"].get("annotations")
    return found if isinstance(found, dict) else {}


def networks(annotations: Mapping[str, Any], namespace: str) -> tuple[Selection, ...]:
    """Return the networks that a pod of `namespace` asks for.

    Raises:
        InvalidConfig: code 7, with the item that is wrong.
    """
    return _parsed(str(annotations.get(NETWORKS) or ""), f'annotation "{NETWORKS}"', namespace)


def default_network(annotations: Mapping[str, Any], namespace: str) -> Selection | None:
    """Return the network that a pod wants in the place of the default one; `namespace` is where it lives.

    Raises:
        InvalidConfig: code 7, it is wrong, or there is not exactly one.
    """
    text = str(annotations.get(DEFAULT_NETWORK) or "")
    if not text:
        return None
    found = _parsed(text, f'annotation "{DEFAULT_NETWORK}"', namespace)
    if len(found) != 1:
        raise InvalidConfig(
            f'annotation "{DEFAULT_NETWORK}" names {len(found)} networks',
            why=f"A pod has one default network. It is {text!r:.200}.",
            fix=f"Name one, and the others in {NETWORKS}.",
        )
    return found[0]


def _parsed(text: str, what: str, namespace: str) -> tuple[Selection, ...]:
    if not text:
        return ()
    if any(char in text for char in '[{"'):
        return _of_json(text, what, namespace)
    items = enumerate(text.split(","))
    return tuple(_of_text(item, f"item {number + 1} of {what}", namespace) for number, item in items)


# -- the short form ------------------------------------------------------------------------------


def _of_text(item: str, where: str, namespace: str) -> Selection:
    """Read `[namespace/]name[@interface]`."""
    before, _, rest = item.rpartition("/")
    name, _, interface = (part.strip() for part in rest.partition("@"))
    before = before.strip()
    if "/" in before or "@" in interface:
        raise _malformed(item, where, f'it has more than one "{"/" if "/" in before else "@"}"')
    if not name:
        raise _malformed(item, where, "it names no network")
    for part, kind in ((before, "namespace"), (name, "name")):
        if part and not _LABEL.fullmatch(part):
            raise _malformed(
                item, where, f'the {kind} "{part}" is not lower case letters, digits and "-" between them'
            )
    fault = ifname_fault(interface)
    if fault:
        raise _malformed(item, where, f'the interface "{interface}" is not valid because {fault}')
    return Selection(name, before or namespace, where, interface=interface)


def _malformed(item: str, where: str, reason: str) -> InvalidConfig:
    return InvalidConfig(
        f'{where} is not valid: "{item.strip()[:100]}"',
        why=f"{reason[0].upper()}{reason[1:]}.",
        fix="Write [namespace/]name[@interface], several separated by commas, or the JSON form.",
    )


# -- the JSON form -------------------------------------------------------------------------------


def _ip_or_cidr(text: Any) -> str:
    """Keep an address as it is written: plugins get it so."""
    _ = parse_cidr(text) if isinstance(text, str) and "/" in text else parse_ip(text)
    return str(text)


def _mac(text: Any) -> str:
    if text == "":
        return ""
    parse_mac(text)
    return str(text)


def _guid(text: Any) -> str:
    if text and len(parse_mac(text).split(":")) != _GUID_OCTETS:
        raise ValueError(f'"{text}" has not the {_GUID_OCTETS} bytes of a GUID')
    return _mac(text)


Address = Annotated[str, PlainValidator(_ip_or_cidr)]
Port = Annotated[int, Strict(), Field(ge=1, le=65535)]
Rate = Annotated[int, Strict(), Field(ge=0)]  # bits per second, or bits


class _PortMapping(Section):
    host_port: Port = Field(alias="hostPort")
    container_port: Port = Field(alias="containerPort")
    protocol: Text = None
    host_ip: Text = Field(default=None, alias="hostIP")


def _bursts_have_rates(bandwidth: _Bandwidth) -> _Bandwidth:
    for way, rate, burst in (
        ("ingress", bandwidth.ingress_rate, bandwidth.ingress_burst),
        ("egress", bandwidth.egress_rate, bandwidth.egress_burst),
    ):
        if burst and not rate:
            raise ValueError(f'"{way}Burst" needs "{way}Rate"')
    return bandwidth


class _Bandwidth(Section):
    ingress_rate: Rate = Field(default=0, alias="ingressRate")
    ingress_burst: Rate = Field(default=0, alias="ingressBurst")
    egress_rate: Rate = Field(default=0, alias="egressRate")
    egress_burst: Rate = Field(default=0, alias="egressBurst")


class _Item(Section):
    is_open = True
    name: str
    namespace: Text = None
    interface: Text = None
    interface_request: Text = Field(default=None, alias="interfaceRequest")
    ips: tuple[Address, ...] = ()
    mac: Annotated[str, PlainValidator(_mac)] = ""
    infiniband_guid: Annotated[str, PlainValidator(_guid)] = Field(default="", alias="infiniband-guid")
    port_mappings: tuple[_PortMapping, ...] = Field(default=(), alias="portMappings")
    bandwidth: Annotated[_Bandwidth | None, AfterValidator(lambda it: it and _bursts_have_rates(it))] = None
    default_route: tuple[Ip, ...] | None = Field(default=None, alias="default-route")
    cni_args: dict[str, Any] = Field(default={}, alias="cni-args")
    device_id: Text = Field(default=None, alias="deviceID")
    ipam_claim: Text = Field(default=None, alias="ipam-claim-reference")

    def selection(self, where: str, namespace: str) -> Selection:
        bandwidth = self.bandwidth.model_dump(by_alias=True) if self.bandwidth else {}
        mappings = [each.model_dump(by_alias=True, exclude_none=True) for each in self.port_mappings]
        return Selection(
            name=self.name,
            namespace=self.namespace or namespace,
            where=where,
            interface=self.interface or self.interface_request or "",
            ips=self.ips,
            mac=self.mac,
            infiniband_guid=self.infiniband_guid,
            port_mappings=tuple(mappings),
            bandwidth=bandwidth,
            default_route=None if self.default_route is None else tuple(map(str, self.default_route)),
            cni_args=self.cni_args,
            device_id=self.device_id or "",
        )


def _of_json(text: str, what: str, namespace: str) -> tuple[Selection, ...]:
    try:
        document = gojson.loads(text.encode("utf-8", "surrogatepass"), what)
    except CniError as error:
        raise InvalidConfig(
            f"{what} is not valid JSON", why=f"{error.why} It is {text!r:.200}.", fix="Correct it."
        ) from error
    if not isinstance(document, list):
        raise InvalidConfig(
            f"{what} is a JSON {gojson.type_name(document)}, not an array",
            why=f"It is {text!r:.200}.",
            fix='Write [{"name": "…"}, …].',
        )
    return tuple(
        _of_item(item, f"item {number + 1} of {what}", namespace) for number, item in enumerate(document)
    )


def _of_item(raw: Any, where: str, namespace: str) -> Selection:
    if not isinstance(raw, dict):
        raise InvalidConfig(
            f"{where} is a JSON {gojson.type_name(raw)}, not an object",
            why=f"It is {raw!r:.100}.",
            fix='Write {"name": "…"}.',
        )
    item = parse_section(_Item, raw, where)
    fault = ifname_fault(item.interface or item.interface_request or "")
    if not item.name:
        fault = "it names no network"
    elif item.ipam_claim and item.ips:
        fault = '"ips" and "ipam-claim-reference" exclude each other'
    if fault:
        raise InvalidConfig(
            f"{where} is not valid", why=f"{fault[0].upper()}{fault[1:]}.", fix="Correct the annotation."
        )
    return item.selection(where, namespace)
