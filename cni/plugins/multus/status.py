"""network-status: the annotation that tells a pod's users which interfaces and addresses it got.

Source: the NPWG's multi-network specification, section 5; the original for the form of the JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from cni.protocol.gojson import JsonObject
from cni.protocol.result import Interface, IpConfig, Result

# Go escapes what could end a script element.
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


@dataclass(frozen=True)
class Attached:
    """An attachment as its status tells it."""

    name: str
    ifname: str
    is_default: bool
    result: Result
    device_info: JsonObject | None = None


def annotation(attached: Sequence[Attached]) -> str:
    """Return the annotation's text: objects of four blanks' indent, joined by commas."""
    entries = [entry for each in attached for entry in entries_of(each)]
    texts = (json.dumps(entry, indent=4, ensure_ascii=False).translate(_ESCAPES) for entry in entries)
    return f"[{','.join(texts)}]"


def entries_of(attached: Attached) -> list[JsonObject]:
    """Return an attachment's entries: one for each interface in the sandbox, and one if there is none."""
    result = attached.result
    if len(result.interfaces) == 1:
        link = result.interfaces[0]
        shown = link if link.sandbox else Interface()
        return [_entry(attached, shown, result.ips, is_default=attached.is_default)]
    inside = [(index, link) for index, link in enumerate(result.interfaces) if link.sandbox]
    if not inside:
        nameless = Interface(name=attached.ifname)
        return [_entry(attached, nameless, result.ips, is_default=attached.is_default)]
    last = inside[-1][0]
    # An address that names no interface is shown on the last one.
    of_link = {
        index: tuple(ip for ip in result.ips if (last if ip.interface is None else ip.interface) == index)
        for index, _ in inside
    }
    leading = next((index for index, ips in of_link.items() if any(ip.gateway for ip in ips)), inside[0][0])
    return [
        _entry(attached, link, of_link[index], is_default=attached.is_default and index == leading)
        for index, link in inside
    ]


def _entry(attached: Attached, link: Interface, ips: Sequence[IpConfig], *, is_default: bool) -> JsonObject:
    told: JsonObject = {
        "interface": link.name,
        "ips": [str(ip.address.ip) for ip in ips],
        "mac": link.mac,
        "mtu": link.mtu,
        "default": is_default,
        "dns": attached.result.dns.to_json(),
        "device-info": attached.device_info,
        "gateway": _gateways(attached.result),
    }
    return {"name": attached.name} | {key: value for key, value in told.items() if value or key == "dns"}


def _gateways(result: Result) -> list[str]:
    """Return the next hops of the default routes; a route without one goes by its family's gateway."""
    defaults = (route for route in result.routes if not route.network.prefixlen)
    hops = (route.gw or result.gateway_of(route.dst.version) for route in defaults)
    return [str(hop) for hop in hops if hop]
