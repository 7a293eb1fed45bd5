"""A signal that asks a call to end, wherever it comes: ADD is undone, or its result is the answer."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

import pytest

from cni.protocol.errors import Terminated
from cni.protocol.plugin import run
from cni.protocol.signals import STOPPING, too_late
from tests.support.world import Answer, Namespace, WarmWorld, rail, static

FILE_STORE = {"type": "whereabouts", "datastore": "file", "range": "10.1.0.0/24"}
AROUND = 40  # places before and after the one at which all is done, each of which is tried


class Places:
    """Counts where CPython looks for signals within a call of a plugin, and raises SIGTERM at one of them.

    It looks when a function begins, when one in C has returned, and in loops, which are left out.
    """

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.count = 0
        self.done = 0  # how many there were when all was done
        self.place = ""
        self.was_held = False  # the signal, until the call was over
        self._calls = 0  # of plugins, one within another

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, self._terminate) for number in STOPPING}
        sys.setprofile(self._notice)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        sys.setprofile(None)
        self.was_held = signal.SIGTERM in signal.sigpending()
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)  # which drops those that wait
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _notice(self, frame: FrameType, event: str, _argument: object) -> None:
        if frame.f_code is run.__code__ and event in ("call", "return"):
            self._calls += 1 if event == "call" else -1
        if self._calls and event in ("call", "c_return"):
            self.count += 1
            self.done = self.count if frame.f_code is too_late.__code__ else self.done
            if self.count == self.at:
                sys.setprofile(None)
                self.place = f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_name}, {event})"
                signal.raise_signal(signal.SIGTERM)

    def _terminate(self, number: int, _frame: object) -> NoReturn:
        for other in STOPPING:
            signal.signal(other, signal.SIG_IGN)
        raise Terminated(signal.Signals(number).name)


@pytest.fixture
def world(host: Namespace, sandbox: Namespace, tmp_path: Any) -> WarmWorld:
    host.add_veth("eth0")
    sandbox.without_link_local()
    return WarmWorld(host, sandbox, tmp_path / "state")


def trial(world: WarmWorld, conf: dict[str, Any], at: int | None = None) -> tuple[Places, Answer | None]:
    answer = None
    with Places(at) as places, suppress(Terminated):  # before and after `run`, the executable answers
        answer = world.answer("ADD", conf)
    return places, answer


def kept(world: WarmWorld) -> tuple[set[tuple[str, int]], set[str], list[Path]]:
    """What an ADD that is undone leaves as it was: the host's links, the sandbox's, the records."""
    host = {(name, link["ifindex"]) for name, link in world.host.links().items()}
    return host, set(world.sandbox.links()), world.records()


@pytest.mark.parametrize(
    "conf",
    [
        pytest.param(rail(ipam=static("10.1.0.5/24", reserve=True)), id="macvlan-with-static"),
        pytest.param(rail(type="host-device", device="eth0"), id="host-device-with-static"),
        pytest.param(
            {"cniVersion": "1.0.0", "name": "pod", "type": "multus", "delegates": [rail(ipam=FILE_STORE)]},
            id="multus",
        ),
    ],
)
def test_add_is_undone_or_answered_with_its_result(
    world: WarmWorld, conf: dict[str, Any], exhaustive: bool
) -> None:
    for _ in range(3):  # the first ones load what is loaded once
        whole = trial(world, conf)[0]
        world.delete(conf)
    before = kept(world)
    held, left = 0, []
    everywhere = range(1, whole.count, 1 if exhaustive else whole.count // 12)
    for step in sorted({*everywhere, *range(whole.done - AROUND, whole.done + AROUND)}):
        places, answer = trial(world, conf, step)
        if answer and answer.status == 0:
            # It waited, or got lost in what Python clears away by itself, or the call was shorter this time.
            assert answer.json["interfaces"][0]["name"] == "net1"
            held += places.was_held
            world.delete(conf)
        elif answer:
            assert (answer.code, "stopped by SIGTERM" in answer.json["msg"]) == (11, True), answer
        if (
            kept(world) != before
        ):  # it came between a failure and its undoing: what is left stands in the journal
            left.append(f"{step} of {whole.count}: {places.place}")
            world.delete(conf)
        assert kept(world) == before, left
    assert len(left) <= 3, left
    assert held > AROUND // 2  # a call that is a few places shorter than the one before moves them
