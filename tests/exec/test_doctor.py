"""podrail doctor: each fault is found on a node that has just that, and nothing on one that has none."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cni.cli.doctor.install import python_version
from tests.support.apiserver import LIMITED, ApiServer
from tests.support.world import BIN, World

RELEASE = "6.1.0-test"
RAILS = {
    "cniVersion": "1.0.0",
    "name": "rails",
    "plugins": [
        {"type": "macvlan", "master": "eth0", "mtu": 1500, "ipam": {"type": "whereabouts"}},
        {"type": "macvlan", "master": "eth1", "ipam": {"type": "whereabouts"}},
        {"type": "sriov", "deviceID": "0000:af:00.2"},
    ],
}
MULTUS = {"cniVersion": "1.0.0", "name": "multus", "type": "multus", "kubeconfig": "/etc/kubeconfig"}


@dataclass(frozen=True)
class Node:
    """A directory with the files of a node."""

    root: Path

    def write(self, name: str, text: str = "", mode: int = 0o600) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def link(self, name: str, target: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def remove(self, name: str) -> None:
        path = self.root / name
        if path.is_dir() and not path.is_symlink():
            for each in sorted(path.rglob("*"), reverse=True):
                each.rmdir() if each.is_dir() and not each.is_symlink() else each.unlink()
            path.rmdir()
        else:
            path.unlink()

    def doctor(self, *options: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PODRAIL_STATE_DIR": "/var/lib/cni/podrail"}
        environment.pop("PODRAIL_RUN_DIR", None)
        command = [BIN / "podrail", "doctor", "--root", self.root, *options]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def found(self) -> list[str]:
        """Return the check of each finding; the exit status must fit their severity."""
        done = self.doctor("--json")
        assert not done.stderr, done.stderr
        findings = json.loads(done.stdout)["findings"]
        assert done.returncode == int(any(each["severity"] == "error" for each in findings))
        return [each["check"] for each in findings]


def _interface(node: Node, name: str, pci: str) -> None:
    link = f"sys/class/net/{name}"
    for key, value in {"flags": "0x1003", "carrier": "1", "mtu": "9000"}.items():
        node.write(f"{link}/{key}", value)
    node.link(f"{link}/device", f"../../../bus/pci/devices/{pci}")
    node.write(f"proc/sys/net/ipv4/conf/{name}/rp_filter", "0")
    node.write(f"proc/sys/net/ipv4/conf/{name}/arp_ignore", "0")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node with two rails, a card with virtual functions that does RDMA, a GPU, and no fault."""
    node = Node(tmp_path / "node")
    node.write("proc/sys/kernel/osrelease", RELEASE)
    modules = "kernel/drivers/net/macvlan.ko: kernel/a\nkernel/net/8021q/8021q.ko:\n"
    node.write(f"lib/modules/{RELEASE}/modules.dep", modules)
    _interface(node, "eth0", "0000:af:00.0")
    _interface(node, "eth1", "0000:af:00.1")
    node.write("proc/sys/net/ipv4/conf/all/rp_filter", "2")
    node.write("proc/sys/net/ipv4/conf/all/arp_ignore", "1")
    devices = "sys/bus/pci/devices"
    for pci in ("0000:af:00.0", "0000:af:00.1", "0000:af:00.2"):
        node.write(f"{devices}/{pci}/numa_node", "0")
        node.link(f"{devices}/{pci}/driver", "../../drivers/mlx5_core")
        node.write(f"{devices}/{pci}/infiniband/mlx5_0/node_type", "1")
    node.write(f"{devices}/0000:af:00.0/sriov_totalvfs", "8")
    node.write(f"{devices}/0000:af:00.0/sriov_numvfs", "8")
    node.link(f"{devices}/0000:af:00.2/physfn", "../0000:af:00.0")
    for key, value in {"vendor": "0x10de", "class": "0x030200", "numa_node": "0"}.items():
        node.write(f"{devices}/0000:17:00.0/{key}", value)
    node.write("sys/class/infiniband/mlx5_0/node_type", "1")
    node.write("sys/module/ib_core/parameters/netns_mode", "N")
    for module in ("macvlan", "ib_uverbs", "nvidia", "nvidia_peermem"):
        node.write(f"sys/module/{module}/refcnt", "1")
    node.write("etc/cni/net.d/00-multus.conf", json.dumps(MULTUS))
    node.write("etc/cni/net.d/10-rails.conflist", json.dumps(RAILS))
    node.write("etc/kubeconfig", "{}")
    node.write("etc/containerd/config.toml", "version = 2\n")
    node.write("usr/bin/python3")
    for name in ("macvlan", "sriov", "whereabouts", "multus"):
        node.write(f"opt/cni/bin/{name}", "#!/usr/bin/python3\n", 0o755)
    node.write("var/lib/kubelet/pod-resources/kubelet.sock")
    record = "var/lib/cni/podrail/attachments/macvlan/rails/pod@net1.json"
    node.write(record, json.dumps({"netns": "/run/netns/pod"}))
    node.write("run/netns/pod")
    (node.root / "var/lib/cni/podrail").chmod(0o700)
    return node


def test_nothing_is_found_where_nothing_is_wrong(node: Node) -> None:
    done = node.doctor()
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing found\n", "")


def with_plugin(**keys: Any) -> str:
    first, *others = RAILS["plugins"]
    assert isinstance(first, dict)
    return json.dumps({**RAILS, "plugins": [{**first, **keys}, *others]})


def _no_gpu_memory(node: Node) -> None:
    node.remove("sys/module/nvidia_peermem")
    node.write("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.1")


def _vfio(node: Node) -> None:
    node.remove("sys/bus/pci/devices/0000:af:00.2/driver")
    node.link("sys/bus/pci/devices/0000:af:00.2/driver", "../../drivers/vfio-pci")


def _no_functions(node: Node) -> None:
    node.write("sys/bus/pci/devices/0000:af:00.0/sriov_numvfs", "0")


def _client_without_daemon(node: Node) -> None:
    (node.root / "opt/cni/bin/macvlan").write_bytes(b"\x7fELF podrail")


# What is done to the node, and what must be found then: all of it, and nothing else.
FAULTS: dict[str, tuple[Callable[[Node], object], list[str]]] = {
    "an-old-kernel": (lambda n: n.write("proc/sys/kernel/osrelease", "5.4.0"), ["kernel"]),
    "a-kernel-without-macvlan": (
        lambda n: (n.remove("sys/module/macvlan"), n.write(f"lib/modules/{RELEASE}/modules.dep", "x.ko:")),
        ["link-type"],
    ),
    "a-master-that-is-not-there": (
        lambda n: n.write("etc/cni/net.d/10-rails.conflist", with_plugin(master="eth7")),
        ["master"],
    ),
    "a-master-that-is-down": (lambda n: n.write("sys/class/net/eth0/flags", "0x1002"), ["master"]),
    "a-master-without-carrier": (lambda n: n.write("sys/class/net/eth0/carrier", "0"), ["master"]),
    "a-master-that-is-a-port": (lambda n: n.link("sys/class/net/eth0/master", "../br0"), ["master"]),
    "an-mtu-over-the-masters": (lambda n: n.write("sys/class/net/eth0/mtu", "1400"), ["mtu"]),
    "rails-that-drop-answers": (
        lambda n: (
            n.write("proc/sys/net/ipv4/conf/eth0/rp_filter", "1")
            or n.write("proc/sys/net/ipv4/conf/all/rp_filter", "0")
        ),
        ["rp_filter"],
    ),
    "rails-that-answer-for-others": (
        lambda n: n.write("proc/sys/net/ipv4/conf/all/arp_ignore", "0"),
        ["arp_ignore", "arp_ignore"],
    ),
    "a-function-without-driver": (
        lambda n: n.remove("sys/bus/pci/devices/0000:af:00.2/driver"),
        ["vf-driver"],
    ),
    "a-card-without-functions": (_no_functions, ["sriov-numvfs", "sriov"]),
    "vfio-without-iommu": (_vfio, ["iommu"]),
    "rdma-without-its-module": (lambda n: n.remove("sys/module/ib_uverbs"), ["rdma-modules"]),
    "rdma-that-all-pods-share": (
        lambda n: n.write("sys/module/ib_core/parameters/netns_mode", "Y"),
        ["rdma-mode"],
    ),
    "a-gpu-far-from-all-cards": (
        lambda n: n.write("sys/bus/pci/devices/0000:17:00.0/numa_node", "1"),
        ["gpu-distance"],
    ),
    "cards-that-cannot-read-gpus": (_no_gpu_memory, ["gpudirect"]),
    "no-directory-of-plugins": (lambda n: n.remove("opt/cni/bin"), ["bin-dir"]),
    "a-directory-that-all-may-write": (lambda n: (n.root / "opt/cni/bin").chmod(0o777), ["bin-dir-mode"]),
    "a-plugin-that-is-missing": (lambda n: n.remove("opt/cni/bin/whereabouts"), ["plugin"]),
    "a-plugin-that-may-not-run": (lambda n: (n.root / "opt/cni/bin/sriov").chmod(0o644), ["plugin-mode"]),
    "a-plugin-without-interpreter": (lambda n: n.remove("usr/bin/python3"), ["interpreter"] * 4),
    "a-client-without-daemon": (_client_without_daemon, ["daemon"]),
    "no-network-at-all": (lambda n: n.remove("etc/cni/net.d"), ["conf-dir"]),
    "a-network-that-is-no-json": (lambda n: n.write("etc/cni/net.d/20-x.conf", "{"), ["conf-file"]),
    "a-network-before-multus": (
        lambda n: n.write("etc/cni/net.d/00-aaa.conf", '{"name": "a", "type": "macvlan"}'),
        ["conf-order"],
    ),
    "a-network-that-all-may-write": (
        lambda n: (n.root / "etc/cni/net.d/10-rails.conflist").chmod(0o666),
        ["conf-mode"],
    ),
    "a-containerd-without-cri": (
        lambda n: n.write("etc/containerd/config.toml", 'disabled_plugins = ["io.containerd.grpc.v1.cri"]'),
        ["containerd"],
    ),
    "a-containerd-that-is-not-configured": (
        lambda n: n.write("etc/containerd/config.toml", "= ="),
        ["containerd"],
    ),
    "a-kubelet-that-tells-no-devices": (
        lambda n: n.remove("var/lib/kubelet/pod-resources/kubelet.sock"),
        ["pod-resources"],
    ),
    "a-kubeconfig-that-is-missing": (lambda n: n.remove("etc/kubeconfig"), ["kubeconfig"]),
    "a-kubeconfig-that-all-may-read": (
        lambda n: (n.root / "etc/kubeconfig").chmod(0o644),
        ["kubeconfig-mode"],
    ),
    "state-that-all-may-read": (lambda n: (n.root / "var/lib/cni/podrail").chmod(0o755), ["state-mode"]),
    "a-sandbox-that-is-gone": (lambda n: n.remove("run/netns/pod"), ["leftover"]),
    "a-record-that-is-broken": (
        lambda n: n.write("var/lib/cni/podrail/attachments/macvlan/rails/x@net1.json", "{"),
        ["record"],
    ),
    "a-record-that-was-set-aside": (
        lambda n: n.write("var/lib/cni/podrail/attachments/macvlan/rails/x@net1.corrupt", "{"),
        ["record"],
    ),
    "an-entry-that-was-set-aside": (
        lambda n: n.write("var/lib/cni/podrail/ipam/corrupt/10.1.0.0-24/10.1.0.7", "{"),
        ["pool-entry"],
    ),
}


@pytest.mark.parametrize(("harm", "checks"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found_and_nothing_else(
    node: Node, harm: Callable[[Node], object], checks: list[str]
) -> None:
    harm(node)
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in node.root.rglob("*"))
    assert node.found() == checks
    assert sorted((str(path), path.lstat().st_mtime_ns) for path in node.root.rglob("*")) == before


def test_strict_lets_a_warning_fail(node: Node) -> None:
    node.remove("run/netns/pod")
    assert (node.doctor().returncode, node.doctor("--strict").returncode) == (0, 1)


def test_an_old_python_is_told() -> None:
    assert [each.check for each in python_version((3, 10))] == ["python"]
    assert list(python_version((3, 11))) == []


def test_a_pool_that_is_nearly_full_is_told(world: World) -> None:
    section = {"type": "whereabouts", "range": "10.1.0.0/30"}
    conf = {"cniVersion": "1.0.0", "name": "rail", "type": "whereabouts", "ipam": section}
    for pod in ("pod-1", "pod-2"):
        world.add(conf, CNI_CONTAINERID=pod)
    command = [world.bin / "podrail", "doctor", "--json"]
    done = subprocess.run(command, env=world.environment(""), capture_output=True, text=True, check=False)
    (told,) = [each for each in json.loads(done.stdout)["findings"] if each["check"] == "pool-fill"]
    assert "2 of 2 held (100 %)" in told["message"]


def cluster_faults(kubeconfig: Path) -> list[tuple[str, str]]:
    kubeconfig.chmod(0o600)
    command = [BIN / "podrail", "doctor", "--json", "--kubeconfig", kubeconfig]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    listed = json.loads(done.stdout)["findings"]
    checks = ("api", "rbac", "kubeconfig", "kubeconfig-mode")
    return [(each["check"], each["message"]) for each in listed if each["check"] in checks]


def test_a_cluster_that_grants_all_is_no_fault(apiserver: ApiServer) -> None:
    assert cluster_faults(apiserver.kubeconfig()) == []


def test_a_credential_that_lacks_verbs_is_told_which(apiserver: ApiServer) -> None:
    found = cluster_faults(apiserver.kubeconfig(LIMITED))
    assert {check for check, _ in found} == {"rbac"}
    assert any("ippools.whereabouts.cni.cncf.io" in message and "patch" in message for _, message in found)


def test_a_server_that_is_not_there_and_a_wrong_token_are_told(apiserver: ApiServer) -> None:
    ((check, message),) = cluster_faults(apiserver.kubeconfig("wrong-token"))
    assert (check, "wrong-token" in message) == ("api", False)
    ((check, _),) = cluster_faults(apiserver.kubeconfig(cluster={"server": "https://127.0.0.1:1"}))
    assert check == "api"
