"""Containers of a real containerd: it attaches them, they use what they got, and it detaches them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.containerd import Containerd
from tests.support.world import Namespace, rail, static

ROUTES = [{"dst": "0.0.0.0/0"}]
GATEWAY = "10.1.0.1"
WAITS = "echo ready; read line"


@pytest.fixture
def containerd(host: Namespace, peer: Namespace, tmp_path: Path) -> Iterator[Containerd]:
    host.add_veth("eth0", peer)
    peer.ip("address", "add", f"{GATEWAY}/24", "dev", "eth0-peer")
    with Containerd(host, tmp_path) as started:
        yield started


def _macvlan(ipam: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    """A plugin of a list, which brings name and version itself."""
    conf = rail(ipam=ipam or static(f"10.1.0.5/24 via {GATEWAY}", routes=ROUTES), **keys)
    return {key: value for key, value in conf.items() if key not in ("cniVersion", "name")}


def _host_local() -> dict[str, Any]:
    return {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": ROUTES}


def test_container_gets_its_address_and_leaves_nothing(containerd: Containerd, host: Namespace) -> None:
    containerd.configure(_macvlan())
    before = host.snapshot(), containerd.files()
    looks = "ip -o address show dev eth0 scope global; ip route"
    container = containerd.container("c1", f"{looks}; ping -c 1 -W 5 {GATEWAY} >&2 && {WAITS}")
    assert "inet 10.1.0.5/24 brd 10.1.0.255 scope global eth0" in container.says()
    assert container.says().strip() == f"default via {GATEWAY} dev eth0"
    assert container.says().startswith("10.1.0.0/24 dev eth0 ")
    assert container.says() == "ready"
    (record,) = containerd.attachments()
    assert (record["network"], record["ifname"], record["mode"]) == ("rail", "eth0", "bridge")
    assert record["container_id"].endswith("-c1")
    assert container.ends("\n").status == 0
    assert (host.snapshot(), containerd.files()) == before


def test_container_that_is_killed_leaves_nothing(containerd: Containerd, host: Namespace) -> None:
    containerd.configure(_macvlan())
    before = host.snapshot(), containerd.files()
    container = containerd.container("c1", WAITS)
    assert container.says() == "ready"
    container.kill()
    assert container.ends().status == 128 + signal.SIGKILL
    assert (host.snapshot(), containerd.files()) == before


def test_containers_reach_each_other_through_a_chain_of_several_makes(
    containerd: Containerd, host: Namespace
) -> None:
    """Our macvlan with Debian's host-local below it and Debian's tuning after it."""
    containerd.configure(_macvlan(_host_local()), {"type": "tuning", "mtu": 1400})
    before = host.snapshot()
    first = containerd.container("c1", f"cat /sys/class/net/eth0/mtu; {WAITS}")
    assert [first.says(), first.says()] == ["1400", "ready"]
    second = containerd.container("c2", f"ping -c 1 -W 5 10.1.0.2 >&2 && {WAITS}")
    assert second.says() == "ready"
    assert [record["delegates"] for record in containerd.attachments()] == [["host-local"]] * 2
    leases = containerd.path("/var/lib/cni/networks/rail")
    assert {lease.name for lease in leases.glob("10.*")} == {"10.1.0.2", "10.1.0.3"}
    assert [container.ends("\n").status for container in (first, second)] == [0, 0]
    assert host.snapshot() == before
    assert (containerd.attachments(), list(leases.glob("10.*"))) == ([], [])


def test_container_whose_add_is_refused_does_not_start_and_the_reason_is_told(
    containerd: Containerd, host: Namespace
) -> None:
    containerd.configure(_macvlan(master="eth9"))
    before = host.snapshot(), containerd.files()
    answer = containerd.container("c1", "echo started").ends()
    assert (answer.status, answer.stdout) == (1, "")
    assert 'master "eth9" does not exist on the host' in answer.stderr
    assert "Links present: eth0." in answer.stderr
    assert (host.snapshot(), containerd.files()) == before
