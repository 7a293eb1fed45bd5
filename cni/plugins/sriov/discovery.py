"""Which VF a PCI address is: its PF, its index, its interface or the program's driver that it has.

By sysfs alone, so that nothing has been changed when an address is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from cni.host.link_messages import ARPHRD_INFINIBAND
from cni.host.sysfs import BusDevice, Port, Sysfs, is_pci_address
from cni.protocol.errors import CniError, Code, InvalidConfig

SYSFS = Sysfs()


@dataclass(frozen=True)
class Pf:
    """The card that a VF belongs to; `port` is the interface that sets its VFs."""

    device: BusDevice
    port: Port

    def __str__(self) -> str:
        return f'PF "{self.port.name}" ({self.device.address})'


@dataclass(frozen=True)
class Vf:
    """A VF as sysfs tells of it; `pf` is None in a guest that got the VF alone."""

    device: BusDevice
    pf: Pf | None
    index: int
    driver: str | None
    is_userspace: bool
    ports: tuple[Port, ...]  # its interfaces on the host

    @property
    def address(self) -> str:
        return self.device.address

    @property
    def is_infiniband(self) -> bool:
        """Its ports tell, or for a program's VF those of its PF."""
        ports = self.ports or ((self.pf.port,) if self.pf else ())
        return any(port.hardware_type == ARPHRD_INFINIBAND for port in ports)


class NoVf(InvalidConfig):
    """The address is that of something else, or of nothing."""


def identify(address: str, sysfs: Sysfs = SYSFS) -> Vf:
    """Return the VF with a PCI address, wherever its interface is.

    Raises:
        NoVf: code 7, with what it is instead.
    """
    if not is_pci_address(address):
        raise NoVf(
            f'deviceID "{address}" is not a PCI address',
            why="It needs domain, bus, device and function.",
            fix='Write it as "0000:af:06.1" (lspci -D).',
        )
    device = sysfs.device(address)
    if device is None:
        raise NoVf(
            f"deviceID {address} is no device of this host",
            why="It is not in /sys/bus/pci/devices; it may have gone with the other VFs of its PF.",
            fix="Correct the address, or make the VFs (sriov_numvfs) and restart the device plugin.",
        )
    pf_device = sysfs.pf(device)
    if pf_device is None and sysfs.is_pf(device):
        vfs = ", ".join(sysfs.vfs(device).values())
        raise NoVf(
            f"deviceID {address} is a PF, not a VF",
            why=f"Its VFs are {vfs}." if vfs else "It has no VFs now.",
            fix="Give the address of a VF; to move the whole card, use host-device.",
        )
    ports = tuple(sysfs.ports(device))
    pf, index = None, 0
    if pf_device:
        index = _index(device, pf_device, sysfs)
        pf = Pf(pf_device, _uplink(device, ports, pf_device, sysfs))
    return Vf(device, pf, index, sysfs.driver(device), sysfs.is_userspace(device), ports)


def check_attachable(vf: Vf, sysfs: Sysfs = SYSFS) -> None:
    """Refuse a VF that has neither an interface here nor a program's driver.

    Raises:
        CniError: code 7, or code 11 if its interface is in another namespace.
    """
    if vf.is_userspace or vf.ports:
        return
    if vf.driver is None:
        raise InvalidConfig(
            f"VF {vf.address} is bound to no driver",
            why="So it has no interface, and no program has it either.",
            fix="Bind it to its network driver, or to vfio-pci for a program.",
        )
    if sysfs.has_interface_elsewhere(vf.device):
        raise elsewhere(vf)
    raise InvalidConfig(
        f"VF {vf.address} has no network interface, and its driver {vf.driver} is none for programs",
        why="Drivers for programs are vfio-pci and its variants, uio_pci_generic and igb_uio.",
        fix="Bind it to its network driver, or to one of these.",
    )


def elsewhere(vf: Vf) -> CniError:
    return CniError(
        f"the interface of VF {vf.address} is in another network namespace",
        why=f"Its driver {vf.driver} gave it one, and no attachment of ours has it.",
        fix="Look which pod or namespace has it (lsns -t net); it comes back when that is gone.",
        code=Code.TRY_AGAIN_LATER,
    )


def require_vfs(sysfs: Sysfs = SYSFS) -> None:
    """Refuse a host on which no network card has VFs.

    Raises:
        CniError: code 7.
    """
    pfs = sysfs.network_pfs()
    if any(sysfs.vfs(pf) for pf in pfs):
        return
    raise InvalidConfig(
        "no network card of this host has VFs",
        why=f"Cards that could have some: {', '.join(pf.address for pf in pfs) or 'none'}.",
        fix='Make VFs ("sriov_numvfs"), or enable SR-IOV in the firmware first if there is no card.',
    )


def _index(vf: BusDevice, pf: BusDevice, sysfs: Sysfs) -> int:
    vfs = sysfs.vfs(pf)
    for index, address in vfs.items():
        if address == vf.address:
            return index
    raise NoVf(
        f"PF {pf.address} does not know the VF {vf.address}",
        why=f"Its VFs are {', '.join(vfs.values()) or 'none'}; they may be being made or removed just now.",
        fix="Call again when the card's VFs have been made, or correct the address.",
    )


def _uplink(vf: BusDevice, vf_ports: tuple[Port, ...], pf: BusDevice, sysfs: Sysfs) -> Port:
    """Return the interface of a PF that sets this VF.

    In switchdev mode its folder has the VFs' representors too; a function with two ports has an
    interface for each, and a VF belongs to the port of its own number.
    """
    ports = sysfs.ports(pf)
    if not ports:
        driver = sysfs.driver(pf)
        raise InvalidConfig(
            f"PF {pf.address} of VF {vf.address} has no network interface on the host",
            why=f"It is bound to the driver {driver}; its interface may be in another namespace."
            if driver
            else "It is bound to no driver.",
            fix="Bind the PF to its network driver, and leave its interface on the host.",
        )
    if len(ports) == 1:
        return ports[0]  # what else sysfs tells of a port takes the lock of all the kernel's network
    switched = [port for port in ports if port.is_switched]
    uplinks = [port for port in switched if port.is_uplink]
    candidates = uplinks or [port for port in ports if port not in switched] or ports
    number = vf_ports[0].number if vf_ports else 0
    fitting = [port for port in candidates if port.number == number]
    return (fitting or candidates)[0]
