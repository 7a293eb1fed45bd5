"""The log file of whereabouts: what was given, freed and refused, as far as the level wants it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.world import World


def conf(**keys: Any) -> dict[str, Any]:
    section = {"type": "whereabouts", "range": "10.1.0.0/30", **keys}
    return {"cniVersion": "1.0.0", "name": "rail", "type": "whereabouts", "ipam": section}


@pytest.mark.parametrize(
    ("level", "levels"),
    [
        pytest.param({}, ["verbose", "verbose", "error", "verbose"], id="everything-by-default"),
        pytest.param({"log_level": "error"}, ["error"], id="failures-only"),
        pytest.param(
            {"log_level": "loud"}, ["verbose", "verbose", "error", "verbose"], id="an-unknown-level"
        ),
    ],
)
def test_log_file_gets_a_line_for_each_call(
    world: World, tmp_path: Path, level: dict[str, str], levels: list[str]
) -> None:
    logging = conf(log_file=str(tmp_path / "log"), **level)
    for pod in ("pod-1", "pod-2"):
        world.add(logging, CNI_CONTAINERID=pod)
    world.refused("ADD", logging, CNI_CONTAINERID="pod-3")
    world.delete(logging)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split("[")[1].split("]")[0] for line in lines] == levels
    assert "ADD of pod-3 net1: no address is left in 10.1.0.0/30" in "\n".join(lines)


def test_log_file_that_cannot_be_written_is_no_failure(world: World, tmp_path: Path) -> None:
    answer = world.call("ADD", conf(log_file=str(tmp_path / "none" / "log")))
    assert answer.status == 0
    assert "No such file or directory" in answer.stderr
