"""A sysfs of our own: real directories and links, laid out as the kernel lays out /sys.

It stands in for hardware that a test cannot have: the plugins get it in the place of /sys. What it says
of interfaces is as still as a picture: it does not follow them into another namespace.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.world import Answer, World, run


@dataclass(frozen=True)
class SysfsTree:
    """A tree below `root`; devices are added as a card that is plugged in would add them."""

    root: Path

    def add_pci(
        self, address: str, *interfaces: str, driver: str | None = "mlx5_core", virtio: str | None = None
    ) -> str:
        """Add a PCI device and return its path below /sys; `virtio` puts its interfaces one level down."""
        folder = self.root / "devices" / f"pci{address[:7]}" / address
        folder.mkdir(parents=True)
        _link(self.root / "bus/pci/devices" / address, folder)
        self.bind("pci", address, driver)
        self._add_interfaces(folder / virtio if virtio else folder, interfaces)
        return self._told(folder)

    def add_auxiliary(self, name: str, parent: str, *interfaces: str, driver: str = "mlx5_core.sf") -> str:
        """Add an auxiliary device of a PCI device, such as a subfunction, and return its path below /sys."""
        folder = (self.root / "bus/pci/devices" / parent).resolve() / name
        folder.mkdir()
        _link(self.root / "bus/auxiliary/devices" / name, folder)
        self.bind("auxiliary", name, driver)
        self._add_interfaces(folder, interfaces)
        return self._told(folder)

    def add_pf(self, address: str, *interfaces: str, driver: str | None = "igb", total: int = 8) -> str:
        """Add a card that can have VFs and has none yet, and return its path below /sys."""
        path = self.add_pci(address, *interfaces, driver=driver)
        self.write("pci", address, {"sriov_totalvfs": total, "sriov_numvfs": 0, "class": "0x020000"})
        return path

    def add_vf(
        self, pf: str, address: str, *interfaces: str, driver: str | None = "igbvf", index: int | None = None
    ) -> str:
        """Add the next VF of a card, or one of that index, and return its path below /sys."""
        path = self.add_pci(address, *interfaces, driver=driver)
        card, vf = self._folder("pci", pf), self._folder("pci", address)
        number = len(list(card.glob("virtfn*"))) if index is None else index
        _link(card / f"virtfn{number}", vf)
        _link(vf / "physfn", card)
        self.write("pci", pf, {"sriov_numvfs": number + 1})
        if driver == "igbvf" or interfaces:
            (vf / "net").mkdir(exist_ok=True)  # it stays, empty, while the interface is away
        return path

    def write(self, bus: str, address: str, files: Mapping[str, object], interface: str = "") -> None:
        """Write attributes of a device, or of one of its interfaces."""
        folder = self._folder(bus, address) / (f"net/{interface}" if interface else "")
        for name, value in files.items():
            (folder / name).write_text(f"{value}\n")

    def _folder(self, bus: str, address: str) -> Path:
        return (self.root / "bus" / bus / "devices" / address).resolve()

    def bind(self, bus: str, address: str, driver: str | None) -> None:
        """Bind a device to a driver, or to none."""
        link = self.root / "bus" / bus / "devices" / address / "driver"
        link.unlink(missing_ok=True)
        if driver:
            drivers = self.root / "bus" / bus / "drivers" / driver
            drivers.mkdir(parents=True, exist_ok=True)
            _link(link, drivers)

    def remove(self, bus: str, address: str) -> None:
        """Unplug a device; what is left is a tree without it."""
        (self.root / "bus" / bus / "devices" / address).unlink()

    @contextmanager
    def in_place_of_sys(self) -> Iterator[None]:
        """Mount the tree at /sys of this process, which has a mount namespace of its own."""
        run("mount", "--bind", self.root, "/sys")
        try:
            yield
        finally:
            run("umount", "/sys")

    def _add_interfaces(self, folder: Path, names: tuple[str, ...]) -> None:
        folder.mkdir(exist_ok=True)
        for name in names:
            interface = folder / "net" / name
            interface.mkdir(parents=True)
            _link(interface / "device", folder)
            _link(self.root / "class/net" / name, interface)

    def _told(self, folder: Path) -> str:
        return f"/sys/{folder.relative_to(self.root)}"


def _link(place: Path, target: Path) -> None:
    """Make a relative link, as all in sysfs are."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(os.path.relpath(target, place.parent))


class WorldOfThisSys(World):
    """As `World`, but executables see the /sys that this process sees.

    `ip netns exec`, by which `World` calls them, mounts the kernel's own there.
    """

    def call(
        self, command: str, conf: Mapping[str, Any] | bytes, plugin: str | None = None, **variables: str
    ) -> Answer:
        stdin = conf if isinstance(conf, bytes) else json.dumps(conf).encode()
        plugin = plugin or str(conf["type"])  # type: ignore[index]  # bytes come with a plugin
        done = subprocess.run(
            ["nsenter", f"--net={self.host.path}", self.bin / plugin],
            input=stdin,
            env=self.environment(command, **variables),
            capture_output=True,
            check=False,
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())
