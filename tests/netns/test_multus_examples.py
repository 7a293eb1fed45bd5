"""The examples for a cluster: what they say is applied, and their pod attached and detached."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster import Cluster
from tests.support.kubelet import Kubelet
from tests.support.pods import StubPlugin

EXAMPLES = Path(__file__).parents[2] / "conf-examples"


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[Kubelet]:
    with Kubelet(tmp_path / "kubelet") as kubelet:
        yield kubelet


@pytest.fixture
def conf(cluster: Cluster, stubs: Callable[..., StubPlugin], kubelet: Kubelet) -> dict[str, Any]:
    return cluster.conf(stubs("flannel").network("cbr0"), kubeletDir=str(kubelet.directory))


def applied(cluster: Cluster, name: str) -> dict[str, str]:
    """Create the objects of an example and return what the runtime says of its pod.

    The kubeconfig that whereabouts is told of is this test's.
    """
    text = (EXAMPLES / name).read_text()
    text = text.replace(
        "/etc/cni/net.d/whereabouts.d/whereabouts.kubeconfig", str(cluster.server.kubeconfig())
    )
    documents = list(yaml.safe_load_all(text))
    created = cluster.server.seed(*documents)
    metadata = next(each["metadata"] for each in created if each["kind"] == "Pod")
    return cluster.told(metadata["name"], metadata["namespace"], metadata["uid"])


def statuses(cluster: Cluster, name: str) -> dict[str, dict[str, Any]]:
    """The network-status of a pod by interface."""
    return {entry["interface"]: entry for entry in cluster.status(name)}


def test_eight_rails(cluster: Cluster, conf: dict[str, Any]) -> None:
    host, world = cluster.multus.world.host, cluster.multus.world
    for number in range(8):
        host.ip("link", "add", f"rail{number}", "address", f"02:00:00:00:08:0{number}", "type", "bridge")
    pod = applied(cluster, "multus-rails.yaml")
    world.add(conf, **pod)
    found = statuses(cluster, "worker-0")
    assert [found[f"net{n}"]["ips"] for n in range(1, 9)] == [[f"10.10{n}.1.1"] for n in range(8)]
    assert all(world.sandbox.link(f"net{n}")["mtu"] == 1450 for n in range(1, 9))
    world.delete(conf, **pod)
    assert set(world.sandbox.links()) == {"lo"}
    assert cluster.multus.files() == []


def test_another_default_network(cluster: Cluster, conf: dict[str, Any]) -> None:
    world = cluster.multus.world
    world.host.add_veth("rail0")
    pod = applied(cluster, "multus-default-network.yaml")
    result = world.add(conf, **pod)
    assert [ip["address"] for ip in result["ips"]] == ["10.20.0.9/24"]
    assert [(route["gateway"], route["dev"]) for route in world.sandbox.routes("default")] == [
        ("10.20.0.1", "eth0")
    ]
    world.delete(conf, **pod)


def test_two_virtual_functions(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, stubs: Callable[..., StubPlugin]
) -> None:
    """A stub stands in for sriov, which needs a card; tests of its own run where there is one."""
    sriov = stubs("sriov")
    cluster.multus.world.path = f"{sriov.folder}:{cluster.multus.world.path}"
    conf = conf | {"binDir": str(sriov.folder)}
    kubelet.has("router", {"vendor.com/fast_vfs": ["0000:af:06.1", "0000:af:06.2"]})
    pod = applied(cluster, "multus-sriov.yaml")
    cluster.multus.world.add(conf, **pod)
    assert sriov.calls() == ["ADD pod-1 fast0", "ADD pod-1 fast1"]
    assert sriov.stdin("ADD")["deviceID"] == "0000:af:06.2"
    first = json.loads((cluster.multus.cache / "results" / "fast-pod-1-fast0").read_text())
    assert first["capabilityArgs"]["deviceID"] == "0000:af:06.1"
    assert first["capabilityArgs"]["mac"] == "02:00:00:00:30:01"


def test_the_configuration_for_a_node(cluster: Cluster, stubs: Callable[..., StubPlugin]) -> None:
    """With its paths below the test's directory, and what it refers to."""
    flannel, storage = stubs("flannel"), stubs("storage")
    example = json.loads((EXAMPLES / "multus-cluster.json").read_text())
    multus = cluster.multus
    listed = {"cniVersion": "1.0.0", "name": "cbr0", "plugins": [flannel.network("cbr0")]}
    path = multus.network_file("10-flannel.conflist", listed)
    cluster.network("storage", storage.network("storage"), "kube-system")
    own = multus.conf(
        kubeconfig=str(cluster.kubeconfig),
        clusterNetwork=str(path),
        readinessindicatorfile=str(path),
        logFile=str(multus.folder / "log"),
    )
    pod = cluster.pod()
    answer = multus.world.call("ADD", example | own, **pod)
    assert answer.status == 0, answer
    assert "unknown key" not in answer.stderr
    assert (flannel.calls(), storage.calls()) == (["ADD pod-1 eth0"], ["ADD pod-1 net1"])
    assert (multus.folder / "log").read_text().count("[verbose] Add: default:web:") == 2
