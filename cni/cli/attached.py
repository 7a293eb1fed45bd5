"""What is attached on this node: by the journal, and as it is in the sandboxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import ConfigDict

from cni.host.links import Links
from cni.host.netns import opened_if_present
from cni.protocol.errors import CniError
from cni.protocol.request import Request
from cni.state import Journal, Record

INTERFACES = ("macvlan", "host-device", "sriov")  # the types whose records are an interface


class AnyRecord(Record):
    """A record with what its plugin adds, whatever that is."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)


@dataclass(frozen=True)
class Attachment:
    """One interface of one sandbox, as it was made and as it is."""

    pod: str  # namespace/name, or the container ID
    network: str
    ifname: str
    plugin: str
    device: str  # the master that it rides on, or the device's place on its bus or name
    addresses: tuple[str, ...]
    mac: str
    container_id: str
    created: str  # UTC, ISO 8601
    health: str  # ok, down, no carrier, interface gone, sandbox gone, sandbox is another's

    @property
    def is_well(self) -> bool:
        return self.health == "ok"


def attachments(environment: Mapping[str, str]) -> Iterator[Attachment]:
    """Yield the attachments of this node, in the order of their pods."""
    records = [each for kind in INTERFACES for each in Journal(AnyRecord, kind, environment).all()]
    for record in sorted(records, key=lambda each: (pod_of(each), each.ifname)):
        yield _looked_at(record)


def _looked_at(record: AnyRecord) -> Attachment:
    health, mac, addresses = _seen(record)
    more = record.model_extra or {}
    device = more.get("device") if isinstance(more.get("device"), dict) else {}
    names = ("parent", "name", "bus_address")
    place = next((device[name] for name in names if device.get(name)), "") if device else ""
    return Attachment(
        pod=pod_of(record),
        network=record.network,
        ifname=record.ifname,
        plugin=record.plugin,
        device=str(more.get("master") or place),
        addresses=addresses,
        mac=mac,
        container_id=record.container_id,
        created=record.created,
        health=health,
    )


def _seen(record: AnyRecord) -> tuple[str, str, tuple[str, ...]]:
    """Return health, MAC and addresses of an interface as they are in its sandbox."""
    try:
        with opened_if_present(record.netns) as sandbox:
            if sandbox is None:
                return "sandbox gone", "", ()
            if record.sandbox and sandbox.identity() != record.sandbox:
                return "sandbox is another's", "", ()
            with Links(sandbox, "in the sandbox") as links:
                link = links.find(record.ifname)
                if link is None:
                    return "interface gone", "", ()
                addresses = tuple(
                    str(each.cidr) for each in links.addresses(link.index) if not _is_local(each.cidr)
                )
                health = "ok" if link.has_carrier else "no carrier"
                return health if link.is_up else "down", link.mac, addresses
    except CniError as error:
        return error.msg, "", ()


def _is_local(cidr: object) -> bool:
    return bool(getattr(cidr, "is_link_local", False))


def pod_of(record: Record) -> str:
    return record.request(Request("", {}, b"")).pod


def sandbox_fault(record: Record) -> str:
    """Return why a record's sandbox is not there any more; empty if it is, or if that is not known."""
    try:
        with opened_if_present(record.netns) as sandbox:
            if sandbox is None:
                return f"its sandbox {record.netns} is gone" if record.netns else ""
            if record.sandbox and sandbox.identity() != record.sandbox:
                return f"{record.netns} is a later sandbox's"
    except (CniError, OSError):
        return ""
    return ""
