"""Killed at any request, the next DEL gives everything back, and the next ADD goes on from there."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.apiserver import ApiServer, faults
from tests.support.node import POD, Node
from tests.support.stores import Cluster
from tests.support.world import BIN


@pytest.fixture
def node(apiserver: ApiServer, tmp_path: Path) -> Node:
    return Node(Cluster.of(apiserver), tmp_path / "state")


def killed(node: Node, command: str, nth: int, *, is_done: bool, **variables: str) -> None:
    """Let a call die at its nth request, before or after the server has done that."""
    reached, gone = threading.Event(), threading.Event()

    def strike(exchange: faults.Exchange) -> None:
        if is_done:
            exchange.apply()
        reached.set()
        gone.wait(30)
        exchange.close()

    node.cluster.server.on(strike, nth=nth)
    process = subprocess.Popen(
        [BIN / "whereabouts"],
        env=node.environment(command, **variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin
    process.stdin.write(json.dumps(conf(node)).encode())
    process.stdin.close()
    assert reached.wait(30)
    process.kill()
    process.wait()
    gone.set()


def conf(node: Node) -> dict[str, Any]:
    return node.conf(ipRanges=[{"range": "10.1.0.0/24"}])


def left(node: Node) -> list[Any]:
    """Return what the cluster and the node have of the first pod."""
    pools = [node.cluster.entries(name) for name in ("10.0.0.0-24", "10.1.0.0-24")]
    held = [each for pool in pools for each in pool.values() if each["podref"] == "default/web-1"]
    reserved = [spec for spec in node.cluster.reservations().values() if spec["podref"] == "default/web-1"]
    return held + reserved + [path for path in node.records() if "sandbox-1" in path.name]


MOMENTS = [
    pytest.param(1, False, id="before-the-first-pool-is-read"),
    pytest.param(2, True, id="after-the-first-claim"),
    pytest.param(3, False, id="before-the-first-reservation"),
    pytest.param(3, True, id="after-the-first-reservation"),
    pytest.param(5, True, id="after-the-second-claim"),
    pytest.param(6, True, id="after-the-last-reservation"),
]


@pytest.mark.parametrize(("nth", "is_done"), MOMENTS)
def test_a_killed_add_is_given_back_by_delete(node: Node, nth: int, is_done: bool) -> None:
    node.add(conf(node), CNI_CONTAINERID="other", CNI_ARGS=POD.format("web-2"))
    killed(node, "ADD", nth, is_done=is_done)
    node.delete({"cniVersion": "1.0.0", "name": "rail", "ipam": {}}, CNI_ARGS="")
    assert left(node) == []
    assert len(node.cluster.reservations()) == 2


@pytest.mark.parametrize(("nth", "is_done"), MOMENTS)
def test_a_killed_add_is_completed_by_the_next(node: Node, nth: int, is_done: bool) -> None:
    node.add(conf(node), CNI_CONTAINERID="other", CNI_ARGS=POD.format("web-2"))
    killed(node, "ADD", nth, is_done=is_done)
    assert node.add(conf(node)) == ["10.0.0.2/24", "10.1.0.2/24"]
    assert len(node.cluster.reservations()) == 4
    node.delete()
    assert left(node) == []


@pytest.mark.parametrize(
    ("nth", "is_done"),
    [
        pytest.param(1, True, id="after-the-first-reservation-is-deleted"),
        pytest.param(2, False, id="before-the-first-entry-is-removed"),
        pytest.param(2, True, id="after-the-first-entry-is-removed"),
        pytest.param(4, True, id="after-the-last-entry-is-removed"),
    ],
)
def test_a_killed_delete_is_completed_by_the_next(node: Node, nth: int, is_done: bool) -> None:
    node.add(conf(node))
    killed(node, "DEL", nth, is_done=is_done)
    assert left(node)
    node.delete({"cniVersion": "1.0.0", "name": "rail", "ipam": {}}, CNI_ARGS="")
    assert left(node) == []
