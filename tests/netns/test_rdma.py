"""The rdma plugin as far as it goes without an RDMA system: what it refuses, and that DEL is content.

What the kernel does with RDMA devices is tested in the machine with cards, see tests/vm.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.devices import told, words_missing
from tests.support.sysfs_tree import SysfsTree
from tests.support.world import Namespace, WarmWorld, World

VF = "0000:af:06.0"


@pytest.fixture
def world(host: Namespace, sandbox: Namespace, tmp_path: Any) -> World:
    return WarmWorld(host, sandbox, tmp_path / "state")


def chained(world: World, **keys: Any) -> dict[str, Any]:
    previous = {"cniVersion": "1.1.0", "interfaces": [{"name": "net1", "sandbox": world.sandbox.path}]}
    conf = {"cniVersion": "1.1.0", "name": "fabric", "type": "rdma", "deviceID": VF, "prevResult": previous}
    return conf | keys


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        pytest.param({"prevResult": None}, ["chained", "prevResult"], id="first-in-a-chain"),
        pytest.param({"deviceID": "0000:af:1f.0"}, ["0000:af:1f.0", "no device"], id="no-device"),
        pytest.param({"deviceID": None}, ["deviceID", "net1"], id="nothing-that-tells-the-device"),
    ],
)
def test_what_is_refused(world: World, keys: dict[str, Any], words: list[str]) -> None:
    error = world.refused("ADD", chained(world, **keys))
    assert error["code"] == 7
    assert words_missing(error, words) == []
    assert world.records() == []


def test_device_of_the_chains_interface_is_meant(world: World) -> None:
    previous = chained(world)["prevResult"]
    previous["interfaces"][0]["pciID"] = "0000:af:1f.1"
    error = world.refused("ADD", chained(world, deviceID=None, prevResult=previous))
    assert words_missing(error, ["0000:af:1f.1"]) == []


def test_function_with_two_rdma_devices_is_refused(world: World, tmp_path: Any) -> None:
    tree = SysfsTree(tmp_path / "sys")
    path = tree.add_pci(VF)
    for name in ("mlx5_4", "mlx5_5"):
        (tree.root / path.removeprefix("/sys/") / "infiniband" / name).mkdir(parents=True)
    with tree.in_place_of_sys():
        error = world.refused("ADD", chained(world))
    assert words_missing(error, [VF, "mlx5_4", "mlx5_5"]) == []


def test_delete_without_an_add_is_content_and_may_come_twice(world: World) -> None:
    before = told(world.host), told(world.sandbox)
    world.delete(chained(world))
    world.delete(chained(world), CNI_NETNS="")
    assert (told(world.host), told(world.sandbox)) == before
