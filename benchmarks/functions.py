"""What ADD and DEL of sriov cost step by step, in a warm process, in the machine that has cards.

Run as `tests/support/run-in-vm --share . --venv .venv --vfs 2 -- python3 -m benchmarks.functions`; prints
Markdown. The machine is emulated, and programs run some ten times slower there: what counts is which
step takes the time, and how often the kernel is asked.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cni.host import addressing
from cni.host.netlink import Message, Netlink
from cni.plugins.sriov import discovery, plugin, release, settings
from cni.state import Journal
from tests.support.isolation import isolate
from tests.support.world import Namespace, WarmWorld
from tests.vm.conftest import Machine
from tests.vm.functions import EVERYTHING, vf

ROUNDS = 10
# Which function is which step; what they leave of the whole is the rest.
STEPS: tuple[tuple[object, str, str], ...] = (
    (discovery, "identify", "find the VF in sysfs"),
    (settings, "held", "ask the PF for its VFs"),
    (settings, "apply", "tell the PF the settings"),
    (plugin, "moved_in", "move the interface in"),
    (plugin, "give_mac", "give it the MAC"),
    (addressing, "apply", "addresses, up, announce"),
    (release, "arrived", "bring it home"),
    (release, "restore", "name, MAC, MTU as they were"),
    (Journal, "begin", "write the record"),
    (Journal, "update", "complete the record"),
    (Journal, "remove", "remove the record"),
)


class Clock:
    """Seconds by step, and messages to the kernel, of one call."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.round_trips = 0
        for owner, name, step in STEPS:
            setattr(owner, name, self._timed(getattr(owner, name), step))
        sending = Netlink._send

        def counted(netlink: Netlink, *messages: Message) -> None:
            self.round_trips += 1
            sending(netlink, *messages)

        Netlink._send = counted  # type: ignore[method-assign, assignment]

    def _timed(self, work: Callable[..., Any], step: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **keywords: Any) -> Any:
            began = time.perf_counter()
            try:
                return work(*arguments, **keywords)
            finally:
                self.seconds[step] = self.seconds.get(step, 0) + time.perf_counter() - began

        return timed


def main() -> None:
    isolate()
    with TemporaryDirectory() as folder:
        world = WarmWorld(Machine(), Namespace("pod"), Path(folder, "state"))
        clock = Clock()
        taken: dict[str, list[dict[str, float]]] = {"ADD": [], "DEL": []}
        trips: dict[str, int] = {}
        for turn in range(-1, ROUNDS):
            for verb, rounds in taken.items():
                clock.seconds, clock.round_trips = {}, 0
                began = time.perf_counter()
                answer = world.call(verb, vf(**EVERYTHING, mtu=1400))
                assert answer.status == 0, answer
                if turn >= 0:  # the first turn imports the plugins
                    rounds.append(clock.seconds | {"all": time.perf_counter() - began})
                    trips[verb] = clock.round_trips
    for verb, rounds in taken.items():
        print(f"\n{verb}: {trips[verb]} round trips to the kernel\n")
        print(f"| step | ms, median of {ROUNDS} |\n|---|---|")
        for step in dict.fromkeys(step for each in rounds for step in each):
            print(f"| {step} | {statistics.median(each.get(step, 0) for each in rounds) * 1000:.1f} |")


main()
