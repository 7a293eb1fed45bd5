"""What a warm process keeps between calls, and for how long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from cni.protocol.memory import Memory
from cni.protocol.request import Request


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
