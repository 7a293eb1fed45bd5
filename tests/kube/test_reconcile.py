"""podrail ipam reconcile: what is proven to be free is freed, what drifted apart is repaired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ipam.cli import main
from tests.support.apiserver import ApiServer, faults
from tests.support.stores import Cluster

STATUS = "k8s.v1.cni.cncf.io/network-status"


class Reconciling:
    """A cluster and what the command says of it."""

    def __init__(self, server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
        self.cluster = Cluster.of(server)
        self._capsys = capsys
        self._kubeconfig = str(server.kubeconfig())

    def run(self, *arguments: str, grace: str = "0") -> list[str]:
        """Make one pass and return what it told."""
        base = ("reconcile", "--once", "--kubeconfig", self._kubeconfig, "--grace", grace)
        assert main([*base, *arguments]) == 0
        return self._capsys.readouterr().out.splitlines()

    def pod(self, name: str, *ips: str, phase: str = "Running", status: object = None, **more: Any) -> None:
        """Let there be a pod with addresses in its network-status, or with another status."""
        found = [{"name": "default/rail", "interface": "net1", "ips": list(ips)}] if ips else status
        text = found if isinstance(found, str) else json.dumps(found)
        annotations = {} if found is None else {STATUS: text}
        self.cluster.server.seed(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "default", "annotations": annotations},
                "spec": {"nodeName": "node-a", "containers": [{"name": "c", "image": "i"}]},
                "status": {"phase": phase, **more},
            }
        )


@pytest.fixture
def reconciling(
    apiserver: ApiServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Reconciling:
    monkeypatch.setenv("PODRAIL_STATE_DIR", str(tmp_path / "state"))
    return Reconciling(apiserver, capsys)


def entry(name: str, **fields: str) -> dict[str, str]:
    return {"id": f"sandbox-of-{name}", "podref": f"default/{name}", "ifname": "net1"} | fields


def hold(cluster: Cluster, key: str = "5", name: str = "web", **fields: str) -> None:
    """Record an address of 10.0.0.0/24 with its reservation."""
    cluster.record({key: entry(name, **fields)})
    cluster.reserve(f"10.0.0.{key}", podref=f"default/{name}", ifname="net1")


EVICTED = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}


@pytest.mark.parametrize(
    ("pod", "why"),
    [
        pytest.param(None, "the pod is not in the API", id="a-pod-that-is-gone"),
        pytest.param({"phase": "Succeeded"}, "the pod has ended (Succeeded)", id="a-pod-that-has-ended"),
        pytest.param({"phase": "Failed"}, "the pod has ended (Failed)", id="a-pod-that-has-failed"),
        pytest.param({"conditions": [EVICTED]}, "the taint manager has marked the pod", id="an-evicted-pod"),
        pytest.param(
            {"ips": ["10.0.0.9"]}, "its network-status has only 10.0.0.9", id="a-pod-with-another-address"
        ),
    ],
)
def test_what_is_proven_to_be_free_is_freed(
    reconciling: Reconciling, pod: dict[str, Any] | None, why: str
) -> None:
    hold(reconciling.cluster)
    if pod is not None:
        reconciling.pod("web", *pod.pop("ips", ()), **pod)
    (told,) = reconciling.run()
    assert told.startswith("free 10.0.0.5 of 10.0.0.0/24 (default/web net1")
    assert why in told
    assert (reconciling.cluster.entries(), reconciling.cluster.reservations()) == ({}, {})
    assert reconciling.run() == []


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param({"ips": ["10.0.0.5"]}, id="a-pod-that-has-the-address"),
        pytest.param({"phase": "Pending"}, id="a-pod-that-starts"),
        pytest.param({"phase": "Pending", "ips": ["10.9.0.1"]}, id="a-pod-that-starts-with-a-status"),
        pytest.param({"phase": "Unknown", "ips": ["10.9.0.1"]}, id="a-pod-of-which-nothing-is-known"),
        pytest.param({}, id="a-pod-without-a-status"),
        pytest.param({"status": "{not json"}, id="a-status-that-cannot-be-read"),
        pytest.param({"status": []}, id="an-empty-status"),
        pytest.param({"status": [{"ips": ["five"]}]}, id="a-status-with-no-address"),
        pytest.param({"status": {"ips": []}}, id="a-status-of-another-shape"),
        pytest.param(
            {"status": [{"name": "cbr0", "default": True, "ips": ["10.0.0.5"]}]}, id="a-default-network"
        ),
        pytest.param({"conditions": [EVICTED | {"reason": "PreemptionByScheduler"}]}, id="a-preempted-pod"),
        pytest.param({"conditions": [EVICTED | {"status": "False"}]}, id="a-mark-that-is-off"),
    ],
)
def test_what_is_not_proven_is_kept(reconciling: Reconciling, pod: dict[str, Any]) -> None:
    hold(reconciling.cluster)
    reconciling.pod("web", *pod.pop("ips", ()), **pod)
    assert reconciling.run() == []
    assert list(reconciling.cluster.entries()) == ["5"]


def test_what_a_pod_holds_that_is_being_deleted_is_kept(reconciling: Reconciling) -> None:
    hold(reconciling.cluster)
    reconciling.pod("web", "10.9.0.1")
    path = "/api/v1/namespaces/default/pods/web"
    reconciling.cluster.api.delete(path)
    assert reconciling.cluster.api.get(path)["metadata"]["deletionTimestamp"]
    assert reconciling.run() == []


@pytest.mark.parametrize("podref", ["", "web", "default/", "Default/Web", "default/web/1"])
def test_an_entry_without_a_pod_is_kept(reconciling: Reconciling, podref: str) -> None:
    reconciling.cluster.record({"5": entry("web", podref=podref)})
    assert reconciling.run() == []


def test_of_two_entries_of_a_pod_the_right_one_goes(reconciling: Reconciling) -> None:
    reconciling.cluster.record({"5": entry("web"), "6": entry("web", id="earlier")})
    reconciling.pod("web", "10.0.0.5")
    assert "free 10.0.0.6" in reconciling.run()[0]
    assert list(reconciling.cluster.entries()) == ["5"]


def test_pools_of_names_and_nodes_and_odd_keys_are_looked_at_too(reconciling: Reconciling) -> None:
    cluster = reconciling.cluster
    cluster.record({"1": entry("a"), "999": entry("a", id="x")}, name="blue-10.0.0.0-24")
    cluster.reserve("blue-10.0.0.1", podref="default/a", ifname="net1")
    cluster.record({"1": entry("b")}, name="blue-fd00-1---64", range_="fd00:1::/64")
    cluster.reserve("blue-fd00-1--1", podref="default/b", ifname="net1")
    cluster.divide("blue", node_a="10.1.0.0/26")
    cluster.record({"1": entry("c")}, name="blue-node-a-10.1.0.0-26", range_="10.1.0.0/26")
    assert len(reconciling.run()) == 4
    names = ("blue-10.0.0.0-24", "blue-fd00-1---64", "blue-node-a-10.1.0.0-26")
    assert [cluster.entries(name) for name in names] == [{}, {}, {}]
    assert cluster.reservations() == {}


def test_nothing_is_freed_before_the_grace_is_over(reconciling: Reconciling) -> None:
    hold(reconciling.cluster)
    assert reconciling.run(grace="1h")[0].startswith("in 3600 s will free 10.0.0.5")
    assert reconciling.run(grace="1h")[0].startswith("in ")
    assert list(reconciling.cluster.entries()) == ["5"]


def test_the_grace_counts_from_the_first_pass(reconciling: Reconciling, tmp_path: Path) -> None:
    hold(reconciling.cluster)
    reconciling.run(grace="60s")
    (memory,) = (tmp_path / "state" / "reconcile").iterdir()
    memory.write_text(json.dumps({key: value - 60 for key, value in json.loads(memory.read_text()).items()}))
    assert reconciling.run(grace="60s")[0].startswith("free 10.0.0.5")
    assert reconciling.run(grace="60s") == []
    assert not (tmp_path / "state" / "reconcile").exists()


def test_a_suspicion_that_passes_is_forgotten(reconciling: Reconciling, tmp_path: Path) -> None:
    hold(reconciling.cluster)
    reconciling.run(grace="1h")
    reconciling.pod("web", "10.0.0.5")
    assert reconciling.run(grace="1h") == []
    assert not (tmp_path / "state" / "reconcile").exists()


def test_a_dry_run_tells_and_does_nothing(reconciling: Reconciling, tmp_path: Path) -> None:
    hold(reconciling.cluster)
    before = reconciling.cluster.server.count("PATCH"), reconciling.cluster.server.count("DELETE")
    assert reconciling.run("--dry-run")[0].startswith("would free 10.0.0.5")
    server = reconciling.cluster.server
    assert (server.count("PATCH"), server.count("DELETE")) == before
    assert not (tmp_path / "state").exists()


def test_a_pod_that_comes_at_the_last_moment_keeps_its_address(reconciling: Reconciling) -> None:
    hold(reconciling.cluster)
    server = reconciling.cluster.server
    server.on(faults.rival(lambda: reconciling.pod("web", phase="Pending")), method="GET", path="/pods/web")
    assert reconciling.run()[0].startswith("no longer so: free 10.0.0.5")
    assert list(reconciling.cluster.entries()) == ["5"]


def test_an_entry_that_changes_hands_meanwhile_is_kept(reconciling: Reconciling) -> None:
    hold(reconciling.cluster)
    cluster = reconciling.cluster
    other = entry("other")
    cluster.server.on(faults.rival(lambda: cluster.write("5", other)), method="PATCH", path="ippools")
    reconciling.run()
    assert cluster.entries() == {"5": other}


def test_a_reservation_that_nothing_stands_behind_is_deleted(reconciling: Reconciling) -> None:
    cluster = reconciling.cluster
    cluster.record({"6": entry("web")})
    cluster.reserve("10.0.0.6", podref="default/web", ifname="net1")
    cluster.reserve("10.0.0.5", podref="default/gone", ifname="net1")
    cluster.reserve("10.7.0.5", podref="default/gone", ifname="net1")
    cluster.reserve("blue-fd00--5", podref="default/gone", ifname="net1")
    reconciling.pod("web", "10.0.0.6")
    assert len(reconciling.run()) == 3
    assert list(cluster.reservations()) == ["10.0.0.6"]


def test_reservations_of_named_networks_with_pods_that_live_are_kept(reconciling: Reconciling) -> None:
    cluster = reconciling.cluster
    cluster.record({"1": entry("web")}, name="blue-fd00---64", range_="fd00::/64")
    cluster.record({"0": entry("odd")}, name="blue-fd01---64", range_="fd01::/64")
    cluster.reserve("blue-fd00--1", podref="default/web", ifname="net1")
    cluster.reserve("blue-fd01--0", podref="default/odd", ifname="net1")
    reconciling.pod("web", "fd00::1")
    reconciling.pod("odd", "fd01::")
    assert reconciling.run() == []


def test_a_reservation_in_use_gets_its_entry_back(reconciling: Reconciling) -> None:
    cluster = reconciling.cluster
    cluster.record()
    cluster.reserve("10.0.0.5", podref="default/web", ifname="net1", containerid="sandbox-of-web")
    reconciling.pod("web", "10.0.0.5")
    assert reconciling.run()[0].startswith("make the entry of 10.0.0.5 in 10.0.0.0/24")
    assert cluster.entries() == {"5": entry("web")}
    assert reconciling.run() == []


def test_an_entry_in_use_gets_its_reservation_back(reconciling: Reconciling) -> None:
    cluster = reconciling.cluster
    cluster.record({"5": entry("web"), "6": entry("other")})
    cluster.reserve("10.0.0.6", podref="default/other", ifname="net1")
    reconciling.pod("web", "10.0.0.5")
    reconciling.pod("other", "10.0.0.6")
    assert reconciling.run()[0].startswith("make the reservation of 10.0.0.5")
    assert cluster.reservations()["10.0.0.5"]["podref"] == "default/web"
    assert reconciling.run() == []


def test_pools_without_reservations_stay_so(reconciling: Reconciling) -> None:
    reconciling.cluster.record({"5": entry("web"), "6": entry("other")})
    reconciling.pod("web", "10.0.0.5")
    reconciling.pod("other", "10.0.0.6")
    assert reconciling.run() == []


def test_the_load_does_not_grow_with_the_pods(reconciling: Reconciling) -> None:
    cluster = reconciling.cluster
    cluster.record({str(n): entry(f"web-{n}") for n in range(1, 100)})
    for number in range(1, 100):
        reconciling.pod(f"web-{number}", f"10.0.0.{number}")
    before = len(cluster.server.requests)
    assert reconciling.run() == []
    assert len(cluster.server.requests) - before == 3


def test_a_failure_of_one_change_lets_the_others_happen(reconciling: Reconciling) -> None:
    cluster = reconciling.cluster
    cluster.record({"5": entry("a")})
    cluster.record({"1": entry("b")}, name="10.1.0.0-24", range_="10.1.0.0/24")
    cluster.server.on(faults.answer(403, "Forbidden"), method="PATCH", path="ippools/10.0.0.0-24", times=-1)
    told = reconciling.run()
    assert told[0].startswith("could not free 10.0.0.5")
    assert told[1].startswith("free 10.1.0.1")


def test_pools_are_those_of_the_namespace(reconciling: Reconciling) -> None:
    hold(reconciling.cluster)
    assert reconciling.run("--namespace", "default") == []


def test_what_may_not_be_read_ends_the_command(
    apiserver: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reconcile", "--kubeconfig", str(apiserver.kubeconfig("limited-token"))]) == 1
    assert "may not list ippools" in capsys.readouterr().err
