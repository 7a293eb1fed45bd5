"""Tests that need cards with a bus behind them: they run in the machine that tests/support/run-in-vm makes.

Only there: they take the network cards of the machine that they run on out of its namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from cni.host import netns
from cni.host.link_messages import RTNLGRP_LINK
from cni.host.links import Link, Links
from tests.support.world import Namespace, WarmWorld, World, run

_HERE = Path(__file__).parent
_COMMAND = (
    "tests/support/run-in-vm --timeout 1800 --share . --venv .venv "
    "--nics 2 --vfs 2 --iommu --module vfio-pci -- python3 -m pytest tests/vm"
)
_PCI = Path("/sys/bus/pci/devices")
# The first card's address, and the MAC that run-in-vm gives it; nobody sells cards with such a one.
_FIRST_CARD, _FIRST_MAC = "0000:01:00.0", "02:00:00:00:01:00"


def _is_the_machine() -> bool:
    macs = [file.read_text().strip() for file in _PCI.glob(f"{_FIRST_CARD}/net/*/address")]
    return macs == [_FIRST_MAC] and (_PCI / _FIRST_CARD / "driver").resolve().name == "igb"


IS_THE_MACHINE = _is_the_machine()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if IS_THE_MACHINE:
        return
    reason = f"needs cards that may be moved about: ./dev test --vm, which calls {_COMMAND}"
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


class Machine(Namespace):
    """The initial network namespace: the one to which the kernel gives cards back."""

    def __init__(self) -> None:
        self.name = "machine"
        run("ip", "netns", "attach", self.name, "1")

    def delete(self) -> None:
        """The machine goes with its last command."""

    def ip_all(self, *commands: str) -> None:
        """Run several commands of `ip` in one process: each start takes a tenth of a second there."""
        run("ip", "-n", self.name, "-batch", "-", stdin="\n".join(commands).encode())

    def bind(self, address: str, driver: str) -> None:
        """Give a PCI device another driver."""
        self.unbind(address)
        (_PCI / address / "driver_override").write_text(driver)
        Path("/sys/bus/pci/drivers_probe").write_text(address)
        assert (_PCI / address / "driver").resolve().name == driver

    def unbind(self, address: str) -> None:
        """Take its driver from a PCI device, and its interface with it, wherever that is."""
        driver = _PCI / address / "driver"
        if driver.exists():
            (driver / "unbind").write_text(address)

    def until(self, holds: Callable[[Sequence[Link]], bool]) -> None:
        """Wait until something holds for the links here, looking when the kernel says that one changed."""
        with (
            netns.opened(self.path) as own,
            Links(own, "here") as links,
            links.events(RTNLGRP_LINK) as events,
        ):
            while not holds(links.all()):
                assert events.events(10), "the kernel had nothing to say for ten seconds"

    def until_carrier(self, *names: str) -> None:
        """Wait until cards that were set up have found their wire, which takes them a second."""
        self.until(lambda links: all(link.has_carrier for link in links if link.name in names))

    def until_home(self, address: str) -> Link:
        """Wait until a PCI device has its interface here, and return that."""
        found: list[Link] = []

        def is_home(links: Sequence[Link]) -> bool:
            found[:] = [link for link in links if link.parent == address and not link.kind]
            return bool(found)

        self.until(is_home)
        return found[0]


class Cards:
    """The cards of the machine and their virtual functions, as they were at the beginning."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        with netns.opened(machine.path) as own, Links(own, "here") as links:
            self._links = {link.parent: link for link in links.all() if link.parent and not link.kind}
        self._drivers = {address: (_PCI / address / "driver").resolve().name for address in self._links}

    def settle(self) -> None:
        """Make all cards what they were, whatever a test did to them."""
        for address, driver in self._drivers.items():
            if (_PCI / address / "driver").resolve().name != driver:
                self._machine.bind(address, driver)
        found = [(self._machine.until_home(address), was) for address, was in self._links.items()]
        undressing = [command for link, _ in found for command in _undressing(link)]
        dressing = [command for link, was in found for command in _dressing(link, was)]
        self._machine.ip_all(*undressing, *dressing)  # all undressed first, for one may have another's name


def _undressing(link: Link) -> Iterator[str]:
    yield f"addr flush dev {link.name}"
    for altname in link.altnames:
        yield f"link property del dev {link.name} altname {altname}"
    yield f"link set {link.name} down nomaster alias '' name {_spare_name(link)}"


def _dressing(link: Link, was: Link) -> Iterator[str]:
    yield f"link set {_spare_name(link)} name {was.name}"
    yield f"link set {was.name} mtu {was.mtu} addrgenmode none"
    if link.mac != link.permanent_mac:
        yield f"link set {was.name} address {link.permanent_mac}"
    if was.is_up:
        yield f"link set {was.name} up"


def _spare_name(link: Link) -> str:
    return f"card{link.index}"


@pytest.fixture(scope="session")
def machine() -> Machine:
    machine = Machine()
    machine.without_link_local()  # what a test compares must not change by itself
    for name in machine.links():
        machine.ip_all(f"link set {name} addrgenmode none", f"addr flush dev {name} scope link")
    return machine


@pytest.fixture(scope="session")
def cards(machine: Machine) -> Cards:
    return Cards(machine)


@pytest.fixture
def host(machine: Machine) -> Machine:
    return machine


@pytest.fixture
def peer(peer: Namespace) -> Namespace:
    peer.without_link_local()
    return peer


@pytest.fixture
def world(machine: Machine, cards: Cards, sandbox: Namespace, tmp_path: Path) -> Iterator[World]:
    """The machine as the host, with its cards as they were; a sandbox."""
    sandbox.without_link_local()
    yield WarmWorld(machine, sandbox, tmp_path / "state")
    sandbox.delete()
    cards.settle()
