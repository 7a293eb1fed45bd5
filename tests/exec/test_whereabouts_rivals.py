"""whereabouts on the file store for 64 processes at once: no address twice, none lost, nobody starves."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from cni.protocol.plugin import run
from cni.protocol.request import Request
from cni.protocol.signals import again_in_time
from tests.support.killing import killed_before
from tests.support.processes import forked, status_of
from tests.support.world import BIN

_PROCESSES = 64
_POD = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}"


@pytest.fixture
def state() -> Iterator[Path]:
    """A directory in memory, which is empty again in the end."""
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        # Imports what the processes are to find imported.
        for command in ("ADD", "DEL"):
            assert call(Path(folder), command, network("10.1.0.0/24"), 0)[0] == 0
        yield Path(folder)
        assert [path for path in Path(folder).rglob("*") if path.is_file()] == []


def network(range_: str, **keys: Any) -> dict[str, Any]:
    ipam = {"type": "whereabouts", "datastore": "file", "range": range_, **keys}
    return {"cniVersion": "1.0.0", "name": "rail", "type": "macvlan", "ipam": ipam}


def call(state: Path, command: str, conf: dict[str, Any], pod: int) -> tuple[int, dict[str, Any]]:
    """Call whereabouts in this process; return its exit status and what it answers."""
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": f"container-{pod}",
        "CNI_IFNAME": "net1",
        "CNI_NETNS": "/run/netns/none",
        "CNI_PATH": str(BIN),
        "CNI_ARGS": _POD.format(f"pod-{pod}"),
        "PODRAIL_STATE_DIR": str(state),
        "PODRAIL_RUN_DIR": str(state / "run"),
    }
    with again_in_time():
        reply = run("whereabouts", Request(command, environment, json.dumps(conf).encode()))
    return reply.exit_status, json.loads(reply.stdout or b"{}")


def at_once(work: Callable[[int], object], count: int = _PROCESSES) -> list[Any]:
    """Let processes, numbered from 0, do something at the same moment; return what each made of it."""
    ready, gate = os.pipe()
    answers = [os.pipe() for _ in range(count)]

    def one(number: int) -> int:
        os.close(gate)
        os.read(ready, 1)  # until nobody holds the gate
        os.write(answers[number][1], json.dumps(work(number)).encode())
        return 0

    children = [forked(lambda number=number: one(number)) for number in range(count)]  # type: ignore[misc]
    os.close(gate)
    assert [status_of(child) for child in children] == [0] * count
    os.close(ready)
    told = []
    for reading, writing in answers:
        os.close(writing)
        with os.fdopen(reading) as answer:
            told.append(json.loads(answer.read()))
    return told


def addresses(told: Sequence[Any]) -> list[str]:
    assert [answer for status, answer in told if status] == []
    return [answer["ips"][0]["address"] for _, answer in told]


def test_one_pool_gives_each_process_an_address_and_leaves_no_gap(state: Path) -> None:
    conf = network("10.1.0.0/24")
    for _ in range(2):
        given = addresses(at_once(lambda number: call(state, "ADD", conf, number)))
        assert sorted(map(ip_interface, given)) == [
            ip_interface(f"10.1.0.{n}/24") for n in range(1, _PROCESSES + 1)
        ]
        assert at_once(lambda number: call(state, "DEL", conf, number)) == [[0, {}]] * _PROCESSES


def test_overlapping_pools_of_one_directory_give_no_address_twice(state: Path) -> None:
    confs = [
        network(range_) for range_ in ("10.1.0.0/24", "10.1.0.0/25", "10.1.0.0-10.1.0.126/25", "10.1.0.0/22")
    ]
    given = addresses(at_once(lambda number: call(state, "ADD", confs[number % 4], number)))
    assert len({text.partition("/")[0] for text in given}) == _PROCESSES
    reserved = state / "ipam" / "reservations" / "_"
    assert len(list(reserved.glob("addresses/*/*"))) == _PROCESSES
    assert at_once(lambda number: call(state, "DEL", confs[number % 4], number)) == [[0, {}]] * _PROCESSES


def test_a_pool_too_small_gives_all_it_has_and_takes_nothing_from_the_others(state: Path) -> None:
    conf = network("10.1.0.0/29")
    told = at_once(lambda number: call(state, "ADD", conf, number))
    winners = [number for number, (status, _) in enumerate(told) if status == 0]
    assert sorted(addresses([told[number] for number in winners])) == [f"10.1.0.{n}/29" for n in range(1, 7)]
    assert {answer["code"] for status, answer in told if status} == {100}
    assert len(list((state / "attachments" / "whereabouts").rglob("*.json"))) == len(winners)
    for number in winners:
        assert call(state, "DEL", conf, number) == (0, {})


def test_everybody_gets_one_of_few_addresses_in_time_and_has_it_alone(state: Path) -> None:
    conf = network("10.1.0.0/29")
    using = state / "using"
    using.mkdir()

    def come_and_go(number: int) -> str:
        while True:
            status, answer = call(state, "ADD", conf, number)
            if status == 0:
                break
            assert answer["code"] == 100, answer
        address = answer["ips"][0]["address"].partition("/")[0]
        with (using / address).open("x"):  # fails where somebody else has it
            pass
        (using / address).unlink()
        assert call(state, "DEL", conf, number) == (0, {})
        return str(address)

    assert len(at_once(come_and_go)) == _PROCESSES


def test_processes_that_are_killed_among_others_leave_what_their_delete_gives_back(state: Path) -> None:
    conf = network("10.1.0.0/24")

    def add(number: int) -> object:
        if number % 2:
            return call(state, "ADD", conf, number)
        with suppress(AssertionError):
            killed_before(number // 2, lambda: call(state, "ADD", conf, number))
        return None

    told = [each for each in at_once(add) if each]
    assert len(set(addresses(told))) == _PROCESSES // 2
    assert at_once(lambda number: call(state, "DEL", conf, number)) == [[0, {}]] * _PROCESSES
