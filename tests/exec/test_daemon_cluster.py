"""The node daemon with a cluster: what its calls have of earlier ones, and what they always ask anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.apiserver.certificates import Authority
from tests.support.cluster import Cluster
from tests.support.cluster import cluster as running_cluster
from tests.support.daemon import Daemon, NodeWorld
from tests.support.pods import Multus
from tests.support.world import Namespace, rail, static

LONG_AGO = "2020-01-01T00:00:00Z"
_NETWORK = "GET network-attachment-definitions/"


@pytest.fixture
def cluster(node: NodeWorld, host: Namespace, authority: Authority, tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(Multus(node, tmp_path / "multus"), host, authority, tmp_path / "server") as cluster:
        yield cluster


@pytest.fixture
def conf(cluster: Cluster, node: NodeWorld) -> dict[str, Any]:
    default = rail(name="cbr0", ipam=static("10.0.0.5/24"))
    return cluster.conf(default, binDir=str(node.own))


def created(cluster: Cluster, name: str, when: str) -> None:
    def change(pod: dict[str, Any]) -> dict[str, Any]:
        return pod | {"metadata": pod["metadata"] | {"creationTimestamp": when}}

    cluster.server.alter(f"/api/v1/namespaces/default/pods/{name}", change)


def test_pods_that_were_there_before_share_what_is_read_of_networks_and_connections(
    cluster: Cluster, node: NodeWorld, conf: dict[str, Any]
) -> None:
    for number in (1, 2):
        cluster.network(f"rail{number}", rail(name=f"rail{number}", ipam=static(f"10.{number}.0.5/24")))
    pods = {f"pod-{number}": cluster.pod("rail1,rail2", f"web-{number}") for number in range(3)}
    with Daemon(node, "--concurrency", "1"):
        for number, (container, told) in enumerate(pods.items()):
            created(cluster, f"web-{number}", LONG_AGO)
            assert node.call("ADD", conf, CNI_CONTAINERID=container, **told).status == 0
            node.delete(conf, CNI_CONTAINERID=container, **told)
        asked = cluster.requests()
        assert sum(each.startswith(_NETWORK) for each in asked) == 2
        assert sum(each.startswith("GET pods/") for each in asked) == 3
        own = {seen.connection for seen in cluster.server.requests if not seen.path.endswith("/events")}
        assert len(own) <= 3  # the first call's: one more beside it to read networks, one that had events
    assert node.records() == []


def test_a_pod_that_was_created_after_a_network_changed_gets_it_as_it_is(
    cluster: Cluster, node: NodeWorld, conf: dict[str, Any]
) -> None:
    cluster.network("a", rail(name="a"))
    first = cluster.pod("a", "first")
    created(cluster, "first", LONG_AGO)
    with Daemon(node, "--concurrency", "1"):
        node.add(conf, **first)
        node.delete(conf, **first)
        path = "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/a"
        other = json.dumps(rail(name="a", ipam=static("10.1.0.6/24")))
        cluster.server.alter(path, lambda network: network | {"spec": {"config": other}})
        node.add(conf, **cluster.pod("a", "second"))
        assert node.sandbox.addresses("net1") == ["10.1.0.6/24"]
        node.delete(conf)


def test_a_pod_is_always_read_anew(cluster: Cluster, node: NodeWorld, conf: dict[str, Any]) -> None:
    told = cluster.pod(None, "web")
    created(cluster, "web", LONG_AGO)
    with Daemon(node, "--concurrency", "1"):
        for _ in range(2):
            node.add(conf, **told)
            node.delete(conf, **told)
    assert sum(each == "GET pods/web" for each in cluster.requests()) == 2
