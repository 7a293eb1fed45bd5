"""What only looks, on a machine with real cards: verify finds no drift, report shows cards and functions."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cni.cli.devices import devices
from cni.cli.report.main import main as report
from cni.cli.verify.main import main as verify
from tests.support.command import called
from tests.support.world import World
from tests.vm.conftest import Machine
from tests.vm.functions import CARD, EVERYTHING, OTHER_VF, PF, VF, make_vfs, until_made, vf


@pytest.fixture(autouse=True)
def fresh_functions(world: World, host: Machine) -> Iterator[None]:
    """Give the next test VFs that nobody has touched."""
    yield
    world.sandbox.delete()
    make_vfs(2)
    until_made(host, 2)


def test_cards_and_their_functions_are_found(world: World, host: Machine) -> None:
    cards = {card.address: card for card in devices().cards}
    card = cards[CARD]
    assert (card.name, card.driver, card.vendor) == (PF, "igb", "Intel")
    assert card.vfs == (VF, OTHER_VF)
    assert card.total_vfs == 7
    assert (cards[VF].pf, cards[VF].driver) == (CARD, "igbvf")


@pytest.mark.parametrize("driver", ["igbvf", "vfio-pci"])
def test_a_vf_as_add_left_it_is_no_drift_and_the_page_tells_whose_it_is(
    world: World, host: Machine, driver: str
) -> None:
    if driver != "igbvf":
        host.bind(VF, driver)
    world.add(vf(**EVERYTHING))
    done = called(world, verify, "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"findings": []})
    shown = called(world, report).stdout
    assert f"{PF}: 2 virtual functions, 1 in pods" in shown
    assert "<td>pod-1 net1</td>" in shown


def test_a_vf_that_lost_its_mac_is_drift(world: World, host: Machine) -> None:
    world.add(vf(mac="02:00:00:00:aa:01", trust="on"))
    world.sandbox.ip("link", "set", "net1", "address", "02:00:00:00:aa:09")
    done = called(world, verify, "--json")
    ((each),) = json.loads(done.stdout)["findings"]
    assert (done.returncode, each["check"]) == (1, "mac")
