"""A disk that fails while a range turns out to be full: one error, and nothing half-done.

The first range has room and the second has none: ADD has claimed and must give back when a call is refused.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.strace import Call, calls_of, failed_at
from tests.support.world import Answer, Namespace, World

_ROOM = {"range": "10.1.0.0/29"}
_FULL = {"range": "fd00::/126"}
# What a full disk refuses, and what one that breaks does; the second of each only with --exhaustive.
_ERRORS = {
    "write": ("ENOSPC", "EIO"),
    "fsync": ("EIO", "ENOSPC"),
    "linkat": ("ENOSPC", "EIO"),
    "unlink": ("EIO",),
    "openat": ("", "ENOSPC"),
    "mkdir": ("", "ENOSPC"),
    "symlink": ("", "ENOSPC"),
    "rename": ("", "ENOSPC"),
}


def conf(*ranges: dict[str, str]) -> dict[str, Any]:
    ipam = {"type": "whereabouts", "datastore": "file", "ipRanges": list(ranges)}
    return {"cniVersion": "1.0.0", "name": "rail", "type": "whereabouts", "ipam": ipam}


@pytest.fixture
def world(host: Namespace, sandbox: Namespace) -> Iterator[World]:
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        world = World(host, sandbox, Path(folder, "state"))
        world.state.mkdir()
        yield world


def files(world: World) -> dict[str, str]:
    """Return what the state consists of, without the times of entries."""
    found = {str(path.relative_to(world.state)): path for path in sorted(world.state.rglob("*"))}
    return {name: _shown(path) for name, path in found.items()}


def _shown(path: Path) -> str:
    if path.is_symlink():
        return str(path.readlink())
    return path.read_text() if path.is_file() else "/"


def is_of_the_state(world: World, call: Call) -> bool:
    is_made = call.name != "openat" or "O_CREAT" in call.arguments or "O_TMPFILE" in call.arguments
    return call.path.startswith(str(world.state)) and is_made


def test_a_disk_that_fails_at_any_step_of_an_exhausted_add(world: World, exhaustive: bool) -> None:
    calls_of(world, "ADD", conf(_ROOM))
    world.delete(conf(_ROOM))
    for pod in ("a", "b"):
        answer = world.call("ADD", conf(_FULL), CNI_CONTAINERID=pod)
        assert answer.status == 0, answer
    both = conf(_ROOM, _FULL)
    before = files(world)
    calls = [call for call in calls_of(world, "ADD", both, status=1) if is_of_the_state(world, call)]
    assert files(world) == before
    errors = {name: [each for each in some[: 1 + exhaustive] if each] for name, some in _ERRORS.items()}
    trials = [(call, error) for call in calls for error in errors.get(call.name, ())]
    assert {call.name for call, _ in trials} >= {"write", "fsync", "linkat", "unlink"}
    for call, error in trials:
        _assert_one_error(failed_at(world, "ADD", both, call, error), f"{call} {error}")
        if files(world) != before:  # it could not undo everything, and its record says so
            assert list((world.state / "attachments").rglob("pod-1@net1.json")), f"{call} {error}"
            world.delete(both)
        assert files(world) == before, f"{call} {error}"
    for pod in ("a", "b"):
        world.call("DEL", conf(_FULL), CNI_CONTAINERID=pod)
    assert [name for name, text in files(world).items() if text != "/"] == []


def _assert_one_error(answer: Answer, trial: str) -> None:
    assert answer.status == 1, (trial, answer)
    assert "Traceback" not in answer.stderr, (trial, answer)
    assert json.loads(answer.stdout)["code"] in (5, 100), (trial, answer)
