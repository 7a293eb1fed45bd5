"""What client and daemon are compared with: configurations for both sides, on one host."""

from __future__ import annotations

import json
import marshal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.daemon import NodeWorld
from tests.support.golang import built
from tests.support.world import GO_BIN, Namespace

Job = tuple[list[str], dict[str, str], bytes]  # command, environment, stdin

STATIC = {"type": "static", "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}]}
WHEREABOUTS = {"type": "whereabouts", "datastore": "file", "range": "10.1.0.0/22"}


class Case(NamedTuple):
    """Our configuration and the Go plugins' for the same."""

    ours: Mapping[str, Any]
    go: Mapping[str, Any]
    has_bar: bool = True


def cases(workshop: Path) -> dict[str, Case]:
    """What is compared, by the name that the tables give it."""
    subnet = [[{"subnet": "10.1.0.0/22"}]]
    host_local = {"type": "host-local", "ranges": subnet, "dataDir": str(workshop / "leases")}
    static = _macvlan(STATIC)
    device = {"type": "host-device", "device": "dev0"}
    caches = str(workshop / "multus"), str(workshop / "stand-in")
    multus = {"type": "multus", "delegates": [_delegate(WHEREABOUTS)], "cniDir": caches[0]}
    stand_in = {"type": "multus", "delegates": [_delegate(host_local)], "cniDir": caches[1]}
    return {
        "macvlan + static": Case(static, static),
        "macvlan + whereabouts (file) / host-local": Case(_macvlan(WHEREABOUTS), _macvlan(host_local)),
        "host-device": Case(device, device),
        "multus, macvlan, whereabouts (file) / multus stand-in, macvlan, host-local": Case(multus, stand_in),
        "multus, macvlan, whereabouts (file) / no multus, macvlan, host-local": Case(
            multus, _macvlan(host_local), has_bar=False
        ),
    }


def _macvlan(ipam: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "macvlan", "master": "eth0", "ipam": ipam}


def _delegate(ipam: Mapping[str, Any]) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "rail", **_macvlan(ipam)}


class Bench:
    """A host, its clients, the Go plugins, and a daemon for as long as one is needed."""

    def __init__(self, workshop: Path) -> None:
        state = workshop / "state"
        state.mkdir()
        self.workshop = workshop
        self.stand_in = built("multus", Path(__file__).with_name("multus.go"))
        self.node = NodeWorld(Namespace("host"), Namespace("pod"), state)
        self.node.host.without_link_local()
        for link in ("eth0", "dev0"):
            self.node.host.add_veth(link)
        self.cases = cases(workshop)

    def job(self, side: str, verb: str, conf: Mapping[str, Any], number: int = 0) -> Job:
        """Return what a runtime would run for one attachment of a side: "ours", "go", or "kernel".

        What measures the kernel has our configuration, and a state of its own, lest it changes what the
        daemon finds.
        """
        folder = GO_BIN if side == "go" else self.node.bin
        is_stand_in = (side, conf["type"]) == ("go", "multus")
        executable = self.stand_in if is_stand_in else folder / conf["type"]
        stdin = json.dumps({"cniVersion": "1.0.0", "name": "bench", **conf}).encode()
        names = {"CNI_CONTAINERID": f"pod-{number}", "CNI_IFNAME": f"net{number}", "CNI_PATH": str(folder)}
        if side == "kernel":
            names["PODRAIL_STATE_DIR"] = str(self.workshop / "kernel")
        return [str(executable)], self.node.environment(verb, **names), stdin

    def burst(self, side: str, verb: str, conf: Mapping[str, Any], number: int) -> float:
        """Make so many calls at once, which must succeed; return milliseconds until the last ended."""
        jobs = [self.job(side, verb, conf, index) for index in range(number)]
        command = ["ip", "netns", "exec", self.node.host.name, sys.executable, "-I", "-S"]
        told = marshal.dumps(jobs)
        script = str(Path(__file__).with_name("burst.py"))
        seconds, statuses = marshal.loads(subprocess.check_output([*command, script], input=told))
        if any(statuses):
            raise SystemExit(f"{verb} of {side} failed: {sum(map(bool, statuses))} of {number}")
        return float(seconds) * 1000
