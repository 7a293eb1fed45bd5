"""What a warm process keeps between calls, and for how long."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cni.plugins.macvlan.config import MacvlanConf
from cni.protocol.memory import Memory
from cni.protocol.request import Request
from ipam.config import WhereaboutsConf


def test_what_was_made_for_a_key_is_kept_for_it_alone() -> None:
    memory = Memory()
    first = memory.kept("a", list)
    assert memory.kept("a", list) is first
    assert memory.kept("b", list) is not first


def test_what_was_not_asked_for_longest_goes_first() -> None:
    memory = Memory()
    kept = {number: memory.kept(number, list) for number in range(32)}
    assert memory.kept(0, list) is kept[0]
    memory.kept("one more", list)
    assert memory.kept(0, list) is kept[0]
    assert memory.kept(1, list) is not kept[1]


def test_threads_get_the_same() -> None:
    memory = Memory()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: memory.kept("a", lambda: [object()]), range(200)))
    assert all(each is found[0] for each in found)


def test_it_goes_with_a_request_and_what_is_made_of_that() -> None:
    request = Request("ADD", {}, b"")
    assert request.with_variables(CNI_COMMAND="DEL").memory is request.with_stdin(b"{}").memory
    assert Request("ADD", {}, b"").memory is not request.memory


# -- configurations --------------------------------------------------------------------------------


def call(memory: Memory, **keys: object) -> Request:
    stdin = json.dumps({"cniVersion": "1.1.0", "name": "rail", "type": "macvlan"} | keys).encode()
    return Request("ADD", {}, stdin, memory=memory)


def test_calls_with_the_same_configuration_read_it_once() -> None:
    memory = Memory()
    first, same, other = call(memory).network, call(memory).network, call(memory, mtu=1400).network
    assert same is first
    assert MacvlanConf.of(same) is MacvlanConf.of(first)
    assert MacvlanConf.of(other).mtu == 1400
    assert MacvlanConf.of(first).mtu is None


def test_a_large_configuration_is_not_kept() -> None:
    memory = Memory()
    assert (
        call(memory, args={"text": "x" * 20_000}).network
        is not call(memory, args={"text": "x" * 20_000}).network
    )


def test_a_configuration_that_names_a_file_is_read_each_time(tmp_path: Path) -> None:
    memory, flat_file = Memory(), tmp_path / "whereabouts.conf"
    section = {"type": "whereabouts", "range": "10.0.0.0/24", "configuration_path": str(flat_file)}
    for gateway in ("10.0.0.1", "10.0.0.2"):
        flat_file.write_text(json.dumps({"gateway": gateway}))
        assert str(WhereaboutsConf.of(call(memory, ipam=section).network).ipam.gateway) == gateway
