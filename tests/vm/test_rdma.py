"""RDMA devices: what the kernel tells of them and refuses, with soft-RoCE.

Soft-RoCE cannot be moved to another namespace, so that step itself ends in the kernel's refusal here; a
card whose driver can (mlx5) was not to be had.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni.host import netns
from cni.host.rdma import RdmaDevices
from cni.protocol.errors import CniError
from tests.support.devices import told, words_missing
from tests.support.sysfs_tree import SysfsTree
from tests.support.world import Namespace, World, run
from tests.vm.conftest import Machine
from tests.vm.functions import OTHER_NAME, OTHER_VF, vf

# An environment's own `rdma` is the plugin.
IPROUTES = shutil.which("rdma", path="/usr/sbin:/usr/bin:/sbin:/bin") or "/usr/sbin/rdma"


def load(*options: str) -> None:
    """Load the RDMA system anew, and make a soft-RoCE device."""
    unload()
    run("modprobe", "ib_core", *options)
    run("modprobe", "rdma_rxe")


def unload() -> None:
    run("modprobe", "-r", "rdma_rxe", "ib_uverbs", "rdma_ucm", "ib_core", check=False)


@pytest.fixture
def exclusive(host: Machine) -> Iterator[str]:
    """A soft-RoCE device on eth1, each device in one namespace; return its name."""
    load("netns_mode=0")
    host.sh(IPROUTES, "link", "add", "rxe0", "type", "rxe", "netdev", "eth1")
    yield "rxe0"
    host.sh(IPROUTES, "link", "del", "rxe0")
    unload()


def test_devices_are_listed_with_their_index(host: Machine, exclusive: str, peer: Namespace) -> None:
    index = int(host.sh(IPROUTES, "dev", "show", exclusive).partition(":")[0])
    with netns.opened(host.path) as own, RdmaDevices(own, "on the host") as devices:
        devices.require_exclusive()
        assert devices.all() == {exclusive: index}
    with netns.opened(peer.path) as other, RdmaDevices(other, "in the sandbox") as devices:
        assert devices.all() == {}


def test_device_that_cannot_be_moved_is_refused_with_the_reason(
    host: Machine, exclusive: str, peer: Namespace
) -> None:
    with (
        netns.opened(host.path) as own,
        netns.opened(peer.path) as into,
        RdmaDevices(own, "on the host") as devices,
    ):
        with pytest.raises(CniError) as error:
            devices.move(exclusive, devices.all()[exclusive], into)
        assert (error.value.code, "cannot be moved" in error.value.msg) == (7, True)
        assert exclusive in devices.all()


def test_shared_mode_is_refused_with_the_way_out(host: Machine) -> None:
    load("netns_mode=1")
    with (
        netns.opened(host.path) as own,
        RdmaDevices(own, "on the host") as devices,
        pytest.raises(CniError) as error,
    ):
        devices.require_exclusive()
    unload()
    assert error.value.code == 7
    assert "netns_mode=0" in error.value.details


@pytest.fixture
def tree(tmp_path: Path, exclusive: str) -> SysfsTree:
    """A /sys in which the soft-RoCE device is a VF's, as soft ones never are."""
    tree = SysfsTree(tmp_path / "sys")
    path = tree.add_pci(OTHER_VF, OTHER_NAME)
    (tree.root / path.removeprefix("/sys/") / "infiniband" / exclusive).mkdir(parents=True)
    return tree


def chained(world: World) -> dict[str, Any]:
    previous = {"cniVersion": "1.1.0", "interfaces": [{"name": "net1", "sandbox": world.sandbox.path}]}
    conf = {"cniVersion": "1.1.0", "name": "fabric", "type": "rdma", "deviceID": OTHER_VF}
    return conf | {"prevResult": previous}


@pytest.mark.parametrize("is_chained", [False, True], ids=["of-sriov", "chained"])
def test_failed_move_gives_all_back(world: World, tree: SysfsTree, is_chained: bool) -> None:
    before = told(world.host)
    conf = chained(world) if is_chained else vf(OTHER_VF, rdma=True)
    with tree.in_place_of_sys():
        error = world.refused("ADD", conf)
    assert error["code"] == 7
    assert words_missing(error, ["rxe0", "cannot be moved", "soft-RoCE"]) == []
    assert told(world.host) == before
    assert world.records() == []


def test_status_tells_the_mode(world: World, exclusive: str) -> None:
    conf = {"cniVersion": "1.1.0", "name": "fabric", "type": "rdma"}
    assert world.call("STATUS", conf).status == 0
    load("netns_mode=1")
    error = world.refused("STATUS", conf)
    load("netns_mode=0")
    world.host.sh(IPROUTES, "link", "add", "rxe0", "type", "rxe", "netdev", "eth1")
    assert (error["code"], "shared" in error["msg"]) == (50, True)
