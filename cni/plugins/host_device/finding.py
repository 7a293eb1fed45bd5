"""Which device a configuration names: an interface of the host, or a device that has none."""

from __future__ import annotations

from dataclasses import dataclass

from cni.host.links import Link, Links
from cni.host.sysfs import BusDevice, Sysfs
from cni.plugins.host_device.config import HostDeviceConf
from cni.protocol.errors import CniError, Code, InvalidConfig
from cni.protocol.notes import note

SYSFS = Sysfs()

# Links that take the MAC of the one below or of a port: never what "hwaddr" means.
STACKED_KINDS = ("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "bond", "team", "bridge")


@dataclass(frozen=True)
class Found:
    """What a configuration names: an interface, or a device without one (userspace driver)."""

    link: Link | None
    bus_device: BusDevice | None = None


class DeviceNotFound(CniError):
    code = Code.INVALID_NETWORK_CONFIG


def find(conf: HostDeviceConf, host: Links) -> Found:
    """Find what a configuration names.

    Raises:
        DeviceNotFound: code 7.
    """
    key, value = conf.named
    if key == "device":
        link = host.find(value)
    elif key == "hwaddr":
        link = _by_mac(value, host)
    elif key == "kernelpath":
        link = _by_interfaces(SYSFS.interfaces_at(value), host)
    else:
        return _find_on_bus(key, value, host)
    if link is None:
        names = sorted(link.name for link in host.all() if not link.is_loopback)
        raise DeviceNotFound(
            f'no interface on the host is the {key} "{value}"',
            why=f"Interfaces present: {', '.join(names) or 'none'}.",
            fix=f'Correct "{key}", or look which pod or namespace has the interface.',
        )
    return Found(_movable(link))


def names_userspace_device(conf: HostDeviceConf) -> bool:
    """Tell whether a configuration names a device without an interface."""
    key, value = conf.named
    device = SYSFS.device(value) if key in ("pciBusID", "runtimeConfig.deviceID") else None
    return device is not None and SYSFS.is_userspace(device)


def _find_on_bus(key: str, value: str, host: Links) -> Found:
    device = SYSFS.device(value)
    if device is None or (key == "pciBusID" and device.bus != "pci"):
        raise _no_device(key, value)
    if SYSFS.is_userspace(device):
        return Found(None, device)
    link = _by_interfaces(SYSFS.interfaces(device), host)
    if link:
        return Found(_movable(link), device)
    driver = SYSFS.driver(device)
    raise DeviceNotFound(
        f'{key} "{value}" has no network interface on the host',
        why=f"It is bound to the driver {driver}." if driver else "It is bound to no driver.",
        fix="Look which pod or namespace has the interface."
        if driver
        else "Bind it to its network driver, or to vfio-pci for a userspace one.",
    )


def _no_device(key: str, value: str) -> DeviceNotFound:
    places, form = "/sys/bus/pci/devices", '"0000:af:00.1" (lspci -D)'
    if key != "pciBusID":
        places += " nor in /sys/bus/auxiliary/devices"
        form += ', or "mlx5_core.sf.4" for a subfunction'
    return DeviceNotFound(
        f'{key} "{value}" is no device of this host', why=f"It is not in {places}.", fix=f"Give it as {form}."
    )


def _movable(link: Link) -> Link:
    if link.is_loopback:
        raise InvalidConfig(
            f'"{link.name}" is the loopback interface, which cannot leave its namespace',
            fix="Name another device.",
        )
    return link


def _by_interfaces(names: list[str], host: Links) -> Link | None:
    present = [link for name in names if (link := host.find(name))]
    if len(present) > 1:
        others = ", ".join(link.name for link in present[1:])
        note("host-device", f"takes {present[0].name}; the device has {others} too")
    return present[0] if present else None


def _by_mac(mac: str, host: Links) -> Link | None:
    """Return the link with a MAC.

    Rather a plain one than one that rides on another, and of a bond's ports, which all have the same,
    the one whose own it is.
    """
    twins = (link for link in host.all() if link.mac == mac)
    return min(twins, key=lambda link: (link.kind in STACKED_KINDS, link.permanent_mac != mac), default=None)
