"""Our executables and Debian's Go plugins, called by turns in one run with the same input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.measure import Figures, Spawner, Turns
from tests.support.world import GO_BIN, World

SIDES = ("podrail", "go")

Measured = dict[str, dict[str, dict[str, Figures]]]  # by case, verb, side


def cases() -> dict[str, dict[str, Any]]:
    """The configurations, by the name that the tables give them."""
    ipam = {"type": "static", "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}]}
    return {
        "macvlan + static": {"type": "macvlan", "master": "eth0", "ipam": ipam},
        "macvlan, layer 2": {"type": "macvlan", "master": "eth0"},
        "host-device": {"type": "host-device", "device": "dev0"},
        "static": {"type": "static", "ipam": ipam},
    }


def prepare(world: World) -> None:
    """Make the links that the configurations name."""
    world.host.add_veth("eth0")
    world.host.add_veth("dev0")


def measure(spawner: Spawner, world: World, rounds: int) -> Measured:
    """Call VERSION, ADD and DEL of each case, first by one side, then by the other."""
    turns = Turns(spawner)
    bins = {"podrail": world.bin, "go": GO_BIN}
    for turn in range(Turns.UNTIMED + rounds):
        for case, conf in cases().items():
            # Who begins changes, lest one side always finds what the other has warmed.
            for side in SIDES if turn % 2 else reversed(SIDES):
                for verb in _verbs(case):
                    turns.run(turn, (case, verb, side), *_call(world, bins[side], verb, conf))
    return {
        case: {verb: {side: turns.figures((case, verb, side)) for side in SIDES} for verb in _verbs(case)}
        for case in cases()
    }


def _verbs(case: str) -> tuple[str, ...]:
    """VERSION is the same for both cases of macvlan."""
    return ("ADD", "DEL") if case == "macvlan, layer 2" else ("VERSION", "ADD", "DEL")


def _call(
    world: World, folder: Path, verb: str, conf: dict[str, Any]
) -> tuple[list[str], dict[str, str], bytes]:
    # The newest version that the Go plugins of Debian 12 speak.
    stdin = json.dumps({"cniVersion": "1.0.0", "name": "bench", **conf}).encode()
    return [str(folder / conf["type"])], world.environment(verb, CNI_PATH=str(folder)), stdin
