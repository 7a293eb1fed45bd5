"""Device-info files: what a pod's programs must know of a device to use it.

A device plugin writes one for each device; multus copies it for the attachment, offers the copy to the
plugins, which may write their own, and shows it in the network-status. Every failure here is only noted.

Source: the NPWG's device-info specification 1.1.0.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from cni import durable
from cni.plugins.multus.plan import Planned
from cni.plugins.multus.record import Called
from cni.protocol import gojson
from cni.protocol.errors import CniError
from cni.protocol.gojson import JsonObject
from cni.protocol.notes import note

_ROOT = Path("/var/run/k8s.cni.cncf.io/devinfo")
_MODE = 0o444  # pods mount the directory to read it


def path_for(planned: Planned, container_id: str) -> str:
    """Return where an attachment's file lies, empty for one without a device."""
    if not planned.device:
        return ""
    name = f"{planned.name}-{container_id}_{planned.ifname}".replace("/", "-")
    return str(_ROOT / "cni" / name)


def copy(planned: Planned, path: str) -> None:
    """Copy what the device plugin wrote; a file that is there already is left as it is."""
    if not planned.resource:
        return
    name = f"{planned.resource}-{planned.device}-device.json".replace("/", "-")
    try:
        content = durable.read(_ROOT / "dp" / name)
        if content is not None:
            # The directory is for pods to read, unlike those of our state.
            Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            with suppress(FileExistsError), open(path, "xb") as file:
                file.write(content)
                os.fchmod(file.fileno(), _MODE)
    except OSError as error:
        note(planned.name, f"the device's file {name} cannot be copied to {path}: {error.strerror}")


def read(called: Called) -> JsonObject | None:
    """Return what an attachment's file says, None if there is none."""
    if not called.device_info:
        return None
    try:
        content = durable.read(Path(called.device_info))
        return gojson.loads_object(content, called.device_info) if content else None
    except (CniError, OSError) as error:
        note(called.name, f"{called.device_info} cannot be read: {error}")
        return None


def remove(called: Called) -> None:
    if not Path(called.device_info).is_relative_to(_ROOT):
        return
    try:
        Path(called.device_info).unlink(missing_ok=True)
    except OSError as error:
        note(called.name, f"{called.device_info} cannot be removed: {error.strerror}")
