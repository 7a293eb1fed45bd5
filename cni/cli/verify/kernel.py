"""What the kernel has of each attachment: the interface that ADD gave, as ADD left it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from cni.cli.attached import INTERFACES, AnyRecord, pod_of, sandbox_fault
from cni.cli.finding import Finding
from cni.cli.verify.addresses import Held
from cni.cli.verify.answers import Answer, answers
from cni.host.links import Link, Links
from cni.host.netns import Netns, opened
from cni.protocol import gojson
from cni.protocol.errors import CniError
from cni.protocol.planning import Planning, plan
from cni.protocol.request import Request
from cni.state import Journal

_RECREATE = "Recreate the pod, or find out who changed it."
_DELETE = "Run: podrail reclaim --yes, or let the runtime call GC."


@dataclass(frozen=True)
class _Expected:
    """What an interface should have; None is not known."""

    mac: str | None
    mtu: int | None
    addresses: tuple[str, ...]


def check(environment: Mapping[str, str], host: Netns, held: Held, cache: Path) -> Iterator[Finding]:
    told = answers(environment, cache)
    with Links(host, "on the host") as links:
        for kind in INTERFACES:
            for record in Journal(AnyRecord, kind, environment).all():
                yield from _record(record, links, held, told.get(record.key))


def _record(record: AnyRecord, host: Links, held: Held, answer: Answer | None) -> Iterator[Finding]:
    about = f"{pod_of(record)} {record.ifname}"
    if gone := sandbox_fault(record):
        yield Finding("sandbox", about, f"{gone}, and what it holds was not given back", _DELETE)
        return
    device = _device(record)
    if device is not None and not device.get("name"):
        return  # a program has it, without an interface
    try:
        with opened(record.netns) as sandbox, Links(sandbox, "in the sandbox") as inside:
            expected = _expected(record, host, held, answer)
            yield from _interface(record, about, inside, expected, held)
    except (CniError, OSError) as error:
        yield Finding("sandbox", about, f"it could not be looked at: {error}", "Look as root, on the node.")


def _interface(
    record: AnyRecord, about: str, inside: Links, expected: _Expected, held: Held
) -> Iterator[Finding]:
    named, link = inside.find(record.ifname), _own_link(record, inside)
    if link is None:
        what = "is gone from its sandbox" if named is None else "is gone, and another has its name"
        yield Finding("interface", about, f'the interface "{record.ifname}" {what}', _RECREATE)
        return
    if link.name != record.ifname:
        yield Finding("interface-name", about, f'the interface is called "{link.name}" by now', _RECREATE)
    if expected.mac and link.mac != expected.mac.lower():
        yield Finding("mac", about, f"its MAC is {link.mac}, ADD left {expected.mac}", _RECREATE)
    if expected.mtu and link.mtu != expected.mtu:
        yield Finding("mtu", about, f"its MTU is {link.mtu}, it should be {expected.mtu}", _RECREATE)
    if not link.is_up:
        yield Finding("interface-down", about, "it is administratively down", _RECREATE)
    there = {str(each.cidr) for each in inside.addresses(link.index)}
    for address in expected.addresses:
        if address not in there:
            yield Finding("address", about, f"the address {address} is not on it", _RECREATE)
    own = {address for address, _ in held.of_attachment(record.key)}
    for cidr in sorted(there):
        address = str(ip_interface(cidr).ip)
        if address not in own and held.asked(record.key, address):
            yield Finding(
                "address-unrecorded",
                about,
                f"it has {address}, which its pool does not know as its own: another pod may get it",
                "Recreate the pod.",
            )


def _own_link(record: AnyRecord, inside: Links) -> Link | None:
    """Find the interface of a record under whatever name it has."""
    device = _device(record)
    kind = "macvlan" if device is None else str(device.get("kind") or "")
    index = (record.model_extra or {}).get("index")
    link = inside.by_index(index) if isinstance(index, int) else inside.find(record.ifname)
    return link if link and link.kind == kind else None


def _device(record: AnyRecord) -> dict[str, Any] | None:
    device = (record.model_extra or {}).get("device")
    return device if isinstance(device, dict) else None


def _expected(record: AnyRecord, host: Links, held: Held, answer: Answer | None) -> _Expected:
    """Return what was answered in the end; where that is not known, what the record tells."""
    if answer is None:
        addresses = _static(record)
        for address, range_ in held.of_attachment(record.key):
            addresses.append(f"{address}/{range_.partition('/')[2]}")
        return _Expected(_mac(record), _mtu(record, host), tuple(addresses))
    link = answer.interface(record.ifname)
    mac, mtu = (link.mac, link.mtu) if link else (None, None)
    if not answer.is_chain:  # else a plugin behind this one may have changed what it does not tell
        mac, mtu = mac or _mac(record), mtu or _mtu(record, host)
    return _Expected(mac, mtu, answer.addresses)


def _mac(record: AnyRecord) -> str | None:
    more = record.model_extra or {}
    device = _device(record)
    if device is not None:
        wanted = more.get("wanted")
        return str((wanted or {}).get("mac") or device.get("mac") or "") or None
    is_derived = gojson.get(record.config, "macFromAddress")
    return None if is_derived else str(more.get("mac") or "") or None


def _mtu(record: AnyRecord, host: Links) -> int | None:
    configured = gojson.get(record.config, "mtu")
    if isinstance(configured, int) and configured:
        return configured
    device = _device(record)
    if device is not None:
        return int(device.get("mtu") or 0) or None
    more = record.model_extra or {}
    master = None if more.get("in_container") else host.by_index(int(more.get("master_index") or 0))
    return master.mtu if master else None


def _static(record: AnyRecord) -> list[str]:
    """Return the addresses that `static` gave: its configuration and CNI_ARGS say them again."""
    if gojson.get(gojson.get(record.config, "ipam") or {}, "type") not in ("static", "podrail-static"):
        return []
    request = record.request(Request("DEL", {"CNI_PATH": "/"}, b""))
    try:
        made = plan("static", request, Planning())
    except CniError:
        return []
    return [str(ip.address) for ip in made.result.ips]
