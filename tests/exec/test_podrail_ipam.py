"""podrail ipam: what pools hold is shown, explained, freed by hand, and taken over from host-local."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.world import GO_BIN, Answer, World

RAIL = {"type": "whereabouts", "range": "10.1.0.0/29"}


def conf(**keys: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "rail", "type": "whereabouts", "ipam": RAIL | keys}


def podrail(world: World, *arguments: str | Path) -> Answer:
    command = [world.bin / "podrail", "ipam", *arguments]
    done = subprocess.run(command, env=world.environment(""), capture_output=True, text=True, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def shown(world: World) -> list[dict[str, Any]]:
    answer = podrail(world, "show", "--json")
    assert answer.status == 0, answer
    return list(answer.json["pools"])


def test_show_tells_fill_holders_and_whether_they_live(world: World) -> None:
    world.add(conf())
    world.add(conf(), CNI_CONTAINERID="pod-2", CNI_NETNS="/run/netns/never-was")
    (pool,) = shown(world)
    assert (pool["range"], pool["held"], pool["size"]) == ("10.1.0.0/29", 2, 6)
    told = [(each["address"], each["container_id"], each["state"]) for each in pool["allocations"]]
    assert told == [("10.1.0.1", "pod-1", "alive"), ("10.1.0.2", "pod-2", "gone")]
    text = podrail(world, "show").stdout
    assert "10.1.0.0/29: 2 of 6 held (33 %)" in text
    assert "10.1.0.2  net1 (container pod-2) since 20" in text


def test_show_finds_every_store_that_the_journal_knows(world: World, tmp_path: Path) -> None:
    world.add(conf(datastore="file", dataDir=str(tmp_path / "other"), network_name="blue"))
    (pool,) = shown(world)
    assert (pool["path"], pool["network_name"]) == (str(tmp_path / "other"), "blue")
    assert podrail(world, "show", "--data-dir", tmp_path / "none").stdout == "no pools\n"


def test_explain_tells_held_free_and_unknown_addresses_apart(world: World) -> None:
    world.add(conf())
    assert "held by net1 (container pod-1)" in podrail(world, "explain", "10.1.0.1").stdout
    assert podrail(world, "explain", "10.1.0.2").stdout.endswith("free\n")
    assert "in no pool" in podrail(world, "explain", "10.2.0.1").stdout
    assert podrail(world, "explain", "10.2.0.300").status == 2


def test_release_frees_only_when_it_is_told_yes(world: World) -> None:
    world.add(conf())
    asked = podrail(world, "release", "10.1.0.1")
    assert (asked.status, shown(world)[0]["held"]) == (2, 1)
    assert "Nothing was done" in asked.stdout
    assert podrail(world, "release", "10.1.0.1", "--yes").status == 0
    assert shown(world) == []
    assert podrail(world, "release", "10.1.0.1", "--yes").status == 1


def test_release_asks_which_of_two_pools(world: World) -> None:
    world.add(conf())
    world.add(conf(network_name="blue"), CNI_CONTAINERID="pod-2")
    answer = podrail(world, "release", "10.1.0.1", "--yes")
    assert answer.status == 1
    assert "several pools" in answer.stderr
    assert podrail(world, "release", "10.1.0.1", "--yes", "--network-name", "blue").status == 0
    assert [pool["network_name"] for pool in shown(world)] == [""]


@pytest.fixture
def host_local(world: World, tmp_path: Path) -> Path:
    """The directory of a host-local that has given out 10.1.0.1 to 10.1.0.3."""
    section = {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/29", "rangeStart": "10.1.0.1"}]]}
    section |= {"dataDir": str(tmp_path / "leases")}
    old = {"cniVersion": "1.0.0", "name": "rail", "type": "host-local", "ipam": section}
    go = World(world.host, world.sandbox, world.state, bin=GO_BIN)
    for number in (1, 2, 3):
        go.add(old, CNI_CONTAINERID=f"pod-{number}")
    return tmp_path / "leases" / "rail"


def test_import_takes_over_what_host_local_gave_out(world: World, host_local: Path) -> None:
    held = sorted(path.name for path in host_local.glob("10.*"))
    answer = podrail(world, "import", host_local, "--range", "10.1.0.0/29")
    assert (answer.status, answer.stdout.splitlines()[0]) == (
        0,
        f"imported 3 addresses into {world.state / 'ipam'}",
    )
    assert [each["address"] for each in shown(world)[0]["allocations"]] == held
    assert world.add(conf())["ips"][0]["address"] == f"{held[0]}/29"  # pod-1 keeps its own
    world.delete(conf(), CNI_CONTAINERID="pod-2")
    assert len(shown(world)[0]["allocations"]) == 2
    gc = conf() | {"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}
    assert world.call("GC", gc).status == 0
    assert shown(world) == []


def test_import_reads_ranges_from_a_configuration_and_leaves_out_what_is_held(
    world: World, host_local: Path, tmp_path: Path
) -> None:
    world.add(conf(), CNI_CONTAINERID="other")  # has 10.1.0.1
    (host_local / "10.7.0.1").write_text("pod-9\r\nnet1")
    file = tmp_path / "rail.conflist"
    file.write_text(json.dumps({"cniVersion": "1.0.0", "name": "rail", "plugins": [conf()]}))
    answer = podrail(world, "import", host_local, "--config", file)
    assert answer.status == 1
    assert "left out 10.7.0.1: in none of the ranges" in answer.stdout
    assert shown(world)[0]["allocations"][0]["container_id"] == "other"


def test_import_wants_to_know_the_range(world: World, host_local: Path) -> None:
    answer = podrail(world, "import", host_local)
    assert answer.status == 1
    assert "--range CIDR" in answer.stderr
    assert podrail(world, "import", host_local / "none", "--range", "10.1.0.0/29").status == 1
