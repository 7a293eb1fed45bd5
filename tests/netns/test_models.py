"""The three ways to give pods fast networks: the folders of conf-examples are applied, their pods attached.

STAND-INS: cards are virtual links, in two of the three behind a drawn /sys; the kubelet is the tests' own.
No RDMA device, no PF and no device plugin is there; emulated cards are in tests/vm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster import Cluster
from tests.support.devices import told
from tests.support.kubelet import Kubelet
from tests.support.pods import StubPlugin
from tests.support.sysfs_tree import SysfsTree
from tests.support.world import Namespace

EXAMPLES = Path(__file__).parents[2] / "conf-examples"
KUBECONFIG = "/etc/cni/net.d/whereabouts.d/whereabouts.kubeconfig"


@dataclass(frozen=True)
class Job:
    """Two pods of an example in a cluster, whose calls go through multus."""

    cluster: Cluster
    kubelet: Kubelet
    conf: dict[str, Any]
    sandboxes: Sequence[Namespace]

    def call(self, verb: str, number: int) -> None:
        world = self.cluster.multus.world
        pod = self.cluster.told(f"worker-{number}")
        pod |= {"CNI_NETNS": self.sandboxes[number].path, "CNI_CONTAINERID": f"pod-{number}"}
        if verb == "ADD":
            world.add(self.conf, **pod)
        else:
            world.delete(self.conf, **pod)

    def addresses(self, number: int) -> list[str]:
        entries = self.cluster.status(f"worker-{number}")
        return [entry["ips"][0] for entry in entries if entry["interface"].startswith("net")]

    def reach_each_other(self, *options: str) -> None:
        for address in self.addresses(1):
            self.sandboxes[0].sh("ping", "-c1", "-W5", *options, address)


@pytest.fixture
def job(
    cluster: Cluster, stubs: Callable[..., StubPlugin], sandbox: Namespace, peer: Namespace, tmp_path: Path
) -> Iterator[Callable[[str], Job]]:
    """Apply an example and return its two pods."""
    peer.without_link_local()
    cluster.multus.world.host.without_link_local()

    def applied(name: str) -> Job:
        for path in sorted((EXAMPLES / name).glob("*.yaml")):
            text = path.read_text().replace(KUBECONFIG, str(cluster.server.kubeconfig()))
            cluster.server.seed(*yaml.safe_load_all(text))
        conf = cluster.conf(stubs("flannel").network("cbr0"), kubeletDir=str(kubelet.directory))
        return Job(cluster, kubelet, conf, (sandbox, peer))

    with Kubelet(tmp_path / "kubelet") as kubelet:
        yield applied


def test_rdma_shared(job: Callable[[str], Job], host: Namespace) -> None:
    for name in ("rail0", "rail1"):
        host.add_veth(name)  # STAND-IN for a card with RoCE
        host.ip("link", "set", name, "mtu", "9000")
    before = told(host)
    pods = job("rdma-shared")
    for number in (0, 1):
        pods.call("ADD", number)
    assert [pods.addresses(number) for number in (0, 1)] == [
        ["10.40.0.1", "10.41.0.1"],
        ["10.40.0.2", "10.41.0.2"],
    ]
    pods.reach_each_other("-M", "do", "-s", str(9000 - 28))
    for number in (0, 1):
        pods.call("DEL", number)
        assert set(pods.sandboxes[number].links()) == {"lo"}
    assert told(host) == before
    assert pods.cluster.multus.files() == []


@pytest.mark.parametrize(
    ("example", "resource", "driver"),
    [
        pytest.param("sriov", "example.com/rail{}_vfs", "iavf", id="sriov"),
        pytest.param("nic-passthrough", "example.com/rail{}_nic", "mlx5_core", id="nic-passthrough"),
    ],
)
def test_devices_of_a_resource(
    job: Callable[[str], Job], host: Namespace, tmp_path: Path, example: str, resource: str, driver: str
) -> None:
    """Two devices for each pod, those of one rail being the two ends of a wire."""
    tree = SysfsTree(tmp_path / "sys")
    for rail in (0, 1):
        host.add_veth(f"dev{rail}0", host, f"dev{rail}1")  # STAND-IN for two VFs, or for cards of two nodes
        for number in (0, 1):
            tree.add_pci(f"0000:af:0{rail}.{number}", f"dev{rail}{number}", driver=driver)
    before = told(host)
    pods = job(example)
    for number in (0, 1):
        devices = {resource.format(rail): [f"0000:af:0{rail}.{number}"] for rail in (0, 1)}
        pods.kubelet.has(f"worker-{number}", devices)
    with tree.in_place_of_sys():
        for number in (0, 1):
            pods.call("ADD", number)
        devices = [set(sandbox.links()) for sandbox in pods.sandboxes]
        assert devices == [{"lo", "net1", "net2"}] * 2
        assert not [name for name in host.links() if name.startswith("dev")]
        pods.reach_each_other()
        for number in (0, 1):
            pods.call("DEL", number)
    assert told(host) == before
    assert pods.cluster.multus.files() == []


@pytest.mark.parametrize("example", ["rdma-shared", "sriov", "nic-passthrough"])
def test_what_its_pods_ask_for_its_device_plugin_defines(example: str) -> None:
    (plugin,) = yaml.safe_load_all((EXAMPLES / example / "device-plugin.yaml").read_text())
    config = yaml.safe_load(plugin["data"]["config.json"])
    listed = config.get("resourceList") or config["configList"]
    defined = {f"{each['resourcePrefix']}/{each['resourceName']}" for each in listed}
    for pod in yaml.safe_load_all((EXAMPLES / example / "pods.yaml").read_text()):
        (container,) = pod["spec"]["containers"]
        assert set(container["resources"]["limits"]) == defined
