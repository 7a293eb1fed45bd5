"""podrail verify with a cluster: annotations beside what is attached."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni.cli.verify.main import main
from tests.support.cluster import NETWORKS, STATUS, Cluster
from tests.support.command import called
from tests.support.world import rail, static

WEB = "/api/v1/namespaces/default/pods/web"
MAIN = rail(name="main", ipam=static("10.9.0.5/24"))


@pytest.fixture
def attached(cluster: Cluster) -> Cluster:
    """A cluster with a pod of two networks."""
    cluster.network("a", rail(name="a"))
    pod = cluster.pod("a")
    cluster.multus.world.add(cluster.conf(MAIN), **pod)
    return cluster


def found(cluster: Cluster, status: int = 1, *options: str) -> list[tuple[str, str, str]]:
    arguments = ("--json", "--kubeconfig", str(cluster.kubeconfig), *options)
    done = called(cluster.multus.world, main, *arguments)
    assert (done.returncode, done.stderr) == (status, ""), done
    listed: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return [(each["check"], each["about"], each["message"]) for each in listed]


def changed(cluster: Cluster, **annotations: str) -> None:
    pod = cluster.object()
    told = {**pod["metadata"]["annotations"], **annotations}
    place = cluster.server.objects.place(WEB)
    cluster.server.objects.replace(place, {**pod, "metadata": {**pod["metadata"], "annotations": told}})


def test_a_pod_that_was_told_what_it_has_is_no_drift(attached: Cluster) -> None:
    assert found(attached, 0) == []


def test_another_address_in_the_network_status_is_found(attached: Cluster) -> None:
    entries = attached.status()
    entries[1]["ips"] = ["10.1.0.77"]
    changed(attached, **{STATUS: json.dumps(entries)})
    ((check, about, message),) = found(attached)
    assert (check, about) == ("network-status", "default/web net1")
    assert "10.1.0.77" in message
    assert "10.1.0.5" in message


def test_an_interface_that_the_network_status_leaves_out_is_found(attached: Cluster) -> None:
    changed(attached, **{STATUS: json.dumps(attached.status()[:1])})
    assert found(attached) == [("network-status", "default/web", "its network-status does not tell of net1")]


def test_a_network_that_was_asked_for_and_not_attached_is_found(attached: Cluster) -> None:
    changed(attached, **{"k8s.v1.cni.cncf.io/networks": "a,b"})
    ((check, about, message),) = found(attached)
    assert (check, about, "default/b" in message) == ("network", "default/web", True)


def test_a_pod_that_the_api_server_does_not_know_is_found(attached: Cluster) -> None:
    attached.server.objects.delete(attached.server.objects.place(WEB), {"gracePeriodSeconds": 0})
    assert [each[:2] for each in found(attached)] == [("pod", "default/web")]


def test_a_running_pod_that_multus_never_saw_is_found(attached: Cluster) -> None:
    pods = ("bypassed", "a", "Running"), ("plain", "", "Running"), ("new", "a", "Pending")
    for name, networks, phase in pods:
        attached.server.seed(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "default", "annotations": {NETWORKS: networks}},
                "spec": {"nodeName": "node-a", "containers": [{"name": "a", "image": "a"}]},
                "status": {"phase": phase},
            }
        )
    ((check, about, message),) = found(attached, 1, "--node", "node-a")
    assert (check, about) == ("network", "default/bypassed")
    assert "multus was not called" in message
    assert found(attached, 0) == []
