"""podrail plan of a pod in a cluster: its annotation counts, and the API server is only asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cni.cli.plan import main
from tests.support.cluster import Cluster
from tests.support.command import called
from tests.support.world import rail


def planned(
    cluster: Cluster, conf: Mapping[str, Any], *options: str, **variables: str
) -> tuple[int, Any, str]:
    """Run the command in this process; return its status, its steps and what it said on stderr."""
    arguments = ("-", "--json", *options)
    done = called(cluster.multus.world, main, *arguments, stdin=json.dumps(conf), **variables)
    return done.returncode, json.loads(done.stdout), done.stderr


def test_the_networks_of_an_annotation_are_planned_and_then_attached(cluster: Cluster) -> None:
    where = {
        "type": "whereabouts",
        "range": "10.2.0.0/29",
        "kubernetes": {"kubeconfig": str(cluster.kubeconfig)},
    }
    cluster.network("a", rail(name="a"))
    cluster.network("b", rail(name="b", ipam={**where, "datastore": "file"}))
    pod = cluster.pod([{"name": "a", "mac": "02:00:00:00:00:0a"}, {"name": "b", "interface": "rail0"}])
    conf = cluster.conf(rail(name="main", ipam={"type": "static", "addresses": [{"address": "10.9.0.5/24"}]}))
    before = len(cluster.server.requests)
    status, told, _ = planned(cluster, conf, "--pod", "default/web", CNI_IFNAME="eth0")
    assert {each.method for each in cluster.server.requests[before:]} == {"GET"}
    assert cluster.multus.files() == []
    assert status == 0
    ((step),) = told["steps"]
    cluster.multus.world.add(conf, **pod)
    sandbox = cluster.multus.world.sandbox
    assert [(each["network"], each["interface"]) for each in step["steps"]] == [
        ("main", "eth0"),
        ("default/a", "net1"),
        ("default/b", "rail0"),
    ]
    for each in step["steps"]:
        ((address),) = each["result"]["ips"]
        assert sandbox.addresses(each["interface"]) == [address["address"]]
    assert sandbox.link("net1")["address"] == "02:00:00:00:00:0a"
    assert step["steps"][1]["result"]["interfaces"][0]["mac"] == "02:00:00:00:00:0a"


def test_a_wrong_annotation_is_told_and_the_pod_gets_no_event(cluster: Cluster) -> None:
    cluster.pod("nowhere")
    conf = cluster.conf(rail(name="main"))
    status, told, _ = planned(cluster, conf, "--pod", "default/web", CNI_IFNAME="eth0")
    ((step),) = told["steps"]
    assert status == 1
    assert "nowhere" in step["error"]["msg"]
    assert cluster.events() == []


def test_a_device_that_the_kubelet_has_not_given_is_said_to_be_open(cluster: Cluster) -> None:
    sriov = {"cniVersion": "1.0.0", "name": "vf", "type": "sriov"}
    cluster.network("vf", sriov, **{"k8s.v1.cni.cncf.io/resourceName": "example.com/vf"})
    cluster.pod("vf")
    conf = cluster.conf(rail(name="main"), kubeletDir=str(cluster.multus.folder))
    status, told, _ = planned(cluster, conf, "--pod", "default/web", CNI_IFNAME="eth0")
    ((step),) = told["steps"]
    assert status == 1
    assert any("kubelet" in sentence for sentence in step["open"]), step["open"]
    assert '"deviceID" is missing' in step["steps"][1]["steps"][0]["error"]["msg"]


def test_an_annotation_is_planned_for_a_pod_that_does_not_exist(cluster: Cluster) -> None:
    cluster.network("a", rail(name="a"))
    conf = cluster.conf(rail(name="main", ipam={"type": "static", "addresses": [{"address": "10.9.0.5/24"}]}))
    options = ("--pod", "default/new", "--networks")
    status, told, _ = planned(cluster, conf, *options, "a@rail0", CNI_IFNAME="eth0")
    ((step),) = told["steps"]
    assert status == 0
    assert [(each["network"], each["interface"]) for each in step["steps"]] == [
        ("main", "eth0"),
        ("default/a", "rail0"),
    ]
    assert [seen.path.rpartition("/")[2] for seen in cluster.server.requests] == ["a"], "no pod is asked for"
    status, told, _ = planned(cluster, conf, *options, "b", CNI_IFNAME="eth0")
    assert (status, "cannot find" in told["steps"][0]["error"]["msg"]) == (1, True)
    status, told, _ = planned(cluster, conf, "--networks", "a", CNI_IFNAME="eth0")
    assert (status, told["error"]["msg"]) == (1, "--networks needs --pod")
    del conf["kubeconfig"]
    status, told, _ = planned(cluster, conf, *options, "a", CNI_IFNAME="eth0")
    assert "without a cluster" in told["steps"][0]["error"]["msg"]
