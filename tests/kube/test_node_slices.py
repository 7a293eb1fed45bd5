"""Node slices: what Whereabouts' controller gave to this node is all that it gives out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cni.protocol.errors import InvalidConfig
from ipam.node_slices import node_name
from tests.support.apiserver import ApiServer
from tests.support.node import POD, Node
from tests.support.stores import Cluster


@pytest.fixture
def node(apiserver: ApiServer, tmp_path: Path) -> Node:
    return Node(Cluster.of(apiserver), tmp_path / "state", name="node-b")


def conf(node: Node, **keys: Any) -> dict[str, Any]:
    return node.conf(node_slice_size="/26", **keys)


def test_addresses_come_from_the_node_s_slice_with_the_prefix_of_the_range(node: Node) -> None:
    node.cluster.divide(node_a="10.0.0.0/26", node_b="10.0.0.64/26")
    assert node.add(conf(node)) == ["10.0.0.65/24"]
    pool = node.cluster.api.get(node.cluster.path("ippools", "node-b-10.0.0.64-26"))
    assert (pool["spec"]["range"], list(pool["spec"]["allocations"])) == ("10.0.0.64/26", ["1"])
    assert list(node.cluster.reservations()) == ["10.0.0.65"]
    node.delete(conf(node))
    assert (node.cluster.entries("node-b-10.0.0.64-26"), node.cluster.reservations()) == ({}, {})


def test_a_network_name_names_slices_pool_and_reservation(node: Node) -> None:
    node.cluster.divide("blue", node_b="10.0.0.64/26")
    node.add(conf(node, network_name="blue"))
    assert list(node.cluster.entries("blue-node-b-10.0.0.64-26")) == ["1"]
    assert list(node.cluster.reservations()) == ["blue-10.0.0.65"]


def test_bounds_and_exclusions_count(node: Node) -> None:
    node.cluster.divide(node_b="10.0.0.64/26")
    asked = conf(node, range_start="10.0.0.70", exclude=["10.0.0.70", "10.0.0.72/29"])
    assert node.add(asked) == ["10.0.0.71/24"]
    assert node.add(asked, CNI_CONTAINERID="s2", CNI_ARGS=POD.format("web-2")) == ["10.0.0.80/24"]


def test_check_and_status_look_at_the_slice(node: Node) -> None:
    node.cluster.divide(node_b="10.0.0.64/30")
    asked = conf(node) | {"cniVersion": "1.1.0"}
    result = node.call("ADD", asked).json
    assert node.call("CHECK", asked | {"prevResult": result}).status == 0
    assert node.call("STATUS", asked).status == 0
    node.add(asked, CNI_CONTAINERID="s2", CNI_ARGS=POD.format("web-2"))
    assert node.refused("STATUS", asked)["code"] == 50
    full = node.refused("ADD", asked, CNI_CONTAINERID="s3", CNI_ARGS=POD.format("web-3"))
    assert (full["code"], "10.0.0.65 to 10.0.0.66" in full["details"]) == (100, True)


def test_a_delete_without_a_record_finds_the_slice(node: Node, tmp_path: Path) -> None:
    node.cluster.divide(node_b="10.0.0.64/26")
    node.add(conf(node))
    node.cluster.api.delete(node.cluster.path("nodeslicepools", "rail"))
    Node(node.cluster, tmp_path / "other", name="node-b").delete(conf(node))
    assert node.cluster.entries("node-b-10.0.0.64-26") == {}


def test_a_missing_pool_of_slices_is_told(node: Node) -> None:
    error = node.refused("ADD", conf(node))
    assert (error["code"], 'NodeSlicePool "rail" does not exist' in error["msg"]) == (11, True)
    assert "node_blocks" in error["details"]
    assert node.records() == []


def test_a_node_without_a_slice_is_told_which_nodes_have_one(node: Node) -> None:
    node.cluster.divide(node_a="10.0.0.0/26")
    error = node.refused("ADD", conf(node))
    assert (error["code"], 'for node "node-b"' in error["msg"]) == (11, True)
    assert "node-a" in error["details"]


def test_bounds_that_leave_nothing_of_the_slice_are_told(node: Node) -> None:
    node.cluster.divide(node_b="10.0.0.64/26")
    error = node.refused("ADD", conf(node, range_start="10.0.0.200"))
    assert (error["code"], "10.0.0.200" in error["details"]) == (7, True)


def test_the_name_of_the_node_is_looked_for_in_order(tmp_path: Path) -> None:
    flat = tmp_path / "flat" / "whereabouts.conf"
    for folder, name in ((tmp_path / "conf", "by-path\n"), (flat.parent, "by-flat-file")):
        folder.mkdir()
        (folder / "nodename").write_text(name)
    assert node_name({"NODENAME": " by-variable "}, str(tmp_path / "conf"), flat) == "by-variable"
    assert node_name({}, str(tmp_path / "conf"), flat) == "by-path"
    assert node_name({}, str(tmp_path / "conf" / "whereabouts.conf"), flat) == "by-path"
    assert node_name({}, None, flat) == "by-flat-file"
    hostname = tmp_path / "hostname"
    hostname.write_text("by-host\n")
    assert node_name({}, None, None, hostname) == "by-host"


def test_a_node_without_a_name_is_told_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig) as caught:
        node_name({}, str(tmp_path), None, tmp_path / "none")
    assert f"{tmp_path / 'nodename'}, {tmp_path / 'none'}" in caught.value.details
