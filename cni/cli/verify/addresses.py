"""Who holds which address: the records of whereabouts beside the entries of the pools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Self

from cni.cli.attached import AnyRecord, pod_of, sandbox_fault
from cni.cli.finding import Finding
from cni.cli.pools import Pool, pools
from cni.protocol.request import AttachmentKey
from cni.state import Journal


@dataclass(frozen=True)
class Held:
    """The records of addresses, and the pools that there are."""

    records: Mapping[AttachmentKey, AnyRecord]
    pools: tuple[Pool, ...]
    failures: tuple[Pool, ...]  # stores that do not answer

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        records = {record.key: record for record in Journal(AnyRecord, "whereabouts", environment).all()}
        told = pools(environment)
        known = tuple(each for each in told if not each.error)
        return cls(records, known, tuple(each for each in told if each.error))

    def of_attachment(self, key: AttachmentKey) -> list[tuple[str, str]]:
        """Return the addresses that pools have for an attachment, each with its pool's range."""
        return [
            (entry.address, pool.range)
            for pool in self.pools
            for entry in pool.allocations
            if entry.key == key
        ]

    def is_whole(self, record: AnyRecord) -> bool:
        """Tell whether the store of a record has answered."""
        place = (record.model_extra or {}).get("place") or {}
        return not any(place.get("path") == each.path for each in self.failures)

    def asked(self, key: AttachmentKey, address: str) -> bool:
        """Tell whether an address lies in a pool that an attachment has asked, and that has answered."""
        record = self.records.get(key)
        if record is None or not self.is_whole(record):
            return False
        ranges = [ip_network(pool["range"]) for pool in (record.model_extra or {}).get("pools") or ()]
        return any(ip_address(address) in range_ for range_ in ranges)


def check(held: Held) -> Iterator[Finding]:
    for failure in held.failures:
        yield Finding(
            "store",
            f"{failure.store} {failure.path}",
            f"its pools could not be read: {failure.error}",
            "Make it reachable, then look again; what is in it was not compared.",
        )
    yield from _missing(held)
    yield from _without_attachment(held)


def _missing(held: Held) -> Iterator[Finding]:
    """An attachment that asked pools and has no entry in any, while its sandbox lives."""
    for key, record in held.records.items():
        asked = (record.model_extra or {}).get("pools") or ()
        if asked and held.is_whole(record) and not held.of_attachment(key) and not sandbox_fault(record):
            yield Finding(
                "allocation-missing",
                f"{pod_of(record)} {record.ifname}",
                f"no pool has an entry of it, though it asked {', '.join(each['range'] for each in asked)}",
                "Recreate the pod before another one gets its address.",
            )


def _without_attachment(held: Held) -> Iterator[Finding]:
    """Entries in this node's own files whose attachment has no record."""
    for pool in held.pools:
        for entry in pool.allocations if pool.store != "kubernetes" else ():
            if entry.key in held.records:
                continue
            who = " ".join(filter(None, (entry.holder, entry.ifname)))
            yield Finding(
                "allocation-orphan",
                f"{entry.address} of {pool.range}",
                f"it is held by {who or 'an entry that cannot be read'}, of which there is no record",
                f"If that pod is gone, run: podrail ipam release {entry.address} --yes; "
                "addresses taken over from host-local have no record either.",
                "warning",
            )
