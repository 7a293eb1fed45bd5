"""What host-device is told: one way or another, which device."""

from __future__ import annotations

from functools import cached_property

from pydantic import Field

from cni.attachment import AttachmentConf
from cni.protocol.config import AnyMac, Section, Text, parse_section
from cni.protocol.errors import InvalidConfig


class RuntimeConfig(Section):
    is_open = True
    device_id: Text = Field(default=None, alias="deviceID")


class HostDeviceConf(AttachmentConf):
    """At least one way to say which device; the first of those given counts, in this order."""

    device: Text = None  # name or alternative name
    hwaddr: AnyMac = None
    kernelpath: Text = None  # below /sys/devices/
    pci_bus_id: Text = Field(default=None, alias="pciBusID")

    @property
    def device_id(self) -> str | None:
        """The runtime's device, which comes before `pciBusID`."""
        runtime = parse_section(RuntimeConfig, self.runtime_config, "runtimeConfig", under="runtimeConfig")
        return runtime.device_id

    @cached_property
    def named(self) -> tuple[str, str]:
        """The key that says which device, and its value; both empty if none does."""
        ways = {
            "device": self.device,
            "hwaddr": self.hwaddr,
            "kernelpath": self.kernelpath,
            "runtimeConfig.deviceID": self.device_id,
            "pciBusID": self.pci_bus_id,
        }
        return next(((key, value) for key, value in ways.items() if value), ("", ""))

    def require_named(self) -> None:
        """Refuse a configuration that names no device.

        Raises:
            InvalidConfig: code 7.
        """
        if not self.named[0]:
            raise InvalidConfig(
                'specify either "device", "hwaddr", "kernelpath" or "pciBusID"',
                why="The configuration does not say which device to move, and runtimeConfig has no deviceID.",
                fix="Set one of these keys, or let a device plugin's resource give the deviceID.",
            )
