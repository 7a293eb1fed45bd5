"""The executables as a runtime meets them: environment, stdin, stdout, exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cni.protocol.gojson import MAX_BYTES
from cni.protocol.registry import TYPES
from cni.protocol.versions import SUPPORTED
from tests.support.world import BIN, Namespace, StubIpam, World, rail

REQUIRED = {
    "ADD": ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
    "DEL": ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
    "CHECK": ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
    "GC": ["CNI_PATH"],
    "STATUS": ["CNI_PATH"],
}
VARIABLES = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH")


@pytest.fixture(autouse=True)
def _master(host: Namespace) -> None:
    host.add_veth("eth0")


def everything(world: World) -> tuple[str, str, list[Path]]:
    return world.host.snapshot(), world.sandbox.snapshot(), world.records()


@pytest.mark.parametrize("plugin", TYPES)
def test_version_needs_no_stdin_and_names_every_version(world: World, plugin: str) -> None:
    answer = world.call("VERSION", b"", plugin)
    assert (answer.status, answer.stderr) == (0, "")
    assert answer.stdout == json.dumps(answer.json, separators=(",", ":")) + "\n"
    assert answer.json["supportedVersions"] == list(SUPPORTED)


@pytest.mark.parametrize("plugin", TYPES)
def test_without_a_command_it_says_what_it_is(world: World, plugin: str) -> None:
    answer = world.call("", b"", plugin)
    assert (answer.status, answer.stdout) == (0, "")
    assert answer.stderr.splitlines() == [
        f"CNI {plugin} plugin of podrail",
        f"CNI protocol versions supported: {', '.join(SUPPORTED)}",
    ]


def test_words_that_were_meant_for_another_program_are_no_success() -> None:
    """Such as iproute2's rdma, which an environment that comes first in PATH hides."""
    done = subprocess.run([BIN / "rdma", "link", "show"], env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Is another rdma meant? This one is {BIN}/rdma." in done.stderr


@pytest.mark.parametrize("module", ["pydantic", "pyroute2", "netaddr", "filelock", "h11", "yaml", "ssl"])
def test_version_imports_nothing_heavy(world: World, module: str) -> None:
    script = world.bin / "macvlan"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", script],
        env={"CNI_COMMAND": "VERSION"},
        capture_output=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "cni.entry" in imported
    assert not any(name.partition(".")[0] == module for name in imported)


@pytest.mark.parametrize(
    "module",
    [
        "importlib.metadata",
        "pyroute2",
        "subprocess",
        "traceback",
        "asyncio",
        "cni.kube",
        "h11",
        "yaml",
        "ssl",
    ],
)
def test_add_with_static_imports_nothing_that_it_can_do_without(world: World, module: str) -> None:
    done = subprocess.run(
        ["ip", "netns", "exec", world.host.name, sys.executable, "-X", "importtime", world.bin / "macvlan"],
        input=json.dumps(rail()).encode(),
        env=world.environment("ADD"),
        capture_output=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert {"pydantic", "cni.attachment", "ipam.reservation"} <= imported
    assert module not in imported
    world.delete(rail())


@pytest.mark.parametrize("command", REQUIRED)
def test_missing_variables_are_named_together_in_the_order_of_the_spec(world: World, command: str) -> None:
    error = world.refused(command, rail(cniVersion="1.1.0"), **dict.fromkeys(VARIABLES, ""))
    assert (error["code"], error["msg"]) == (
        4,
        f"required env variables [{','.join(REQUIRED[command])}] missing",
    )


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        pytest.param({"CNI_CONTAINERID": "../etc"}, "CNI_CONTAINERID", id="container-id-with-a-path"),
        pytest.param({"CNI_CONTAINERID": "pod\n"}, "CNI_CONTAINERID", id="container-id-with-a-newline"),
        pytest.param({"CNI_CONTAINERID": "é"}, "CNI_CONTAINERID", id="container-id-beyond-ascii"),
        pytest.param({"CNI_IFNAME": "a" * 16}, "longer than 15", id="interface-name-too-long"),
        pytest.param({"CNI_IFNAME": "é" * 8}, "longer than 15", id="interface-name-counted-in-bytes"),
        pytest.param({"CNI_IFNAME": ".."}, "directory", id="interface-name-that-is-a-directory"),
        pytest.param({"CNI_IFNAME": "a/b"}, "/", id="interface-name-with-a-slash"),
        pytest.param({"CNI_IFNAME": "a:b"}, ":", id="interface-name-with-a-colon"),
        pytest.param({"CNI_IFNAME": "a b"}, "white space", id="interface-name-with-a-space"),
        pytest.param({"CNI_IFNAME": "lo"}, "itself", id="interface-name-lo"),
        pytest.param({"CNI_IFNAME": "all"}, "itself", id="interface-name-all"),
        pytest.param({"CNI_IFNAME": "default"}, "itself", id="interface-name-default"),
        pytest.param({"CNI_IFNAME": "net%d"}, "number", id="interface-name-that-the-kernel-completes"),
        pytest.param({"CNI_IFNAME": os.fsdecode(b"\xff")}, "UTF-8", id="interface-name-that-is-no-text"),
        pytest.param({"CNI_ARGS": "MAC"}, "KEY=VALUE", id="args-without-a-value"),
        pytest.param({"CNI_ARGS": "MAC=a=b"}, "KEY=VALUE", id="args-with-two-equals"),
        pytest.param({"CNI_ARGS": "IgnoreUnknown=1;"}, "KEY=VALUE", id="args-with-a-semicolon-at-the-end"),
        pytest.param({"CNI_ARGS": "FOO=1"}, "FOO", id="args-with-an-unknown-key"),
        pytest.param({"CNI_ARGS": "MAC=zz"}, "MAC", id="args-with-a-bad-mac"),
    ],
)
def test_malformed_environment_is_refused_before_anything_is_touched(
    world: World, variables: dict[str, str], word: str
) -> None:
    before = everything(world)
    error = world.refused("ADD", rail(), **variables)
    assert error["code"] == 4
    assert word in error["msg"] + error["details"]
    assert everything(world) == before


@pytest.mark.parametrize(
    ("stdin", "code"),
    [
        pytest.param(b"", 6, id="nothing"),
        pytest.param(b"[]", 6, id="an-array"),
        pytest.param(b'{"name":"rail"} x', 6, id="text-after-the-document"),
        pytest.param(b'{"name":"rail","mtu":NaN}', 6, id="not-a-number"),
        pytest.param(b'{"a":' * 100_000, 6, id="nested-without-end"),
        pytest.param(b'{"name":5}', 6, id="a-name-that-is-a-number"),
        pytest.param(b'{"name":"rail","cniVersion":1}', 6, id="a-version-that-is-a-number"),
        pytest.param(b"{}", 7, id="no-name"),
        pytest.param(b'{"name":"../rail"}', 7, id="a-name-with-a-path"),
        pytest.param(b'{"name":"rail\\n"}', 7, id="a-name-with-a-newline"),
        pytest.param(b'{"name":"rail","cniVersion":"1.0.1"}', 1, id="an-unknown-version"),
        pytest.param(b" " * (MAX_BYTES + 1), 6, id="more-than-16-megabytes"),
    ],
)
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_stdin_is_checked_whatever_the_verb(world: World, command: str, stdin: bytes, code: int) -> None:
    assert world.refused(command, stdin, plugin="macvlan")["code"] == code


def test_stdin_of_16_megabytes_is_read(world: World) -> None:
    text = json.dumps(rail()).encode()
    world.add(json.loads(text.ljust(MAX_BYTES)))
    answer = world.call("DEL", text.ljust(MAX_BYTES), "macvlan")
    assert (answer.status, answer.stdout) == (0, "")


@pytest.mark.parametrize(
    ("command", "version", "code"),
    [
        pytest.param("CHECK", "0.3.1", 1, id="check-is-younger"),
        pytest.param("GC", "1.0.0", 1, id="gc-is-younger"),
        pytest.param("STATUS", "1.0.0", 1, id="status-is-younger"),
        pytest.param("CHECK", "abc", 6, id="check-of-no-version"),
        pytest.param("GC", "abc", 6, id="gc-of-no-version"),
        pytest.param("DEL", "abc", 1, id="del-of-no-version"),
        pytest.param("FOO", "1.0.0", 4, id="a-verb-that-does-not-exist"),
    ],
)
def test_verb_must_be_known_to_the_version(world: World, command: str, version: str, code: int) -> None:
    assert world.refused(command, rail(cniVersion=version))["code"] == code


@pytest.mark.parametrize("plugin", TYPES)
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_the_hosts_own_namespace_is_no_sandbox(world: World, plugin: str, command: str) -> None:
    before = everything(world)
    conf = rail(type=plugin)
    assert world.refused(command, conf, CNI_NETNS=world.host.path)["code"] == 8
    assert everything(world) == before


def test_override_allows_the_hosts_own_namespace(world: World) -> None:
    override = {"CNI_NETNS": world.host.path, "CNI_NETNS_OVERRIDE": "True"}
    world.add(rail(), **override)
    assert "net1" in world.host.links()
    world.delete(rail(), **override)
    assert "net1" not in world.host.links()


def run_with(
    world: World, command: str, conf: dict[str, Any], shell: str
) -> subprocess.CompletedProcess[bytes]:
    """Run macvlan from a shell line, where `$PLUGIN` is the executable, with a configuration as stdin."""
    return subprocess.run(
        ["ip", "netns", "exec", world.host.name, "sh", "-c", shell],
        input=json.dumps(conf).encode(),
        env=world.environment(command) | {"PLUGIN": str(world.bin / "macvlan")},
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param('"$PLUGIN" >/dev/full', id="a-full-disk"),
        pytest.param('"$PLUGIN" >&-', id="closed"),
        pytest.param('{ "$PLUGIN"; echo $? >&2; } | true; exit 1', id="a-pipe-that-nobody-reads"),
    ],
)
def test_add_whose_answer_nobody_gets_is_taken_back(world: World, shell: str) -> None:
    before = everything(world)
    done = run_with(world, "ADD", rail(), shell)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    if b"answer could not be given" in done.stderr:
        assert everything(world) == before
    else:
        # The reader may have gone only after it had the answer in its pipe.
        assert done.stderr.splitlines()[-1] == b"0"


def test_del_needs_no_stdout(world: World) -> None:
    before = everything(world)
    world.add(rail())
    assert run_with(world, "DEL", rail(), 'exec "$PLUGIN" >&-').returncode == 0
    assert everything(world) == before


def test_closed_stdin_is_empty_stdin(world: World) -> None:
    done = run_with(world, "ADD", rail(), 'exec "$PLUGIN" <&-')
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 6)


def test_stdin_that_cannot_be_read_is_one_error(world: World) -> None:
    before = everything(world)
    done = run_with(world, "ADD", rail(), 'exec "$PLUGIN" 0>/dev/null')
    error = json.loads(done.stdout)
    assert (done.returncode, error["code"]) == (1, 5)
    assert error["msg"] == "ADD failed before it began: [Errno 9] Bad file descriptor: 'stdin'"
    assert everything(world) == before


def test_streams_that_do_not_block_are_waited_for(world: World) -> None:
    """stdin comes late, and the pipe of stdout is full until the test reads it."""
    stdin, late = os.pipe()
    reading, stdout = os.pipe()
    os.set_blocking(stdin, False)
    os.set_blocking(stdout, False)
    filling = 0
    with suppress(BlockingIOError):
        while True:
            filling += os.write(stdout, bytes(4096))
    process = subprocess.Popen(
        ["ip", "netns", "exec", world.host.name, "strace", "-e", "trace=read,write", world.bin / "macvlan"],
        env=world.environment("ADD"),
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(stdin)
    os.close(stdout)
    with process, open(reading, "rb") as answer, open(late, "wb") as configuration:
        assert process.stderr
        assert any(line.startswith("read(0,") and "EAGAIN" in line for line in process.stderr)
        configuration.write(json.dumps(rail()).encode())
        configuration.close()
        assert any(line.startswith("write(1,") and "EAGAIN" in line for line in process.stderr)
        answer.read(filling)
        assert json.loads(answer.read())["ips"] == [{"interface": 0, "address": "10.1.0.5/24"}]
        process.stderr.read()
    assert process.returncode == 0
    world.delete(rail())


@pytest.mark.parametrize(
    ("module", "told"),
    [
        pytest.param("json", 'ADD failed before it began: it is "broken" \u00e4', id="of-python"),
        pytest.param("pydantic", 'ImportError: it is "broken" \u00e4', id="of-a-library"),
    ],
)
def test_broken_installation_is_one_error_that_says_what_is_broken(
    world: World, tmp_path: Path, module: str, told: str
) -> None:
    before = everything(world)
    (tmp_path / f"{module}.py").write_text("raise ImportError('it is \"broken\" \u00e4')")
    answer = world.call("ADD", rail(), PYTHONPATH=str(tmp_path))
    assert (answer.status, answer.code, told in answer.json["msg"]) == (1, 999, True), answer
    assert everything(world) == before


def test_too_little_memory_is_one_error(world: World) -> None:
    """From far too little to nearly enough: whatever fails to be had, there is one document or none."""
    before = everything(world)
    refused = 0
    for kilobytes in range(28_000, 48_000, 2_000):
        done = run_with(world, "ADD", rail(), f'ulimit -v {kilobytes}; exec "$PLUGIN"')
        if done.returncode == 0:
            world.delete(rail())
        elif done.stdout:
            error = json.loads(done.stdout)
            refused += error["code"] == 5
        assert everything(world) == before
    assert refused or done.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_during_ipam_undoes_all_and_gives_one_error(
    world: World, tmp_path: Path, number: signal.Signals
) -> None:
    before = everything(world)
    folder = tmp_path / "bin"
    folder.mkdir()
    ipam = folder / "stub"
    ipam.write_text(
        f'#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] || exit 0\nkill -{number.value} $PPID\nexec sleep 60\n'
    )
    ipam.chmod(0o755)
    world.path = f"{folder}:{world.path}"
    error = world.refused("ADD", rail(ipam={"type": "stub"}))
    assert (error["code"], number.name in error["msg"]) == (11, True)
    assert everything(world) == before


@pytest.mark.parametrize(
    "module",
    [
        pytest.param("cni/protocol/gojson.py", id="before-json"),
        pytest.param("cni/protocol/request.py", id="before-the-request"),
        pytest.param("cni/protocol/config.py", id="before-the-models"),
        pytest.param("cni/host/links.py", id="before-the-kernel"),
    ],
)
def test_signal_during_the_imports_gives_one_error(world: World, module: str) -> None:
    """It comes when the interpreter looks at a module's file, which strace tells and does."""
    before = everything(world)
    file = Path(__file__).parents[2] / module
    injection = ("-e", "trace=newfstatat", "-e", "inject=newfstatat:signal=TERM:when=1")
    strace = ("strace", "-o", "/dev/null", "-P", str(file), *injection)
    done = subprocess.run(
        ["ip", "netns", "exec", world.host.name, *strace, str(world.bin / "macvlan")],
        input=json.dumps(rail()).encode(),
        env=world.environment("ADD"),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout)["msg"]) == (1, "ADD was stopped by SIGTERM")
    assert everything(world) == before


def test_exit_status_of_a_delegate_is_known_though_the_caller_ignores_its_children(
    world: World, tmp_path: Path
) -> None:
    stub = StubIpam(tmp_path / "stub")
    stub.fails("ADD", {"code": 100, "msg": "none left"})
    world.path = f"{stub.folder}:{world.path}"
    done = run_with(world, "ADD", rail(ipam={"type": stub.type}), 'trap "" CHLD; exec "$PLUGIN"')
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 100)
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]
