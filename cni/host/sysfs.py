"""What sysfs tells of devices: driver, network interfaces, PFs and VFs, below a given root.

Source: the kernel's `Documentation/ABI/testing/sysfs-bus-pci` and `sysfs-class-net`. The listing of
interfaces is that of the network namespace in which sysfs was mounted.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from cni.protocol.errors import InvalidConfig

Bus = Literal["pci", "auxiliary"]

_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_MAX_PATH = 255  # bytes; no device lies deeper, and no part of a path may be longer
_AUXILIARY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,254}")
# Drivers that hand the device to a program; it has no network interface then.
_USERSPACE_DRIVER = re.compile(r"uio_pci_generic|igb_uio|(.*[_-])?vfio[_-]pci")
_VIRTFN = re.compile(r"virtfn(\d+)")
_UPLINK = re.compile(r"p\d+")  # a representor's name tells its VF too: "pf0vf3"
_NETWORK_CLASS = "0x02"


def is_pci_address(text: str) -> bool:
    """Tell whether a text is domain:bus:device.function in lower case, as in `0000:af:06.1`."""
    return bool(_PCI_ADDRESS.fullmatch(text))


@dataclass(frozen=True)
class BusDevice:
    """A device on a bus: `0000:af:06.1` on pci, `mlx5_core.sf.4` on auxiliary."""

    bus: Bus
    address: str


@dataclass(frozen=True)
class Port:
    """A network interface as its device's folder describes it, which is also a port of the card."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def number(self) -> int:
        """Which port of its function it is, from 0."""
        return int(self._told("dev_port") or 0)

    @cached_property
    def speed(self) -> int:
        """Mbit/s; 0 where the card does not tell, as while the link is down."""
        told = self._told("speed")
        return int(told) if told.isdigit() and int(told) < 2**31 else 0

    @cached_property
    def mtu(self) -> int:
        """Bytes; 0 where it is not told."""
        return int(self._told("mtu") or 0)

    @cached_property
    def hardware_type(self) -> int:
        """ARPHRD_…"""
        return int(self._told("type") or 0)

    @cached_property
    def is_switched(self) -> bool:
        """The card is in switchdev mode, where each VF has a representor beside the uplink."""
        return bool(self._told("phys_switch_id"))

    @cached_property
    def is_uplink(self) -> bool:
        return self.is_switched and bool(_UPLINK.fullmatch(self._told("phys_port_name")))

    def _told(self, name: str) -> str:
        try:
            return (self.folder / name).read_text().strip()
        except OSError:  # EOPNOTSUPP or EINVAL, where the driver has no answer
            return ""


@dataclass(frozen=True)
class Sysfs:
    """A sysfs tree; tests give another root."""

    root: Path = Path("/sys")

    def device(self, device_id: str) -> BusDevice | None:
        """Return the device of that ID on the PCI bus, or else on the auxiliary bus, or None."""
        pci_address = device_id.lower()
        if is_pci_address(pci_address) and self._folder(BusDevice("pci", pci_address)).exists():
            return BusDevice("pci", pci_address)
        if _AUXILIARY_NAME.fullmatch(device_id):
            found = BusDevice("auxiliary", device_id)
            return found if self._folder(found).exists() else None
        return None

    def driver(self, device: BusDevice) -> str | None:
        """Return the name of the driver that a device is bound to."""
        try:
            return (self._folder(device) / "driver").readlink().name
        except OSError:
            return None

    def is_userspace(self, device: BusDevice) -> bool:
        """Tell whether a program has the device: by its driver, or by what vfio shows of it."""
        driver = self.driver(device)
        if driver is None:
            return False
        return bool(_USERSPACE_DRIVER.fullmatch(driver)) or (self._folder(device) / "vfio-dev").is_dir()

    def interfaces(self, device: BusDevice) -> list[str]:
        """Return the names of a device's network interfaces; a virtio device has them one level down."""
        return self._interfaces_below(self._folder(device))

    def interfaces_at(self, kernel_path: str) -> list[str]:
        """Return the names of the interfaces of the device at `/sys/devices/…`.

        Raises:
            InvalidConfig: code 7, the path is not below /sys/devices.
        """
        parts = Path(kernel_path).parts
        is_below = parts[:3] == ("/", "sys", "devices") and ".." not in parts
        if not is_below or "\0" in kernel_path or len(os.fsencode(kernel_path)) > _MAX_PATH:
            raise InvalidConfig(
                f'kernelpath "{kernel_path}" is not below /sys/devices/',
                why="It must be the absolute path of a device, without `..`.",
                fix='Take it from "readlink -f /sys/class/net/<interface>/device".',
            )
        return self._interfaces_below(self.root.joinpath(*parts[2:]))

    def rebind(self, device: BusDevice) -> None:
        """Let a device's driver start anew; its interface goes, and comes again after a while.

        Raises:
            OSError: it has no driver, or the driver refused.
        """
        driver = (self._folder(device) / "driver").resolve(strict=True)
        (driver / "unbind").write_text(device.address)
        (driver / "bind").write_text(device.address)

    # -- SR-IOV ----------------------------------------------------------------------------------

    def pf(self, device: BusDevice) -> BusDevice | None:
        """Return the PF of a VF; None for what is no VF, or a VF that a guest got without its PF."""
        try:
            return BusDevice(device.bus, (self._folder(device) / "physfn").readlink().name)
        except OSError:
            return None

    def is_pf(self, device: BusDevice) -> bool:
        """Tell whether a device can have VFs of its own."""
        return (self._folder(device) / "sriov_totalvfs").exists() or bool(self.vfs(device))

    def vfs(self, pf: BusDevice) -> dict[int, str]:
        """Return the addresses of a PF's VFs by their index, which counts from 0."""
        found = {}
        for link in self._folder(pf).glob("virtfn*"):
            match = _VIRTFN.fullmatch(link.name)
            if match and link.is_symlink():
                found[int(match[1])] = link.readlink().name
        return dict(sorted(found.items()))

    def network_pfs(self) -> list[BusDevice]:
        """Return the network cards that can have VFs."""
        folders = sorted(path.parent for path in self._buses("pci").glob("*/sriov_totalvfs"))
        return [BusDevice("pci", folder.name) for folder in folders if _is_of_network(folder)]

    def ports(self, device: BusDevice) -> list[Port]:
        """Return a device's network interfaces, described."""
        listing = self._listing(self._folder(device))
        return [Port(folder) for folder in sorted(listing.iterdir())] if listing else []

    def has_interface_elsewhere(self, device: BusDevice) -> bool:
        """Tell whether a device has an interface that is in another namespace: an empty listing."""
        listing = self._listing(self._folder(device))
        return listing is not None and not any(listing.iterdir())

    def rdma_devices(self, device: BusDevice) -> list[str]:
        """Return the names of a device's RDMA devices, as far as they are in this namespace."""
        listing = self._folder(device) / "infiniband"
        return sorted(entry.name for entry in listing.iterdir()) if listing.is_dir() else []

    def incarnation(self, device: BusDevice) -> int:
        """Return a number that a device has until it is removed; one made anew has another.

        It is the folder's inode number, which the kernel gives to no other folder of this boot. 0 if
        there is no such device.
        """
        try:
            return self._folder(device).stat().st_ino
        except OSError:
            return 0

    def _buses(self, bus: Bus) -> Path:
        return self.root / "bus" / bus / "devices"

    def _folder(self, device: BusDevice) -> Path:
        return self._buses(device.bus) / device.address

    def _interfaces_below(self, folder: Path) -> list[str]:
        listing = self._listing(folder)
        return sorted(entry.name for entry in listing.iterdir()) if listing else []

    def _listing(self, folder: Path) -> Path | None:
        listings = (folder / "net", *sorted(folder.glob("virtio*/net")))
        return next((listing for listing in listings if listing.is_dir()), None)


def _is_of_network(folder: Path) -> bool:
    try:
        return (folder / "class").read_text().startswith(_NETWORK_CLASS)
    except OSError:
        return (folder / "net").is_dir()
