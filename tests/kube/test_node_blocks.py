"""Node blocks: nodes claim parts of a range themselves, and serve pods from them without asking anyone."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_interface
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from cni.protocol.planning import Plan, Planning, plan
from cni.protocol.request import Request
from tests.support.apiserver import ApiServer, faults
from tests.support.node import POD, Node
from tests.support.stores import Cluster
from tests.support.world import BIN, Namespace, run


@pytest.fixture
def nodes(apiserver: ApiServer, tmp_path: Path) -> list[Node]:
    cluster = Cluster.of(apiserver)
    return [Node(cluster, tmp_path / name, name) for name in ("node-a", "node-b", "node-c")]


def conf(node: Node, **keys: Any) -> dict[str, Any]:
    return node.conf(**{"range": "10.0.0.0/28", "node_slice_size": "/30", "node_blocks": True} | keys)


def add(node: Node, number: int, **keys: Any) -> str:
    """Attach a pod; a block of /30 has room for two."""
    (address,) = node.add(conf(node, **keys), **pod(number))
    return address.partition("/")[0]


def delete(node: Node, number: int, **keys: Any) -> None:
    node.delete(conf(node, **keys), **pod(number))


def pod(number: int) -> dict[str, str]:
    return {"CNI_CONTAINERID": f"s{number}", "CNI_ARGS": POD.format(f"web-{number}")}


def make_node(cluster: Cluster, name: str) -> None:
    cluster.api.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})


def test_the_plan_of_a_pod_is_the_next_address_of_a_block_or_a_block_to_come(nodes: list[Node]) -> None:
    node = nodes[0]

    def planned(number: int) -> Plan:
        environment = node.environment("ADD", **pod(number))
        request = Request("ADD", environment, json.dumps(conf(node)).encode())
        return plan("whereabouts", request, Planning())

    assert "a block of 10.0.0.0/28 is claimed from the cluster first" in planned(1).open[0]
    assert {seen.method for seen in node.cluster.server.requests} <= {"GET"}
    add(node, 1)
    assert [str(ip.address) for ip in planned(2).result.ips] == ["10.0.0.2/28"]
    assert [str(ip.address) for ip in planned(1).result.ips] == ["10.0.0.1/28"]
    assert add(node, 2) == "10.0.0.2"
    assert planned(3).result.ips == ()


def test_a_block_serves_pods_without_a_request(nodes: list[Node]) -> None:
    node = nodes[0]
    assert node.add(conf(node), **pod(1)) == ["10.0.0.1/28"]
    assert node.cluster.blocks() == {"10.0.0.0/30": "node-a"}
    before = len(node.cluster.server.requests)
    assert add(node, 2) == "10.0.0.2"
    assert add(node, 2) == "10.0.0.2"
    delete(node, 1)
    assert add(node, 3) == "10.0.0.1"
    assert len(node.cluster.server.requests) == before


def test_claiming_a_block_is_three_requests(nodes: list[Node]) -> None:
    for number in (1, 2, 3):
        add(nodes[0], number)
    told = [
        f"{seen.method} {seen.path.rsplit('/kube-system/')[1]}" for seen in nodes[0].cluster.server.requests
    ]
    overlapping = "GET nodeslicepools"  # by whoever makes the object
    made = ["GET ippools", "GET nodeslicepools/rail", "POST nodeslicepools", overlapping]
    claimed = ["GET ippools", "GET nodeslicepools/rail", "PATCH nodeslicepools/rail"]
    assert told[:7] == made + claimed


def test_the_object_is_one_that_whereabouts_reads(nodes: list[Node]) -> None:
    add(nodes[0], 1, network_name="blue")
    found = nodes[0].cluster.api.get(nodes[0].cluster.path("nodeslicepools", "blue"))
    assert found["spec"] == {"range": "10.0.0.0/28", "sliceSize": "/30"}
    parts = [f"10.0.0.{n}/30" for n in (0, 4, 8, 12)]
    names = ["node-a", "", "", ""]
    entries = [{"nodeName": name, "sliceRange": part} for name, part in zip(names, parts, strict=True)]
    assert found["status"]["allocations"] == entries


def test_a_node_claims_another_block_when_its_own_is_full(nodes: list[Node]) -> None:
    assert [add(nodes[0], n) for n in range(3)] == ["10.0.0.1", "10.0.0.2", "10.0.0.5"]
    assert add(nodes[1], 9) == "10.0.0.9"
    assert nodes[0].cluster.blocks() == {
        "10.0.0.0/30": "node-a",
        "10.0.0.4/30": "node-a",
        "10.0.0.8/30": "node-b",
    }


def test_an_empty_block_is_given_back(nodes: list[Node]) -> None:
    for number in range(3):
        add(nodes[0], number)
    delete(nodes[0], 2)
    assert nodes[0].cluster.blocks() == {"10.0.0.0/30": "node-a"}
    delete(nodes[0], 0)
    delete(nodes[0], 1)
    assert nodes[0].cluster.blocks() == {}
    assert add(nodes[1], 5) == "10.0.0.1"


def test_no_block_left_is_told_and_takes_nothing(nodes: list[Node]) -> None:
    for number in range(8):
        add(nodes[number % 2], number)
    error = nodes[2].refused("ADD", conf(nodes[2]), **pod(9))
    assert (error["code"], 'no block of 10.0.0.0/28 (ipam) is left for node "node-c"' in error["msg"]) == (
        100,
        True,
    )
    assert nodes[2].records() == []
    status = conf(nodes[2]) | {"cniVersion": "1.1.0"}
    assert "no block of 10.0.0.0/28" in nodes[2].refused("STATUS", status)["msg"]


def test_what_ippools_record_is_taken(nodes: list[Node]) -> None:
    cluster = nodes[0].cluster
    held = {"id": "x", "podref": "default/old", "ifname": "net1"}
    cluster.record({"1": held, "2": held, "5": held}, name="10.0.0.0-28", range_="10.0.0.0/28")
    cluster.record({"1": held}, name="node-z-10.0.0.8-30", range_="10.0.0.8/30")
    cluster.divide("other", range_="10.0.1.0/24", node_z="10.0.0.8/30")  # of its range before
    assert add(nodes[0], 1) == "10.0.0.6"
    assert add(nodes[0], 2) == "10.0.0.10"


def test_a_block_that_a_rival_claims_first_is_the_rival_s(nodes: list[Node]) -> None:
    add(nodes[0], 1)
    cluster = nodes[0].cluster
    patch = [{"op": "replace", "path": "/status/allocations/1/nodeName", "value": "rival"}]
    rival = faults.rival(lambda: cluster.api.patch(cluster.path("nodeslicepools", "rail"), patch))
    cluster.server.on(rival, method="PATCH", path="nodeslicepools")
    assert add(nodes[1], 2) in ("10.0.0.9", "10.0.0.13")
    assert sorted(cluster.blocks().values()) == ["node-a", "node-b", "rival"]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(faults.lost_answer, id="lost-answer"),
        pytest.param(faults.applied_but(faults.answer(504, "Timeout")), id="504-after-it-was-done"),
        pytest.param(faults.closed_before, id="closed-before"),
        pytest.param(faults.answer(409, "Conflict"), id="conflict"),
        pytest.param(faults.answer(429, "TooManyRequests", retry_after=0), id="429"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_lost_answer_claims_no_second_block(nodes: list[Node], fault: faults.Fault, method: str) -> None:
    if method == "PATCH":
        add(nodes[1], 9)
    nodes[0].cluster.server.on(fault, method=method, path="nodeslicepools")
    add(nodes[0], 1)
    assert sorted(nodes[0].cluster.blocks().values()).count("node-a") == 1


def test_a_lost_answer_to_a_return_is_looked_up(nodes: list[Node]) -> None:
    add(nodes[0], 1)
    nodes[0].cluster.server.on(faults.lost_answer, method="PATCH", path="nodeslicepools")
    delete(nodes[0], 1)
    assert nodes[0].cluster.blocks() == {}


def test_an_api_server_that_is_down_stops_no_delete_and_the_block_goes_back_later(nodes: list[Node]) -> None:
    node, keys = nodes[0], {"request_timeout": 5}
    for number in (1, 2, 3):
        add(node, number, **keys)
    node.cluster.server.on(faults.reset_before, times=-1)
    delete(node, 1, **keys)
    delete(node, 3, **keys)
    node.cluster.server.heal()
    assert add(node, 4, **keys) == "10.0.0.1"
    assert node.cluster.blocks() == {"10.0.0.0/30": "node-a", "10.0.0.4/30": "node-a"}
    # A block that may be another's at any moment gives nothing out before that is settled.
    assert add(node, 5, **keys) == "10.0.0.5"
    assert set(node.cluster.blocks().values()) == {"node-a"}


def killed_while_claiming(node: Node, number: int, **keys: Any) -> None:
    """Let an ADD die when its claim of a block has been done, and not been answered."""
    reached, gone = threading.Event(), threading.Event()

    def strike(exchange: faults.Exchange) -> None:
        exchange.apply()
        reached.set()
        gone.wait(20)
        exchange.close()

    is_claim = lambda seen: seen.method != "GET"  # noqa: E731  # an argument
    node.cluster.server.on(strike, path="nodeslicepools", when=is_claim)
    process = subprocess.Popen(
        [BIN / "whereabouts"], env=node.environment("ADD", **pod(number)), stdin=subprocess.PIPE
    )
    assert process.stdin
    process.stdin.write(json.dumps(conf(node, **keys)).encode())
    process.stdin.close()
    assert reached.wait(20)
    process.kill()
    process.wait()
    gone.set()


def test_a_killed_claim_leaves_a_block_that_is_used_next(nodes: list[Node]) -> None:
    killed_while_claiming(nodes[0], 1)
    assert add(nodes[0], 2) == "10.0.0.1"
    assert nodes[0].cluster.blocks() == {"10.0.0.0/30": "node-a"}


def test_a_killed_claim_leaves_a_block_that_delete_gives_back(nodes: list[Node]) -> None:
    killed_while_claiming(nodes[0], 1)
    assert nodes[0].cluster.blocks() == {"10.0.0.0/30": "node-a"}
    delete(nodes[0], 1)
    assert nodes[0].cluster.blocks() == {}


def test_check_finds_what_is_held_in_a_block(nodes: list[Node]) -> None:
    result = nodes[0].call("ADD", conf(nodes[0]), **pod(1)).json
    checked = conf(nodes[0]) | {"prevResult": result}
    assert nodes[0].call("CHECK", checked, **pod(1)).status == 0
    assert nodes[0].refused("CHECK", checked, **pod(2))["code"] == 102


def test_gc_gives_addresses_and_blocks_back(nodes: list[Node]) -> None:
    for number in range(3):
        add(nodes[0], number)
    keep = [{"containerID": "s0", "ifname": "net1"}]
    listed = conf(nodes[0]) | {"cniVersion": "1.1.0", "cni.dev/valid-attachments": keep}
    assert nodes[0].call("GC", listed).status == 0
    assert nodes[0].cluster.blocks() == {"10.0.0.0/30": "node-a"}
    assert add(nodes[0], 7) == "10.0.0.2"


def test_a_delete_needs_no_configuration(nodes: list[Node]) -> None:
    add(nodes[0], 1)
    nodes[0].delete({"cniVersion": "1.0.0", "name": "rail", "ipam": {}}, CNI_ARGS="", CNI_CONTAINERID="s1")
    assert nodes[0].cluster.blocks() == {}


def test_an_address_that_is_asked_for_brings_its_block(nodes: list[Node]) -> None:
    node = nodes[0]
    asked = conf(node) | {"runtimeConfig": {"ips": ["10.0.0.13"]}}
    assert node.add(asked, **pod(1)) == ["10.0.0.13/28"]
    assert node.cluster.blocks() == {"10.0.0.12/30": "node-a"}


def test_both_families_have_blocks_of_their_own(nodes: list[Node]) -> None:
    node = nodes[0]
    both = conf(node, range="", ipRanges=[{"range": "10.0.0.0/28"}, {"range": "fd00::/64"}])
    assert node.add(both, **pod(1)) == ["10.0.0.1/28", "fd00::1/64"]
    assert node.cluster.blocks("rail-fd00---64") == {"fd00::/126": "node-a"}
    node.delete(both, **pod(1))
    assert node.cluster.blocks() == node.cluster.blocks("rail-fd00---64") == {}


def test_a_range_of_very_many_blocks_lists_them_as_they_are_needed(nodes: list[Node]) -> None:
    node, keys = nodes[0], {"range": "10.0.0.0/8", "node_slice_size": "/27"}
    assert add(node, 1, **keys) == "10.0.0.1"
    path = node.cluster.path("nodeslicepools", "rail")
    entries = node.cluster.api.get(path)["status"]["allocations"]
    assert len(entries) == 1024
    others = [{**entry, "nodeName": "other"} for entry in entries]
    node.cluster.api.patch(path, [{"op": "replace", "path": "/status/allocations", "value": others}])
    assert add(nodes[1], 2, **keys) == "10.0.128.1"


def test_an_object_that_divides_otherwise_is_told(nodes: list[Node]) -> None:
    nodes[0].cluster.divide(range_="10.0.0.0/28", size="/29")
    error = nodes[0].refused("ADD", conf(nodes[0]), **pod(1))
    assert (error["code"], "into blocks of /29" in error["msg"]) == (7, True)


def named(node: Node, name: str, **keys: Any) -> dict[str, Any]:
    return conf(node, **keys) | {"name": name}


@pytest.mark.parametrize(
    ("first", "second", "is_refused"),
    [
        pytest.param({}, {}, True, id="the-same-range-of-two-networks"),
        pytest.param({}, {"range": "10.0.0.0/24"}, True, id="a-range-around-it"),
        pytest.param({}, {"range": "10.0.0.8/29"}, True, id="a-part-of-it"),
        pytest.param({}, {"range": "10.0.1.0/28"}, False, id="a-range-beside-it"),
        pytest.param({}, {"network_name": "blue"}, False, id="one-of-another-network-name"),
        pytest.param({"network_name": "blue"}, {"network_name": "blue"}, False, id="one-shared-by-name"),
        pytest.param(
            {"network_name": "blue"},
            {"network_name": "blue", "ipRanges": [{"range": "10.0.0.0/27"}]},
            True,
            id="a-further-range-of-one-name",
        ),
        pytest.param({}, {"enable_overlapping_ranges": False}, False, id="where-nobody-minds"),
    ],
)
def test_ranges_that_overlap_cannot_both_have_blocks(
    nodes: list[Node], first: dict[str, Any], second: dict[str, Any], is_refused: bool
) -> None:
    nodes[0].add(named(nodes[0], "one", **first), **pod(1))
    (made,) = nodes[1].cluster.api.list(nodes[1].cluster.path("nodeslicepools"))
    other = made["metadata"]["name"]
    for _ in range(2):
        answer = nodes[1].call("ADD", named(nodes[1], "two", **second), **pod(2))
        assert (answer.status == 1) == is_refused, answer
        if is_refused:
            assert (answer.code, f'"{other}" divides 10.0.0.0/28' in answer.json["msg"]) == (7, True)
            assert nodes[1].records() == []
    if is_refused and "ipRanges" not in second:
        nodes[0].delete(named(nodes[0], "one", **first), **pod(1))
        nodes[1].cluster.api.delete(nodes[1].cluster.path("nodeslicepools", other))
        nodes[1].add(named(nodes[1], "two", **second), **pod(2))


def test_of_two_overlapping_ranges_that_are_divided_at_once_none_is_used_unseen(nodes: list[Node]) -> None:
    cluster = nodes[0].cluster
    rival = faults.rival(lambda: cluster.divide("other", "10.0.0.0/24", node_b="10.0.0.64/26"))
    cluster.server.on(rival, method="POST", path="nodeslicepools")
    for _ in range(2):
        error = nodes[0].refused("ADD", conf(nodes[0]), **pod(1))
        assert (error["code"], '"other" divides 10.0.0.0/24' in error["msg"]) == (7, True)
        assert (cluster.blocks(), nodes[0].records()) == ({}, [])
    path = cluster.path("nodeslicepools", "rail")
    assert '"other"' in cluster.api.get(path)["metadata"]["annotations"]["podrail.whereabouts/overlaps"]
    cluster.api.delete(cluster.path("nodeslicepools", "other"))
    again = faults.rival(
        lambda: cluster.divide("third", "10.0.0.0/24")
    )  # just when it was thought to be alone
    cluster.server.on(again, method="PATCH", path="nodeslicepools/rail")
    assert '"third" divides' in nodes[0].refused("ADD", conf(nodes[0]), **pod(1))["msg"]
    cluster.api.delete(cluster.path("nodeslicepools", "third"))
    assert add(nodes[0], 1) == "10.0.0.1"
    assert "podrail.whereabouts/overlaps" not in cluster.api.get(path)["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        pytest.param({"node_slice_size": ""}, 'without "node_slice_size"', id="no-size"),
        pytest.param({"node_slice_size": "/24"}, "node_slice_size", id="larger-than-the-range"),
        pytest.param({"node_slice_size": "/33"}, "node_slice_size", id="longer-than-an-address"),
    ],
)
def test_a_size_that_cannot_be_is_refused(nodes: list[Node], keys: dict[str, Any], told: str) -> None:
    error = nodes[0].refused("ADD", conf(nodes[0], **keys), **pod(1))
    assert (error["code"], told in error["msg"]) == (7, True)


def test_a_node_that_is_gone_keeps_its_block_until_it_is_gone_for_long(nodes: list[Node]) -> None:
    cluster = nodes[0].cluster
    for number in range(8):
        add(nodes[number % 2], number)
    for name in ("node-b", "node-c"):
        make_node(cluster, name)
    error = nodes[2].refused("ADD", conf(nodes[2]), **pod(9))
    assert (error["code"], "The nodes node-a are gone" in error["details"]) == (100, True)
    _make_deaths_older(cluster, minutes=9)
    assert nodes[2].refused("ADD", conf(nodes[2]), **pod(9))["code"] == 100
    _make_deaths_older(cluster, minutes=10)
    assert add(nodes[2], 9) == "10.0.0.1"
    assert list(cluster.blocks().values()) == ["node-c", "node-b", "node-a", "node-b"]


def test_a_block_with_a_pod_that_runs_is_not_taken(nodes: list[Node]) -> None:
    cluster = nodes[0].cluster
    for number in range(8):
        add(nodes[number % 2], number)
    make_node(cluster, "node-b")
    status = json.dumps([{"name": "rail", "interface": "net1", "ips": ["10.0.0.1"]}])
    annotations = {"k8s.v1.cni.cncf.io/network-status": status}
    cluster.server.seed(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web-0", "namespace": "default", "annotations": annotations},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
    )
    nodes[2].refused("ADD", conf(nodes[2]), **pod(9))
    _make_deaths_older(cluster, minutes=10)
    assert add(nodes[2], 9) == "10.0.0.9"


def test_a_block_whose_addresses_somebody_answers_for_is_not_taken(
    nodes: list[Node], peer: Namespace
) -> None:
    cluster = nodes[0].cluster
    for number in range(8):
        add(nodes[number % 2], number)
    make_node(cluster, "node-b")
    nodes[2].refused("ADD", conf(nodes[2]), **pod(9))
    _make_deaths_older(cluster, minutes=10)
    on_rail = conf(nodes[2]) | {"master": "rail0"}
    with _wire("rail0", peer):
        peer.ip("address", "add", "10.0.0.2/24", "dev", "far0")
        answer = nodes[2].call("ADD", on_rail, **pod(9))
        assert (answer.json["ips"][0]["address"], "10.0.0.2 answers" in answer.stderr) == (
            "10.0.0.9/28",
            True,
        )
        assert nodes[2].add(on_rail, **pod(10)) == ["10.0.0.10/28"]
        assert nodes[2].refused("ADD", on_rail, **pod(11))["code"] == 100
        peer.ip("address", "flush", "dev", "far0")
        assert nodes[2].add(on_rail, **pod(11)) == ["10.0.0.1/28"]


def test_a_block_is_left_alone_where_nobody_can_be_asked(nodes: list[Node]) -> None:
    for number in range(8):
        add(nodes[number % 2], number)
    make_node(nodes[0].cluster, "node-b")
    nodes[2].refused("ADD", conf(nodes[2]), **pod(9))
    _make_deaths_older(nodes[0].cluster, minutes=10)
    answer = nodes[2].call("ADD", conf(nodes[2]) | {"master": "absent0"}, **pod(9))
    assert (answer.code, '"absent0"' in answer.stderr) == (100, True)


def test_how_long_a_node_must_be_gone_can_be_set(nodes: list[Node]) -> None:
    for number in range(8):
        add(nodes[number % 2], number)
    make_node(nodes[0].cluster, "node-b")
    error = nodes[2].refused("ADD", conf(nodes[2], block_hold_time="2m"), **pod(9))
    assert "2 minutes after that was seen" in error["details"]
    _make_deaths_older(nodes[0].cluster, minutes=2)
    assert nodes[2].refused("ADD", conf(nodes[2]), **pod(9))["code"] == 100
    assert add(nodes[2], 9, block_hold_time="2m") == "10.0.0.1"


@contextmanager
def _wire(name: str, peer: Namespace) -> Iterator[None]:
    """Lay a wire from this process's namespace to the peer's `far0`."""
    run("ip", "link", "add", name, "type", "veth", "peer", "name", "far0", "netns", peer.name)
    try:
        peer.ip("link", "set", "far0", "up")
        run("ip", "link", "set", name, "up")
        yield
    finally:
        run("ip", "link", "del", name)


def test_a_node_that_came_back_is_alive(nodes: list[Node]) -> None:
    cluster = nodes[0].cluster
    for number in range(8):
        add(nodes[number % 2], number)
    make_node(cluster, "node-b")
    nodes[2].refused("ADD", conf(nodes[2]), **pod(9))
    make_node(cluster, "node-a")
    _make_deaths_older(cluster, minutes=10)
    assert nodes[2].refused("ADD", conf(nodes[2]), **pod(9))["code"] == 100
    noted = cluster.api.get(cluster.path("nodeslicepools", "rail"))["metadata"]["annotations"]
    assert noted == {"podrail.whereabouts/network-name": ""}


def _make_deaths_older(cluster: Cluster, minutes: int) -> None:
    """Let what is noted as gone have been so for that long."""
    path = cluster.path("nodeslicepools", "rail")
    noted = cluster.api.get(path)["metadata"]["annotations"]
    then = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="seconds")
    older = {n: f"{then} {text.partition(' ')[2]}" for n, text in noted.items() if "gone" in n}
    patch = {"metadata": {"annotations": older}}
    cluster.api.patch(path, patch, "application/merge-patch+json")


RAILS = {"range": "10.0.0.0/16", "node_slice_size": "/24", "network_name": "rails"}


def start_pods(node: Node) -> list[str]:
    """Start eight pods with sixteen networks each, and return their addresses."""
    given = []
    for number in range(8):
        name = f"{node.name}-{number}"
        variables = {"CNI_CONTAINERID": name, "CNI_ARGS": POD.format(name)}
        for rail in range(16):
            given += node.add(conf(node, **RAILS), CNI_IFNAME=f"net{rail}", **variables)
    return given


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A directory whose syncing costs nothing: here disks are not what is tested."""
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_sixteen_nodes_at_once_share_no_block_ask_little_and_leave_nothing(
    apiserver: ApiServer, in_memory: Path
) -> None:
    cluster = Cluster.of(apiserver)
    nodes = [Node(cluster, in_memory / f"n{i}", f"n{i}") for i in range(16)]
    for node in nodes[:3]:
        killed_while_claiming(node, 99, **RAILS)
    before = len(cluster.server.requests)
    with ThreadPoolExecutor(16) as pool:
        given = dict(zip((node.name for node in nodes), pool.map(start_pods, nodes), strict=True))
    everything = [address for addresses in given.values() for address in addresses]
    assert len(set(everything)) == len(everything) == 16 * 8 * 16
    holders = cluster.blocks("rails")
    for name, addresses in given.items():
        parts = {str(ip_interface(address.replace("/16", "/24")).network) for address in addresses}
        assert {holders[part] for part in parts} == {name}
    assert (len(cluster.server.requests) - before) / len(everything) <= 0.05
    for node in nodes[:3]:
        nothing = conf(node, **RAILS) | {"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}
        assert node.call("GC", nothing).status == 0
        assert node.records() == []
    assert not {"n0", "n1", "n2"} & set(cluster.blocks("rails").values())
