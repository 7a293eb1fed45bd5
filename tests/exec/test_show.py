"""podrail show: what is attached on this node, and how it is."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

from tests.support.world import World, rail

POD = {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=jobs;K8S_POD_NAME=web"}


def shown(world: World, *options: str) -> subprocess.CompletedProcess[str]:
    command = [world.bin / "podrail", "show", *options]
    return subprocess.run(command, env=world.environment(""), capture_output=True, text=True, check=False)


def told(world: World) -> list[dict[str, Any]]:
    return list(json.loads(shown(world, "--json").stdout)["attachments"])


def test_an_attachment_is_shown_with_what_it_has(world: World) -> None:
    world.host.add_veth("eth0")
    result = world.add(rail(), **POD)
    ((each),) = told(world)
    wanted = {"pod": "jobs/web", "network": "rail", "ifname": "net1", "plugin": "macvlan", "device": "eth0"}
    assert {key: each[key] for key in wanted} == wanted
    assert (each["addresses"], each["mac"]) == (["10.1.0.5/24"], result["interfaces"][0]["mac"])
    done = shown(world)
    assert (done.returncode, each["health"]) == (0, "ok")
    header, row = done.stdout.splitlines()
    assert header.split() == ["POD", "INTERFACE", "NETWORK", "PLUGIN", "DEVICE", "ADDRESSES", "AGE", "HEALTH"]
    assert row.split()[:6] == ["jobs/web", "net1", "rail", "macvlan", "eth0", "10.1.0.5/24"]


def test_health_tells_what_is_wrong(world: World) -> None:
    world.host.add_veth("eth0")
    world.add(rail())
    world.sandbox.ip("link", "set", "net1", "down")
    assert told(world)[0]["health"] == "down"
    world.sandbox.ip("link", "del", "net1")
    assert told(world)[0]["health"] == "interface gone"
    world.sandbox.delete()
    assert told(world)[0]["health"] == "sandbox gone"
    world.sandbox.create()
    assert told(world)[0]["health"] == "sandbox is another's"
    assert shown(world).returncode == 1
    world.delete(rail())
    assert shown(world).stdout == "no attachments\n"


def test_a_device_is_shown_by_its_name(world: World) -> None:
    world.host.add_veth("dev0")
    world.add(rail(type="host-device", device="dev0"))
    ((each),) = told(world)
    assert (each["plugin"], each["device"], each["addresses"]) == ("host-device", "dev0", ["10.1.0.5/24"])


def test_watch_shows_again_and_again(world: World) -> None:
    command = [world.bin / "podrail", "show", "--watch", "0.05"]
    with subprocess.Popen(command, env=world.environment(""), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(4)]
        process.terminate()
    assert lines == ["\n", "no attachments\n"] * 2


def test_watching_ends_with_ctrl_c_and_no_traceback(world: World) -> None:
    command = [world.bin / "podrail", "show", "--watch", "60"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=world.environment(""), **pipes) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert (process.returncode, stderr) == (130, "")
