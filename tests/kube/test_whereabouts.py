"""whereabouts in a cluster, called as a runtime calls it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.apiserver import ApiServer, faults
from tests.support.apiserver.certificates import Authority
from tests.support.node import POD, Node
from tests.support.stores import Cluster
from tests.support.world import BIN


@pytest.fixture
def node(apiserver: ApiServer, tmp_path: Path) -> Node:
    return Node(Cluster.of(apiserver), tmp_path / "state")


def test_an_attachment_comes_and_goes(node: Node) -> None:
    assert node.add() == ["10.0.0.1/24"]
    assert node.add() == ["10.0.0.1/24"]
    assert node.add(CNI_CONTAINERID="sandbox-2", CNI_ARGS=POD.format("web-2")) == ["10.0.0.2/24"]
    assert node.cluster.entries()["1"]["podref"] == "default/web-1"
    node.delete()
    node.delete()
    assert list(node.cluster.entries()) == ["2"]
    assert list(node.cluster.reservations()) == ["10.0.0.2"]


def test_the_executable_does_the_same(node: Node) -> None:
    assert node.execute("ADD").json["ips"] == [{"address": "10.0.0.1/24"}]
    assert list(node.cluster.entries()) == ["1"]
    answer = node.execute("DEL")
    assert (answer.status, answer.stdout, answer.stderr) == (0, "", "")
    assert node.cluster.entries() == {}


def test_a_delete_needs_no_range_and_no_pod(node: Node) -> None:
    both = [{"range": "10.0.0.0/24"}, {"range": "fd00:1::/64"}]
    node.add(node.conf(range="", ipRanges=both))
    before = len(node.cluster.server.requests)
    node.delete({"cniVersion": "1.0.0", "name": "rail", "ipam": {"range": 7}}, CNI_ARGS="", CNI_NETNS="")
    assert len(node.cluster.server.requests) - before == 4
    assert (node.cluster.entries(), node.cluster.reservations()) == ({}, {})
    assert node.cluster.entries("fd00-1---64") == {}
    assert node.records() == []


def test_a_delete_without_a_record_looks_into_every_configured_pool(node: Node, tmp_path: Path) -> None:
    both = node.conf(ipRanges=[{"range": "10.0.1.0/24"}])
    node.add(both)
    Node(node.cluster, tmp_path / "other").delete(both, CNI_ARGS="")
    assert (node.cluster.entries(), node.cluster.reservations()) == ({}, {})
    assert node.cluster.entries("10.0.1.0-24") == {}


def test_a_pod_without_a_name_is_refused_with_what_to_do(node: Node) -> None:
    error = node.refused("ADD", CNI_ARGS="")
    assert error["code"] == 4
    assert "K8S_POD_NAME" in error["msg"]
    assert "K8S_POD_NAMESPACE in CNI_ARGS" in error["details"]
    assert (node.records(), node.cluster.server.requests) == ([], [])


def test_a_second_range_that_is_full_gives_the_first_one_back(node: Node) -> None:
    conf = node.conf(ipRanges=[{"range": "10.9.0.0/30"}])
    for number in (1, 2):
        node.add(conf, CNI_CONTAINERID=f"s{number}", CNI_ARGS=POD.format(f"web-{number}"))
    error = node.refused("ADD", conf, CNI_CONTAINERID="s3", CNI_ARGS=POD.format("web-3"))
    assert error["code"] == 100
    assert list(node.cluster.entries()) == ["1", "2"]
    assert len(node.cluster.reservations()) == 4
    assert len(node.records()) == 2


def test_check_compares_the_pool_with_the_result(node: Node) -> None:
    result = node.call("ADD").json
    asked = node.conf() | {"prevResult": result}
    assert node.call("CHECK", asked).status == 0
    node.cluster.write("1", None)
    assert node.refused("CHECK", asked)["code"] == 102


def test_status_tells_what_is_wrong(node: Node) -> None:
    conf = node.conf(range="10.0.0.0/30") | {"cniVersion": "1.1.0"}
    assert node.call("STATUS", conf).status == 0
    for number in (1, 2):
        node.add(conf, CNI_CONTAINERID=f"s{number}", CNI_ARGS=POD.format(f"web-{number}"))
    full = node.refused("STATUS", conf)
    assert (full["code"], "no address is left in 10.0.0.0/30" in full["msg"]) == (50, True)
    node.cluster.server.on(faults.answer(403, "Forbidden"), times=-1)
    error = node.refused("STATUS", conf)
    assert (error["code"], "may not get ippools" in error["msg"]) == (50, True)


def test_status_tells_that_the_definitions_are_missing(tmp_path: Path, authority: Authority) -> None:
    with ApiServer(tmp_path / "apiserver", authority=authority, definitions=()) as server:
        node = Node(Cluster.of(server), tmp_path / "state")
        error = node.refused("STATUS", node.conf() | {"cniVersion": "1.1.0"})
        assert (error["code"], "IPPools is not installed" in error["msg"]) == (50, True)
        assert node.refused("ADD")["code"] == 7
        node.delete()


def test_gc_frees_what_this_node_no_longer_has(node: Node, tmp_path: Path) -> None:
    for number in (1, 2):
        node.add(CNI_CONTAINERID=f"s{number}", CNI_ARGS=POD.format(f"web-{number}"))
    Node(node.cluster, tmp_path / "other").add(CNI_CONTAINERID="s3", CNI_ARGS=POD.format("web-3"))
    keep = [{"containerID": "s2", "ifname": "net1"}]
    conf = node.conf() | {"cniVersion": "1.1.0", "cni.dev/valid-attachments": keep}
    assert node.call("GC", conf).status == 0
    assert list(node.cluster.entries()) == ["2", "3"]


def test_an_api_server_that_is_down_is_told_in_time_and_leaves_nothing(node: Node) -> None:
    node.cluster.server.on(faults.hang, times=-1)
    started = time.monotonic()
    error = node.refused("ADD", node.conf(request_timeout=2))
    assert time.monotonic() - started < 4
    assert (error["code"], "does not answer" in error["msg"]) == (11, True)
    assert node.records() == []


def test_a_delete_that_cannot_be_done_is_no_success_and_done_later(node: Node) -> None:
    node.add(node.conf(request_timeout=1))
    node.cluster.server.on(faults.hang, times=-1)
    assert node.refused("DEL")["code"] == 11
    assert len(node.records()) == 1
    node.cluster.server.heal()
    node.delete()
    assert (node.cluster.entries(), node.cluster.reservations(), node.records()) == ({}, {}, [])


def test_what_a_failed_add_could_not_give_back_is_given_back_by_delete(node: Node) -> None:
    conf = node.conf(request_timeout=2)
    node.cluster.record()
    node.cluster.server.on(faults.hang_after, method="PATCH")
    node.cluster.server.on(faults.hang, times=-1, when=lambda seen: seen.number > 3)
    assert node.refused("ADD", conf)["code"] == 11
    node.cluster.server.heal()
    assert list(node.cluster.entries()) == ["1"]
    node.delete({"cniVersion": "1.0.0", "name": "rail", "ipam": {}})
    assert (node.cluster.entries(), node.records()) == ({}, [])


def test_a_kubeconfig_that_is_missing_is_told_at_once(node: Node) -> None:
    error = node.refused("ADD", node.conf(kubernetes={"kubeconfig": "/none/kubeconfig"}))
    assert (error["code"], "/none/kubeconfig" in error["msg"]) == (7, True)


def test_podrail_ipam_shows_what_a_cluster_holds(node: Node) -> None:
    node.add()
    done = subprocess.run(
        [BIN / "podrail", "ipam", "show", "--json", "--kubeconfig", node.kubeconfig],
        env={"PATH": os.environ["PATH"], "PODRAIL_STATE_DIR": str(node.state)},
        capture_output=True,
        check=True,
    )
    (pool,) = json.loads(done.stdout)["pools"]
    assert (pool["range"], pool["held"]) == ("10.0.0.0/24", 1)
    assert pool["allocations"][0]["podref"] == "default/web-1"
