"""kill -9 before a system call: what the next DEL or GC finds, and what it leaves.

Default: before each call that changes something, so every state is seen that a killed plugin can leave
behind. With --exhaustive: before each call whatsoever, from the first on that touches the sandbox, the
journal or a netlink socket. The interpreter's start before that, which changes nothing, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.scenes import SCENES, Scene, assert_each, assert_same, scene
from tests.support.strace import Call, calls_of, killed_before

# A gateway that no address reaches: the kernel refuses the route, and ADD undoes what it had done.
_REFUSED_ROUTE = {
    "type": "static",
    "addresses": [{"address": "10.1.0.5/24"}],
    "routes": [{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}],
}


def _steps(calls: list[Call], exhaustive: bool) -> list[Call]:
    return calls if exhaustive else [call for call in calls if call.changes_something]


def _add_and_delete(it: Scene, before: Mapping[str, str]) -> None:
    it.world.add(it.conf)
    it.world.delete(it.conf)
    assert_same(before, it.everything())


@pytest.mark.parametrize("kind", SCENES)
def test_delete_gives_back_what_a_killed_add_had_taken(kind: str, exhaustive: bool) -> None:
    with scene(kind) as it:
        steps = _steps(calls_of(it.world, "ADD", it.conf), exhaustive)

    def trial(it: Scene, before: Mapping[str, str], call: Call) -> None:
        killed_before(it.world, "ADD", it.conf, call)
        it.world.delete(it.conf)
        assert_same(before, it.everything())
        # A killed ADD comes as far as its call, so the next trial shows that ADD works again.
        if exhaustive or call in steps[-2:]:
            _add_and_delete(it, before)

    assert_each(trial, steps, kind)


@pytest.mark.parametrize(
    ("kind", "is_in_default"),
    [
        pytest.param("macvlan-with-static-reserved", True, id="macvlan-with-static-reserved"),
        pytest.param("macvlan-with-host-local", True, id="macvlan-with-host-local"),
        pytest.param("macvlan-with-whereabouts", True, id="macvlan-with-whereabouts"),
        pytest.param("host-device-veth-with-static", False, id="host-device-veth-with-static"),
        pytest.param("host-device-macvlan-with-host-local", False, id="host-device-macvlan-with-host-local"),
    ],
)
def test_gc_gives_back_what_a_killed_add_had_taken(kind: str, is_in_default: bool, exhaustive: bool) -> None:
    if not (is_in_default or exhaustive):
        pytest.skip("a variation of the others; --exhaustive runs it")
    with scene(kind) as it:
        steps = _steps(calls_of(it.world, "ADD", it.conf), exhaustive)

    def trial(it: Scene, before: Mapping[str, str], call: Call) -> None:
        killed_before(it.world, "ADD", it.conf, call)
        _collect_garbage(it)
        assert_same(before, it.everything())

    assert_each(trial, steps, kind)


@pytest.mark.parametrize("kind", SCENES)
def test_delete_completes_one_that_was_killed(kind: str, exhaustive: bool) -> None:
    with scene(kind) as it:
        it.world.add(it.conf)
        steps = _steps(calls_of(it.world, "DEL", it.conf), exhaustive)

    def trial(it: Scene, before: Mapping[str, str], call: Call) -> None:
        it.world.add(it.conf)
        killed_before(it.world, "DEL", it.conf, call)
        it.world.delete(it.conf)
        assert_same(before, it.everything())

    assert_each(trial, steps, kind)


@pytest.mark.parametrize("kind", ["macvlan-with-static-reserved", "host-device-veth-with-static"])
def test_delete_gives_back_what_a_failed_add_had_not_undone_when_it_was_killed(
    kind: str, exhaustive: bool
) -> None:
    with scene(kind, ipam=_REFUSED_ROUTE) as it:
        calls = calls_of(it.world, "ADD", it.conf, status=1)
    refused = next(index for index, call in enumerate(calls) if "NEWROUTE" in call.messages)

    def trial(it: Scene, before: Mapping[str, str], call: Call) -> None:
        killed_before(it.world, "ADD", it.conf, call)
        it.world.delete(it.conf)
        assert_same(before, it.everything())

    assert_each(trial, _steps(calls[refused + 1 :], exhaustive), kind, ipam=_REFUSED_ROUTE)


def _collect_garbage(it: Scene) -> None:
    # host-local of Debian speaks versions up to 1.0.0, so the attachment is of an older configuration.
    conf = it.conf | {"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}
    answer = it.world.call("GC", conf, CNI_CONTAINERID="", CNI_IFNAME="", CNI_NETNS="")
    assert (answer.status, answer.stdout) == (0, ""), answer
