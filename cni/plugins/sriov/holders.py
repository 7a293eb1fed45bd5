"""Who has a VF already: a pod, one whose sandbox is gone, or nobody."""

from __future__ import annotations

from cni.attachment import is_alive
from cni.host.links import Links
from cni.plugins.sriov.claims import Claims, sriov_cni_holder
from cni.plugins.sriov.discovery import Vf
from cni.plugins.sriov.record import SriovRecord
from cni.plugins.sriov.release import release
from cni.plugins.sriov.settings import is_same_vf
from cni.protocol.errors import CniError, Code
from cni.protocol.notes import note
from cni.protocol.request import Request
from cni.state import Journal


def make_free(vf: Vf, request: Request, journal: Journal[SriovRecord], host: Links) -> SriovRecord | None:
    """See to it that nobody has a VF, and return the attachment that was the last to have this one.

    What that had found is what the VF is to be again, and is restored first. The caller holds the
    VF's lock.

    Raises:
        CniError: code 104, a pod has it; code 11, its interface is not back on the host yet.
    """
    record = left_by(vf, request, journal, host)
    if record is None:
        return None
    note(request.attachment, f"restores VF {vf.address}, which {record.attachment} left")
    release(record, None, request.environment)
    return record if is_same_vf(record) else None


def left_by(vf: Vf, request: Request, journal: Journal[SriovRecord], host: Links) -> SriovRecord | None:
    """Return the attachment that had a VF and is gone, None if there was none since its last DEL.

    Raises:
        CniError: code 104, a pod has it.
    """
    _refuse_sriov_cnis(vf)
    record = Claims(request.environment).holder(vf.address, journal)
    if record is None or (record.network, *record.key) == (request.network.name, *request.key):
        return None  # a second ADD of one attachment is refused by the journal
    # An interface on the host is in no pod, whatever the claim says.
    is_here = bool(record.device.name) and record.on_host(host.all()) is not None
    if is_alive(record) and not is_here:
        raise CniError(
            f"VF {vf.address} is in use",
            why=f"{record.attachment} has it since {record.created}.",
            fix="Detach it there first, or let the device plugin choose another VF.",
            code=Code.DEVICE_IN_USE,
        )
    return record


def _refuse_sriov_cnis(vf: Vf) -> None:
    path = sriov_cni_holder(vf.address)
    if path:
        raise CniError(
            f"VF {vf.address} is in use",
            why=f"sriov-cni gave it to the sandbox {path}, which is still there.",
            fix="Delete that pod first, or let the device plugin choose another VF.",
            code=Code.DEVICE_IN_USE,
        )
