"""What sriov remembers of an attachment: which VF it took, and what that is to be again."""

from __future__ import annotations

from dataclasses import replace

from cni.device.rdma import RdmaDevice
from cni.device.record import DeviceRecord
from cni.host.sysfs import BusDevice
from cni.host.vf import VfSettings

# A card tells zeros of a VF that never had a GUID, but takes none; ones mean the same and are taken.
_UNSET_GUID, _NO_GUID = ":".join(["00"] * 8), ":".join(["ff"] * 8)


class SriovRecord(DeviceRecord):
    """`device` has no name for a VF with a program's driver, which has no interface."""

    vf: str  # PCI address
    incarnation: int  # see Sysfs.incarnation; with the boot in `sandbox` it tells this VF from a later one
    wanted: VfSettings = VfSettings()  # what ADD asked the PF for
    original: VfSettings = VfSettings()  # what the PF held before
    rdma: RdmaDevice | None = None  # that goes with the VF

    @property
    def bus_device(self) -> BusDevice:
        return BusDevice("pci", self.vf)

    @property
    def left(self) -> VfSettings:
        """What the PF holds of the VF while the attachment lasts.

        An address that was not asked for is the VF's own affair: some cards tell the one that it uses.
        """
        return self.wanted.over(self.original.only(lambda name: name != "mac"))

    def owed(self, present: VfSettings, *, is_same: bool) -> VfSettings:
        """Return what the PF must be told to make the VF what it was.

        Of a VF that was made anew, in this boot or another, nothing is owed but what it still has from
        ADD: that tells a boot that never was from a real one.
        """
        asked = self.original.only(lambda name: name in self.wanted.names)
        if asked.guid == _UNSET_GUID:
            asked = replace(asked, guid=_NO_GUID)
        if not is_same:
            asked = asked.only(lambda name: getattr(present, name) == getattr(self.wanted, name))
        return asked.unlike(present)
