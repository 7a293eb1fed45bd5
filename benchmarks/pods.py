"""Pods of several networks: multus with its delegates in its process, and with each of them executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.measure import Figures, Spawner, Turns
from tests.support.world import World

SIZES = (1, 8, 16)
SIDES = ("one process", "executed")

Pods = dict[int, dict[str, dict[str, Figures]]]  # by number of networks, verb, side


def measure(spawner: Spawner, world: World, workshop: Path, rounds: int) -> Pods:
    """Call ADD and DEL for pods of each size, by turns."""
    paths = {"one process": world.bin, "executed": _wrapped(world.bin, workshop / "wrapped")}
    turns = Turns(spawner)
    for turn in range(Turns.UNTIMED + rounds):
        for size in SIZES:
            for side in SIDES if turn % 2 else reversed(SIDES):
                conf = _conf(size, paths[side], workshop)
                for verb in ("ADD", "DEL"):
                    environment = world.environment(verb, CNI_IFNAME="eth0", CNI_PATH=str(paths[side]))
                    argv = [str(world.bin / "multus")]
                    turns.run(turn, (size, verb, side), argv, environment, json.dumps(conf).encode())
    return {
        size: {verb: {side: turns.figures((size, verb, side)) for side in SIDES} for verb in ("ADD", "DEL")}
        for size in SIZES
    }


def further_ms(pods: Pods) -> float:
    """Return the CPU that each network of a pod takes beyond the first, in milliseconds."""
    first, last = SIZES[0], SIZES[-1]
    cpu = {size: pods[size]["ADD"]["one process"].cpu_ms for size in (first, last)}
    return round((cpu[last] - cpu[first]) / (last - first), 2)


def _conf(size: int, bin_dir: Path, workshop: Path) -> dict[str, Any]:
    networks = [
        {
            "cniVersion": "1.0.0",
            "name": f"rail{number}",
            "type": "macvlan",
            "master": "eth0",
            "ipam": {"type": "static", "addresses": [{"address": f"10.{number}.0.5/24"}]},
        }
        for number in range(size)
    ]
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "type": "multus",
        "cniDir": str(workshop / "multus"),
        "binDir": str(bin_dir),
        "delegates": networks,
    }


def _wrapped(executables: Path, folder: Path) -> Path:
    """Make scripts that call our executables: as files of another make they are executed."""
    folder.mkdir()
    for name in ("macvlan", "static"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {executables / name} "$@"\n')
        script.chmod(0o755)
    return folder
