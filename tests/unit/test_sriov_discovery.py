"""Which VF an address is, found in a tree that is laid out as the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni.host.sysfs import Sysfs
from cni.plugins.sriov.discovery import check_attachable, identify
from cni.protocol.errors import CniError
from tests.support.sysfs_tree import SysfsTree

PF, VFS = "0000:af:00.0", ("0000:af:06.0", "0000:af:06.1", "0000:af:06.2")
NIC, GUEST_VF = "0000:00:03.0", "0000:00:04.0"


@pytest.fixture
def tree(tmp_path: Path) -> SysfsTree:
    tree = SysfsTree(tmp_path)
    tree.add_pf(PF, "ens1")
    tree.add_vf(PF, VFS[0], "ens1v0")
    tree.add_vf(PF, VFS[1], driver="vfio-pci")
    return tree


@pytest.fixture
def sysfs(tree: SysfsTree) -> Sysfs:
    return Sysfs(tree.root)


def test_vf_is_told_with_its_card_index_and_interface(sysfs: Sysfs) -> None:
    vf = identify(VFS[0], sysfs)
    assert vf.pf is not None
    assert (vf.pf.device.address, vf.pf.port.name, vf.index) == (PF, "ens1", 0)
    assert ([port.name for port in vf.ports], vf.driver, vf.is_userspace) == (["ens1v0"], "igbvf", False)
    check_attachable(vf, sysfs)


def test_vf_of_a_program_has_no_interface(sysfs: Sysfs) -> None:
    vf = identify(VFS[1], sysfs)
    assert (vf.index, vf.ports, vf.is_userspace) == (1, (), True)
    check_attachable(vf, sysfs)


def test_index_is_the_number_of_the_cards_link_and_not_the_place_in_the_list(
    tree: SysfsTree, sysfs: Sysfs
) -> None:
    tree.add_pf("0000:b0:00.0", "ens2", total=64)
    for index in (10, 2, 63):
        tree.add_vf("0000:b0:00.0", f"0000:b0:{1 + index // 8:02x}.{index % 8}", f"v{index}", index=index)
    assert identify("0000:b0:08.7", sysfs).index == 63
    assert identify("0000:b0:01.2", sysfs).index == 2


def test_vf_that_a_guest_got_without_its_card_is_a_plain_device(tree: SysfsTree, sysfs: Sysfs) -> None:
    tree.add_pci(GUEST_VF, "eth1", driver="iavf")
    vf = identify(GUEST_VF, sysfs)
    assert (vf.pf, [port.name for port in vf.ports]) == (None, ["eth1"])
    check_attachable(vf, sysfs)


@pytest.mark.parametrize(
    "driver",
    [
        pytest.param("vfio-pci", id="vfio"),
        pytest.param("mlx5_vfio_pci", id="vfio-of-mellanox"),
        pytest.param("ice_vfio_pci", id="vfio-of-intel"),
        pytest.param("virtio_vfio_pci", id="vfio-of-virtio"),
        pytest.param("pds_vfio_pci", id="vfio-of-amd"),
        pytest.param("hisi_acc_vfio_pci", id="vfio-of-hisilicon"),
        pytest.param("uio_pci_generic", id="uio"),
        pytest.param("igb_uio", id="uio-of-dpdk"),
    ],
)
def test_drivers_for_programs(tree: SysfsTree, sysfs: Sysfs, driver: str) -> None:
    tree.add_vf(PF, VFS[2], driver=driver)
    assert identify(VFS[2], sysfs).is_userspace


def test_driver_of_an_unknown_name_that_shows_a_vfio_device_is_one_for_programs(
    tree: SysfsTree, sysfs: Sysfs
) -> None:
    path = tree.add_vf(PF, VFS[2], driver="acme_accelerator")
    assert not identify(VFS[2], sysfs).is_userspace
    (tree.root / path.removeprefix("/sys/") / "vfio-dev" / "vfio0").mkdir(parents=True)
    assert identify(VFS[2], sysfs).is_userspace


# -- which interface of the card -----------------------------------------------------------------


def test_uplink_is_told_from_representors(tree: SysfsTree, sysfs: Sysfs) -> None:
    tree.add_pf("0000:b0:00.0", "ens2", "ens0r0", "ens0r1")
    for name, port in {"ens2": "p0", "ens0r0": "pf0vf0", "ens0r1": "pf0vf1"}.items():
        tree.write("pci", "0000:b0:00.0", {"phys_switch_id": "e8ebd3", "phys_port_name": port}, name)
    tree.add_vf("0000:b0:00.0", "0000:b0:06.0", "v0")
    pf = identify("0000:b0:06.0", sysfs).pf
    assert pf is not None
    assert pf.port.name == "ens2"


def test_card_that_does_not_name_its_uplink_is_the_one_that_is_no_representor(
    tree: SysfsTree, sysfs: Sysfs
) -> None:
    tree.add_pf("0000:b0:00.0", "ens2", "ens0r0")
    tree.write("pci", "0000:b0:00.0", {"phys_switch_id": "e8ebd3", "phys_port_name": "pf0vf0"}, "ens0r0")
    tree.add_vf("0000:b0:00.0", "0000:b0:06.0", "v0")
    pf = identify("0000:b0:06.0", sysfs).pf
    assert pf is not None
    assert pf.port.name == "ens2"


@pytest.mark.parametrize(("number", "uplink"), [(0, "zeta"), (1, "alpha")])
def test_function_with_two_ports_sets_a_vf_by_the_port_of_its_number(
    tree: SysfsTree, sysfs: Sysfs, number: int, uplink: str
) -> None:
    tree.add_pf("0000:b0:00.0", "alpha", "zeta", driver="mlx4_core")
    tree.write("pci", "0000:b0:00.0", {"dev_port": 1}, "alpha")
    tree.write("pci", "0000:b0:00.0", {"dev_port": 0}, "zeta")
    tree.add_vf("0000:b0:00.0", "0000:b0:06.0", "v0", driver="mlx4_core")
    tree.write("pci", "0000:b0:06.0", {"dev_port": number}, "v0")
    pf = identify("0000:b0:06.0", sysfs).pf
    assert pf is not None
    assert pf.port.name == uplink


# -- what is refused -----------------------------------------------------------------------------


def furnish(tree: SysfsTree) -> None:
    """Add devices that are each wrong in their own way."""
    tree.add_pci(NIC, "eth0", driver="e1000e")
    tree.add_vf(PF, "0000:af:07.0", driver=None)
    tree.add_vf(PF, "0000:af:07.1")  # its driver made an interface, which is away
    tree.add_vf(PF, "0000:af:07.2", driver="acme")
    tree.add_pf("0000:b0:00.0", driver="vfio-pci")
    tree.add_vf("0000:b0:00.0", "0000:b0:06.0", "v0")
    tree.add_pf("0000:b1:00.0", "ens3")
    tree.add_vf("0000:b1:00.0", "0000:b1:06.0", "v1")
    (tree.root / "bus/pci/devices/0000:b1:00.0" / "virtfn0").unlink()


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        pytest.param("0000:af:06", 7, ["not a PCI address", "lspci"], id="no-address"),
        pytest.param(f"{VFS[0]}\n", 7, ["not a PCI address"], id="line-end"),
        pytest.param("../0000:af:06.0", 7, ["not a PCI address"], id="path"),
        pytest.param("mlx5_core.sf.4", 7, ["not a PCI address"], id="subfunction"),
        pytest.param("0000:af:1f.7", 7, ["no device of this host", "sriov_numvfs"], id="nothing-there"),
        pytest.param(PF, 7, ["is a PF", VFS[0], VFS[1], "host-device"], id="card-itself"),
        pytest.param("0000:af:07.0", 7, ["no driver", "vfio-pci"], id="no-driver"),
        pytest.param(
            "0000:af:07.1", 11, ["another network namespace", "igbvf", "lsns"], id="in-another-namespace"
        ),
        pytest.param("0000:af:07.2", 7, ["acme", "uio_pci_generic"], id="driver-without-an-interface"),
        pytest.param(
            "0000:b0:06.0", 7, ["PF 0000:b0:00.0", "no network interface", "vfio-pci"], id="card-without"
        ),
        pytest.param("0000:b1:06.0", 7, ["PF 0000:b1:00.0 does not know"], id="card-that-does-not-list-it"),
    ],
)
def test_each_refusal_has_its_own_sentence(
    tree: SysfsTree, sysfs: Sysfs, address: str, code: int, words: list[str]
) -> None:
    furnish(tree)
    with pytest.raises(CniError) as error:
        check_attachable(identify(address, sysfs), sysfs)
    assert error.value.code == code
    text = f"{error.value.msg} {error.value.details}"
    assert [word for word in words if word not in text] == []
