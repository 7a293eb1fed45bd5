"""The RDMA device of a function goes to the sandbox with it, and comes home."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from cni.host import netns
from cni.host.netns import Netns
from cni.host.rdma import RdmaDevices
from cni.host.sysfs import Sysfs
from cni.protocol.errors import CniError, Code, InvalidConfig

SYSFS = Sysfs()


class RdmaDevice(BaseModel):
    """A device by its name, and by its index, which it keeps wherever it is."""

    model_config = ConfigDict(frozen=True)

    name: str
    index: int


def movable(address: str) -> RdmaDevice:
    """Return the one RDMA device of a PCI or auxiliary device, if the system can move it.

    Raises:
        InvalidConfig: code 7, there is none, there are several, or the system is in shared mode.
        CniError: code 11, it is in another namespace.
    """
    device = SYSFS.device(address)
    if device is None:
        raise InvalidConfig(
            f'deviceID "{address}" is no device of this host',
            why="It is not in /sys/bus/pci/devices nor in /sys/bus/auxiliary/devices.",
            fix='Give it as "0000:af:00.1" (lspci -D), or "mlx5_core.sf.4" for a subfunction.',
        )
    names = SYSFS.rdma_devices(device)
    if len(names) > 1:
        raise InvalidConfig(
            f"{address} has several RDMA devices: {', '.join(names)}",
            why="Only one can go with an interface.",
            fix="Use a function that has one.",
        )
    with netns.own() as home, RdmaDevices(home, "on the host") as host:
        host.require_exclusive()
        if not names:
            raise InvalidConfig(
                f"{address} has no RDMA device on the host",
                why="Its driver made none, or it is in another namespace.",
                fix='Load the card\'s RDMA driver, look which pod has it ("rdma" in ip netns exec), '
                'or leave out "rdma".',
            )
        index = host.all().get(names[0])
    if index is None:
        raise CniError(
            f'the RDMA device "{names[0]}" of {address} is not on the host',
            why="It was there a moment ago.",
            fix="Call again.",
            code=Code.TRY_AGAIN_LATER,
        )
    return RdmaDevice(name=names[0], index=index)


def move_in(device: RdmaDevice, sandbox: Netns) -> None:
    with netns.own() as home, RdmaDevices(home, "on the host") as host:
        host.move(device.name, device.index, sandbox)


def is_in(device: RdmaDevice, sandbox: Netns) -> bool:
    with RdmaDevices(sandbox, "in the sandbox") as inside:
        return device.index in inside.all().values()


def bring_home(device: RdmaDevice, sandbox: Netns | None) -> None:
    """Move a device out of the sandbox, if it is there; from a dead one the kernel has brought it home."""
    if sandbox is None:
        return
    with netns.own() as home, RdmaDevices(sandbox, "in the sandbox") as inside:
        for name, index in inside.all().items():
            if index == device.index:
                inside.move(name, index, home)
