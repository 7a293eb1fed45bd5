"""Attachments for trials that end badly: each on a host and a sandbox of its own, compared as a whole."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from tests.support.world import Namespace, World

T = TypeVar("T")


@dataclass(frozen=True)
class Scene:
    """An attachment that can be made and taken away, and everything that it may touch."""

    world: World
    conf: dict[str, Any]
    leases: Path  # host-local's

    def everything(self) -> dict[str, str]:
        """What host, sandbox, journal and IPAM are like now, as text to be compared."""
        return {
            "host": self.world.host.snapshot(),
            "sandbox": self.world.sandbox.snapshot(),
            "sysctls of the host": _sysctls(self.world.host),
            "sysctls of the sandbox": _sysctls(self.world.sandbox),
            "journal": "\n".join(sorted(str(path) for path in self.world.state.rglob("*"))),
            "leases": "\n".join(sorted(path.name for path in self.leases.rglob("[0-9a-f]*[.:]*"))),
        }


def _sysctls(namespace: Namespace) -> str:
    # Of a stable_secret that was never set, the kernel allows no reading.
    return namespace.sh("sh", "-c", "cd /proc/sys/net && grep -r . ipv4/conf ipv6/conf 2>/dev/null || :")


def _on_a_master(world: World) -> dict[str, Any]:
    world.host.add_veth("eth0")
    return {"type": "macvlan", "master": "eth0"}


def _veth(world: World) -> dict[str, Any]:
    world.host.add_veth("dev0")
    world.host.ip("address", "add", "172.16.0.1/24", "broadcast", "+", "dev", "dev0")
    world.host.ip("link", "set", "dev0", "alias", "the administrator's words")
    world.host.ip("link", "property", "add", "dev", "dev0", "altname", "an-alternative-name")
    return {"type": "host-device", "device": "dev0"}


def _macvlan_device(world: World) -> dict[str, Any]:
    world.host.add_veth("eth0")
    world.host.ip("link", "add", "link", "eth0", "name", "dev0", "type", "macvlan", "mode", "bridge")
    return {"type": "host-device", "device": "dev0"}


def _static(_leases: Path) -> dict[str, Any]:
    addresses = [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}, {"address": "fd01::5/64"}]
    return {"type": "static", "addresses": addresses, "routes": [{"dst": "10.9.0.0/16"}]}


def _reserved(leases: Path) -> dict[str, Any]:
    return _static(leases) | {"reserve": True}


def _host_local(leases: Path) -> dict[str, Any]:
    ranges = [[{"subnet": "10.1.0.0/24"}]]
    return {"type": "host-local", "ranges": ranges, "dataDir": str(leases)}


def _multus(world: World) -> dict[str, Any]:
    """A pod's default network and a chain beside it, with host-local, which is executed, and static."""
    attached = _on_a_master(world)
    world.ifname = "eth0"
    cache = world.state / "multus"
    cache.mkdir()
    Path(world.environment("")["PODRAIL_RUN_DIR"], "locks", "multus").mkdir(parents=True)
    leases = world.state.parent / "leases"
    networks = [
        {"cniVersion": "1.0.0", "name": "first", **attached, "ipam": _host_local(leases)},
        {"cniVersion": "1.0.0", "name": "second", "plugins": [{**attached, "ipam": _reserved(cache)}]},
    ]
    return {"type": "multus", "delegates": networks, "cniDir": str(cache), "binDir": str(world.bin)}


def _none(_leases: Path) -> dict[str, Any]:
    return {}


def _whereabouts(_leases: Path) -> dict[str, Any]:
    ranges = [{"range": "10.1.0.0/24"}, {"range": "fd01::/120"}]
    return {"type": "whereabouts", "datastore": "file", "ipRanges": ranges}


_KINDS: dict[str, tuple[Callable[[World], dict[str, Any]], Callable[[Path], dict[str, Any]]]] = {
    "macvlan-with-static-reserved": (_on_a_master, _reserved),
    "macvlan-with-host-local": (_on_a_master, _host_local),
    "host-device-veth-with-static": (_veth, _static),
    "host-device-macvlan-with-host-local": (_macvlan_device, _host_local),
    "multus-with-two-networks": (_multus, _none),
    "macvlan-with-whereabouts": (_on_a_master, _whereabouts),
}
SCENES = tuple(_KINDS)


@contextmanager
def scene(kind: str, **keys: Any) -> Iterator[Scene]:
    """Set one of SCENES up; `keys` are added to the configuration or replace some of it."""
    host, sandbox = Namespace("host"), Namespace("pod")
    try:
        with TemporaryDirectory(prefix="scene-") as folder:
            world = World(host, sandbox, Path(folder, "state"))
            world.state.mkdir()
            host.without_link_local()
            leases = Path(folder, "leases")
            link, ipam = _KINDS[kind]
            conf = {"cniVersion": "1.0.0", "name": "rail", **link(world), "ipam": ipam(leases), **keys}
            _wait_for_carrier(host)
            yield Scene(world, conf, leases)
    finally:
        host.delete()
        sandbox.delete()


def assert_each(
    trial: Callable[[Scene, Mapping[str, str], T], None], cases: Sequence[T], kind: str, **keys: Any
) -> None:
    """Run a trial for each case, and tell of all that fail, not of the first.

    A trial gets a scene, and everything as it was there before the first one. It must leave it so:
    the next trial in the same scene shows that the host is as good as new. Two series, or as many as
    there are processors, run side by side.
    """
    assert cases
    workers = os.cpu_count() or 1

    def run_series(waiting: list[T]) -> list[str]:
        complaints = []
        while waiting:
            with scene(kind, **keys) as it:
                before = it.everything()
                while waiting and not (complaint := _complaint(trial, it, before, waiting.pop(0))):
                    pass
            complaints += [complaint] if complaint else []
        return complaints

    with ThreadPoolExecutor(workers) as pool:
        series = [list(cases[first::workers]) for first in range(workers)]
        complaints = [text for texts in pool.map(run_series, series) for text in texts]
    told = "\n\n".join(complaints)
    assert not complaints, f"{len(complaints)} of {len(cases)} trials failed:\n{told}"


def _complaint(
    trial: Callable[[Scene, Mapping[str, str], T], None], it: Scene, before: Mapping[str, str], case: T
) -> str:
    try:
        trial(it, before, case)
    except AssertionError as error:
        return f"{case}: {error}"
    return ""


def assert_same(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Show what differs, as a diff; pytest's own comparison would show all the rest too."""
    lines: list[str] = []
    for place, text in before.items():
        lines += unified_diff(
            text.splitlines(), after[place].splitlines(), place, "afterwards", n=0, lineterm=""
        )
    assert not lines, "\n".join(lines)


def _wait_for_carrier(host: Namespace) -> None:
    """The kernel tells of a new wire's carrier a little later, which would change snapshots."""
    deadline = time.monotonic() + 5
    while "NO-CARRIER" in host.ip("link", "show"):
        assert time.monotonic() < deadline, host.snapshot()
