"""podrail reclaim: what is lost comes back, and what lives is not touched."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from tests.support.world import World, rail


def reclaim(world: World, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["ip", "netns", "exec", world.host.name, world.bin / "podrail", "reclaim"]
    command += ["--bin-dir", str(world.bin), *options]
    return subprocess.run(command, env=world.environment(""), capture_output=True, text=True, check=False)


def lost(world: World, *options: str) -> list[dict[str, Any]]:
    done = reclaim(world, "--json", *options)
    assert done.returncode == 0, done
    return list(json.loads(done.stdout)["lost"])


def pooled(**keys: Any) -> dict[str, Any]:
    return rail(ipam={"type": "whereabouts", "range": "10.1.0.0/24"}, **keys)


def test_what_lives_is_not_touched(world: World) -> None:
    world.host.add_veth("eth0")
    world.add(pooled())
    assert lost(world, "--yes") == []
    assert reclaim(world).stdout == "nothing is lost\n"
    assert world.sandbox.addresses("net1") == ["10.1.0.1/24"]


def test_what_a_dead_sandbox_held_is_told_and_given_back(world: World) -> None:
    world.host.add_veth("eth0")
    world.add(pooled())
    world.sandbox.delete()
    told = lost(world)
    assert [(each["plugin"], each["outcome"]) for each in told] == [("macvlan", ""), ("whereabouts", "")]
    assert f"there is no sandbox at {world.sandbox.path}" in told[0]["proof"]
    assert "Nothing was done" in reclaim(world).stdout
    assert world.records()
    assert {each["outcome"] for each in lost(world, "--yes")} == {"given back"}
    assert world.records() == []


def test_a_later_sandbox_of_the_same_path_is_not_the_same(world: World) -> None:
    world.host.add_veth("dev0")
    world.add(rail(type="host-device", device="dev0"))
    before = world.records()
    world.sandbox.delete()
    world.sandbox.create()
    (told,) = lost(world)
    assert "is a later sandbox" in told["proof"]
    assert world.records() == before
    assert lost(world, "--yes")[0]["outcome"] == "given back"
    assert world.records() == []


def test_the_two_ways_exclude_each_other(world: World) -> None:
    assert reclaim(world, "--yes", "--dry-run").returncode == 2


def in_a_container(world: World, *command: str) -> subprocess.CompletedProcess[str]:
    """Run podrail where the paths of sandboxes lead nowhere, as in the node daemon's pod."""
    script = f'mount -t tmpfs none /run && exec {world.bin}/podrail "$@"'
    return subprocess.run(
        ["nsenter", f"--net={world.host.path}", "unshare", "-m", "sh", "-c", script, "podrail", *command],
        env=world.environment("", PODRAIL_HOST_PID=str(os.getpid())),
        capture_output=True,
        text=True,
        check=False,
    )


def test_in_a_container_what_lives_on_the_host_is_not_lost(world: World) -> None:
    world.host.add_veth("eth0")
    world.add(pooled())
    done = in_a_container(world, "reclaim", "--yes", "--bin-dir", str(world.bin))
    assert (done.returncode, done.stdout) == (0, "nothing is lost\n"), done
    assert world.sandbox.addresses("net1") == ["10.1.0.1/24"]
    shown = in_a_container(world, "show", "--json")
    assert [each["health"] for each in json.loads(shown.stdout)["attachments"]] == ["ok"]
    assert in_a_container(world, "verify").stdout == "nothing found\n"
    assert "alive" in in_a_container(world, "ipam", "show").stdout


def test_in_a_container_what_the_host_has_no_more_is_lost(world: World) -> None:
    world.host.add_veth("eth0")
    world.add(pooled())
    world.sandbox.delete()
    done = in_a_container(world, "reclaim", "--yes", "--json", "--bin-dir", str(world.bin))
    assert {each["outcome"] for each in json.loads(done.stdout)["lost"]} == {"given back"}
    assert "no pools" in in_a_container(world, "ipam", "show").stdout
