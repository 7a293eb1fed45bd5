"""Fixtures of multus' tests, which several files share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.apiserver.certificates import Authority
from tests.support.cluster import Cluster
from tests.support.cluster import cluster as running_cluster
from tests.support.pods import Multus, StubPlugin
from tests.support.world import Namespace, WarmWorld


@pytest.fixture
def multus(host: Namespace, sandbox: Namespace, tmp_path: Path) -> Multus:
    """multus on a host with the wire eth0, called within this process."""
    host.add_veth("eth0")
    sandbox.without_link_local()
    return Multus(WarmWorld(host, sandbox, tmp_path / "state"), tmp_path / "multus")


@pytest.fixture
def stubs(multus: Multus, tmp_path: Path) -> Callable[..., StubPlugin]:
    """Make plugins of another make, found along CNI_PATH."""

    def make(plugin_type: str, address: str = "10.7.0.5/24") -> StubPlugin:
        stub = StubPlugin(tmp_path / f"stub-{plugin_type}", plugin_type, address)
        multus.world.path = f"{stub.folder}:{multus.world.path}"
        return stub

    return make


@pytest.fixture
def cluster(multus: Multus, host: Namespace, authority: Authority, tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(multus, host, authority, tmp_path / "server") as cluster:
        yield cluster
