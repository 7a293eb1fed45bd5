"""What is remembered of a device: how to know it again, and what it gets back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Self

from pydantic import BaseModel, ConfigDict

from cni.host import sysctl
from cni.host.links import Address, Link, Links
from cni.host.routes import KeptRoute, routes_through
from cni.host.sysfs import Sysfs
from cni.state import Record

SYSFS = Sysfs()


class Device(BaseModel):
    """A device as ADD found it."""

    model_config = ConfigDict(frozen=True)

    bus_address: str = ""  # on the PCI or auxiliary bus, if the configuration gave that
    parent: str = ""  # the device below the interface, as the kernel calls it
    kind: str = ""  # "veth", …; empty for a physical device
    permanent_mac: str = ""
    index: int = 0  # on the host
    name: str = ""  # empty for a device with a userspace driver, which has no interface
    mac: str = ""
    mtu: int = 0  # bytes
    is_up: bool = False
    manners: tuple[int, int, int] | None = None  # Link.manners
    upper_index: int = 0  # of the bridge, bond, … that it was a port of
    upper_name: str = ""
    settings: dict[str, str] = {}  # sysctls that were not as a new interface has them
    alias: str = ""
    altnames: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[KeptRoute, ...] = ()

    @classmethod
    def of(cls, link: Link, host: Links, bus_address: str) -> Self:
        """Return what must be remembered of an interface before it is touched."""
        function = SYSFS.device(link.parent)
        is_vf = function is not None and SYSFS.pf(function) is not None
        upper = host.by_index(link.upper_index) if link.upper_index else None
        return cls(
            bus_address=bus_address,
            parent=link.parent,
            kind=link.kind,
            permanent_mac="" if is_vf else link.permanent_mac,
            index=link.index,
            name=link.name,
            mac=link.mac,
            mtu=link.mtu,
            is_up=link.is_up,
            manners=link.manners,
            upper_index=link.upper_index,
            upper_name=upper.name if upper else "",
            settings=sysctl.own_settings(link.name),
            alias=link.alias,
            altnames=link.altnames,
            addresses=tuple(
                # A label that is but the link's name is the kernel's, and follows the name.
                replace(address, label="") if address.label == link.name else address
                for address in host.addresses(link.index)
                if address.is_configured
            ),
            routes=routes_through(host, link),
        )

    @property
    def is_physical(self) -> bool:
        """It falls back to the host when its namespace goes; a virtual device goes with it."""
        return bool(self.name) and not self.kind

    def is_same_card(self, link: Link) -> bool:
        """Tell whether a link is this physical device, whatever its name and MAC are now.

        It is known by its place on the bus and its permanent MAC, since one function may have
        several ports. A VF has none that stays: igbvf makes the one that its PF sets the permanent one.
        """
        if not self.is_physical or link.kind:
            return False
        if self.permanent_mac and link.permanent_mac:
            return (self.parent, self.permanent_mac) == (link.parent, link.permanent_mac)
        if self.parent and link.parent:
            return self.parent == link.parent
        return self.mac == link.mac  # kernels before 5.6 tell no more

    def is_untouched(self, link: Link) -> bool:
        """Tell whether a link on the host is this device as it was before ADD moved it."""
        return (link.kind, link.index, link.mac) == (self.kind, self.index, self.mac)

    def is_marked(self, link: Link) -> bool:
        """Tell whether a link of this kind has the alias that ADD gave and DEL takes away last."""
        return bool(self.name) and (link.kind, link.alias) == (self.kind, self.name)


class DeviceRecord(Record):
    """Virtual devices have nothing but an index to know them by, and two may share a MAC or have none."""

    device: Device
    index: int | None = None  # in the sandbox; None if the device had not been moved yet

    def on_host(self, links: Iterable[Link]) -> Link | None:
        """Find the device on the host: untouched, fallen back, or not wholly restored."""
        ways = (self.device.is_same_card, self.device.is_untouched, self.device.is_marked)
        return next((link for link in links if any(is_it(link) for is_it in ways)), None)

    def in_sandbox(self, inside: Links) -> Link | None:
        """Find the device in the sandbox under whatever name and MAC it has there."""
        links = inside.all()
        card = next((link for link in links if self.device.is_same_card(link)), None)
        if card or self.index is None:
            return card or next((link for link in links if self.device.is_marked(link)), None)
        moved = (self.device.kind, self.index)
        return next((link for link in links if (link.kind, link.index) == moved), None)

    def is_in_sandbox_as(self, link: Link, inside: Links) -> bool:
        """Tell whether a link of the sandbox is this device."""
        found = self.in_sandbox(inside)
        return found is not None and found.index == link.index
