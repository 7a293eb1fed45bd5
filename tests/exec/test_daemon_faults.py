"""The node daemon when things end badly: killed, absent, replaced, overrun; and what is left afterwards."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cni.daemon.wire import request
from tests.support.client import GREETING, MAGIC, REPLY, REQUEST, SOURCE, STATIC, built
from tests.support.daemon import STUBBED, Daemon, Gate, NodeWorld, ended, is_alive, parent_of, until
from tests.support.world import Namespace, StubIpam, rail, run, static

RESERVED = rail(ipam={**static("10.1.0.5/24"), "reserve": True})


def test_killed_in_the_middle_of_an_add_it_leaves_nothing_to_the_next_delete(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    before = node.host.snapshot()
    stub.does("ADD", barrier.line)
    with Daemon(node) as daemon:
        process = node.start("ADD", STUBBED)
        delegate = barrier.arrival()
        daemon.kill()
        answer = ended(process)  # the worker undoes its call before it goes
    assert answer.code == 11
    assert not is_alive(delegate)
    stub.works("ADD")
    with Daemon(node):
        node.delete(STUBBED)
    assert (node.host.snapshot(), node.records()) == (before, [])
    assert "net1" not in node.sandbox.links()


def test_daemon_and_workers_killed_at_once_leave_what_the_next_start_finds(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    before = node.host.snapshot()
    stub.does("ADD", barrier.line)
    with Daemon(node) as daemon:
        process = node.start("ADD", STUBBED)
        delegate = barrier.arrival()
        workers = daemon.workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)  # so that none answers in between
        daemon.kill()
        for pid in (*workers, delegate):
            os.kill(pid, signal.SIGKILL)
        answer = ended(process)
    assert answer.code == 11
    assert "was lost" in answer.json["msg"]
    stub.works("ADD")
    with Daemon(node):
        node.delete(STUBBED)
    assert (node.host.snapshot(), node.records()) == (before, [])
    assert "net1" not in node.sandbox.links()


def test_the_next_daemon_waits_for_the_calls_of_one_that_was_killed(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    stub.does("ADD", barrier.line)
    stub.does("DEL", barrier.line)
    with Daemon(node) as killed:
        adding = node.start("ADD", STUBBED)
        barrier.arrival()
        killed.kill()
        barrier.arrival()  # the worker's undoing, which is held up
        following = Daemon(node)
        following.start()
        until(lambda: bool(following.log("waiting")))
        assert following.process.poll() is None
        barrier.let_pass()
        with following:
            assert ended(adding).code == 11
    assert node.records() == []


def test_what_a_call_undoes_is_undone_though_the_daemon_is_killed_meanwhile(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    before = node.host.snapshot()
    stub.does("ADD", barrier.line)
    stub.does("DEL", barrier.line)
    with Daemon(node) as killed:
        adding = node.start("ADD", STUBBED)
        barrier.arrival()
        adding.kill()
        adding.communicate()
        delegate = barrier.arrival()  # which its undoing calls
        killed.kill()  # by which its workers are told to end
        worker = parent_of(delegate)
        barrier.let_pass()
    until(lambda: not is_alive(worker))
    assert (node.host.snapshot(), node.records()) == (before, [])


def test_deletes_that_were_kept_are_replayed_at_the_next_start(node: NodeWorld) -> None:
    before = node.host.snapshot()
    with Daemon(node):
        node.add(RESERVED)
    node.delete(RESERVED)  # which is kept
    assert "net1" in node.sandbox.links()
    assert len(list(node.queue.iterdir())) == 1
    with Daemon(node, "--concurrency", "1") as daemon:  # ready means that it is done
        assert list(node.queue.iterdir()) == []
        assert "net1" not in node.sandbox.links()
        (line,) = daemon.log("replay")
        assert "no ADD of it was served since" in line["proof"]
        node.add(RESERVED)  # the address is free
        node.delete(RESERVED)
    assert (node.host.snapshot(), node.records()) == (before, [])


def test_a_device_comes_home_by_a_delete_that_was_kept(node: NodeWorld) -> None:
    node.host.add_veth("dev0")
    conf = {"cniVersion": "1.0.0", "name": "rail", "type": "host-device", "device": "dev0"}
    with Daemon(node):
        node.add(conf)
    assert "dev0" not in node.host.links()
    node.delete(conf)
    with Daemon(node):
        assert "dev0" in node.host.links()
    assert node.records() == []


def test_an_add_waits_for_the_kept_delete_of_its_attachment(node: NodeWorld, stub: StubIpam) -> None:
    with Daemon(node):
        node.add(STUBBED)
    node.delete(STUBBED)
    stub.fails("DEL", {"cniVersion": "1.0.0", "code": 11, "msg": "not now"})
    with Daemon(node):
        error = node.refused("ADD", STUBBED)
        assert error["code"] == 11
        assert "earlier DEL" in error["msg"]
        assert node.call("ADD", STUBBED, CNI_IFNAME="net2").status == 0  # others go on
        stub.works("DEL")
        node.add(STUBBED)  # which replays it first
        assert list(node.queue.iterdir()) == []
        node.delete(STUBBED)
        node.delete(STUBBED, CNI_IFNAME="net2")
    assert node.records() == []


def test_an_add_of_a_device_waits_for_the_kept_delete_of_who_had_it(node: NodeWorld) -> None:
    node.host.add_veth("dev0")
    conf = {"cniVersion": "1.0.0", "name": "rail", "type": "host-device", "device": "dev0"}
    with Daemon(node) as daemon:
        node.add(conf)
        # The connection was lost, say, so the client kept the DEL though there is a daemon.
        node.delete(conf, PODRAIL_SOCKET="/nowhere", PODRAIL_WAIT="0")
        assert len(list(node.queue.iterdir())) == 1
        node.add(conf, CNI_CONTAINERID="pod-2", CNI_IFNAME="net2")
        assert list(node.queue.iterdir()) == []
        until(lambda: [line["verb"] for line in daemon.log("call")] == ["ADD", "DEL", "ADD"])
        node.delete(conf, CNI_CONTAINERID="pod-2", CNI_IFNAME="net2")
    assert "dev0" in node.host.links()
    assert node.records() == []


def test_a_device_that_came_home_is_given_again_though_its_kept_delete_still_owes_an_address(
    node: NodeWorld, stub: StubIpam
) -> None:
    node.host.add_veth("dev0")
    conf = {"cniVersion": "1.0.0", "name": "rail", "type": "host-device", "device": "dev0"}
    conf |= {"ipam": {"type": "stub-ipam"}}
    with Daemon(node):
        node.add(conf)
    node.delete(conf)
    stub.fails("DEL", {"cniVersion": "1.0.0", "code": 11, "msg": "not now"})
    other = {"CNI_CONTAINERID": "pod-2", "CNI_IFNAME": "net2"}
    with Daemon(node):
        node.add(conf, **other)
        stub.works("DEL")
        assert node.call("ADD", conf).code == 104  # by now the kept DEL succeeds, and the other has it
        assert node.sandbox.links().keys() == {"lo", "net2"}
        node.delete(conf, **other)
    assert "dev0" in node.host.links()
    assert node.records() == []


def test_no_more_adds_wait_for_kept_deletes_than_the_queue_has_places(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    with Daemon(node):
        node.add(STUBBED, CNI_IFNAME="net2")
    node.delete(STUBBED, CNI_IFNAME="net2")
    stub.does("DEL", barrier.line)
    daemon = Daemon(node, "--queue", "2")
    daemon.start()
    barrier.arrival()
    waiting = [node.start("ADD", STUBBED, CNI_IFNAME=f"eth{number}") for number in range(2)]
    until(lambda: daemon.clients() == 2)
    assert "too many calls" in node.refused("ADD", STUBBED, CNI_IFNAME="eth2")["msg"]
    stub.works("DEL")
    barrier.let_pass()
    with daemon:
        assert [ended(process).status for process in waiting] == [0, 0]


def test_an_add_waits_no_longer_than_it_may_for_a_kept_delete_that_hangs(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    with Daemon(node, "--time-limit", "3") as daemon:
        node.add(STUBBED)
        stub.does("DEL", barrier.line)
        node.delete(STUBBED, PODRAIL_SOCKET="/nowhere", PODRAIL_WAIT="0")
        error = node.refused("ADD", STUBBED, CNI_IFNAME="net2")
        assert error["code"] == 11
        assert "earlier DELs" in error["msg"]
        stub.works("DEL")
        node.add(STUBBED, CNI_IFNAME="net2")  # that one was tried, and it is another's
        node.add(STUBBED)  # its own is tried again
        node.delete(STUBBED)
        assert daemon.process.poll() is None
        node.delete(STUBBED, CNI_IFNAME="net2")
    assert node.records() == []


def test_an_add_that_waits_for_a_kept_delete_is_overtaken_by_a_delete_of_its_own(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    with Daemon(node):
        node.add(STUBBED, CNI_IFNAME="net2")
    node.delete(STUBBED, CNI_IFNAME="net2")
    stub.does("DEL", f"[ $CNI_IFNAME != net2 ] || {{ {barrier.line}; }}")
    daemon = Daemon(node)
    daemon.start()
    barrier.arrival()
    adding = node.start("ADD", STUBBED)
    until(lambda: daemon.clients() == 1)
    node.delete(STUBBED)
    barrier.let_pass()
    with daemon:
        answer = ended(adding)
        assert answer.code == 11
        assert "overtaken" in answer.json["msg"]
        assert "net1" not in node.sandbox.links()


def test_void_claims_of_devices_are_removed_at_start_with_the_proof(node: NodeWorld) -> None:
    claims = node.state / "claims" / "sriov"
    claims.mkdir(parents=True)
    holder = {"network": "rail", "container_id": "pod-9", "ifname": "net1", "sandbox": "x/1"}
    (claims / "0000:af:06.1").write_text(json.dumps(holder))
    (claims / "0000:af:06.2").write_text("")
    with Daemon(node) as daemon:
        whole, broken = daemon.log("repair")
        assert whole["claim"] == "VF 0000:af:06.1, claimed by net1 of container pod-9"
        assert "no such attachment" in whole["proof"]
        assert "0000:af:06.2" in broken["claim"]
        until(lambda: bool(daemon.log("ready")))
        assert daemon.log("ready")[0]["repaired"] == 2
    assert node.records() == []


def test_a_record_that_cannot_be_read_is_set_aside_and_logged(node: NodeWorld) -> None:
    with Daemon(node):
        node.add(rail())
    (file,) = (node.state / "attachments").rglob("*.json")
    file.write_text("{")
    with Daemon(node) as daemon:
        notes = [line["msg"] for line in daemon.log("note")]  # each a line of JSON, as all else
        assert any(str(file) in note for note in notes)
        node.delete(rail())


def test_add_and_gc_wait_until_what_was_kept_is_replayed(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    conf = {**STUBBED, "cniVersion": "1.1.0"}
    stub.answers("ADD", {"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.9/24"}]})
    with Daemon(node):
        node.add(conf)
    node.delete(conf)
    stub.does("DEL", barrier.line)
    daemon = Daemon(node)
    daemon.start()
    barrier.arrival()
    assert node.call("STATUS", conf).code == 50
    adding = node.start("ADD", conf, CNI_IFNAME="net2")
    valid = [{"containerID": node.container_id, "ifname": "net2"}]
    collecting = node.start("GC", {**conf, "cni.dev/valid-attachments": valid})
    assert node.call("CHECK", conf, CNI_IFNAME="net3").status == 1  # which is served meanwhile
    assert adding.poll() is None
    assert collecting.poll() is None
    stub.works("DEL")
    barrier.let_pass(2)
    with daemon:
        assert ended(adding).status == 0
        assert ended(collecting).status == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"", "begin", id="empty"),
        pytest.param(b"not of ours at all, but long enough to be read", "begin", id="of-something-else"),
        pytest.param(None, "announces", id="cut-off"),
    ],
)
def test_what_is_no_kept_delete_is_set_aside(node: NodeWorld, content: bytes | None, why: str) -> None:
    node.delete(rail())
    (file,) = node.queue.iterdir()
    file.write_bytes(file.read_bytes()[:-3] if content is None else content)
    with Daemon(node) as daemon:
        (line,) = daemon.log("set aside")
        assert why in line["msg"]
        assert [path.name for path in (node.queue / "refused").iterdir()] == [file.name]
        node.add(rail())
        node.delete(rail())


@pytest.mark.parametrize(
    ("put", "why"),
    [
        pytest.param(lambda place: place.mkdir(), "no file", id="a-directory"),
        pytest.param(os.mkfifo, "no file", id="a-pipe"),
        pytest.param(lambda place: place.symlink_to("/dev/zero"), "no file", id="a-link"),
        pytest.param(lambda place: os.truncate(place.open("x").name, 1 << 40), "bytes", id="too-long"),
        pytest.param(lambda place: os.chown(place.open("x").name, 65534, -1), "user 65534", id="nobodys"),
    ],
)
def test_what_no_client_has_put_into_the_queue_is_set_aside(
    node: NodeWorld, put: Callable[[Path], object], why: str
) -> None:
    node.queue.mkdir(mode=0o700)
    put(node.queue / "old.bak")
    with Daemon(node) as daemon:
        (line,) = daemon.log("set aside")
        assert why in line["msg"]
        node.add(rail())
        node.delete(rail())


def test_a_kept_delete_that_can_never_succeed_is_set_aside(node: NodeWorld) -> None:
    assert node.call("DEL", b"no JSON", plugin="macvlan").status == 0
    with Daemon(node) as daemon:
        assert len(daemon.log("set aside")) == 1
        assert len(list((node.queue / "refused").iterdir())) == 1


def test_a_kept_delete_whose_plugin_is_not_installed_waits_for_it(node: NodeWorld, stub: StubIpam) -> None:
    with Daemon(node):
        node.add(STUBBED)
    node.delete(STUBBED)
    missing = stub.folder / stub.type
    missing.rename(stub.folder / "elsewhere")
    with Daemon(node) as daemon:
        assert daemon.log("call")[-1]["code"] == 7
        assert daemon.log("set aside") == []
        (stub.folder / "elsewhere").rename(missing)
        node.add(STUBBED)  # before which it is tried again
        assert list(node.queue.iterdir()) == []
        node.delete(STUBBED)
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"] * 2
    assert node.records() == []


def test_more_kept_deletes_than_calls_may_wait_are_replayed_at_one_start(node: NodeWorld) -> None:
    node.queue.mkdir(mode=0o700)
    conf = json.dumps(rail()).encode()
    for number in range(200):
        environment = node.environment("DEL", CNI_CONTAINERID=f"pod-{number}")
        (node.queue / f"{number:09}.000000001-7").write_bytes(
            request(str(node.own / "macvlan"), environment, conf)
        )
    with Daemon(node, "--queue", "5", "--concurrency", "1") as daemon:
        assert list(node.queue.iterdir()) == []
        assert len(daemon.log("replay")) == 200
        assert [line["container"] for line in daemon.log("call")][:2] == ["pod-0", "pod-1"]


def test_a_kept_delete_of_a_client_by_another_name_is_set_aside(node: NodeWorld) -> None:
    shutil.copy(node.own / "macvlan", node.own / "stranger")
    node.delete(rail(type="stranger"))
    with Daemon(node) as daemon:
        (line,) = daemon.log("set aside")
        assert line["msg"] == '"stranger" is no plugin of podrail'
        node.add(rail())  # the same attachment, which nothing holds up
        node.delete(rail())


def test_attachments_whose_sandbox_is_gone_are_given_back_at_start_and_living_ones_stay(
    node: NodeWorld, tmp_path: Path
) -> None:
    gone = Namespace("gone")
    living = node.sandbox
    with Daemon(node):
        node.add(RESERVED)
        other = rail(ipam={**static("10.1.0.6/24"), "reserve": True})
        node.add(other, CNI_NETNS=gone.path, CNI_CONTAINERID="pod-2")
    gone.delete()
    with Daemon(node, "--cni-path", str(node.own)) as daemon:
        (line,) = daemon.log("repair")
        assert "pod-2" in line["attachment"]
        assert "no process lives in it" in line["proof"]
        assert living.addresses("net1") == ["10.1.0.5/24"]
        assert len(list((node.state / "attachments").rglob("*.json"))) == 1
        node.add(other, CNI_IFNAME="net2")  # its address is free again
        node.delete(other, CNI_IFNAME="net2")
        node.delete(RESERVED)
    assert node.records() == []


def test_what_could_not_be_given_back_at_start_is_tried_again_unless_it_is_attached_anew(
    node: NodeWorld, stub: StubIpam
) -> None:
    sandboxes = [Namespace("gone"), Namespace("again")]
    with Daemon(node):
        for number, sandbox in enumerate(sandboxes):
            node.add(STUBBED, CNI_NETNS=sandbox.path, CNI_CONTAINERID=f"pod-{number}")
    for sandbox in sandboxes:
        sandbox.delete()
    stub.fails("DEL", {"cniVersion": "1.0.0", "code": 11, "msg": "no API server yet"})
    with Daemon(node, "--cni-path", node.path, "--retry", "0.3") as daemon:
        assert [line.get("code") for line in daemon.log("call")][2:4] == [11, 11]
        assert len(daemon.log("repair")) == 2
        stub.works("DEL")
        node.delete(STUBBED, CNI_CONTAINERID="pod-1")
        node.add(STUBBED, CNI_CONTAINERID="pod-1")
        until(lambda: not list((node.state / "attachments").rglob("pod-0@*")))
        until(lambda: stub.calls().count("DEL pod-0 net1") == 2)
        assert node.sandbox.links().keys() == {"lo", "net1"}
        node.delete(STUBBED, CNI_CONTAINERID="pod-1")
    assert node.records() == []


def test_what_hangs_at_start_keeps_nobody_for_longer_than_a_call_may_take(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    with Daemon(node):
        for number in range(4):
            sandbox = Namespace("gone")
            node.add(STUBBED, CNI_NETNS=sandbox.path, CNI_CONTAINERID=f"pod-{number}")
            sandbox.delete()
    stub.does("DEL", barrier.line)
    began = time.monotonic()
    with Daemon(node, "--cni-path", node.path, "--time-limit", "3", "--retry", "0.3") as daemon:
        assert time.monotonic() - began < 12  # not four times those, and their undoing
        assert len(daemon.log("repair")) == 1
        stub.works("DEL")
        until(lambda: not _recorded(node))
    assert node.records() == []


def test_a_sandbox_without_a_path_lives_as_long_as_a_process_is_in_it(node: NodeWorld) -> None:
    with Daemon(node):
        node.add(RESERVED)
    inside = subprocess.Popen(["nsenter", f"--net={node.sandbox.path}", "sleep", "600"])
    try:
        path = f"/proc/{inside.pid}/ns/net"
        until(lambda: Path(path).samefile(node.sandbox.path))
        node.sandbox.delete()
        with Daemon(node, "--cni-path", str(node.own)) as daemon:
            assert daemon.log("repair") == []
            assert node.records()
        node.delete(RESERVED, CNI_NETNS=path)
    finally:
        inside.kill()
        inside.wait()
    with Daemon(node):
        assert node.records() == []


def test_a_sandbox_lives_at_a_path_of_any_name(node: NodeWorld, tmp_path: Path) -> None:
    with Daemon(node):
        node.add(rail())
    text = tmp_path / "n\u00e4me with \\ of\nmany"
    other = tmp_path / os.fsdecode(b"\xff")  # which is somebody else's business
    for place, target in ((text, node.sandbox.path), (other, "/dev/null")):
        place.touch()
        run("mount", "--bind", target, place)
    node.sandbox.delete()
    try:
        with Daemon(node, LC_ALL="C.UTF-8") as daemon:
            assert daemon.log("repair") == []
    finally:
        for place in (text, other):
            run("umount", place)
    with Daemon(node, "--cni-path", str(node.own)) as daemon:
        assert len(daemon.log("repair")) == 1
    assert node.records() == []


def test_addresses_of_the_living_stay_theirs_at_the_next_start(node: NodeWorld) -> None:
    conf = rail(ipam={"type": "whereabouts", "datastore": "file", "range": "10.1.0.0/24"})
    with Daemon(node):
        assert node.add(conf)["ips"][0]["address"] == "10.1.0.1/24"
    before = sorted(node.records())
    with Daemon(node, "--cni-path", str(node.own)) as daemon:
        assert daemon.log("repair") == []
        assert sorted(node.records()) == before
        assert node.add(conf, CNI_IFNAME="net2")["ips"][0]["address"] == "10.1.0.2/24"
        for name in ("net1", "net2"):
            node.delete(conf, CNI_IFNAME=name)
    assert node.records() == []


def test_attachments_of_an_earlier_boot_are_given_back_at_start(node: NodeWorld) -> None:
    with Daemon(node):
        node.add(RESERVED)
    (file,) = (node.state / "attachments").rglob("*.json")
    record = json.loads(file.read_text())
    boot, _, rest = record["sandbox"].partition("/")
    record["sandbox"] = f"{boot[::-1]}/{rest}"
    file.write_text(json.dumps(record))
    with Daemon(node, "--cni-path", str(node.own)) as daemon:
        (line,) = daemon.log("repair")
        assert "before this machine was started" in line["proof"]
        assert node.records() == []


def test_more_callers_than_it_may_open_files_wait_or_are_refused_and_it_goes_on(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    stub.does("ADD", barrier.line)
    few = ["prlimit", "--nofile=40:40"]
    with Daemon(node, "--concurrency", "1", under=few) as daemon:
        first = node.start("ADD", STUBBED)
        barrier.arrival()
        others = [node.start("ADD", STUBBED, CNI_IFNAME=f"other{number}") for number in range(60)]
        until(lambda: bool(daemon.log("not accepting")))
        stub.does("ADD", ":")
        barrier.let_pass()
        answers = [ended(process) for process in (first, *others)]
        assert {answer.code if answer.status else 0 for answer in answers} <= {0, 11}
        assert answers[0].status == 0
        assert node.call("ADD", STUBBED, CNI_IFNAME="last").status == 0
        assert daemon.process.poll() is None


def test_a_worker_that_cannot_be_forked_is_one_call_refused_and_the_daemon_can_still_be_stopped(
    node: NodeWorld, stub: StubIpam, barrier: Gate
) -> None:
    stub.does("ADD", barrier.line)
    forks = "fork,vfork,clone,clone3"
    no_fourth = ["strace", "-D", "-o", os.devnull, "-e", f"trace={forks}"]
    with Daemon(node, under=[*no_fourth, "-e", f"inject={forks}:error=EAGAIN:when=4"]):
        holding = [node.start("ADD", STUBBED, CNI_IFNAME=f"net{number}") for number in range(3)]
        for _ in holding:
            barrier.arrival()
        assert node.refused("ADD", STUBBED, CNI_IFNAME="net4")["code"] == 11
        barrier.let_pass(3)
        assert [ended(process).status for process in holding] == [0, 0, 0]
        # The end of the block stops it by SIGTERM.


def test_a_queue_that_cannot_be_read_ends_it_with_a_word(node: NodeWorld) -> None:
    node.queue.write_text("no directory")
    daemon = Daemon(node)
    daemon.start()
    assert daemon.next_notice() == "STOPPING=1"
    assert daemon.process.wait(60) == 1
    (line,) = daemon.log("cannot start")
    assert str(node.queue) in line["msg"]


def test_an_older_client_works_with_a_newer_daemon(node: NodeWorld) -> None:
    # What version 1's header will be to a daemon of a later version: shorter than its own.
    conf = json.dumps(rail()).encode()
    environment = b"".join(f"{key}={value}\0".encode() for key, value in node.environment("ADD").items())
    name = str(node.bin / "macvlan").encode()
    short = REQUEST.size - 4  # without the field that came last: no open sandbox
    header = REQUEST.pack(MAGIC, 0, short, len(name), len(environment), len(conf), 0)[:short]
    with Daemon(node), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(node.socket))
        connection.sendall(header + name + environment + conf)
        status, _ = _reply(connection)
        assert status == 0
        assert node.sandbox.addresses("net1") == ["10.1.0.5/24"]
        node.delete(rail())


def test_a_newer_client_works_with_an_older_daemon(node: NodeWorld, tmp_path: Path) -> None:
    # The next version of the client, made from this one's source: another number, one more field.
    newer = tmp_path / "newer"
    shutil.copytree(SOURCE, newer)
    source = (newer / "client.c").read_text()
    source, count = re.subn(r"#define PROTOCOL 1", "#define PROTOCOL 2", source)
    source, more = re.subn(r"int32_t sandbox; };", "int32_t sandbox; uint32_t later[6]; };", source)
    assert (count, more) == (1, 1)
    (newer / "client.c").write_text(source)
    shutil.copy(built(STATIC, newer), node.bin / "macvlan")
    with Daemon(node):
        node.add(rail())
        assert node.sandbox.addresses("net1") == ["10.1.0.5/24"]
        node.delete(rail())


def test_the_client_is_replaced_while_calls_run(node: NodeWorld, stub: StubIpam, barrier: Gate) -> None:
    stub.does("ADD", barrier.line)
    names = [f"net{number}" for number in range(50)]
    with Daemon(node, "--concurrency", "50"):
        processes = [node.start("ADD", STUBBED, CNI_IFNAME=name) for name in names]
        for _ in names:
            barrier.arrival()
        for plugin in ("macvlan", "static"):
            shutil.copy(built(STATIC), node.bin / f".{plugin}")
            (node.bin / f".{plugin}").rename(node.bin / plugin)
            assert node.call("VERSION", b"", plugin=plugin).status == 0
        barrier.let_pass(len(names))
        assert [ended(process).status for process in processes] == [0] * len(names)
        processes = [node.start("DEL", STUBBED, CNI_IFNAME=name) for name in names]
        assert [ended(process).status for process in processes] == [0] * len(names)
    assert node.records() == []


def test_a_poor_environment_is_enough(node: NodeWorld, tmp_path: Path) -> None:
    # No HOME, an empty PATH, a narrow umask, 64 KB of CNI_ARGS, TMPDIR without execution, /usr read-only.
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    variables = {"PATH": "", "TMPDIR": str(temporary), "CNI_ARGS": "IgnoreUnknown=1;X=" + "y" * 65500}
    read_only = "mount --bind /usr /usr && mount -o remount,ro,bind /usr"
    mounts = f"{read_only} && mount -t tmpfs -o noexec none {temporary}"
    poor = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
    before = os.umask(0o077)
    try:
        with Daemon(node, under=poor, TMPDIR=str(temporary)):
            assert ended(node.start("ADD", rail(), **variables)).status == 0
            assert node.sandbox.addresses("net1") == ["10.1.0.5/24"]
            assert ended(node.start("DEL", rail(), **variables)).status == 0
            assert "net1" not in node.sandbox.links()
    finally:
        os.umask(before)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=64),
            st.builds(
                lambda sizes, sandbox: REQUEST.pack(MAGIC, 1, REQUEST.size, *sizes, sandbox),
                st.tuples(*[st.integers(0, 2**32 - 1) | st.integers(0, 40)] * 3),
                st.integers(-200, 3),
            ),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_noise_on_the_socket_disturbs_nobody(noisy: NodeWorld, pieces: list[bytes]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(noisy.socket))
        try:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert noisy.call("VERSION", b"", plugin="macvlan").status == 0
    assert noisy.call("STATUS", rail(cniVersion="1.1.0")).status == 0


@pytest.fixture
def noisy(node: NodeWorld) -> Iterator[NodeWorld]:
    with Daemon(node):
        yield node


class _Soak:
    """Attachments that come and go, many at once; a runtime's side of it."""

    def __init__(self, node: NodeWorld, pairs: int) -> None:
        self.node = node
        self.conf = rail(ipam={"type": "whereabouts", "datastore": "file", "range": "10.1.0.0/22"})
        self.pairs = pairs

    def run(self) -> list[str]:
        """Attach and detach; return what a runtime would have to complain of."""
        with ThreadPoolExecutor(32) as pool:
            return [text for text in pool.map(self._pair, range(self.pairs)) if text]

    def _pair(self, number: int) -> str:
        pod, name = f"pod-{number}", f"net{number % 100000}"
        added = ended(self.node.start("ADD", self.conf, CNI_CONTAINERID=pod, CNI_IFNAME=name))
        for _ in range(20):  # as kubelet does, which calls again until it succeeds
            deleted = ended(self.node.start("DEL", self.conf, CNI_CONTAINERID=pod, CNI_IFNAME=name))
            if deleted.status == 0:
                break
        if deleted.status:
            return f"DEL of {pod}: {deleted}"
        return f"ADD of {pod}: {added}" if added.status and added.code != 11 else ""


def test_many_attachments_come_and_go_and_nothing_grows(node: NodeWorld, exhaustive: bool) -> None:
    with Daemon(node) as daemon:
        assert _Soak(node, 40).run() == []  # after which all caches are filled
        until(lambda: len(daemon.workers()) == 3)  # the idle ones: the last calls have ended
        before = _grown(daemon)
        assert _Soak(node, 2000 if exhaustive else 200).run() == []
        until(lambda: _grown(daemon)["files"] <= before["files"])
        after = _grown(daemon)
        assert after["threads"] <= before["threads"]
        assert after["memory"] < before["memory"] + 8
        assert after["memory"] < 80
    assert set(node.sandbox.links()) == {"lo"}
    assert not [path for path in node.records() if path.suffix == ".json"]
    assert _held(node) == []


def test_killed_at_random_moments_every_attachment_ends_clean(node: NodeWorld, exhaustive: bool) -> None:
    chance = random.Random(7)
    soak = _Soak(node, 2000 if exhaustive else 120)
    with ThreadPoolExecutor(1) as pool:
        running = None
        for _ in range(40 if exhaustive else 4):
            with Daemon(node) as daemon:
                running = running or pool.submit(soak.run)
                time.sleep(chance.uniform(0.05, 0.8))  # the moment is what is varied
                daemon.kill()
        with Daemon(node):
            assert running is not None
            assert running.result() == []
        with Daemon(node, "--cni-path", str(node.own)):  # what the killed ones left is replayed
            pass
    assert set(node.sandbox.links()) == {"lo"}
    assert list(node.queue.glob("[0-9]*")) == []
    assert not list((node.state / "attachments").rglob("*.json"))
    assert _held(node) == []


def _recorded(node: NodeWorld) -> list[str]:
    """The records of attachments, while the directories that they are in may go."""
    walked = os.walk(node.state / "attachments")
    return [name for _, _, names in walked for name in names if name.endswith(".json")]


def _grown(daemon: Daemon) -> dict[str, float]:
    pids = [daemon.process.pid, *daemon.workers()]
    return {
        "files": len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir())),
        "threads": sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids),
        "memory": daemon.resident(),
    }


def _held(node: NodeWorld) -> list[str]:
    """The addresses that whereabouts' file store still has, by name of file."""
    return [str(path) for path in node.state.rglob("10.1.*") if path.is_file()]


def _reply(connection: socket.socket) -> tuple[int, bytes]:
    connection.recv(GREETING.size, socket.MSG_WAITALL)
    _, status, output, notes = REPLY.unpack(connection.recv(REPLY.size, socket.MSG_WAITALL))
    return status, connection.recv(output + notes, socket.MSG_WAITALL)


def test_started_with_closed_streams_it_has_no_socket_in_their_place(node: NodeWorld) -> None:
    with Daemon(node, under=["sh", "-c", 'exec "$@" <&- >&-', "sh"]) as daemon:
        for number in (0, 1):
            assert Path(f"/proc/{daemon.process.pid}/fd/{number}").readlink() == Path("/dev/null")
        node.add(rail(ipam=static("10.1.0.5/24")))
