"""whereabouts against a cluster's API server, the real one too where KUBEBUILDER_ASSETS is set.

What other tests show with faults on the server of the test process is here shown once as it is.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cni.kube.client import MERGE_PATCH
from cni.kube.paths import resource
from cni.protocol.errors import CniError, Code
from ipam.cli import main
from ipam.pool import Owner
from tests.support.apiserver import LIMITED, ApiServer
from tests.support.apiserver.real import RealApiServer
from tests.support.node import POD, Node
from tests.support.stores import Cluster, owner, wish

RBAC = "rbac.authorization.k8s.io/v1"


@pytest.fixture
def cluster(any_apiserver: ApiServer | RealApiServer) -> Cluster:
    return Cluster.of_its_own(any_apiserver)


def pod(name: str) -> dict[str, str]:
    return {"CNI_CONTAINERID": name, "CNI_ARGS": POD.format(name)}


def test_an_attachment_comes_and_goes(cluster: Cluster, tmp_path: Path) -> None:
    node = Node(cluster, tmp_path)
    both = node.conf(ipRanges=[{"range": "fd00:1::/64"}])
    assert node.add(both) == node.add(both) == ["10.0.0.1/24", "fd00:1::1/64"]
    assert sorted(cluster.reservations()) == ["10.0.0.1", "fd00-1--1"]
    node.delete(both)
    assert (cluster.entries(), cluster.entries("fd00-1---64"), cluster.reservations()) == ({}, {}, {})


def test_addresses_rest(cluster: Cluster, tmp_path: Path) -> None:
    node = Node(cluster, tmp_path)
    resting = node.conf(rest_time="1h")
    node.add(resting, **pod("a"))
    node.delete(resting, **pod("a"))
    assert node.add(resting, **pod("b")) == ["10.0.0.2/24"]
    node.delete(resting, **pod("b"))
    assert node.add(resting, **pod("c")) == ["10.0.0.3/24"]


def test_nodes_claim_blocks_at_once(cluster: Cluster, tmp_path: Path) -> None:
    nodes = [Node(cluster, tmp_path / name, name) for name in ("a", "b", "c", "d")]
    keys: dict[str, Any] = {"range": "10.0.0.0/26", "node_slice_size": "/29", "node_blocks": True}

    def start(node: Node) -> list[str]:
        return [node.add(node.conf(**keys), **pod(f"{node.name}{n}"))[0] for n in range(9)]

    with ThreadPoolExecutor(4) as pool:
        given = [address for addresses in pool.map(start, nodes) for address in addresses]
    assert len(set(given)) == 36
    assert sorted(cluster.blocks().values()) == ["a", "a", "b", "b", "c", "c", "d", "d"]
    for node in nodes:
        for number in range(9):
            node.delete(node.conf(**keys), **pod(f"{node.name}{number}"))
    assert cluster.blocks() == {}


def test_a_slice_is_served(cluster: Cluster, tmp_path: Path) -> None:
    cluster.divide(node_b="10.0.0.64/26")
    node = Node(cluster, tmp_path, "node-b")
    assert node.add(node.conf(node_slice_size="/26")) == ["10.0.0.65/24"]
    node.delete(node.conf(node_slice_size="/26"))
    assert cluster.entries("node-b-10.0.0.64-26") == {}


def test_the_limit_of_an_object_is_told(cluster: Cluster) -> None:
    cluster.record(name="10.0.0.0-16", range_="10.0.0.0/16")
    too_much = Owner("sandbox-1", "net1", "default/" + "p" * 1_600_000)
    with pytest.raises(CniError, match="can record no further address") as caught:
        cluster.claim(wish("10.0.0.0/16"), too_much)
    assert caught.value.code == Code.POOL_EXHAUSTED
    assert (cluster.entries("10.0.0.0-16"), cluster.reservations()) == ({}, {})


def test_status_tells_which_verbs_are_missing(cluster: Cluster, tmp_path: Path) -> None:
    group = {"apiGroups": ["whereabouts.cni.cncf.io"]}
    rules = [
        {**group, "resources": ["ippools"], "verbs": ["get", "patch"]},
        {**group, "resources": ["nodeslicepools"], "verbs": ["get"]},
    ]
    role = {"apiVersion": RBAC, "kind": "Role", "metadata": {"name": "reader"}, "rules": rules}
    binding = {
        "apiVersion": RBAC,
        "kind": "RoleBinding",
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "limited"}],
    }
    for plural, body in (("roles", role), ("rolebindings", binding)):
        cluster.api.create(resource(RBAC, plural, namespace=cluster.namespace), body)
    node = Node(cluster, tmp_path)
    kubeconfig = cluster.server.kubeconfig(LIMITED, context={"namespace": cluster.namespace})
    asked = node.conf(kubernetes={"kubeconfig": str(kubeconfig)}) | {"cniVersion": "1.1.0"}
    error = node.refused("STATUS", asked)
    assert error["code"] == 50
    assert "may not create ippools" in error["msg"]
    assert "may not get, list, create, patch, delete overlappingrangeipreservations" in error["details"]
    asked["ipam"] |= {"node_slice_size": "/26", "node_blocks": True}
    error = node.refused("STATUS", asked)
    assert (error["code"], "may not list ippools" in error["msg"]) == (50, True)
    assert "may not list, create, patch nodeslicepools" in error["details"]


def test_reconcile_frees_what_no_pod_holds(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PODRAIL_STATE_DIR", str(tmp_path))
    cluster.claim()
    cluster.claim(by=owner(2))
    spec = {"containers": [{"name": "c", "image": "i"}]}
    body = {"metadata": {"name": "web-2", "namespace": "default"}, "spec": spec}
    pods = resource("v1", "pods", namespace="default")
    cluster.api.create(pods, body)
    kubeconfig = str(cluster.server.kubeconfig(context={"namespace": cluster.namespace}))
    assert main(["reconcile", "--once", "--grace", "0", "--kubeconfig", kubeconfig]) == 0
    assert capsys.readouterr().out.startswith("free 10.0.0.1 of 10.0.0.0/24")
    assert (list(cluster.entries()), list(cluster.reservations())) == (["2"], ["10.0.0.2"])
    ended = {"status": {"phase": "Succeeded"}}
    cluster.api.patch(f"{pods}/web-2/status", ended, MERGE_PATCH)
    assert main(["reconcile", "--once", "--grace", "0", "--kubeconfig", kubeconfig]) == 0
    assert json.dumps([cluster.entries(), cluster.reservations()]) == "[{}, {}]"
    cluster.api.delete(f"{pods}/web-2")
