"""Delegates: which executable one is, how it is called, and what becomes of those that misbehave."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.support.world import BIN, GO_BIN, Answer, Namespace, StubIpam, WarmWorld, World, rail, static

IPS = static("10.1.0.5/24 via 10.1.0.1", routes=[{"dst": "10.9.0.0/16"}])
MAC = "02:00:00:00:00:07"
RESULT = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}]}
AS_LIBCNI = {"CNI_CONTAINERID": "", "CNI_NETNS": "", "CNI_IFNAME": ""}  # for GC and STATUS


@pytest.fixture(autouse=True)
def _master(host: Namespace) -> None:
    if not (GO_BIN / "macvlan").exists():
        pytest.skip("not installed: Debian's containernetworking-plugins; ./dev test installs it")
    host.add_veth("eth0")


@pytest.fixture
def warm(host: Namespace, sandbox: Namespace, tmp_path: Path) -> WarmWorld:
    return WarmWorld(host, sandbox, tmp_path / "state")


@pytest.fixture
def stub(warm: WarmWorld, tmp_path: Path) -> StubIpam:
    """An IPAM plugin of another make, found along CNI_PATH, that gives an address."""
    stub = StubIpam(tmp_path / "stub")
    stub.answers("ADD", RESULT)
    warm.path = f"{stub.folder}:{warm.path}"
    return stub


def _everything(world: World) -> tuple[str, str, list[Path]]:
    return world.host.snapshot(), world.sandbox.snapshot(), world.records()


def _executed(world: World, command: str, conf: Mapping[str, Any]) -> list[str]:
    """Call a plugin and return the files that it executed, its own left out."""
    with tempfile.NamedTemporaryFile(prefix="execve-", mode="r") as log:
        tracer = ("strace", "-f", "-e", "trace=execve", "-s", "4096", "-o", log.name)
        done = subprocess.run(
            ["ip", "netns", "exec", world.host.name, *tracer, world.bin / conf["type"]],
            input=json.dumps(conf).encode(),
            env=world.environment(command),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done
        started = re.findall(r'execve\("([^"]*)".* = 0$', log.read(), re.MULTILINE)
    assert started[0] == str(world.bin / conf["type"])
    return started[1:]


# -- which executable a delegate is ----------------------------------------------------------------


def _copied(folder: Path, *plugins: str) -> Path:
    folder.mkdir()
    for plugin in plugins:
        shutil.copy(BIN / plugin, folder / plugin)
    return folder


def _linked(folder: Path, *plugins: str) -> Path:
    folder.mkdir()
    for plugin in plugins:
        (folder / plugin).symlink_to(BIN / plugin)
    return folder


def _of_another_python(folder: Path) -> Path:
    folder.mkdir()
    first, rest = (BIN / "static").read_text().split("\n", 1)
    (folder / "static").write_text(f"{first} -s\n{rest}")
    (folder / "static").chmod(0o755)
    return folder


def _script_around_ours(folder: Path) -> Path:
    """A `static` that is no longer recognised as ours, so that it is executed."""
    folder.mkdir()
    (folder / "static").write_text(f'#!/bin/sh\nexec "{BIN}/static"\n')
    (folder / "static").chmod(0o755)
    return folder


@pytest.mark.parametrize(
    "arrange",
    [
        pytest.param(lambda folder: (BIN, BIN), id="where-pip-put-it"),
        pytest.param(lambda folder: 2 * (_copied(folder, "macvlan", "static"),), id="both-copied"),
        pytest.param(lambda folder: 2 * (_linked(folder, "macvlan", "static"),), id="both-symlinked"),
        pytest.param(lambda folder: (BIN, _copied(folder, "static")), id="copied-to-another-directory"),
        pytest.param(lambda folder: (_linked(folder, "macvlan"), BIN), id="called-through-a-symlink"),
    ],
)
def test_delegate_of_our_own_is_not_executed(world: World, tmp_path: Path, arrange: Any) -> None:
    world.bin, where = arrange(tmp_path / "bin")
    world.path = f"{where}:{GO_BIN}"
    assert _executed(world, "ADD", rail()) == []
    assert world.sandbox.addresses("net1") == ["10.1.0.5/24"]


@pytest.mark.parametrize(
    "arrange",
    [
        pytest.param(lambda folder: GO_BIN, id="the-go-plugin"),
        pytest.param(_script_around_ours, id="a-script-around-ours"),
        pytest.param(_of_another_python, id="ours-for-another-python"),
    ],
)
def test_delegate_of_another_make_that_comes_first_is_executed(
    world: World, tmp_path: Path, arrange: Any
) -> None:
    first = arrange(tmp_path / "first")
    world.path = f"{first}:{BIN}"
    assert str(first / "static") in _executed(world, "ADD", rail())


def test_delegate_of_another_make_that_comes_first_answers(warm: WarmWorld, tmp_path: Path) -> None:
    shadow = StubIpam(tmp_path / "first", "static")
    shadow.answers("ADD", RESULT)
    warm.path = f"{shadow.folder}:{warm.path}"
    assert [ip["address"] for ip in warm.add(rail())["ips"]] == ["10.1.0.9/24"]
    warm.delete(rail())
    assert shadow.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]


PREV = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "net1", "mac": MAC, "sandbox": "SANDBOX"}],
    "ips": [{"interface": 0, "address": "10.1.0.5/24", "gateway": "10.1.0.1"}],
    "routes": [{"dst": "10.9.0.0/16"}],
}


@pytest.mark.parametrize(
    ("command", "keys", "variables", "told"),
    [
        pytest.param("ADD", {}, {}, '"10.1.0.5/24"', id="add"),
        pytest.param("ADD", {"cniVersion": "0.2.0"}, {}, '"ip4"', id="add-in-an-old-version"),
        pytest.param(
            "ADD",
            {},
            {"CNI_ARGS": "IP=10.1.0.8/24;GATEWAY=192.0.2.1"},
            "GATEWAY 192.0.2.1 is in no address's subnet",
            id="add-with-a-warning",
        ),
        pytest.param("ADD", {}, {"CNI_ARGS": "IP=10.1.0.8"}, '"code": 4', id="add-with-a-malformed-argument"),
        pytest.param(
            "ADD", {"ipam": static("10.1.0.5")}, {}, "addresses[0]", id="add-with-a-malformed-address"
        ),
        pytest.param("ADD", {"ipam": static()}, {}, "missing IP config", id="add-without-an-address"),
        pytest.param(
            "ADD",
            {"cniVersion": "0.2.0", "ipam": static("10.1.0.5/24", "10.1.0.6/24")},
            {},
            "does not support more than 1 address",
            id="add-of-more-than-an-old-version-can-say",
        ),
        pytest.param("CHECK", {"prevResult": PREV}, {}, "", id="check"),
        pytest.param(
            "CHECK",
            {"prevResult": PREV, "ipam": static("10.1.0.5/24 via 10.1.0.2")},
            {},
            "is 10.1.0.1 in prevResult, not 10.1.0.2",
            id="check-that-finds-another-gateway",
        ),
        pytest.param("DEL", {}, {}, "", id="delete"),
        pytest.param("STATUS", {"cniVersion": "1.1.0"}, AS_LIBCNI, "", id="status"),
        pytest.param(
            "STATUS",
            {"cniVersion": "1.1.0", "ipam": static("nowhere")},
            AS_LIBCNI,
            "addresses[0]",
            id="status-that-is-bad",
        ),
        pytest.param(
            "GC",
            {"cniVersion": "1.1.0", "cni.dev/valid-attachments": []},
            AS_LIBCNI,
            "gives back net1",
            id="garbage-collection",
        ),
    ],
)
def test_delegate_of_our_own_answers_in_our_process_as_it_does_in_one_of_its_own(
    world: World,
    warm: WarmWorld,
    tmp_path: Path,
    command: str,
    keys: dict[str, Any],
    variables: dict[str, str],
    told: str,
) -> None:
    conf = json.loads(json.dumps(rail(mac=MAC, ipam=IPS) | keys).replace("SANDBOX", world.sandbox.path))
    answers = []
    for path in (str(BIN), f"{_script_around_ours(tmp_path / 'first')}:{BIN}"):
        if command != "ADD":
            warm.add(rail(mac=MAC, ipam=IPS))
        answers.append(world.call(command, conf, CNI_PATH=path, **variables))
        warm.delete(rail())
    inside, executed = answers
    assert (inside.status, inside.stdout) == (executed.status, executed.stdout)
    assert _notes(inside) == _notes(executed)
    assert told in inside.stdout + inside.stderr


def _notes(answer: Answer) -> list[str]:
    """What is on stderr, without what says from whom it came."""
    prefix = re.compile(r"(podrail: [^:]*: (static: )?)+")
    return [prefix.sub("", line) for line in answer.stderr.splitlines()]


# -- how a delegate is called ----------------------------------------------------------------------


def test_delegate_gets_our_stdin_and_our_environment_but_for_the_command(
    warm: WarmWorld, stub: StubIpam
) -> None:
    conf = rail(ipam={"type": stub.type, "of": "its own"}, unknown=[1.5e3, "\u00e4"])
    stdin = json.dumps(conf, indent=3).encode() + b"\n\n"
    stub.does("ADD", "env >environment")
    answer = warm.call("ADD", stdin, plugin="macvlan", CNI_ARGS="IgnoreUnknown=1;A=B", OTHER="kept")
    assert answer.status == 0, answer
    assert (stub.folder / "stdin.ADD").read_bytes() == stdin
    told = dict(line.split("=", 1) for line in (stub.folder / "environment").read_text().splitlines())
    given = warm.environment("ADD", CNI_ARGS="IgnoreUnknown=1;A=B", OTHER="kept")
    assert {name: told.get(name) for name in given} == given
    assert set(told) - set(given) <= {"PWD", "OLDPWD", "SHLVL", "_"}  # the stub's shell sets these


def test_delegate_gets_on_delete_what_it_got_on_add(warm: WarmWorld, stub: StubIpam) -> None:
    """Although the administrator has changed the section since."""
    warm.add(rail(ipam={"type": stub.type, "pool": "old"}))
    warm.delete(rail(ipam={"type": "static", "pool": "new"}))
    assert stub.stdin("DEL")["ipam"] == {"type": stub.type, "pool": "old"}


def test_what_a_delegate_says_on_stderr_is_passed_on(warm: WarmWorld, stub: StubIpam) -> None:
    stub.does("ADD", "echo 'a word of mine' >&2")
    answer = warm.call("ADD", rail(ipam={"type": stub.type}))
    assert (answer.status, answer.stderr) == (0, "podrail: pod-1 net1: stub-ipam: a word of mine\n")


@pytest.mark.parametrize("version", ["0.3.1", "1.0.0"])
@pytest.mark.parametrize(
    "told",
    [
        pytest.param({"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.9/24"}}, id="older"),
        pytest.param(
            {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.1.0.9/24"}]}, id="less-old"
        ),
        pytest.param({"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.9/24"}]}, id="newer"),
        pytest.param({"ips": [{"address": "10.1.0.9/24"}]}, id="unstated"),
    ],
)
def test_delegate_may_answer_in_another_version(
    warm: WarmWorld, stub: StubIpam, version: str, told: dict[str, Any]
) -> None:
    stub.answers("ADD", told)
    result = warm.add(rail(cniVersion=version, ipam={"type": stub.type}))
    assert result["cniVersion"] == version
    family = {"version": "4"} if version == "0.3.1" else {}
    assert result["ips"] == [{**family, "interface": 0, "address": "10.1.0.9/24"}]


# -- delegates that misbehave ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        pytest.param("echo garbage; exit 0", 6, "is not valid JSON", id="prints-garbage"),
        pytest.param("echo '{}{}'; exit 0", 6, "is not valid JSON", id="prints-two-documents"),
        pytest.param("echo '[]'; exit 0", 6, "is a JSON array, not an object", id="prints-no-object"),
        pytest.param(
            'echo \'{"ips":[{"address":1}]}\'; exit 0',
            6,
            "ips[0].address: must be a string",
            id="prints-a-malformed-result",
        ),
        pytest.param(
            'echo \'{"cniVersion":"9.0.0"}\'; exit 0',
            1,
            'the unknown version "9.0.0"',
            id="answers-in-a-version-from-the-future",
        ),
        pytest.param("exec cat /dev/zero", 6, "printed more than 16777216 bytes", id="prints-without-end"),
        pytest.param("exec cat /dev/zero >&2", 103, "16777216 bytes on stderr", id="complains-without-end"),
        pytest.param("exit 0", 6, "answered ADD with nothing", id="succeeds-silently"),
        pytest.param("echo '{}'; exit 0", 7, "returned missing IP config", id="gives-no-address"),
        pytest.param(
            'echo \'{"code":11,"msg":"busy"}\'; exit 0',
            11,
            "busy",
            id="prints-an-error-and-exits-as-if-it-were-none",
        ),
        pytest.param(
            'echo \'{"code":0,"msg":"no luck"}\'; exit 0',
            103,
            "no luck",
            id="prints-an-error-with-code-0-and-exits-so",
        ),
        pytest.param("echo garbage; exit 1", 103, "It printed: garbage", id="fails-with-garbage"),
        pytest.param("exit 3", 103, "exited with status 3", id="dies-silently"),
        pytest.param("echo 'no luck' >&2; exit 3", 103, "It said: no luck", id="dies-with-words-on-stderr"),
        pytest.param("kill -KILL $$", 103, "was killed by signal 9", id="dies-by-a-signal"),
        pytest.param("exec sleep 1000", 11, "did not answer ADD within 1 s", id="hangs"),
        pytest.param('echo \'{"code":0,"msg":"no luck"}\'; exit 1', 103, "no luck", id="fails-with-code-0"),
        pytest.param(
            'echo \'{"code":"7"}\'; exit 1',
            103,
            'plugin "stub-ipam" failed ADD',
            id="fails-without-a-message",
        ),
        pytest.param(
            'echo \'{"code":4711,"msg":"no","details":"luck"}\'; exit 1',
            4711,
            "luck",
            id="fails-with-a-code-of-its-own",
        ),
    ],
)
def test_add_is_undone_if_the_delegate(
    warm: WarmWorld, stub: StubIpam, line: str, code: int, told: str
) -> None:
    before = _everything(warm)
    stub.does("ADD", line)
    error = warm.refused("ADD", rail(ipam={"type": stub.type}), PODRAIL_DELEGATE_TIMEOUT="1")
    assert (error["code"], told in f"{error['msg']} {error['details']}") == (code, True), error
    assert "While undoing" not in error["details"]
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]
    assert _everything(warm) == before


@contextmanager
def _pipe(stub: StubIpam) -> Iterator[BinaryIO]:
    """A named pipe `pipe` in the delegate's directory: what is said in it, and when its last writer ends."""
    os.mkfifo(stub.folder / "pipe")
    descriptor = os.open(stub.folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as reader:
        yield reader


def _next(reader: BinaryIO) -> bytes:
    assert select.select([reader], [], [], 10)[0], "a process that writes to the pipe says nothing and lives"
    return reader.read(100)


def test_what_a_delegate_that_hangs_has_started_is_ended_with_it(warm: WarmWorld, stub: StubIpam) -> None:
    stub.does("ADD", "(echo started; sleep 1000; echo survived) >pipe")
    with _pipe(stub) as pipe:
        error = warm.refused("ADD", rail(ipam={"type": stub.type}), PODRAIL_DELEGATE_TIMEOUT="1")
        assert error["code"] == 11
        assert _next(pipe) == b"started\n"
        assert _next(pipe) == b""


def test_child_that_keeps_a_delegates_output_open_is_not_waited_for_but_ended(
    warm: WarmWorld, stub: StubIpam
) -> None:
    stub.does("ADD", "exec 3>pipe; sleep 1000 & exec 3>&-")
    with _pipe(stub) as pipe:
        result = warm.add(rail(ipam={"type": stub.type}), PODRAIL_DELEGATE_TIMEOUT="20")
        assert result["ips"][0]["address"] == "10.1.0.9/24"
        assert _next(pipe) == b""


def test_child_in_a_session_of_its_own_is_not_waited_for_either(warm: WarmWorld, stub: StubIpam) -> None:
    stub.does("ADD", "setsid sleep 1000 & echo $! >child")
    try:
        result = warm.add(rail(ipam={"type": stub.type}), PODRAIL_DELEGATE_TIMEOUT="20")
        assert result["ips"][0]["address"] == "10.1.0.9/24"
    finally:
        os.kill(int((stub.folder / "child").read_text()), signal.SIGKILL)


def test_child_that_has_let_go_of_a_delegates_output_lives_on(warm: WarmWorld, stub: StubIpam) -> None:
    """As a daemon that a plugin starts; it tells when it is asked to end, which the killed cannot."""
    stub.does(
        "ADD",
        "exec 3>pipe; (exec >/dev/null 2>&1; sleep 1000 3>&- & "
        'trap "kill $!; echo told >&3; exit" TERM; echo ready >&3; wait) & echo $! >child; exec 3>&-',
    )
    with _pipe(stub) as pipe:
        warm.add(rail(ipam={"type": stub.type}))
        assert _next(pipe) == b"ready\n"
        os.kill(int((stub.folder / "child").read_text()), signal.SIGTERM)
        assert _next(pipe) == b"told\n"


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        pytest.param("exit 3", 103, "exited with status 3 on DEL", id="dies-silently"),
        pytest.param("exec sleep 1000", 11, "did not answer DEL within 1 s", id="hangs"),
        pytest.param('echo \'{"code":11,"msg":"busy"}\'; exit 1', 11, "busy", id="fails"),
    ],
)
def test_all_else_is_undone_by_a_delete_whose_delegate(
    warm: WarmWorld, stub: StubIpam, line: str, code: int, told: str
) -> None:
    before = _everything(warm)
    conf = rail(ipam={"type": stub.type})
    warm.add(conf)
    stub.does("DEL", line)
    error = warm.refused("DEL", conf, PODRAIL_DELEGATE_TIMEOUT="1")
    assert (error["code"], told in error["msg"]) == (code, True), error
    assert (warm.host.snapshot(), warm.sandbox.snapshot()) == before[:2]
    assert len(warm.records()) == 1  # so that the next DEL asks again
    stub.works("DEL")
    warm.delete(conf)
    assert _everything(warm) == before


def test_delegate_that_is_not_installed_is_missed_before_anything_is_done(warm: WarmWorld) -> None:
    before = _everything(warm)
    error = warm.refused("ADD", rail(ipam={"type": "nowhere"}))
    assert (error["code"], error["msg"]) == (7, f'failed to find plugin "nowhere" in path [{BIN}, {GO_BIN}]')
    assert _everything(warm) == before
    assert not warm.state.exists()


def test_delegate_that_was_uninstalled_is_missed_on_delete_after_all_else_is_undone(
    warm: WarmWorld, stub: StubIpam
) -> None:
    before = _everything(warm)
    conf = rail(ipam={"type": stub.type})
    warm.add(conf)
    executable = stub.folder / stub.type
    executable.rename(stub.folder / "elsewhere")
    error = warm.refused("DEL", conf)
    assert (error["code"], 'failed to find plugin "stub-ipam"' in error["msg"]) == (7, True), error
    assert (warm.host.snapshot(), warm.sandbox.snapshot()) == before[:2]
    (stub.folder / "elsewhere").rename(executable)
    warm.delete(conf)
    assert _everything(warm) == before


def test_delegate_that_may_not_be_executed_is_an_error_that_says_where(
    warm: WarmWorld, stub: StubIpam
) -> None:
    executable = stub.folder / stub.type
    executable.chmod(0o644)
    error = warm.refused("ADD", rail(ipam={"type": stub.type}))
    assert (error["code"], error["msg"]) == (103, 'plugin "stub-ipam" cannot be executed: Permission denied')
    assert f"It was found at {executable}." in error["details"]


def test_directory_of_the_delegates_name_is_passed_over(warm: WarmWorld, stub: StubIpam) -> None:
    (stub.folder / "dir" / stub.type).mkdir(parents=True)
    warm.path = f"{stub.folder / 'dir'}:{warm.path}"
    assert warm.add(rail(ipam={"type": stub.type}))["ips"][0]["address"] == "10.1.0.9/24"


@pytest.mark.parametrize("plugin_type", ["../static", "/bin/true", ".", "..", "a\0b"])
def test_delegate_is_named_by_its_file_name_alone(warm: WarmWorld, plugin_type: str) -> None:
    error = warm.refused("ADD", rail(ipam={"type": plugin_type}))
    assert (error["code"], "is not a plugin type" in error["msg"]) == (7, True), error


def test_delegate_is_found_in_a_directory_that_is_relative(world: World, stub: StubIpam) -> None:
    done = subprocess.run(
        ["ip", "netns", "exec", world.host.name, world.bin / "macvlan"],
        input=json.dumps(rail(ipam={"type": stub.type})).encode(),
        env=world.environment("ADD", CNI_PATH="."),
        cwd=stub.folder,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert world.sandbox.addresses("net1") == ["10.1.0.9/24"]


@pytest.mark.parametrize(
    "conf",
    [
        pytest.param(rail(ipam={"type": "macvlan"}), id="macvlan"),
        pytest.param(rail(type="host-device", device="eth0", ipam={"type": "host-device"}), id="host-device"),
    ],
)
def test_plugin_that_is_to_be_its_own_ipam_is_refused_and_not_called_without_end(
    warm: WarmWorld, conf: dict[str, Any]
) -> None:
    before = _everything(warm)
    error = warm.refused("ADD", conf)
    assert (error["code"], error["msg"]) == (7, f'"{conf["type"]}" cannot be its own IPAM plugin')
    assert warm.refused("STATUS", conf | {"cniVersion": "1.1.0"})["code"] == 7
    warm.delete(conf)
    assert warm.call("GC", conf | _GC, **AS_LIBCNI) == Answer(0, "", "")
    assert _everything(warm) == before
    assert not warm.state.exists()


def test_delegate_that_is_being_written_is_waited_for(world: World, stub: StubIpam) -> None:
    """The writer goes on when the kernel has refused once, which strace tells."""
    conf = rail(ipam={"type": stub.type})
    log = stub.folder / "log"
    os.mkfifo(log)
    tracer = ("strace", "-f", "-e", "trace=execve", "-o", log)
    environment = world.environment("ADD", CNI_PATH=f"{stub.folder}:{world.path}")
    with (
        (stub.folder / stub.type).open("ab") as writer,
        subprocess.Popen(
            ["ip", "netns", "exec", world.host.name, *tracer, world.bin / "macvlan"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdin
        process.stdin.write(json.dumps(conf).encode())
        process.stdin.close()
        with log.open() as told:
            busy = next((line for line in told if "ETXTBSY" in line), None)
            writer.close()
            for _ in told:  # strace must not wait for a reader
                pass
        assert process.wait() == 0
    assert busy
    assert world.sandbox.addresses("net1") == ["10.1.0.9/24"]


def test_delegate_that_is_being_written_for_too_long_is_for_a_later_call(
    warm: WarmWorld, stub: StubIpam
) -> None:
    before = _everything(warm)
    conf = rail(ipam={"type": stub.type})
    with (stub.folder / stub.type).open("ab"):
        error = warm.refused("ADD", conf, PODRAIL_DELEGATE_TIMEOUT="0.2")
    assert (error["code"], error["msg"]) == (11, 'plugin "stub-ipam" cannot be executed: Text file busy')
    warm.delete(conf)
    assert _everything(warm) == before


# -- verbs that a delegate may not know ------------------------------------------------------------

_GC = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": [{"containerID": "pod-2", "ifname": "net1"}]}


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_delegate_whose_versions_lack_the_verb_is_noted_and_not_asked(
    warm: WarmWorld, stub: StubIpam, command: str
) -> None:
    stub.answers("VERSION", {"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]})
    answer = warm.call(command, rail(ipam={"type": stub.type}, **_GC), **AS_LIBCNI)
    assert (answer.status, answer.stdout, stub.calls()) == (0, "", [])
    assert f'plugin "stub-ipam" ({stub.folder}/stub-ipam) does not know {command}' in answer.stderr


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_debians_host_local_is_noted_and_not_asked(world: World, tmp_path: Path, command: str) -> None:
    ipam = {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]], "dataDir": str(tmp_path)}
    answer = world.call(command, rail(ipam=ipam, **_GC), **AS_LIBCNI)
    assert (answer.status, answer.stdout) == (0, ""), answer
    assert f'plugin "host-local" ({GO_BIN}/host-local) does not know {command}' in answer.stderr


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_delegate_that_knows_the_verb_is_asked(warm: WarmWorld, stub: StubIpam, command: str) -> None:
    conf = rail(ipam={"type": stub.type}, **_GC)
    assert warm.call(command, conf, **AS_LIBCNI) == Answer(0, "", "")
    assert (stub.calls(), stub.stdin(command)) == ([command], conf)


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_delegates_failure_of_such_a_verb_is_ours(warm: WarmWorld, stub: StubIpam, command: str) -> None:
    stub.fails(command, {"code": 50, "msg": "no luck"})
    error = warm.refused(command, rail(ipam={"type": stub.type}, **_GC), **AS_LIBCNI)
    assert (error["code"], error["msg"]) == (50, "no luck")


@pytest.mark.parametrize(
    "conf",
    [
        pytest.param(rail(), id="macvlan"),
        pytest.param(rail(type="host-device", device="eth0"), id="host-device"),
    ],
)
def test_status_says_not_available_where_the_ipam_plugin_is_not_installed(
    warm: WarmWorld, conf: dict[str, Any]
) -> None:
    conf |= {"ipam": {"type": "dhcpp"}, "cniVersion": "1.1.0"}
    error = warm.refused("STATUS", conf, **AS_LIBCNI | {"CNI_PATH": "/nowhere:/opt/none"})
    assert error["code"] == 50
    assert error["msg"] == 'failed to find plugin "dhcpp" in path [/nowhere, /opt/none]'


@pytest.mark.parametrize("verb", ["VERSION", "STATUS"])
def test_status_says_not_available_where_the_ipam_plugin_dies(
    warm: WarmWorld, stub: StubIpam, verb: str
) -> None:
    stub.does(verb, "kill -9 $$")
    error = warm.refused("STATUS", rail(ipam={"type": stub.type}, **_GC), **AS_LIBCNI)
    assert error["code"] == 50
    assert error["msg"] == f'plugin "stub-ipam" was killed by signal 9 on {verb} without an answer'


def test_garbage_collection_gives_back_ours_although_the_delegate_fails(
    warm: WarmWorld, stub: StubIpam
) -> None:
    before = _everything(warm)
    warm.add(rail(ipam={"type": stub.type}))
    stub.fails("GC", {"code": 11, "msg": "busy"})
    assert warm.refused("GC", rail(ipam={"type": stub.type}, **_GC), **AS_LIBCNI)["code"] == 11
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1", "GC"]
    assert _everything(warm) == before
