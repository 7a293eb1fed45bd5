"""sriov killed before any of its steps: the DEL that the runtime calls then, or GC, gives all back.

The plugin runs in a process that this one forks, and ends itself, from the interpreter's profile hook,
before the call that is meant: strace, which other crash tests use, is not in the machine.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import killed_before, steps
from tests.support.world import Namespace, World
from tests.vm.conftest import Machine
from tests.vm.functions import EVERYTHING, VF, picture, vf

CONF = vf(**EVERYTHING, mtu=1400)
_FEW = 6  # steps of a verb that are tried unless all are asked for


def tried(number: int, exhaustive: bool) -> list[int]:
    """The steps to be killed before: all, or some that are spread over the whole call."""
    return sorted(set(range(0, number, 1 if exhaustive else max(1, number // _FEW))))


def count(world: World) -> dict[str, int]:
    """How many steps each verb has, in the order in which they are called."""
    return {command: steps(lambda: world.call(command, CONF)) for command in ("ADD", "DEL")}  # noqa: B023


def killed(step: int, world: World, command: str) -> None:
    assert killed_before(step, lambda: world.call(command, CONF)) or step > 20


@pytest.fixture
def before(world: World) -> str:
    return picture(world.host)


def test_killed_add_is_given_back_by_delete(world: World, before: str, exhaustive: bool) -> None:
    for step in tried(count(world)["ADD"], exhaustive):
        killed(step, world, "ADD")
        world.delete(CONF)
        assert picture(world.host) == before, f"killed before step {step}"
        assert world.records() == [], f"killed before step {step}"


def test_killed_delete_is_finished_by_the_next(world: World, before: str, exhaustive: bool) -> None:
    for step in tried(count(world)["DEL"], exhaustive):
        world.add(CONF)
        killed(step, world, "DEL")
        world.delete(CONF)
        assert picture(world.host) == before, f"killed before step {step}"
        assert world.records() == [], f"killed before step {step}"


def test_killed_add_whose_sandbox_died_is_given_back_by_gc(
    world: World, host: Machine, before: str, exhaustive: bool
) -> None:
    network = {"cniVersion": "1.1.0", "name": "rail", "type": "sriov", "cni.dev/valid-attachments": []}
    for step in tried(count(world)["ADD"], exhaustive):
        killed(step, world, "ADD")
        world.sandbox.delete()
        host.until_home(VF)
        world.sandbox.create()
        assert world.call("GC", network).status == 0
        assert picture(host) == before, f"killed before step {step}"
        assert world.records() == [], f"killed before step {step}"


def test_killed_add_is_made_good_by_the_next_pods(
    world: World, host: Machine, peer: Namespace, before: str, exhaustive: bool
) -> None:
    """The sandbox died, no DEL came, and another pod gets the VF: it finds it as it was at first."""
    for step in tried(count(world)["ADD"], exhaustive):
        killed(step, world, "ADD")
        world.sandbox.delete()
        host.until_home(VF)
        world.sandbox.create()
        world.add(vf(), CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
        assert world.call("DEL", CONF).status == 0
        assert "net1" in peer.links(), f"killed before step {step}"
        world.delete(vf(), CNI_NETNS=peer.path, CNI_CONTAINERID="pod-2")
        assert picture(host) == before, f"killed before step {step}"
        assert world.records() == [], f"killed before step {step}"


def test_steps_are_those_that_change_something(world: World) -> None:
    """A hook that sees nothing would make every other test here pass."""
    counted = count(world)
    assert min(counted.values()) > 20
    assert Path(world.state).exists()
