"""The demo is a program that people run first: what it says is true, and it leaves nothing."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.world import run

DEMO = Path(__file__).parents[2] / "packaging" / "demo.py"
COMMAND = (sys.executable, str(DEMO))
ESCAPE = b"\x1b["


@dataclass(frozen=True)
class Run:
    """What the demo printed into a pipe, and what was around it before and after."""

    stdout: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@pytest.fixture(scope="module")
def whole_run() -> Run:
    before = surroundings()
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return Run(done.stdout, before, surroundings())


@pytest.fixture
def shown(whole_run: Run) -> str:
    return whole_run.stdout


def answer_to(shown: str, command: str) -> list[str]:
    """Return what followed each run of a command, up to the next command or blank line."""
    blocks = [block.partition("\n\n")[0] for block in shown.split("\n$ ")]
    return [block.partition("\n")[2] for block in blocks if command in block.partition("\n")[0]]


def test_result_and_sandbox_tell_the_same_addresses(shown: str) -> None:
    result = json.loads(shown.partition("the spec's result.\n")[2].partition("\n\n")[0])
    (link,) = result["interfaces"]
    (seen,) = answer_to(shown, "ip -n pod-a address show")
    assert f"link/ether {link['mac']}" in seen
    assert [ip["address"] for ip in result["ips"]] == ["10.1.0.11/24", "fd00:1::11/64"]
    assert all(f" {ip['address']} " in seen for ip in result["ips"])


def test_pods_and_neighbour_answer(shown: str) -> None:
    answers = answer_to(shown, "ping")
    addresses = ("10.1.0.12", "fd00:1::12", "10.1.0.1")
    assert [answer.partition(": ")[0] for answer in answers] == [f"64 bytes from {ip}" for ip in addresses]


def test_check_is_silent_until_an_address_is_missing(shown: str) -> None:
    first, second = answer_to(shown, "CNI_COMMAND=CHECK")
    assert first == ""
    assert json.loads(second)["code"] == 102
    assert "10.1.0.11/24 is not on it" in json.loads(second)["msg"]


def test_wrong_master_is_explained(shown: str) -> None:
    (answer,) = answer_to(shown, "CNI_IFNAME=net2")
    error = json.loads(answer)
    assert error["code"] == 7
    assert "eth9" in error["msg"]
    assert "Links present: eth0." in error["details"]
    assert 'Set "master"' in error["details"]


def test_journal_holds_both_pods_and_is_empty_at_the_end(shown: str) -> None:
    held, left = answer_to(shown, "podrail attachments")
    for plugin in ("macvlan", "whereabouts"):
        lines = [line for line in held.splitlines() if f" {plugin}: " in line]
        assert ["pod-a" in lines[0], "pod-b" in lines[1], len(lines)] == [True, True, 2]
    assert left == "no attachments"


def test_pools_hold_what_the_pods_have_and_are_gone_at_the_end(shown: str) -> None:
    held, left = answer_to(shown, "podrail ipam show")
    addresses = [line.split()[0] for line in held.splitlines() if line.startswith("  ")]
    assert addresses == ["10.1.0.11", "10.1.0.12", "fd00:1::11", "fd00:1::12"]
    assert left == "no pools"


def test_pod_is_empty_at_the_end(shown: str) -> None:
    (links,) = answer_to(shown, "ip -brief -n pod-a link")
    assert [line.split()[0] for line in links.splitlines()] == ["lo"]


def test_second_act_gives_a_pod_two_networks_and_takes_them_away(shown: str) -> None:
    held, left = answer_to(shown, "ip -brief -n pod-c address")
    seen = {line.split()[0].partition("@")[0]: line.split()[2:] for line in held.splitlines()}
    assert ("10.1.0.11/24" in seen["eth0"], "10.2.0.11/24" in seen["net1"]) == (True, True)
    assert [line.split()[0] for line in left.splitlines()] == ["lo"]


def test_output_in_a_pipe_has_no_colours(shown: str) -> None:
    assert ESCAPE.decode() not in shown


@pytest.mark.parametrize(
    ("variables", "is_coloured"),
    [
        pytest.param({"TERM": "xterm"}, True, id="a-terminal-gets-colours"),
        pytest.param({"TERM": "xterm", "NO_COLOR": "1"}, False, id="NO_COLOR-is-honoured"),
        pytest.param({"TERM": "dumb"}, False, id="a-dumb-terminal-gets-none"),
    ],
)
def test_colours(variables: dict[str, str], is_coloured: bool) -> None:
    own_end, terminal = pty.openpty()
    environment = {**os.environ, "NO_COLOR": "", **variables}
    with started(stdout=terminal, env=environment):
        os.close(terminal)
        beginning = b""
        while b"ip netns add" not in beginning:
            beginning += os.read(own_end, 4096)
    os.close(own_end)
    assert (ESCAPE in beginning) == is_coloured


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="control-c"),
        pytest.param(signal.SIGTERM, id="terminated"),
        pytest.param(signal.SIGKILL, id="killed"),
    ],
)
def test_interrupted_demo_leaves_nothing(number: int) -> None:
    before = surroundings()
    with started(stdout=subprocess.PIPE, stderr=subprocess.PIPE) as demo:
        for line in demo.stdout:
            if b"CNI_COMMAND=ADD" in line:  # in the midst of the first attachment
                break
        assert not Path(f"/proc/{demo.pid}/ns/net").samefile("/proc/self/ns/net")
        os.killpg(demo.pid, number)  # as a terminal does, to all that runs in it
        _, told = demo.communicate()
        assert demo.returncode in (1, -number)
        assert b"Traceback" not in told
        assert members(demo.pid) == []
    assert surroundings() == before


def test_callers_own_network_is_not_touched(whole_run: Run) -> None:
    assert whole_run.after == whole_run.before


@contextmanager
def started(**options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Start the demo in a process group of its own, which is ended with the block."""
    demo = subprocess.Popen(COMMAND, start_new_session=True, **options)  # type: ignore[call-overload]
    try:
        yield demo
    finally:
        if members(demo.pid):
            os.killpg(demo.pid, signal.SIGKILL)
        demo.communicate()


def members(group: int) -> list[str]:
    """The processes of a process group that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group, *_ = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state != "Z":
            found.append(stat.parent.name)
    return found


def surroundings() -> tuple[str, ...]:
    """What the demo could leave outside its namespaces."""
    mounts = Path("/proc/self/mountinfo").read_text()
    return run("ip", "netns", "list"), run("ip", "-d", "link"), run("ip", "address"), mounts
