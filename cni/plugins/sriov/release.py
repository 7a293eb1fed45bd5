"""The way back: a VF leaves the pod, and is what it was before, for its PF and on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cni import locks
from cni.device import rdma
from cni.device.moving import arrived
from cni.device.restore import restore
from cni.host import netns
from cni.host.links import Link, Links
from cni.host.netns import Netns
from cni.plugins.sriov import settings
from cni.plugins.sriov.claims import Claims, lock_of
from cni.plugins.sriov.record import SriovRecord
from cni.protocol.errors import CniError, all_of
from cni.protocol.notes import note


def release(record: SriovRecord, sandbox: Netns | None, environment: Mapping[str, str]) -> None:
    """Give back a VF, unless another attachment has it by now. The caller holds the VF's lock.

    It leaves the sandbox before the PF takes its VLAN away, so that a pod never sees another's.

    Raises:
        CniError: what could not be given back; the claim stays.
    """
    claims = Claims(environment)
    if not claims.is_held_by(record):
        note(record.attachment, f"VF {record.vf} is left alone: another attachment has it, or none had it")
        claims.tidy_up(record.vf)
        return
    with netns.own() as home, Links(home, "on the host") as host:
        _give_back(record, sandbox, host, environment)
    claims.drop(record.vf)


def release_locked(record: SriovRecord, sandbox: Netns | None, environment: Mapping[str, str]) -> None:
    """As `release`, for a caller who does not hold the lock."""
    with locks.held(lock_of(record.vf), environment):
        release(record, sandbox, environment)


def _give_back(
    record: SriovRecord, sandbox: Netns | None, host: Links, environment: Mapping[str, str]
) -> None:
    failures: list[CniError] = []
    link: Link | None = None

    def bring() -> None:
        nonlocal link
        link = arrived(record, sandbox, host) if record.device.name else None

    def is_what_add_moved(link: Link) -> bool:
        # One made anew at this address has the alias that ADD gave no more.
        return settings.is_same_vf(record) or record.device.is_marked(link)

    def tell() -> None:
        nonlocal link
        told = settings.give_back(record, host, environment)
        if told.guid and link:
            link = settings.restarted(record.bus_device, host)

    steps: list[Callable[[], None]] = [
        lambda: rdma.bring_home(record.rdma, sandbox) if record.rdma else None,
        bring,
        tell,
        lambda: restore(record, host, link) if link and is_what_add_moved(link) else None,
    ]
    for step in steps:
        try:
            step()
        except CniError as error:
            failures.append(error)
    if failures:
        raise all_of(failures)
