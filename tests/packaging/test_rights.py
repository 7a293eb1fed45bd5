"""The rights of the node daemon: with them everything works, and without any one of them something fails."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import manifests
from tests.support.apiserver import ApiServer
from tests.support.apiserver.rbac import User
from tests.support.cluster import Cluster as MultusCluster
from tests.support.manifests import Manifest
from tests.support.node import POD, Node
from tests.support.pods import StubPlugin
from tests.support.stores import Cluster
from tests.support.world import BIN

TOKEN = "podrail-token"
ACCOUNT = User("system:serviceaccount:podrail:podrail", ("system:serviceaccounts", "system:authenticated"))

NodeNamed = Callable[[str], Node]


def grant(server: ApiServer, objects: list[Manifest]) -> Path:
    """Give the daemon's service account its roles; return its kubeconfig."""
    if not server.find("/api/v1/namespaces/podrail"):
        server.seed(*manifests.read("namespace.yaml"))
    server.seed(*objects)
    server.users[TOKEN] = ACCOUNT
    return server.kubeconfig(TOKEN)


# -- what is done with them ------------------------------------------------------------------------


def claim_and_release(node: NodeNamed) -> None:
    """An address comes and goes; another's reservation is met; a pod comes again in another sandbox."""
    here = node("node-a")
    here.cluster.reserve("10.0.0.1", podref="default/other")
    assert here.add() == ["10.0.0.2/24"]
    assert here.add(CNI_CONTAINERID="sandbox-2") == ["10.0.0.2/24"]
    assert here.cluster.reservations()["10.0.0.2"]["containerid"] == "sandbox-2"
    here.delete(CNI_CONTAINERID="sandbox-2")
    assert here.cluster.entries() == {}
    assert list(here.cluster.reservations()) == ["10.0.0.1"]


def claim_blocks(node: NodeNamed) -> None:
    """Nodes divide a range, around what another pool has given out of it."""
    cluster = node("node-a").cluster
    held = {"id": "x", "podref": "default/old", "ifname": "net1"}
    cluster.record({"1": held}, name="10.0.0.0-30", range_="10.0.0.0/30")
    cluster.divide("other", "10.9.0.0/24", node_z="10.9.0.0/30")
    assert add_of_block(node("node-a"), 1) == ["10.0.0.2/28"]
    assert add_of_block(node("node-b"), 2) == ["10.0.0.5/28"]
    assert cluster.blocks() == {"10.0.0.0/30": "node-a", "10.0.0.4/30": "node-b"}


def inherit_block(node: NodeNamed) -> None:
    """A node that is gone for long loses its blocks, but for one with a pod that runs."""
    for number in range(8):
        add_of_block(node("node-a"), number)
    cluster = node("node-b").cluster
    make_node(cluster, "node-b")
    run_pod(cluster, "10.0.0.1")
    assert node("node-b").refused("ADD", of_blocks(node("node-b")), **pod(9))["code"] == 100
    let_deaths_be_old(cluster)
    assert add_of_block(node("node-b"), 9) == ["10.0.0.5/28"]


SCENES = {scene.__name__: scene for scene in (claim_and_release, claim_blocks, inherit_block)}

NEEDED_FOR = {
    "claim_and_release": [
        *(("ippools", verb) for verb in ("get", "create", "patch")),
        *(("overlappingrangeipreservations", verb) for verb in ("get", "list", "create", "patch", "delete")),
    ],
    "claim_blocks": [
        ("ippools", "list"),
        *(("nodeslicepools", verb) for verb in ("get", "list", "create", "patch")),
    ],
    "inherit_block": [("nodes", "list"), ("pods", "list")],
}
NEEDED_BY_MULTUS = [
    ("pods", "get"),
    ("pods/status", "update"),
    ("events", "create"),
    ("network-attachment-definitions", "get"),
]


def of_blocks(node: Node) -> dict[str, Any]:
    return node.conf(range="10.0.0.0/28", node_slice_size="/30", node_blocks=True)


def add_of_block(node: Node, number: int) -> list[str]:
    return node.add(of_blocks(node), **pod(number))


def pod(number: int) -> dict[str, str]:
    return {"CNI_CONTAINERID": f"s{number}", "CNI_ARGS": POD.format(f"web-{number}")}


def make_node(cluster: Cluster, name: str) -> None:
    cluster.server.seed({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})


def run_pod(cluster: Cluster, address: str) -> None:
    status = json.dumps([{"name": "rail", "interface": "net1", "ips": [address]}])
    annotations = {"k8s.v1.cni.cncf.io/network-status": status}
    cluster.server.seed(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web-0", "namespace": "default", "annotations": annotations},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
    )


def let_deaths_be_old(cluster: Cluster) -> None:
    path = cluster.path("nodeslicepools", "rail")
    noted = cluster.api.get(path)["metadata"].get("annotations") or {}
    then = (datetime.now(UTC) - timedelta(minutes=11)).isoformat(timespec="seconds")
    older = {name: f"{then} {text.partition(' ')[2]}" for name, text in noted.items()}
    cluster.api.patch(path, {"metadata": {"annotations": older}}, "application/merge-patch+json")


# -- whereabouts -----------------------------------------------------------------------------------


@pytest.fixture
def named(apiserver: ApiServer, tmp_path: Path) -> Callable[[Path], NodeNamed]:
    """Make nodes that ask with a kubeconfig, each the same one whenever it is named."""
    cluster = Cluster.of(apiserver)  # what a test itself does, it does as an administrator

    def with_kubeconfig(kubeconfig: Path) -> NodeNamed:
        def node(name: str) -> Node:
            made = Node(cluster, tmp_path / name, name)
            made.kubeconfig = str(kubeconfig)
            return made

        return node

    return with_kubeconfig


@pytest.mark.parametrize("scene", SCENES)
def test_the_roles_are_enough(apiserver: ApiServer, named: Callable[[Path], NodeNamed], scene: str) -> None:
    SCENES[scene](named(grant(apiserver, manifests.read("rbac.yaml"))))


@pytest.mark.parametrize(
    ("scene", "resource", "verb"),
    [
        pytest.param(scene, resource, verb, id=f"{scene} needs to {verb} {resource}")
        for scene, rights in NEEDED_FOR.items()
        for resource, verb in rights
    ],
)
def test_no_right_can_be_spared(
    apiserver: ApiServer, named: Callable[[Path], NodeNamed], scene: str, resource: str, verb: str
) -> None:
    node = named(grant(apiserver, manifests.without(resource, verb)))
    with pytest.raises(AssertionError):
        SCENES[scene](node)


def test_doctor_misses_nothing_in_them(apiserver: ApiServer) -> None:
    kubeconfig = grant(apiserver, manifests.read("rbac.yaml"))
    kubeconfig.chmod(0o600)
    command = [BIN / "podrail", "doctor", "--json", "--kubeconfig", kubeconfig]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "rbac" not in {each["check"] for each in json.loads(done.stdout)["findings"]}


# -- multus ----------------------------------------------------------------------------------------


def attach(cluster: MultusCluster, default: StubPlugin, second: StubPlugin, kubeconfig: Path) -> None:
    """A pod gets the network of its annotation, its status and an event."""
    cluster.network("second", second.network("second"))
    conf = cluster.multus.conf(default.network("cbr0"), kubeconfig=str(kubeconfig))
    told = cluster.pod("second")
    cluster.multus.world.add(conf, **told)
    assert [entry["name"] for entry in cluster.status()] == ["cbr0", "default/second"]
    assert [each["reason"] for each in cluster.server.objects.store if each["kind"] == "Event"]


@pytest.fixture
def attaching(cluster: MultusCluster, stubs: Callable[..., StubPlugin]) -> Callable[[list[Manifest]], None]:
    plugins = stubs("flannel", "10.244.0.5/24"), stubs("second")
    return lambda objects: attach(cluster, *plugins, grant(cluster.server, objects))


def test_the_roles_are_enough_for_multus(attaching: Callable[[list[Manifest]], None]) -> None:
    attaching(manifests.read("rbac.yaml"))


@pytest.mark.parametrize(
    ("resource", "verb"),
    [
        pytest.param(resource, verb, id=f"multus needs to {verb} {resource}")
        for resource, verb in NEEDED_BY_MULTUS
    ],
)
def test_multus_can_spare_no_right(
    attaching: Callable[[list[Manifest]], None], resource: str, verb: str
) -> None:
    with pytest.raises((AssertionError, KeyError)):
        attaching(manifests.without(resource, verb))


def test_every_right_that_is_granted_is_taken_away_above() -> None:
    tried = [*NEEDED_BY_MULTUS, *(right for rights in NEEDED_FOR.values() for right in rights)]
    assert sorted(tried) == sorted(manifests.granted())
