"""What host-device remembers of an attachment: its device, and by which keys it is known."""

from __future__ import annotations

from pathlib import Path

from cni.device.record import DeviceRecord
from cni.protocol import gojson


class HostDeviceRecord(DeviceRecord):
    def is_named(self, key: str, value: str) -> bool:
        """Tell whether the device is the one that a key of a configuration names."""
        device = self.device
        if key == "device":
            return value in (device.name, *device.altnames)
        if key == "hwaddr":
            return value in (device.mac, device.permanent_mac)
        if key == "kernelpath":
            last = Path(value).name
            return value == gojson.get(self.config, key) or last in (device.bus_address, device.parent)
        return value in (device.bus_address, device.parent) or value.lower() == device.bus_address
