"""A node whose executables are the static client, and what a test of its daemon meets there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Gate, NodeWorld, gate
from tests.support.world import Namespace, StubIpam


@pytest.fixture
def node(host: Namespace, sandbox: Namespace, tmp_path: Path) -> NodeWorld:
    """A host with a master, and clients that find a daemon when a test starts one."""
    host.without_link_local()
    host.add_veth("eth0")
    state = tmp_path / "node" / "state"
    state.mkdir(parents=True)
    return NodeWorld(host, sandbox, state)


@pytest.fixture
def stub(node: NodeWorld, tmp_path: Path) -> StubIpam:
    """Somebody else's IPAM plugin, found before all others."""
    stub = StubIpam(tmp_path / "stub")
    stub.answers("ADD", {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}]})
    node.path = f"{stub.folder}:{node.path}"
    return stub


@pytest.fixture
def barrier(tmp_path: Path) -> Iterator[Gate]:
    with gate(tmp_path / "gate") as it:
        yield it
