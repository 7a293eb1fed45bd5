"""What sysfs tells of devices, read from a tree that is laid out as the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni.host.sysfs import BusDevice, Sysfs
from cni.protocol.errors import InvalidConfig
from tests.support.sysfs_tree import SysfsTree

PF, VF, VIRTIO = "0000:af:00.0", "0000:af:00.1", "0000:00:03.0"


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    tree = SysfsTree(tmp_path)
    tree.add_pci(PF, "eth0")
    tree.add_pci(VF, driver="vfio-pci")
    tree.add_pci(VIRTIO, "eth1", driver="virtio-pci", virtio="virtio2")
    tree.add_auxiliary("mlx5_core.sf.4", PF, "eth4")
    return tree


@pytest.fixture
def sysfs(tree: SysfsTree) -> Sysfs:
    return Sysfs(tree.root)


@pytest.mark.parametrize(
    ("device_id", "found"),
    [
        pytest.param(PF, BusDevice("pci", PF), id="pci-address"),
        pytest.param(PF.upper(), BusDevice("pci", PF), id="pci-address-in-capitals"),
        pytest.param("mlx5_core.sf.4", BusDevice("auxiliary", "mlx5_core.sf.4"), id="auxiliary-name"),
        pytest.param("0000:af:00.7", None, id="pci-address-without-a-device"),
        pytest.param("af:00.0", None, id="pci-address-without-its-domain"),
        pytest.param("mlx5_core.sf.5", None, id="auxiliary-name-without-a-device"),
        pytest.param("MLX5_core.sf.4", None, id="auxiliary-name-in-capitals"),
        pytest.param("", None, id="empty"),
        pytest.param("..", None, id="parent-folder"),
        pytest.param(f"../devices/{PF}", None, id="path-to-a-device"),
        pytest.param(f"{PF}/net/eth0", None, id="path-below-a-device"),
        pytest.param(f"{PF}\n", None, id="line-end"),
        pytest.param(f"{PF}\0", None, id="nul"),
    ],
)
def test_device_is_known_by_its_whole_id(sysfs: Sysfs, device_id: str, found: BusDevice | None) -> None:
    assert sysfs.device(device_id) == found


def test_device_that_was_unplugged_is_known_no_more(tree: SysfsTree, sysfs: Sysfs) -> None:
    tree.remove("pci", PF)
    assert sysfs.device(PF) is None


@pytest.mark.parametrize(
    ("driver", "is_userspace"),
    [
        pytest.param("vfio-pci", True, id="vfio"),
        pytest.param("uio_pci_generic", True, id="uio"),
        pytest.param("igb_uio", True, id="uio-of-dpdk"),
        pytest.param("mlx5_vfio_pci", True, id="vfio-variant-of-a-vendor"),
        pytest.param("nvgrace_gpu_vfio_pci", True, id="vfio-variant-of-another-vendor"),
        pytest.param("mlx5_core", False, id="network-driver"),
        pytest.param("igb", False, id="network-driver-named-almost-alike"),
        pytest.param("vfio-pci-core", False, id="vfio-is-only-a-part-of-the-name"),
        pytest.param(None, False, id="no-driver"),
    ],
)
def test_driver_tells_whether_a_program_has_the_device(
    tree: SysfsTree, sysfs: Sysfs, driver: str | None, is_userspace: bool
) -> None:
    device = BusDevice("pci", VF)
    tree.bind("pci", VF, driver)
    assert (sysfs.driver(device), sysfs.is_userspace(device)) == (driver, is_userspace)


@pytest.mark.parametrize(
    ("device", "names"),
    [
        pytest.param(BusDevice("pci", PF), ["eth0"], id="of-a-pci-device"),
        pytest.param(BusDevice("auxiliary", "mlx5_core.sf.4"), ["eth4"], id="of-an-auxiliary-device"),
        pytest.param(BusDevice("pci", VIRTIO), ["eth1"], id="of-a-virtio-device-one-level-down"),
        pytest.param(BusDevice("pci", VF), [], id="of-a-device-without-any"),
        pytest.param(BusDevice("pci", "0000:af:00.7"), [], id="of-a-device-that-is-gone"),
    ],
)
def test_interfaces(sysfs: Sysfs, device: BusDevice, names: list[str]) -> None:
    assert sysfs.interfaces(device) == names


def test_interfaces_of_one_device_come_in_the_order_of_their_names(tree: SysfsTree, sysfs: Sysfs) -> None:
    tree.add_pci("0000:b0:00.0", "port1", "port0", "port2")
    assert sysfs.interfaces(BusDevice("pci", "0000:b0:00.0")) == ["port0", "port1", "port2"]


def test_interfaces_of_a_parent_are_not_those_of_its_auxiliary_devices(sysfs: Sysfs) -> None:
    assert "eth4" not in sysfs.interfaces(BusDevice("pci", PF))


def test_interfaces_at_a_path(tree: SysfsTree, sysfs: Sysfs) -> None:
    path = tree.add_pci("0000:b0:00.0", "eth7")
    assert path == "/sys/devices/pci0000:b0/0000:b0:00.0"
    assert sysfs.interfaces_at(path) == ["eth7"]
    assert sysfs.interfaces_at(f"{path}/") == ["eth7"]
    assert sysfs.interfaces_at(f"{path}/nothing") == []


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("devices/pci0000:af/0000:af:00.0", id="relative"),
        pytest.param("/sys/class/net/eth0/device", id="below-class"),
        pytest.param("/sys/devices/../bus/pci/devices/0000:af:00.0", id="with-a-step-up"),
        pytest.param("/sys/devices-of-mine/0000:af:00.0", id="beside-devices"),
        pytest.param("/etc", id="elsewhere"),
        pytest.param("/sys/devices/\0", id="with-a-nul"),
    ],
)
def test_path_that_is_not_below_devices_is_refused(sysfs: Sysfs, path: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        sysfs.interfaces_at(path)
    assert error.value.msg == f'kernelpath "{path}" is not below /sys/devices/'
    assert "readlink -f" in error.value.details
