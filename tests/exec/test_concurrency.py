"""Many calls at once: on one master, of one attachment, for one device, in one sandbox.

Calls that would rarely meet are made to: each stands still after the same system call until all have
come to it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.support.scenes import SCENES, Scene, assert_each, assert_same, scene
from tests.support.strace import Call, Paused, calls_of
from tests.support.world import Answer, Namespace, World

_PODS = 64
_RIVALS = 16


@dataclass(frozen=True)
class _Pod:
    """One of many attachments: whose it is, and what it asks for."""

    world: World
    conf: dict[str, Any]


@contextmanager
def _pods(it: Scene, count: int) -> Iterator[list[_Pod]]:
    """Make pods on a scene's host, each with a sandbox and an address of its own."""
    with ExitStack() as stack:
        pods = []
        for number in range(1, count + 1):
            sandbox = Namespace("pod")
            stack.callback(sandbox.delete)
            world = replace(it.world, sandbox=sandbox, container_id=f"pod-{number}")
            pods.append(_Pod(world, _asking_for(it.conf, number)))
        yield pods


def _asking_for(conf: Mapping[str, Any], number: int) -> dict[str, Any]:
    ipam = dict(conf["ipam"])
    if ipam["type"] == "static":
        ipam["addresses"] = [{"address": f"10.1.0.{number}/24"}]
    return {**conf, "ipam": ipam}


def _all_at_once(command: str, pods: Sequence[_Pod]) -> list[Answer]:
    """Start a call for each pod, let them all have their input, and return the answers in order."""
    processes = [
        subprocess.Popen(
            ["ip", "netns", "exec", pod.world.host.name, pod.world.bin / pod.conf["type"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=pod.world.environment(command),
        )
        for pod in pods
    ]
    for process, pod in zip(processes, pods, strict=True):
        assert process.stdin
        process.stdin.write(json.dumps(pod.conf).encode())
    for process in processes:
        assert process.stdin
        process.stdin.close()
        process.stdin = None
    told = [process.communicate() for process in processes]
    return [
        Answer(process.returncode, stdout.decode(), stderr.decode())
        for process, (stdout, stderr) in zip(processes, told, strict=True)
    ]


def _rivals(command: str, pods: Sequence[_Pod], call: Call) -> list[Answer]:
    """Start a call for each pod, let each come to `call`, then let all go on, and return the answers."""
    paused = [Paused(pod.world, command, pod.conf, _made_by(pod, call)) for pod in pods]
    for each in paused:
        each.wait()
    for each in paused:
        each.go_on()
    return [each.answer() for each in paused]


def _made_by(pod: _Pod, call: Call) -> Call:
    """Return a call as a pod makes it: in the directory of its own network."""
    return replace(call, arguments=call.arguments.replace("/rail>", f"/{pod.conf['name']}>"))


def _split(answers: Sequence[Answer]) -> tuple[list[int], list[int]]:
    """Return the numbers of those that succeeded, and the error codes of the others."""
    succeeded = [number for number, answer in enumerate(answers) if answer.status == 0]
    return succeeded, [answer.code for answer in answers if answer.status]


def _assert_whole(pod: _Pod, result: Mapping[str, Any]) -> None:
    checked = pod.world.call("CHECK", {**pod.conf, "prevResult": result})
    assert (checked.status, checked.stdout) == (0, ""), checked


def _last_before(calls: Sequence[Call], name: str, number: int = 1) -> Call:
    """Return the call after which the next thing that matters is call `number` of that name."""
    at = next(index for index, call in enumerate(calls) if (call.name, call.number) == (name, number))
    # Not a mkdir: whoever comes second finds the directory made.
    return next(call for call in reversed(calls[:at]) if call.name == "recvfrom")


@pytest.mark.parametrize("kind", ["macvlan-with-static-reserved", "macvlan-with-host-local"])
def test_many_pods_on_one_master_come_and_go_at_once(kind: str) -> None:
    with scene(kind) as it, _pods(it, _PODS) as pods:
        before = it.everything()
        sandboxes = [pod.world.sandbox.snapshot() for pod in pods]
        answers = _all_at_once("ADD", pods)
        assert [answer for answer in answers if answer.status] == []

        addresses = [answer.json["ips"][0]["address"] for answer in answers]
        links = [pod.world.sandbox.link("net1") for pod in pods]
        assert [answer.json["interfaces"][0]["mac"] for answer in answers] == [
            link["address"] for link in links
        ]
        assert len({link["address"] for link in links}) == _PODS
        assert [pod.world.sandbox.addresses("net1") for pod in pods] == [[address] for address in addresses]
        assert len(set(addresses)) == _PODS
        if it.conf["ipam"]["type"] == "static":
            assert addresses == [f"10.1.0.{number}/24" for number in range(1, _PODS + 1)]

        answers = _all_at_once("DEL", pods)
        assert [answer for answer in answers if answer.status or answer.stdout] == []
        assert_same(before, it.everything())
        assert [pod.world.sandbox.snapshot() for pod in pods] == sandboxes


@pytest.mark.parametrize("kind", ["macvlan-with-host-local", "host-device-veth-with-static"])
def test_of_the_same_attachment_made_many_times_at_once_one_succeeds_and_stays_whole(kind: str) -> None:
    with scene(kind) as it:
        before_record = _last_before(calls_of(it.world, "ADD", it.conf), "linkat")
    with scene(kind) as it:
        before = it.everything()
        pod = _Pod(it.world, it.conf)
        answers = _rivals("ADD", [pod] * _RIVALS, before_record)
        succeeded, codes = _split(answers)
        assert len(succeeded) == 1, answers
        assert codes == [101] * (_RIVALS - 1)
        _assert_whole(pod, answers[succeeded[0]].json)
        assert len(it.world.records()) == 1
        if it.conf["ipam"]["type"] == "host-local":
            assert it.everything()["leases"] == answers[succeeded[0]].json["ips"][0]["address"].split("/")[0]
        it.world.delete(it.conf)
        assert_same(before, it.everything())


def test_record_that_a_rival_makes_just_now_is_not_taken_for_a_damaged_one() -> None:
    kind = "macvlan-with-static-reserved"
    with scene(kind) as it:
        calls = calls_of(it.world, "ADD", it.conf)
        looking = next(call for call in calls if call.name == "openat" and "@net1.json" in call.path)
    with scene(kind) as it:
        before = it.everything()
        late = Paused(it.world, "ADD", it.conf, looking).wait()
        result = it.world.add(it.conf)
        late.go_on()
        answer = late.answer()
        assert (answer.status, answer.code) == (1, 101), answer
        _assert_whole(_Pod(it.world, it.conf), result)
        it.world.delete(it.conf)
        assert_same(before, it.everything())


def test_of_networks_that_want_the_same_name_in_a_sandbox_one_gets_it() -> None:
    kind = "macvlan-with-host-local"
    with scene(kind) as it:
        calls = calls_of(it.world, "ADD", it.conf)
        making = next(call for call in calls if "NEWLINK" in call.messages)
    with scene(kind) as it:
        before = it.everything()
        pods = [_Pod(it.world, {**it.conf, "name": f"rail-{number}"}) for number in range(_RIVALS)]
        answers = _rivals("ADD", pods, _last_before(calls, making.name, making.number))
        succeeded, codes = _split(answers)
        assert len(succeeded) == 1, answers
        assert codes == [101] * (_RIVALS - 1)
        winner = pods[succeeded[0]]
        # A runtime calls DEL for each ADD that failed.
        for pod in pods:
            if pod is not winner:
                pod.world.delete(pod.conf)
        _assert_whole(winner, answers[succeeded[0]].json)
        winner.world.delete(winner.conf)
        assert_same(before, it.everything())


@pytest.mark.parametrize("kind", ["host-device-veth-with-static", "host-device-macvlan-with-host-local"])
def test_of_pods_that_want_the_same_device_one_gets_it_and_keeps_it(kind: str) -> None:
    with scene(kind) as it:
        calls = calls_of(it.world, "ADD", it.conf)
        moving = next(call for call in calls if "SETLINK" in call.messages)
    with scene(kind) as it, _pods(it, _RIVALS) as pods:
        before = it.everything()
        answers = _rivals("ADD", pods, _last_before(calls, moving.name, moving.number))
        succeeded, codes = _split(answers)
        assert len(succeeded) == 1, answers
        assert 999 not in codes
        winner = pods[succeeded[0]]
        for pod in pods:
            if pod is not winner:
                pod.world.delete(pod.conf)
        _assert_whole(winner, answers[succeeded[0]].json)
        winner.world.delete(winner.conf)
        assert_same(before, it.everything())


def test_add_makes_its_directory_again_when_the_last_delete_removes_it_under_its_hands() -> None:
    kind = "macvlan-with-static-reserved"
    with scene(kind) as it, _pods(it, 2) as (first, second):
        first.world.add(first.conf)
        calls = calls_of(second.world, "ADD", second.conf)
        opened = [call for call in calls if call.name == "openat" and call.path.endswith("/rail")]
        second.world.delete(second.conf)
        first.world.delete(first.conf)
    assert len({call.path for call in opened}) > 1  # the journal's and the reservations'

    for call in opened:
        with scene(kind) as it, _pods(it, 2) as (first, second):
            before = it.everything()
            first.world.add(first.conf)
            adding = Paused(second.world, "ADD", second.conf, call).wait()
            first.world.delete(first.conf)
            adding.go_on()
            answer = adding.answer()
            assert answer.status == 0, answer
            _assert_whole(second, answer.json)
            second.world.delete(second.conf)
            assert_same(before, it.everything())


@pytest.mark.parametrize("kind", SCENES)
def test_delete_that_overtakes_an_add_leaves_all_or_nothing_to_the_next(kind: str, exhaustive: bool) -> None:
    if not exhaustive and kind != SCENES[0]:
        pytest.skip("differs by what is attached; --exhaustive runs it")
    with scene(kind) as it:
        calls = calls_of(it.world, "ADD", it.conf)

    def trial(it: Scene, before: Mapping[str, str], call: Call) -> None:
        adding = Paused(it.world, "ADD", it.conf, call).wait()
        it.world.delete(it.conf)
        adding.go_on()
        answer = adding.answer()
        if answer.status:
            assert answer.code != 999, answer
            assert_same(before, it.everything())
        it.world.delete(it.conf)
        assert_same(before, it.everything())

    assert_each(trial, [call for call in calls if call.changes_something], kind)
