"""podrail trace: one timeline of a pod, from what the daemon and others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cni.cli.bundle import main as bundle
from cni.cli.trace import Wanted, main, of_log
from tests.support.command import called
from tests.support.daemon import Daemon, NodeWorld
from tests.support.world import World, rail

POD = {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=jobs;K8S_POD_NAME=web"}
OTHER = {
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=jobs;K8S_POD_NAME=web-2",
    "CNI_CONTAINERID": "other-1",
}
POOLED = {"type": "whereabouts", "range": "10.1.0.0/24", "datastore": "file"}


def events(world: World, *arguments: str, status: int = 0, **more: Any) -> list[dict[str, Any]]:
    done = called(world, main, *arguments, "--json", **more)
    assert (done.returncode, done.stderr) == (status, ""), done
    return list(json.loads(done.stdout)["events"])


@pytest.fixture
def traced(node: NodeWorld) -> tuple[NodeWorld, Path]:
    """A node whose daemon attached a pod, refused it a network, and attached another pod."""
    with Daemon(node) as daemon:
        node.add(rail(ipam=POOLED), **POD)
        assert node.call("ADD", rail(name="lost", master="eth7"), CNI_IFNAME="net2", **POD).status == 1
        node.add(rail(ipam=POOLED), CNI_IFNAME="net5", **OTHER)
    return node, daemon.log_file


def test_a_pods_calls_and_what_it_holds_are_told_in_their_order(traced: tuple[NodeWorld, Path]) -> None:
    node, log = traced
    told = events(node, "jobs/web", "--log", str(log))
    assert told == sorted(told, key=lambda event: event["time"])
    texts = [event["text"] for event in told]
    assert any(text.startswith("ADD macvlan of jobs/web net1: done, ") for text in texts)
    assert any(text.startswith("ADD macvlan of jobs/web net2: failed with 7, ") for text in texts)
    assert any("10.1.0.1 of 10.1.0.0/24 was given to net1" in text for text in texts)
    assert any("macvlan recorded net1 on network rail on eth0; it is ok" in text for text in texts)
    assert not any("web-2" in text or "net5" in text for text in texts), "another pod's"
    calls = [event["trace"] for event in told if event["source"] == "daemon"]
    assert len(set(calls)) == len(calls) == 2


def test_a_container_or_a_trace_is_found_as_well(traced: tuple[NodeWorld, Path]) -> None:
    node, log = traced
    others = events(node, "other-1", "--log", str(log))
    assert {"net5" in event["text"] for event in others} == {True}
    assert len(others) == 3
    (trace,) = (event["trace"] for event in others if event["trace"])
    assert [event["source"] for event in events(node, trace, "--log", str(log))] == ["daemon"]
    assert events(node, "other-1", "--log", "-", stdin=log.read_text()) == others


def test_a_bundle_tells_the_same(traced: tuple[NodeWorld, Path], tmp_path: Path) -> None:
    node, log = traced
    path = tmp_path / "bundle.tar.gz"
    made = called(node, bundle, "--output", str(path), "--log", str(log), "--no-journal")
    assert made.returncode == 0, made
    here = events(node, "jobs/web", "--log", str(log))
    node.state = tmp_path / "elsewhere"
    assert events(node, "jobs/web", "--bundle", str(path)) == here


def test_nothing_known_is_said_so(node: NodeWorld) -> None:
    done = called(node, main, "jobs/nobody", "--log", "-", stdin="")
    assert (done.returncode, done.stdout) == (1, "nothing is known of jobs/nobody\n")
    gone = called(node, main, "jobs/nobody", "--log", "/nowhere/log")
    assert (gone.returncode, gone.stderr) == (2, "podrail trace: /nowhere/log: No such file or directory\n")


def test_the_text_has_notes_below_their_call(node: NodeWorld) -> None:
    line = {
        "time": "2026-01-01T00:00:01.500+00:00",
        "level": "info",
        "event": "call",
        "trace": "ab12",
        "verb": "DEL",
        "plugin": "macvlan",
        "attachment": "jobs/web net1",
        "container": "c",
        "status": 0,
        "notes": "podrail: one\npodrail: two",
        "worked_ms": 3.2,
    }
    done = called(node, main, "jobs/web", "--log", "-", stdin=json.dumps(line))
    assert done.stdout.splitlines() == [
        "2026-01-01T00:00:01.500Z  daemon    DEL macvlan of jobs/web net1: done, "
        "3.2 ms of work, 0 ms of waiting  [ab12]",
        f"{' ' * 36}podrail: one",
        f"{' ' * 36}podrail: two",
    ]


@pytest.mark.parametrize(
    ("line", "is_told"),
    [
        pytest.param(
            "2026-01-01T00:00:00Z [verbose] Add: jobs:web:1-2:default/a(a):net1 {}", True, id="multus"
        ),
        pytest.param("2026-01-01T00:00:00+00:00 [error] ADD of jobs/web net1: no", True, id="whereabouts"),
        pytest.param("2026-01-01T00:00:00Z [error] ADD of jobs/web-2 net1: no", False, id="a-longer-name"),
        pytest.param(
            "2026-01-01T00:00:00Z [error] ADD of other-jobs/web net1: no", False, id="another-namespace"
        ),
        pytest.param("ADD of jobs/web net1: no", False, id="without-a-time"),
        pytest.param("", False, id="nothing"),
        pytest.param('{"event": "call", "attachment": "jobs/web-2 net1"}', False, id="another-pods-call"),
        pytest.param(
            '{"event": "replay", "attachment": "jobs/web net1", "time": "now"}', True, id="a-replay"
        ),
        pytest.param("[1, 2]", False, id="no-object"),
    ],
)
def test_a_line_is_told_if_it_is_about_the_pod(line: str, is_told: bool) -> None:
    assert bool(list(of_log(Wanted("jobs/web"), "log", [line]))) == is_told


def test_times_of_all_zones_are_put_in_one_order() -> None:
    lines = [
        "2026-01-01T02:00:00+02:00 second of jobs/web",
        "2025-12-31T23:59:59.5Z first of jobs/web",
    ]
    found = sorted(of_log(Wanted("jobs/web"), "log", lines), key=lambda event: event.time)
    assert [(event.time, event.text.split()[0]) for event in found] == [
        ("2025-12-31T23:59:59.500Z", "first"),
        ("2026-01-01T00:00:00.000Z", "second"),
    ]
