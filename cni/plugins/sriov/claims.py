"""Who has a VF: a claim by PCI address, which counts while its attachment is in the journal.

Whoever takes a VF over has the claim from then on, so a late DEL of an earlier owner touches nothing.
Claims are read and written under the VF's lock. sriov-cni's claim files are heeded too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cni import durable, locks
from cni.host.netns import opened_if_present
from cni.plugins.sriov.record import SriovRecord
from cni.protocol.errors import CniError
from cni.state import Journal

SRIOV_CNI_CLAIMS = Path("/var/lib/cni/sriov/pci")


@dataclass(frozen=True)
class Claim:
    """Which attachment has the VF, in which sandbox."""

    network: str
    container_id: str
    ifname: str
    sandbox: str

    @classmethod
    def of(cls, record: SriovRecord) -> Claim:
        return cls(record.network, record.container_id, record.ifname, record.sandbox)


class Claims:
    """The claims of this host."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._state = durable.state_directory(environment)
        self._root = self._state / "claims" / "sriov"

    def holder(self, vf: str, journal: Journal[SriovRecord]) -> SriovRecord | None:
        """Return the attachment that has a VF; its sandbox may be gone."""
        claim = self._read(vf)
        record = journal.find(claim.network, claim.container_id, claim.ifname) if claim else None
        return record if record and Claim.of(record) == claim and record.vf == vf else None

    def is_held_by(self, record: SriovRecord) -> bool:
        return self._read(record.vf) == Claim.of(record)

    def take(self, record: SriovRecord) -> None:
        data = json.dumps(asdict(Claim.of(record)), indent=2).encode() + b"\n"
        durable.replace(self._path(record.vf), data, self._state)

    def drop(self, vf: str) -> None:
        """Remove a claim, and what a killed writer left of one."""
        durable.remove(self._path(vf), self._state)

    def tidy_up(self, vf: str) -> None:
        """Remove what a killed writer left of a claim that is none yet."""
        if self._read(vf) is None:
            self.drop(vf)

    def tidy(self, journal: Journal[SriovRecord]) -> None:
        """Remove claims whose attachment is in the journal no more, as a killed DEL leaves them."""
        for vf in self.claimed():
            if self.holder(vf, journal) is None:
                self.drop(vf)

    def claimed(self) -> list[str]:
        """Return the VFs that have a claim, whatever it says."""
        return [path.name for path in durable.listed(self._root, "[!.]*")]

    def told(self, vf: str) -> str:
        """Say in words whose claim it is."""
        claim = self._read(vf)
        return f"{claim.ifname} of container {claim.container_id}" if claim else "an unreadable entry"

    def _read(self, vf: str) -> Claim | None:
        data = durable.read(self._path(vf))
        try:
            return Claim(**json.loads(data)) if data else None
        except (ValueError, TypeError):
            return None  # nothing that we wrote

    def _path(self, vf: str) -> Path:
        return self._root / vf


def repaired(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Remove claims whose holder is gone; yield each with why that was safe.

    One whose VF somebody is at work on is left to them.
    """
    claims, journal = Claims(environment), Journal(SriovRecord, "sriov", environment)
    for vf in claims.claimed():
        with suppress(CniError), locks.held(lock_of(vf), environment, seconds=0):
            if claims.holder(vf, journal) is None:
                told = claims.told(vf)
                claims.drop(vf)
                yield f"VF {vf}, claimed by {told}", "the journal has no such attachment with this VF"


def lock_of(vf: str) -> str:
    """Return the name of the lock under which a VF is given, taken and claimed."""
    return f"vf-{vf}"


def is_sriov_cni_dead(vf: str) -> bool:
    """Tell whether sriov-cni claimed a VF for a sandbox that is gone."""
    return (SRIOV_CNI_CLAIMS / vf).is_file() and sriov_cni_holder(vf) is None


def sriov_cni_holder(vf: str) -> str | None:
    """Return the sandbox for which sriov-cni claimed a VF, if there is a namespace at that path still."""
    data = durable.read(SRIOV_CNI_CLAIMS / vf)
    path = data.decode("utf-8", "replace").strip() if data else ""
    with opened_if_present(path) as netns:
        return path if netns else None
