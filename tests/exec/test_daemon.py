"""The node daemon as clients, systemd and an administrator meet it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from cni.daemon.wire import request
from cni.host import netns
from tests.support.apiserver import ApiServer
from tests.support.client import SOURCE
from tests.support.daemon import STUBBED, Daemon, Gate, NodeWorld, ended, is_alive, parent_of, until
from tests.support.world import BIN, StubIpam, World, rail, run, static

# What systemd does for a service with a socket.
_HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("command", "conf", "variables"),
    [
        pytest.param("ADD", rail(), {}, id="an-attachment"),
        pytest.param("ADD", rail(master="eth7"), {}, id="a-master-that-is-not-there"),
        pytest.param("ADD", rail(), {"CNI_NETNS": "/nowhere"}, id="a-sandbox-that-is-not-there"),
        pytest.param("ADD", rail(), {"CNI_IFNAME": "a/b"}, id="a-bad-name"),
        pytest.param("ADD", rail(), {"CNI_PATH": ""}, id="no-path"),
        pytest.param("ADD", b"", {}, id="no-configuration"),
        pytest.param("ADD", b"x" * (16 * 1024 * 1024 + 5), {}, id="too-large-a-configuration"),
        pytest.param("ADD", rail(mod="bridge"), {}, id="a-key-that-nobody-knows"),
        pytest.param("FROB", rail(), {}, id="no-verb"),
        pytest.param("DEL", rail(), {}, id="nothing-to-delete"),
        pytest.param("CHECK", rail(), {}, id="nothing-to-check"),
        pytest.param("STATUS", rail(cniVersion="1.1.0", master="eth7"), {}, id="status-without-a-master"),
        pytest.param("VERSION", rail(), {}, id="versions"),
    ],
)
def test_a_call_answers_as_the_python_executable_does(
    node: NodeWorld, tmp_path: Path, command: str, conf: Any, variables: dict[str, str]
) -> None:
    fixed = {"CNI_ARGS": "IgnoreUnknown=1;MAC=02:00:00:00:00:07", **variables}
    python = World(node.host, node.sandbox, tmp_path / "python" / "state")
    expected = python.call(command, conf, plugin="macvlan", **fixed)
    python.call("DEL", rail(), **fixed)
    with Daemon(node):
        answer = node.call(command, conf, plugin="macvlan", **fixed)
        node.call("DEL", rail(), **fixed)
    assert answer == expected


def test_calls_leave_nothing_and_are_logged_with_their_attachment(node: NodeWorld) -> None:
    before = node.host.snapshot()
    with Daemon(node) as daemon:
        arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"
        assert node.add(rail(), CNI_ARGS=arguments)["ips"][0]["address"] == "10.1.0.5/24"
        assert node.sandbox.addresses("net1") == ["10.1.0.5/24"]
        node.delete(rail(), CNI_ARGS=arguments)
        assert node.host.snapshot() == before
        assert node.records() == []
    adding, deleting = daemon.log("call")
    assert (adding["verb"], adding["attachment"], adding["status"]) == ("ADD", "default/web net1", 0)
    assert adding["container"] == deleting["container"] == node.container_id
    assert adding["trace"] != deleting["trace"]


def test_the_socket_is_roots_alone(node: NodeWorld) -> None:
    with Daemon(node) as daemon:
        assert stat.S_IMODE(node.socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(node.socket.parent.stat().st_mode) == 0o700
        if "4294967295" not in Path("/proc/self/uid_map").read_text():
            pytest.skip("another user than root takes a machine where users are not mapped: run as root")
        # Even if somebody opens the way to it.
        for folder in (node.socket, *node.socket.parents):
            folder.chmod(0o777)
            if folder == Path("/tmp"):
                break
        as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        environment = node.environment("ADD", PODRAIL_WAIT="0")
        client = [*as_nobody, str(node.bin / "macvlan")]
        done = subprocess.run(client, env=environment, input=b"{}", capture_output=True, check=False)
        assert json.loads(done.stdout)["code"] == 11
        until(lambda: bool(daemon.log("refused")))
        assert "user 65534" in daemon.log("refused")[0]["msg"]


def test_the_daemon_needs_not_see_the_sandboxes_path(node: NodeWorld) -> None:
    # In mounts of its own, where nothing is mounted at the paths of namespaces.
    blind = ["unshare", "--mount", "sh", "-c", 'umount -l /run/netns/* 2>/dev/null; exec "$@"', "sh"]
    conf = rail()
    with Daemon(node, under=blind) as daemon:
        inside = Path(f"/proc/{daemon.process.pid}/root{node.sandbox.path}")
        assert not _is_namespace(inside)
        node.add(conf)
        assert node.sandbox.addresses("net1") == ["10.1.0.5/24"]
        node.delete(conf)
        assert "net1" not in node.sandbox.links()


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        pytest.param("ADD", ("--queue", "1"), id="of-what-cannot-wait"),
        pytest.param("ADD", ("--time-limit", "2"), id="of-what-waited-too-long"),
        pytest.param("CHECK", ("--queue", "1"), id="of-a-check"),
    ],
)
def test_refusals_are_in_the_version_of_the_caller(
    node: NodeWorld, stub: StubIpam, barrier: Gate, verb: str, options: tuple[str, ...]
) -> None:
    stub.does("ADD", barrier.line)
    conf = {**STUBBED, "cniVersion": "0.4.0"}
    stub.answers("ADD", {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.1.0.9/24"}]})
    with Daemon(node, "--concurrency", "1", *options) as daemon:
        first = node.start("ADD", conf)
        barrier.arrival()
        others = [node.start(verb, conf, CNI_IFNAME=f"net{number}") for number in (2, 3)]
        until(lambda: len(daemon.log("call")) > 0)
        barrier.let_pass(3)
        answers = [ended(process) for process in (first, *others)]
    refused = [answer.json for answer in answers if answer.status]
    assert refused
    assert {error["cniVersion"] for error in refused} == {"0.4.0"}


def test_a_crash_is_told_in_the_version_of_the_caller(node: NodeWorld, stub: StubIpam, barrier: Gate) -> None:
    stub.does("ADD", barrier.line)
    with Daemon(node):
        process = node.start("ADD", {**STUBBED, "cniVersion": "0.3.1"})
        os.kill(parent_of(barrier.arrival()), signal.SIGKILL)
        assert ended(process).json["cniVersion"] == "0.3.1"


def test_the_nodes_name_is_the_daemons_for_calls_that_bring_none(node: NodeWorld, stub: StubIpam) -> None:
    stub.does("ADD", "echo $NODENAME >name")
    with Daemon(node, NODENAME="node-a"):
        node.add(STUBBED)
        assert (stub.folder / "name").read_text() == "node-a\n"
        node.add(STUBBED, CNI_IFNAME="net2", NODENAME="the-callers")
        assert (stub.folder / "name").read_text() == "the-callers\n"


def _is_namespace(path: Path) -> bool:
    return run("stat", "--file-system", "--format=%T", path).strip() == "nsfs"


def test_delegates_of_others_run_among_the_hosts_mounts_with_the_callers_environment(
    node: NodeWorld, stub: StubIpam
) -> None:
    # Where the daemon is, the delegate's directory is empty.
    apart = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {stub.folder}; exec "$@"', "sh"]
    stub.does("ADD", "env >environment; readlink /proc/self/ns/mnt >mounts; pwd -P >directory")
    with Daemon(node, under=apart):
        node.add(STUBBED, MARK="the caller's")
        node.delete(STUBBED)
    environment = (stub.folder / "environment").read_text().splitlines()
    assert "MARK=the caller's" in environment
    assert (stub.folder / "mounts").read_text().strip() == str(Path("/proc/self/ns/mnt").readlink())
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]


def test_delegates_of_our_own_are_known_by_their_client_and_executed_by_nobody(node: NodeWorld) -> None:
    with Daemon(node) as daemon:
        node.add(rail())
        node.delete(rail())
    adding, deleting = daemon.log("call")
    assert [adding["plugin"], deleting["plugin"]] == ["macvlan", "macvlan"]
    assert [step.rpartition(" ")[0].rpartition(" ")[0] for step in adding["steps"]] == ["ADD static"]
    assert [step.rpartition(" ")[0].rpartition(" ")[0] for step in deleting["steps"]] == ["DEL static"]


def test_a_plugin_of_others_may_call_back_though_no_place_is_left(node: NodeWorld, stub: StubIpam) -> None:
    # Its own IPAM plugin is ours: with one place in all, the two must not wait for each other.
    stub.does("ADD", f"exec {node.own}/static <stdin.ADD")
    conf = rail(ipam={**static("10.1.0.7/24"), "type": "stub-ipam"})
    with Daemon(node, "--concurrency", "1") as daemon:
        assert node.add(conf)["ips"][0]["address"] == "10.1.0.7/24"
    one, other = daemon.log("call")  # whose end is logged first is not said
    assert {one["plugin"], other["plugin"]} == {"static", "macvlan"}
    assert one["trace"] == other["trace"]


def test_a_call_is_ended_at_its_time_limit_and_undone(node: NodeWorld, stub: StubIpam, barrier: Gate) -> None:
    before = node.host.snapshot()
    stub.does("ADD", barrier.line)
    with Daemon(node, "--time-limit", "2"):
        began = time.monotonic()
        error = node.refused("ADD", STUBBED)
        assert time.monotonic() - began < 10
        assert error["code"] == 11
        assert "time limit" in error["msg"]
        assert not is_alive(barrier.arrival())
        assert (node.host.snapshot(), node.records()) == (before, [])
        assert "net1" not in node.sandbox.links()


def test_a_call_that_does_not_end_when_asked_is_killed_with_all_it_started(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    stub.does("ADD", barrier.line)
    with Daemon(node, "--time-limit", "2", "--undo-limit", "1") as daemon:
        process = node.start("ADD", STUBBED)
        delegate = barrier.arrival()
        worker = parent_of(delegate)
        os.kill(worker, signal.SIGSTOP)
        answer = ended(process)
        assert answer.code == 11
        assert "SIGKILL" in answer.json["msg"]
        assert not is_alive(worker)
        until(lambda: not is_alive(delegate))  # killed too, by now
        stub.works("ADD")
        node.delete(STUBBED)
        assert "net1" not in node.sandbox.links()
        assert worker not in daemon.workers()


def test_a_call_that_crashes_hurts_nobody_else(node: NodeWorld, stub: StubIpam, barrier: Gate) -> None:
    stub.does("ADD", barrier.line)
    with Daemon(node, "--concurrency", "2") as daemon:
        crashing = node.start("ADD", STUBBED)
        worker = parent_of(barrier.arrival())
        other = node.start("ADD", STUBBED, CNI_IFNAME="net2")
        barrier.arrival()
        os.kill(worker, signal.SIGSEGV)
        answer = ended(crashing)
        assert answer.code == 11
        assert "SIGSEGV" in answer.json["msg"]
        barrier.let_pass()
        assert ended(other).status == 0
        node.delete(STUBBED)
        assert set(node.sandbox.links()) == {"lo", "net2"}
        assert daemon.process.poll() is None


def test_an_add_whose_caller_is_killed_is_undone(node: NodeWorld, stub: StubIpam, barrier: Gate) -> None:
    before = node.host.snapshot()
    stub.does("ADD", barrier.line)
    with Daemon(node) as daemon:
        process = node.start("ADD", STUBBED)
        barrier.arrival()
        process.kill()
        process.communicate()
        until(lambda: bool(daemon.log("call")))
        assert (node.host.snapshot(), node.records()) == (before, [])
        assert "net1" not in node.sandbox.links()
        assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]


def test_a_caller_that_is_gone_before_its_worker_begins_stops_the_call_all_the_same(
    node: NodeWorld, stub: StubIpam
) -> None:
    with Daemon(node, "--undo-limit", "2") as daemon:
        workers = daemon.workers()
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        process = node.start("ADD", STUBBED)
        until(lambda: daemon.clients() == 1)
        process.kill()
        process.communicate()
        until(lambda: any(_is_told(worker, signal.SIGHUP) for worker in workers))
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
        until(lambda: bool(daemon.log("call")))
        assert daemon.log("call")[0]["msg"] == "ADD was stopped by its caller, who is gone"
        assert daemon.workers() == workers
    assert stub.calls() == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_is_not_about_the_call_which_a_worker_has_stops_nothing(
    node: NodeWorld, stub: StubIpam, barrier: Gate, number: signal.Signals
) -> None:
    """As one does that the daemon sent when the caller of the call before hung up."""
    stub.does("ADD", barrier.line)
    with Daemon(node):
        process = node.start("ADD", STUBBED)
        os.kill(parent_of(barrier.arrival()), number)
        barrier.let_pass()
        assert ended(process).status == 0


def test_a_caller_that_is_asked_to_end_gives_the_answer_of_a_stopped_call(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    stub.does("ADD", barrier.line)
    with Daemon(node):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # as callers may
        process = node.start("ADD", STUBBED)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        barrier.arrival()
        process.terminate()
        answer = ended(process)
    assert (answer.status, answer.code) == (1, 11)
    assert node.records() == []


def test_delete_waits_for_the_add_of_the_same_attachment(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    stub.does("ADD", barrier.line)
    with Daemon(node) as daemon:
        adding = node.start("ADD", STUBBED)
        barrier.arrival()
        deleting = node.start("DEL", STUBBED)
        other = node.call("DEL", STUBBED, CNI_IFNAME="net2")  # of another one, which waits for nothing
        assert other.status == 0
        assert deleting.poll() is None
        barrier.let_pass()
        assert ended(adding).status == 0
        assert ended(deleting).status == 0
    verbs = [line["verb"] for line in daemon.log("call") if line["attachment"].endswith("net1")]
    assert verbs == ["ADD", "DEL"]
    assert "net1" not in node.sandbox.links()
    assert node.records() == []


def test_delete_overtakes_an_add_that_waits_which_is_then_refused(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    stub.does("ADD", barrier.line)
    with Daemon(node, "--concurrency", "1") as daemon:
        first = node.start("ADD", STUBBED)
        barrier.arrival()
        waiting = node.start("ADD", STUBBED, CNI_IFNAME="net2")
        until(lambda: daemon.clients() == 2)
        deleting = node.start("DEL", STUBBED, CNI_IFNAME="net2")
        answer = ended(waiting)
        assert answer.code == 11
        assert "overtaken" in answer.json["msg"]
        barrier.let_pass()
        assert (ended(first).status, ended(deleting).status) == (0, 0)
    assert "ADD pod-1 net2" not in stub.calls()


def test_deletes_go_before_adds_that_wait(node: NodeWorld, stub: StubIpam, barrier: Gate) -> None:
    stub.does("ADD", barrier.line)
    with Daemon(node, "--concurrency", "1") as daemon:
        first = node.start("ADD", STUBBED)
        barrier.arrival()
        second = node.start("ADD", STUBBED, CNI_IFNAME="net2")
        until(lambda: daemon.clients() == 2)
        deleting = node.start("DEL", STUBBED, CNI_IFNAME="net3")
        until(lambda: daemon.clients() == 3)
        barrier.let_pass(2)
        assert [ended(process).status for process in (first, second, deleting)] == [0, 0, 0]
    order = [line["attachment"] for line in daemon.log("call")]
    assert order == ["pod-1 net1", "pod-1 net3", "pod-1 net2"]


def test_calls_beyond_the_queue_are_refused(node: NodeWorld, stub: StubIpam, barrier: Gate) -> None:
    stub.does("ADD", barrier.line)
    with Daemon(node, "--concurrency", "1", "--queue", "1") as daemon:
        first = node.start("ADD", STUBBED)
        barrier.arrival()
        second = node.start("ADD", STUBBED, CNI_IFNAME="net2")
        until(lambda: daemon.clients() == 2)
        error = node.refused("ADD", STUBBED, CNI_IFNAME="net3")
        assert error["code"] == 11
        assert "too many" in error["msg"]
        barrier.let_pass(2)
        assert (ended(first).status, ended(second).status) == (0, 0)


def test_a_burst_is_answered_in_bounded_memory(node: NodeWorld) -> None:
    pods = [f"pod-{number}" for number in range(200)]
    conf = rail(ipam={"type": "whereabouts", "datastore": "file", "range": "10.1.0.0/22"})
    with Daemon(node) as daemon:
        processes = [node.start("ADD", conf, CNI_CONTAINERID=pod, CNI_IFNAME=pod) for pod in pods]
        answers = [ended(process) for process in processes]
        assert [answer.json for answer in answers if answer.status] == []
        assert daemon.resident() < 150
        addresses = {answer.json["ips"][0]["address"] for answer in answers}
        assert len(addresses) == len(pods)
        processes = [node.start("DEL", conf, CNI_CONTAINERID=pod, CNI_IFNAME=pod) for pod in pods]
        assert [ended(process).status for process in processes] == [0] * len(pods)
    assert set(node.sandbox.links()) == {"lo"}
    assert not [path for path in node.records() if path.suffix == ".json"]


def test_workers_of_a_burst_are_kept_for_the_next_one_and_end_when_none_comes(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    stub.does("ADD", barrier.line)
    with Daemon(node, "--concurrency", "5") as daemon:
        kept = set(daemon.workers())
        first, second = (_workers_of_a_burst(node, barrier, prefix) for prefix in ("a", "b"))
        assert first == second > kept
        until(lambda: len(daemon.workers()) == len(kept))


def _workers_of_a_burst(node: NodeWorld, barrier: Gate, prefix: str) -> set[int]:
    names = [f"{prefix}{number}" for number in range(5)]
    processes = [node.start("ADD", STUBBED, CNI_IFNAME=name) for name in names]
    workers = {parent_of(barrier.arrival()) for _ in names}
    barrier.let_pass(len(names))
    assert [ended(process).status for process in processes] == [0] * len(names)
    return workers


def test_an_environment_that_fits_into_no_socket_at_once_reaches_the_plugin(
    node: NodeWorld, stub: StubIpam
) -> None:
    stub.does("ADD", "env >environment")
    large = {f"LARGE_{number}": str(number) * 120_000 for number in range(8)}
    with Daemon(node):
        node.add(STUBBED, **large)
    environment = (stub.folder / "environment").read_text().splitlines()
    assert {f"{name}={value}" for name, value in large.items()} <= set(environment)


def test_stopping_lets_calls_end(node: NodeWorld, stub: StubIpam, barrier: Gate) -> None:
    stub.does("ADD", barrier.line)
    with Daemon(node) as daemon:
        process = node.start("ADD", STUBBED)
        barrier.arrival()
        daemon.process.terminate()
        assert daemon.next_notice() == "STOPPING=1"
        barrier.let_pass()
        assert ended(process).status == 0
        assert daemon.process.wait(60) == 0
        assert not node.socket.exists()


def test_a_second_daemon_is_refused_while_the_first_one_serves(node: NodeWorld) -> None:
    with Daemon(node):
        second = Daemon(node)
        second.start()
        assert second.next_notice() == ""
        assert second.process.wait(60) == 1
        assert "another daemon serves" in second.log_file.read_text()
        assert node.call("STATUS", rail(cniVersion="1.1.0")).status == 0


def test_systemd_may_open_the_socket_and_calls_wait_in_it(node: NodeWorld) -> None:
    node.socket.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(node.socket))
        listening.listen()
        process = node.start("ADD", rail())  # before there is a daemon
        handed_over = [sys.executable, "-c", _HAND_OVER, str(listening.fileno())]
        with Daemon(node, under=handed_over, pass_fds=[listening.fileno()]):
            assert ended(process).status == 0
        assert node.socket.exists()  # systemd's, which will start another daemon by it


def test_metrics_and_health_are_told_over_a_unix_socket(node: NodeWorld) -> None:
    place = node.state.parent / "metrics.sock"
    with Daemon(node, "--metrics", f"unix:{place}"):
        node.add(rail())
        node.refused("ADD", rail(), CNI_NETNS="/nowhere", CNI_IFNAME="net2")
        node.delete(rail())
        until(
            lambda: 'podrail_calls_total{code="0",plugin="macvlan",verb="DEL"} 1.0' in _get(place, "/metrics")
        )
        text = _get(place, "/metrics")
        assert 'podrail_calls_total{code="0",plugin="macvlan",verb="ADD"} 1.0' in text
        assert 'podrail_calls_total{code="8",plugin="macvlan",verb="ADD"} 1.0' in text
        assert 'podrail_call_seconds_count{plugin="macvlan",step="work",verb="ADD"} 2.0' in text
        assert 'podrail_call_seconds_count{plugin="macvlan",step="static",verb="ADD"} 1.0' in text
        assert 'podrail_call_seconds_count{plugin="macvlan",step="static",verb="DEL"} 1.0' in text
        assert "podrail_calls_waiting 0.0" in text
        assert 'podrail_leaks_repaired_total{reason="queued DEL"} 0.0' in text
        assert _get(place, "/healthz").endswith("ok\n")
        assert _get(place, "/readyz").startswith("HTTP/1.1 200")
        assert _get(place, "/elsewhere").startswith("HTTP/1.1 404")
        assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_metrics_stay_readable_and_few_whatever_callers_name(node: NodeWorld) -> None:
    place = node.state.parent / "metrics.sock"
    with Daemon(node, "--metrics", f"unix:{place}") as daemon:
        for number, name in enumerate(("macvlan", "stranger", os.fsdecode(b"no\xfftext"))):
            verb = "ADD" if number else os.fsdecode(b"\xff\n")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(str(node.socket))
                connection.sendall(request(name, node.environment(verb), b"{}"))
                with suppress(ConnectionResetError):  # it refuses without reading all
                    while connection.recv(1 << 16):
                        pass
        until(lambda: len(daemon.log("call")) == 3)
        text = _get(place, "/metrics")
    assert 'podrail_calls_total{code="7",plugin="unknown",verb="ADD"} 2.0' in text
    assert 'plugin="macvlan",verb="unknown"} 1.0' in text
    assert "stranger" not in text


def test_it_is_not_ready_while_it_replays(node: NodeWorld, stub: StubIpam, barrier: Gate) -> None:
    with Daemon(node):
        node.add(STUBBED)
    node.delete(STUBBED)
    stub.does("DEL", barrier.line)
    place = node.state.parent / "metrics.sock"
    daemon = Daemon(node, "--metrics", f"unix:{place}")
    daemon.start()
    barrier.arrival()
    assert _get(place, "/readyz").startswith("HTTP/1.1 503")
    assert _get(place, "/healthz").startswith("HTTP/1.1 200")
    assert "podrail_deletes_queued 1.0" in _get(place, "/metrics")
    barrier.let_pass()
    with daemon:
        assert _get(place, "/readyz").startswith("HTTP/1.1 200")
        assert 'podrail_leaks_repaired_total{reason="queued DEL"} 1.0' in _get(place, "/metrics")


def test_metrics_tell_how_full_pools_are(node: NodeWorld) -> None:
    conf = rail(ipam={"type": "whereabouts", "datastore": "file", "range": "10.1.0.0/24"})
    elsewhere = node.state.parent / "elsewhere"
    named = {**conf["ipam"], "range": "10.2.0.0/28", "network_name": "blue", "dataDir": str(elsewhere)}
    place = node.state.parent / "metrics.sock"
    with Daemon(node, "--metrics", f"unix:{place}"):
        for name in ("net1", "net2"):
            node.add(conf, CNI_IFNAME=name)
        node.add(rail(ipam=named), CNI_IFNAME="net3")
        text = _get(place, "/metrics")
        assert 'podrail_pool_held{network_name="",range="10.1.0.0/24"} 2.0' in text
        assert 'podrail_pool_size{network_name="",range="10.1.0.0/24"} 254.0' in text
        assert 'podrail_pool_held{network_name="blue",range="10.2.0.0/28"} 1.0' in text
        node.delete(conf)
        assert 'podrail_pool_held{network_name="",range="10.1.0.0/24"} 1.0' in _get(place, "/metrics")


def test_callers_are_served_however_many_ask_for_metrics(node: NodeWorld) -> None:
    few = ["prlimit", "--nofile=60:60"]
    with (
        Daemon(node, "--metrics", "127.0.0.1:9476", under=few) as daemon,
        netns.opened(node.host.path) as host,
        ExitStack() as asking,
    ):
        for _ in range(100):  # and say nothing
            connection = asking.enter_context(host.socket(socket.AF_INET, socket.SOCK_STREAM))
            connection.connect(("127.0.0.1", 9476))
        node.add(rail())
        node.delete(rail())
        assert daemon.log("not accepting") == []


@pytest.mark.parametrize("what", ["a-file", "a-directory", "nowhere/at-all", "a-file/below"])
def test_it_says_where_it_cannot_listen_and_touches_nothing(node: NodeWorld, what: str) -> None:
    folder = node.state.parent
    (folder / "a-file").write_text("somebody's own")
    (folder / "a-directory").mkdir()
    place = folder / what
    for option, value in (("--metrics", f"unix:{place}"), ("--socket", f"{place}/daemon.sock")):
        if (option, what) in (("--socket", "a-directory"), ("--socket", "nowhere/at-all")):
            continue  # where it can
        daemon = Daemon(node, option, value)
        daemon.start()
        assert daemon.process.wait(60) == 1
        told = daemon.log_file.read_text()
        daemon.log_file.unlink()
        assert told.splitlines()[-1].startswith("podrail daemon: ")
        assert str(place) in told.splitlines()[-1]
        assert "Traceback" not in told
    assert (folder / "a-file").read_text() == "somebody's own"


@pytest.mark.parametrize(
    "address", ["0.0.0.0:9000", "192.0.2.1:9000", "127.0.0.1:65536", "localhost", "unix:relative"]
)
def test_metrics_are_for_this_machine_only(address: str) -> None:
    done = subprocess.run([BIN / "podrail", "daemon", "--metrics", address], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"loopback" in done.stderr


@pytest.mark.parametrize(
    "option",
    ["--retry=0", "--retry=nan", "--time-limit=-1", "--undo-limit=-0.1", "--stop-limit=inf", "--queue=0"],
)
def test_limits_that_are_none_are_refused(option: str) -> None:
    done = subprocess.run([BIN / "podrail", "daemon", option], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"must be" in done.stderr


def test_units_for_systemd_are_well_formed() -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("not installed: Debian's systemd, whose systemd-analyze looks at units")
    folder = SOURCE.parent / "systemd"
    told = subprocess.run(["systemd-analyze", "verify", *folder.iterdir()], capture_output=True, check=False)
    complaints = [line for line in told.stderr.decode().splitlines() if "is not executable" not in line]
    assert complaints == []


def _get(place: Path, path: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(place))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()


def _is_told(pid: int, number: signal.Signals) -> bool:
    """Tell whether a signal waits for a process that is stopped."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pending = next(line.split()[1] for line in lines if line.startswith("ShdPnd:"))
    return bool(int(pending, 16) & 1 << number - 1)


def test_workers_keep_their_connections_and_what_they_know_of_large_pools(
    node: NodeWorld, tmp_path: Path
) -> None:
    held = {str(n): {"id": f"c{n}", "podref": f"default/web-{n}", "ifname": "net1"} for n in range(1, 301)}
    pool = {
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
        "kind": "IPPool",
        "metadata": {"name": "10.0.0.0-16", "namespace": "kube-system"},
        "spec": {"range": "10.0.0.0/16", "allocations": held},
    }
    with netns.opened(node.host.path) as inside:
        listening = inside.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
    with ApiServer(tmp_path / "api", sock=listening) as server, Daemon(node):
        server.seed(pool)
        kubernetes = {"kubeconfig": str(server.kubeconfig())}
        ipam = {"type": "whereabouts", "range": "10.0.0.0/16", "kubernetes": kubernetes}
        for number in range(401, 405):
            asked = len(server.requests)
            answer = node.call(
                "ADD",
                rail(ipam=ipam),
                plugin="whereabouts",
                CNI_CONTAINERID=f"c{number}",
                CNI_ARGS=f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-{number}",
            )
            assert answer.json["ips"] == [{"address": f"10.0.1.{number - 356}/16"}], answer
        assert [seen.method for seen in server.requests[asked:]] == ["PATCH", "POST"]
        assert {seen.connection for seen in server.requests} == {1}
