"""The static client: what it sends, what it gives back, and what it answers when there is no daemon."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.client import (
    AARCH64,
    GREETING,
    MAGIC,
    REPLY,
    SANITIZED,
    SOURCE,
    STATIC,
    Client,
    Sent,
    StandIn,
    built,
    kept,
    receive,
)
from tests.support.world import BIN

RESULT = b'{"cniVersion": "1.0.0", "interfaces": []}'
CONF = b'{"cniVersion": "1.0.0", "name": "rail"}'


@pytest.fixture(params=[STATIC, SANITIZED, AARCH64], ids=str)
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    """The client as it ships, with sanitizers, and for the other architecture under emulation."""
    return Client(request.param, tmp_path / "node")


@pytest.fixture
def shipped(tmp_path: Path) -> Client:
    return Client(STATIC, tmp_path / "node")


def test_it_is_one_small_file_that_needs_nothing_else() -> None:
    data = built(STATIC).read_bytes()
    assert len(data) <= 64 * 1024
    assert b"/ld-" not in data  # no loader, so no library of the host's


def test_a_call_goes_out_whole_and_the_reply_comes_back_whole(client: Client) -> None:
    with StandIn.answering(client.socket, Sent(RESULT, 3, b"podrail: a note\n")) as daemon:
        answer = client.call("ADD", CONF, CNI_ARGS="K8S_POD_NAME=web", EMPTY="")
    assert (answer.status, answer.stdout, answer.stderr) == (3, RESULT.decode(), "podrail: a note\n")
    (call,) = daemon.received
    assert (call.version, call.name, call.stdin) == (1, str(client.file), CONF)
    sent = client.environment("ADD", CNI_ARGS="K8S_POD_NAME=web", EMPTY="")
    assert {name: call.environment.get(name) for name in sent} == sent
    own = Path("/proc/self/ns/net").stat()
    assert call.sandbox == (own.st_dev, own.st_ino)


@pytest.mark.parametrize(
    ("netns", "told"),
    [
        pytest.param("", 0, id="none-is-named"),
        pytest.param("/nowhere/at/all", -2, id="there-is-none-at-the-path"),
        pytest.param("/etc/passwd/x", -20, id="the-path-leads-through-a-file"),
    ],
)
def test_a_sandbox_that_cannot_be_opened_is_told_as_the_kernel_says_it(
    client: Client, netns: str, told: int
) -> None:
    with StandIn.answering(client.socket, Sent(b"")) as daemon:
        assert client.call("DEL", CNI_NETNS=netns).status == 0
    assert daemon.received[0].sandbox == told


def test_large_input_and_arguments_arrive_and_a_large_reply_comes_back(client: Client) -> None:
    stdin = b'{"x": "' + b"y" * (16 * 1024 * 1024 - 9) + b'"}'
    arguments = "A=" + "b" * 65534
    with StandIn.answering(client.socket, Sent(stdin)) as daemon:
        answer = client.call("ADD", stdin, CNI_ARGS=arguments)
    assert answer.stdout.encode() == stdin
    assert daemon.received[0].stdin == stdin
    assert daemon.received[0].environment["CNI_ARGS"] == arguments


def test_input_beyond_the_limit_is_cut_where_the_daemon_can_tell(shipped: Client) -> None:
    with StandIn.answering(shipped.socket, Sent(RESULT)) as daemon:
        process = shipped.start("ADD")
        process.communicate(b"x" * (17 * 1024 * 1024), timeout=60)
    assert process.returncode == 0
    assert len(daemon.received[0].stdin) == 16 * 1024 * 1024 + 1


def test_a_reply_in_single_bytes_is_put_together(client: Client) -> None:
    with StandIn.answering(client.socket, Sent(RESULT, 1, b"note\n", piece=1)):
        answer = client.call("ADD")
    assert (answer.status, answer.stdout, answer.stderr) == (1, RESULT.decode(), "note\n")


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_interrupted_system_calls_are_made_again(shipped: Client, verb: str) -> None:
    calls = "read,write,writev,recvfrom,sendto,sendmsg,poll"
    under = ["strace", "-f", "-o", "/dev/null", "-e", f"inject={calls}:error=EINTR:when=1+2"]
    with StandIn.answering(shipped.socket, Sent(RESULT, 0, b"note\n")) as daemon:
        answer = shipped.call(verb, under=under)
    assert (answer.status, answer.stdout) == (0, RESULT.decode())
    assert daemon.received[0].stdin == CONF


def test_closed_stdin_is_an_empty_configuration(client: Client) -> None:
    with StandIn.answering(client.socket, Sent(RESULT)) as daemon:
        answer = client.call("ADD", b"", close=[0])
    assert (answer.status, answer.stdout) == (0, RESULT.decode())
    assert daemon.received[0].stdin == b""


def test_nothing_is_done_for_an_add_whose_answer_has_no_place_to_go(client: Client) -> None:
    with StandIn.answering(client.socket, Sent(RESULT)) as daemon:
        answer = client.call("ADD", close=[1])
    assert answer.status == 1
    assert "nothing was done" in answer.stderr
    assert daemon.received == []


def test_an_add_that_nobody_hears_of_is_taken_back(client: Client) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with StandIn.answering(client.socket, Sent(RESULT), Sent(b"")) as daemon:
        done = subprocess.run(
            client.command(), env=client.environment("ADD"), input=CONF, stdout=writing, check=False
        )
    os.close(writing)
    assert done.returncode == 1
    verbs = [call.environment["CNI_COMMAND"] for call in daemon.received]
    assert verbs == ["ADD", "DEL"]
    assert daemon.received[1].stdin == CONF


def test_closed_stderr_is_no_failure(client: Client) -> None:
    with StandIn.answering(client.socket, Sent(RESULT, 0, b"note\n")):
        assert client.call("ADD", close=[2]).stdout == RESULT.decode()


def test_version_is_answered_as_the_python_executable_does(client: Client) -> None:
    environment = {"CNI_COMMAND": "VERSION", "PATH": os.environ["PATH"]}
    python = subprocess.run([BIN / "macvlan"], env=environment, capture_output=True, check=True)
    answer = client.call("VERSION", b"not even JSON")
    assert (answer.status, answer.stdout, answer.stderr) == (0, python.stdout.decode(), "")


def test_without_a_verb_it_says_what_it_is(client: Client) -> None:
    answer = client.call("")
    assert (answer.status, answer.stdout) == (0, "")
    assert answer.stderr.startswith("CNI macvlan plugin of podrail")


@pytest.mark.parametrize(
    ("verb", "code"),
    [
        pytest.param("ADD", 11, id="ADD-may-succeed-later"),
        pytest.param("CHECK", 11, id="CHECK-may-succeed-later"),
        pytest.param("GC", 11, id="GC-is-not-kept"),
        pytest.param("STATUS", 50, id="STATUS-says-not-available"),
    ],
)
def test_without_a_daemon_a_call_fails_and_says_so(client: Client, verb: str, code: int) -> None:
    answer = client.call(verb, CONF, PODRAIL_WAIT="0")
    assert answer.status == 1
    assert answer.json["code"] == code
    assert answer.json["cniVersion"] == "1.0.0"
    assert str(client.socket) in answer.json["msg"]
    assert "No such file" in answer.json["details"]
    assert not client.queue.exists()


def test_status_and_delete_do_not_wait_for_a_daemon(shipped: Client) -> None:
    began = time.monotonic()
    assert shipped.call("STATUS").json["code"] == 50
    assert shipped.call("DEL").status == 0
    assert shipped.call("GC").json["code"] == 11
    assert time.monotonic() - began < 1.5  # PODRAIL_WAIT is not set: an ADD would wait ten seconds


def test_add_waits_for_a_daemon_that_comes(client: Client) -> None:
    process = client.start("ADD", PODRAIL_WAIT="60")
    with StandIn.answering(client.socket, Sent(RESULT)) as daemon:
        stdout, _ = process.communicate(CONF, timeout=60)
    assert (process.returncode, stdout) == (0, RESULT)
    assert daemon.received[0].stdin == CONF


def test_add_waits_no_longer_than_it_is_told(shipped: Client) -> None:
    began = time.monotonic()
    assert shipped.call("ADD", PODRAIL_WAIT="1").json["code"] == 11
    assert 1 <= time.monotonic() - began < 5


def test_delete_without_a_daemon_is_kept_for_it(client: Client) -> None:
    answer = client.call("DEL", CONF, CNI_ARGS="K8S_POD_NAME=web")
    assert (answer.status, answer.stdout) == (0, "")
    assert f"kept in {client.queue}" in answer.stderr
    (file,) = client.queue.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(client.queue.stat().st_mode) == 0o700
    call = kept(file)
    assert (call.name, call.stdin, call.sandbox) == (str(client.file), CONF, 0)
    sent = client.environment("DEL", CNI_ARGS="K8S_POD_NAME=web")
    assert {name: call.environment.get(name) for name in sent} == sent


def test_what_is_kept_is_on_the_disk_before_its_name_is(shipped: Client, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    shipped.call("DEL", under=["strace", "-y", "-o", str(trace), "-e", "trace=fsync,renameat,renameat2"])
    steps = re.findall(r"^(\w+)\((.*)\) += 0$", trace.read_text(), re.MULTILINE)
    assert [name.removesuffix("2") for name, _ in steps] == ["fsync", "renameat", "fsync"]
    assert str(shipped.queue) in steps[2][1]


def test_many_deletes_at_once_are_all_kept(shipped: Client) -> None:
    processes = [shipped.start("DEL", CNI_CONTAINERID=f"pod-{number}") for number in range(40)]
    for process in processes:
        process.communicate(CONF, timeout=60)
    assert [process.returncode for process in processes] == [0] * 40
    kept_ids = {kept(file).environment["CNI_CONTAINERID"] for file in shipped.queue.iterdir()}
    assert kept_ids == {f"pod-{number}" for number in range(40)}


@pytest.mark.parametrize(
    "call", ["mkdir,mkdirat", "openat", "write,writev:when=1", "fsync", "fsync:when=2", "renameat,renameat2"]
)
def test_delete_that_cannot_be_kept_is_an_error_and_leaves_nothing(shipped: Client, call: str) -> None:
    name, _, which = call.partition(":")
    inject = ":".join(filter(None, (f"inject={name}", "error=ENOSPC", which)))
    answer = shipped.call("DEL", under=["strace", "-o", "/dev/null", "-e", inject])
    assert answer.status == 1, answer
    assert answer.json["code"] == 5
    assert "No space left" in answer.json["details"]
    assert not shipped.queue.exists() or list(shipped.queue.iterdir()) == []


@pytest.mark.parametrize("name", ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"])
def test_delete_that_could_never_be_replayed_is_refused(client: Client, name: str) -> None:
    answer = client.call("DEL", **{name: ""})
    assert answer.json["code"] == 4
    assert name in answer.json["details"]
    assert not client.queue.exists()


@pytest.mark.parametrize(
    ("verb", "code"), [("ADD", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50), ("DEL", None)]
)
@pytest.mark.parametrize("at", ["before-the-reply", "within-the-reply"])
def test_a_connection_that_is_lost_ends_as_if_there_were_no_daemon(
    client: Client, verb: str, code: int | None, at: str
) -> None:
    def serve(_: StandIn, connection: socket.socket) -> None:
        connection.sendall(Sent().greeting())
        receive(connection)
        if at == "within-the-reply":
            connection.sendall(Sent(RESULT).reply()[:-5])

    with StandIn(client.socket, serve):
        answer = client.call(verb)
    if code is None:
        assert (answer.status, answer.stdout) == (0, "")
        assert len(list(client.queue.iterdir())) == 1
    else:
        assert answer.json["code"] == code
        assert "was lost" in answer.json["msg"]
        assert not client.queue.exists()


def test_a_daemon_that_hangs_before_it_greets_is_as_none(shipped: Client) -> None:
    ended = threading.Event()
    with StandIn(shipped.socket, lambda _self, _connection: (ended.wait(60), None)[1]):
        answer = shipped.call("ADD", PODRAIL_WAIT="1")
        assert answer.json["code"] == 11
        assert "in time" in answer.json["details"]
        assert shipped.call("DEL", PODRAIL_WAIT="1").status == 0
        ended.set()
    assert len(list(shipped.queue.iterdir())) == 1


def test_a_connection_that_closes_before_the_greeting_is_tried_again(client: Client) -> None:
    connections = itertools.count(1)

    def serve(self: StandIn, connection: socket.socket) -> None:
        if next(connections) > 1:
            connection.sendall(Sent().greeting())
            self.received.append(receive(connection))
            connection.sendall(Sent(RESULT).reply())

    with StandIn(client.socket, serve) as daemon:
        answer = client.call("ADD")
    assert (answer.status, answer.stdout) == (0, RESULT.decode())
    assert len(daemon.received) == 1


@pytest.mark.parametrize(("verb", "code"), [("ADD", 11), ("DEL", 11), ("GC", 11), ("STATUS", 50)])
def test_a_signal_ends_a_call_that_has_not_begun_and_nothing_is_done_or_kept(
    client: Client, verb: str, code: int
) -> None:
    with StandIn.answering(client.socket, Sent(RESULT)) as daemon:
        process = client.start(verb)
        assert process.stdin
        process.stdin.write(CONF + b" " * (1 << 17))  # more than a pipe holds: it is being read
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 1
        assert json.loads(process.stdout.read())["code"] == code  # type: ignore[union-attr]
    assert daemon.received == []
    assert not client.queue.exists()


def test_a_signal_asks_the_daemon_to_end_the_call_and_its_answer_is_given(client: Client) -> None:
    arrived = threading.Event()

    def serve(_: StandIn, connection: socket.socket) -> None:
        connection.sendall(Sent().greeting())
        receive(connection)
        arrived.set()
        assert connection.recv(1) == b""  # the half-close, and nothing before it
        connection.sendall(Sent(b'{"code": 11}', 1).reply())

    with StandIn(client.socket, serve):
        process = client.start("ADD")
        assert process.stdin
        process.stdin.write(CONF)
        process.stdin.close()
        process.stdin = None
        assert arrived.wait(60)
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, b'{"code": 11}')


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        pytest.param(b'{"cniVersion": "0.4.0"}', "0.4.0", id="the-configuration's"),
        pytest.param(b'{"CNIVERSION" : "0.4.0"}', "0.4.0", id="whatever-the-case-of-the-key"),
        pytest.param(b'{"prevResult": {"cniVersion": "0.3.1"}, "a": 1}', "0.1.0", id="not-that-of-a-result"),
        pytest.param(b'{"a": ["cniVersion", "0.3.1"], "cniVersion": "0.4.0"}', "0.4.0", id="after-a-list"),
        pytest.param(
            rb'{"a": "\"cniVersion\": \"0.3.1\"", "cniVersion": "1.0.0"}', "1.0.0", id="not-of-text"
        ),
        pytest.param(b'{"name": "cniVersion", "x": "0.3.1"}', "0.1.0", id="not-after-a-value"),
        pytest.param(b'{"name": "rail"}', "0.1.0", id="none-is-the-oldest"),
        pytest.param(b'{"cniVersion": "9.9.9"}', "1.1.0", id="an-unknown-one-is-not-repeated"),
        pytest.param(b'{"cniVersion": "', "0.1.0", id="cut-off-before-it-is-told"),
        pytest.param(b"", "1.1.0", id="no-configuration"),
    ],
)
def test_errors_of_its_own_have_the_version_of_the_configuration(
    client: Client, stdin: bytes, version: str
) -> None:
    assert client.call("STATUS", stdin).json["cniVersion"] == version


def test_errors_are_json_whatever_the_names(client: Client) -> None:
    answer = client.call("STATUS", CNI_CONTAINERID='a"b\\c\nd', PODRAIL_SOCKET='/no"where\\\x01')
    assert answer.json["code"] == 50


@pytest.mark.parametrize("build", [STATIC, SANITIZED], ids=str)
def test_a_daemon_one_version_newer_is_understood(build: object, tmp_path: Path) -> None:
    client = Client(build, tmp_path / "node")  # type: ignore[arg-type]
    with StandIn.answering(client.socket, Sent(RESULT, 1, b"note\n", version=2, more=24)):
        answer = client.call("ADD")
    assert (answer.status, answer.stdout, answer.stderr) == (1, RESULT.decode(), "note\n")


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another-server"),
        pytest.param(GREETING.pack(MAGIC, 1, 4), id="a-greeting-too-short"),
        pytest.param(GREETING.pack(MAGIC, 1, 1 << 31), id="a-greeting-too-long"),
        pytest.param(Sent().greeting() + REPLY.pack(3, 0, 0, 0), id="a-reply-header-too-short"),
        pytest.param(Sent().greeting() + REPLY.pack(16, 0, 1 << 30, 0), id="a-result-too-long"),
        pytest.param(Sent().greeting() + REPLY.pack(16, 0, 1, (1 << 32) - 1), id="notes-too-long"),
    ],
)
def test_a_malformed_answer_is_no_success(client: Client, noise: bytes) -> None:
    with StandIn(client.socket, lambda _self, connection: connection.sendall(noise)):
        answer = client.call("ADD", PODRAIL_WAIT="0")
    assert answer.status == 1
    assert answer.json["code"] == 11


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    noise=st.binary(max_size=64),
    prefix=st.sampled_from([b"", MAGIC, Sent().greeting(), Sent().greeting() + Sent(RESULT).reply()[:16]]),
    stdin=st.text('{}[]":,\\ cniVersion0.41', max_size=80).map(str.encode),
    verb=st.sampled_from(["ADD", "STATUS", "DEL"]),
)
def test_whatever_comes_back_the_answer_is_one_document_or_none(
    tmp_path: Path, noise: bytes, prefix: bytes, stdin: bytes, verb: str
) -> None:
    client = Client(SANITIZED, tmp_path / "node")

    def serve(_: StandIn, connection: socket.socket) -> None:
        connection.sendall(prefix + noise)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass

    with StandIn(client.socket, serve):
        answer = client.call(verb, stdin, PODRAIL_WAIT="0")
    assert "Sanitizer" not in answer.stderr
    assert "runtime error" not in answer.stderr
    if not prefix.endswith(Sent(RESULT).reply()[:16]):
        assert answer.status == (0 if verb == "DEL" else 1)
        assert bool(answer.stdout) == (verb != "DEL")
        if answer.stdout:
            assert json.loads(answer.stdout)["code"] in (11, 50)
    shutil.rmtree(client.queue, ignore_errors=True)


@pytest.mark.skipif(
    not shutil.which("valgrind"), reason="Debian's valgrind is missing; ./dev test installs it"
)
@pytest.mark.parametrize("verb", ["ADD", "DEL", "STATUS", "VERSION"])
def test_valgrind_finds_nothing(verb: str, tmp_path: Path) -> None:
    client = Client(STATIC, tmp_path / "node")
    under = ["valgrind", "--quiet", "--error-exitcode=99", "--track-fds=yes"]
    with StandIn.answering(client.socket, Sent(RESULT, 0, b"")):
        answered = client.call(verb, under=under)
    alone = client.call(verb, under=under, PODRAIL_WAIT="0")
    assert (answered.status, alone.status) == (0, 1 if verb in ("ADD", "STATUS") else 0)


def test_the_source_names_the_versions_that_the_python_side_speaks() -> None:
    from cni.protocol import versions

    source = (SOURCE / "client.c").read_text()
    told = re.search(r"#define VERSIONS (.*)", source)
    assert told
    assert tuple(re.findall(r'"([\d.]+)"', told[1])) == versions.SUPPORTED
