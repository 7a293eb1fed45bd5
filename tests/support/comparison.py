"""Two implementations of one plugin, each in namespaces of its own, and what can be compared of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cni.host import netns
from tests.support.world import BIN, GO_BIN, Namespace, WarmWorld, World, rail, run, static

Prepare = Callable[[World], object]

# What comes and goes by itself, or differs between two runs of one and the same plugin.
_PASSING_FLAGS = {"LOWER_UP", "NO-CARRIER", "M-DOWN", "linkdown"}
_PASSING_KEYS = {"ifindex", "operstate", "link_netnsid", "tentative"}
_SYSCTLS = Path("/proc/sys/net")
_RANDOM_MAC = re.compile(r"\b(?!02:00:00:00:00|ff:ff|00:00)(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b")


@dataclass(frozen=True)
class Trace:
    """How a call ended, and the state of both namespaces after it; what is random is masked."""

    status: int
    result: Any  # of a successful ADD, else None
    host: Mapping[str, Any]
    sandbox: Mapping[str, Any]
    settings: dict[str, str]  # sysctls of the sandbox's links
    error: Mapping[str, Any] = field(default_factory=dict, compare=False)  # of a failure


def without_known_differences(trace: Trace) -> Trace:
    """Leave out what is known to differ in many cases; the table of differences tells of each and why."""
    copy: Trace = deepcopy(trace)
    for link in (*copy.host["links"].values(), *copy.sandbox["links"].values()):
        if link.get("linkinfo", {}).get("info_kind") == "macvlan":
            link.pop("txqlen", None)
        else:
            link.pop("ifalias", None)  # of a device that came home
            copy.settings.pop(f"ipv4/conf/{link['ifname']}/arp_notify", None)  # of a device in the sandbox
    for name in ("ndisc_notify", "keep_addr_on_down"):
        copy.settings.pop(f"ipv6/conf/net1/{name}", None)
    if copy.result and copy.result["cniVersion"] == "1.0.0" and copy.result.get("dns") == {}:
        copy.result.pop("dns")
    return copy


class Side:
    """One of the two implementations: its world, and the result that its ADD gave."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.result: dict[str, Any] = {}
        for namespace in (world.host, world.sandbox):
            namespace.without_link_local()
        lines = []
        for number in (0, 1):
            ends = f"eth{number}", f"eth{number}-peer"
            lines.append(f"link add {ends[0]} type veth peer name {ends[1]}")
            for end, mac in zip(
                ends, (f"02:00:00:00:00:e{number}", f"02:00:00:00:00:f{number}"), strict=True
            ):
                lines.append(f"link set {end} address {mac} up")
        run("ip", "-n", world.host.name, "-batch", "-", stdin="\n".join(lines).encode())

    def call(self, command: str, conf: Mapping[str, Any] | bytes, plugin: str, **variables: str) -> Trace:
        answer = self.world.call(command, conf, plugin=plugin, **variables)
        if answer.status == 0 and command == "ADD":
            self.result = answer.json
        told = json.loads(answer.stdout or "null")
        return Trace(
            status=answer.status,
            result=self._masked(told) if answer.status == 0 else None,
            host=self._masked(state(self.world.host)),
            sandbox=self._masked(state(self.world.sandbox)),
            settings=settings(self.world.sandbox, "lo", "net1"),
            error=told if answer.status else {},
        )

    def previous(self, version: str) -> dict[str, Any]:
        """The prevResult that a runtime passes on CHECK and DEL."""
        return {"prevResult": self.result} if self.result and version >= "0.4.0" else {}

    def _masked(self, value: Any) -> Any:
        text = json.dumps(value, sort_keys=True).replace(self.world.sandbox.path, "<sandbox>")
        return json.loads(_RANDOM_MAC.sub("<random MAC>", text))


def state(namespace: Namespace) -> dict[str, Any]:
    """Links with their addresses, and the routes of all tables."""
    namespace.wait_until_settled()
    questions = b"address show\nroute show table all\n"
    shown = run("ip", "-n", namespace.name, "-j", "-d", "-batch", "-", stdin=questions)
    links, rest = json.JSONDecoder().raw_decode(shown)
    routes = json.loads(shown[rest:] or "[]")
    return {
        "links": {link["ifname"]: _settled(link) for link in links},
        "routes": [_settled(route) for route in routes],
    }


def _settled(value: Any) -> Any:
    """Leave out what passes by itself."""
    if isinstance(value, dict):
        return {key: _settled(item) for key, item in value.items() if key not in _PASSING_KEYS}
    if isinstance(value, list):
        return [_settled(item) for item in value if str(item) not in _PASSING_FLAGS]
    return value


def settings(namespace: Namespace, *ifnames: str) -> dict[str, str]:
    """All sysctls of links, as `ipv4/conf/net1/arp_notify`."""
    folders = [f"ipv{n}/{kind}/{name}" for n in (4, 6) for kind in ("conf", "neigh") for name in ifnames]

    def read() -> dict[str, str]:
        found = {}
        for folder in folders:
            with suppress(FileNotFoundError):
                for path in (_SYSCTLS / folder).iterdir():
                    with suppress(OSError):  # stable_secret cannot be read before it is set
                        found[f"{folder}/{path.name}"] = path.read_text().strip()
        return found

    # These files show the namespace of the thread that reads them.
    with netns.opened(namespace.path) as inside:
        return inside.run(read)


@dataclass
class Sides:
    """The Go plugins, and ours: as executables, or in this process where many calls are compared."""

    go: Side
    ours: Side

    @classmethod
    def of(cls, namespaces: list[Namespace], state: Path, *, as_executables: bool) -> Sides:
        if not (GO_BIN / "macvlan").exists():
            pytest.skip("needs the Go plugins: apt-get install containernetworking-plugins")
        kind = World if as_executables else WarmWorld
        go = World(*namespaces[:2], state / "go", bin=GO_BIN, path=str(GO_BIN))
        return cls(Side(go), Side(kind(*namespaces[2:], state / "ours", bin=BIN, path=str(BIN))))

    def __iter__(self) -> Iterator[Side]:
        return iter((self.go, self.ours))


def conf(**keys: Any) -> dict[str, Any]:
    """A macvlan without routes: Go's CHECK fails for those by the address's gateway."""
    return rail(ipam=static("10.1.0.5/24 via 10.1.0.1")) | keys


def device(**keys: Any) -> dict[str, Any]:
    return {"name": "rail", "type": "host-device", "device": "eth0"} | keys


def by_default_route(*routes: str) -> Prepare:
    def prepare(world: World) -> None:
        world.host.ip("address", "add", "10.77.0.2/24", "dev", "eth1")
        world.host.ip("address", "add", "fd77::2/64", "dev", "eth1", "nodad")
        for route in routes:
            world.host.ip("-6" if "fd77" in route else "-4", "route", "add", *route.split())

    return prepare


def set_down(world: World) -> None:
    world.host.ip("link", "set", "eth0", "down")


def switch_ipv6_off(world: World) -> None:
    for name in ("default", "lo"):
        world.sandbox.sh("sh", "-c", f"echo 1 >/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
