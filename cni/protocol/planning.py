"""Plan: what an ADD would do, found out without doing it.

A plugin's plan looks where its ADD looks and refuses what its ADD refuses. What only ADD decides, such as
a MAC at random, or what a plugin of another make does, is said to be open and left out of the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cni.protocol import registry, versions
from cni.protocol.config import unknown_keys
from cni.protocol.errors import CniError, Code
from cni.protocol.request import Request
from cni.protocol.result import Result


@dataclass(frozen=True)
class Plan:
    """What one plugin's ADD would do."""

    plugin: str
    network: str
    ifname: str
    result: Result = field(default_factory=Result)  # as ADD would answer, without what is open
    version: str = versions.NEWEST  # of the configuration, for the result's form
    facts: Mapping[str, object] = field(default_factory=dict)  # what it takes: device, mode, pool, …
    settings: Mapping[str, str] = field(default_factory=dict)  # sysctls in the sandbox: path and value
    routes: tuple[Mapping[str, object], ...] = ()  # as the kernel gets them, gateways filled in
    open: tuple[str, ...] = ()  # sentences: what is known only when ADD runs
    steps: tuple[Plan, ...] = ()  # of the plugins that it would call
    error: CniError | None = None  # why ADD would fail
    is_known: bool = True  # False for a plugin of another make

    @property
    def would_fail(self) -> bool:
        return self.error is not None or any(step.would_fail for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "plugin": self.plugin,
            "network": self.network,
            "interface": self.ifname,
            "facts": dict(self.facts),
            "sysctls": dict(self.settings),
            "routes": [dict(route) for route in self.routes],
            "open": list(self.open),
            "steps": [step.to_json() for step in self.steps],
        }
        told = {key: value for key, value in told.items() if value}
        if self.error:
            return told | {"error": self.error.to_json(self.version)}
        return told | {"result": _rendered(self)}


class Planning:
    """What earlier steps of one plan would have taken by the time of a later one.

    `networks` is what a pod's annotation would be; None is what the API server has.
    """

    def __init__(self, networks: str | None = None) -> None:
        self.networks = networks
        self._taken: dict[str, set[str]] = {}

    def taken(self, kind: str) -> frozenset[str]:
        return frozenset(self._taken.get(kind, ()))

    def take(self, kind: str, name: str) -> None:
        self._taken.setdefault(kind, set()).add(name)

    def take_device(self, kind: str, name: str) -> None:
        """Take what only one attachment can have.

        Raises:
            CniError: code 104, an earlier step of the same plan would have it.
        """
        if name in self.taken(kind):
            raise CniError(
                f'the {kind} "{name}" is in use',
                why="An earlier network of the same pod takes it.",
                fix=f"Name another {kind} in one of them, or let the device plugin choose.",
                code=Code.DEVICE_IN_USE,
            )
        self.take(kind, name)


def plan(plugin_type: str, request: Request, planning: Planning) -> Plan:
    """Return what ADD of one of our plugins would do.

    Without CNI_NETNS the sandbox is one that is yet to be made, with nothing in it.

    Raises:
        CniError: what ADD would answer.
    """
    request = request.with_variables(CNI_COMMAND="ADD" if request.netns else "DEL")
    request.check_environment()
    request = request.with_variables(CNI_COMMAND="ADD")
    network = request.network
    versions.check(network.version, "ADD")
    conf = registry.load(plugin_type).conf.parse(network.raw)
    made = registry.load_plan(plugin_type)(request, conf, planning)
    made = replace(made, version=network.version)
    return replace(made, open=(*made.open, *unknown_keys(conf, network.raw).values()))


def _rendered(made: Plan) -> dict[str, object]:
    try:
        return made.result.render(made.version)
    except CniError:  # without an address the oldest versions have no words, and addresses may be open
        return made.result.render(versions.NEWEST)
