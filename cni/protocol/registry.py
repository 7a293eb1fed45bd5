"""Which plugin types and groups of commands are podrail's own, and where each lives.

By name, so that nothing below imports a plugin, and a call loads only what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cni.protocol.signals import uninterrupted

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from cni.protocol.planning import Plan, Planning
    from cni.protocol.plugin import Plugin
    from cni.protocol.request import Request

_PLUGINS = {
    "macvlan": "cni.plugins.macvlan.plugin:PLUGIN",
    "host-device": "cni.plugins.host_device.plugin:PLUGIN",
    "rdma": "cni.plugins.rdma:PLUGIN",
    "sriov": "cni.plugins.sriov.plugin:PLUGIN",
    "static": "ipam.static:PLUGIN",
    "multus": "cni.plugins.multus.plugin:PLUGIN",
    "whereabouts": "ipam.whereabouts:PLUGIN",
}

# What tells, without doing it, what a plugin's ADD would do; apart, for no call needs it.
_PLANS = {
    "macvlan": "cni.plugins.macvlan.planning:plan",
    "host-device": "cni.plugins.host_device.planning:plan",
    "rdma": "cni.plugins.rdma:plan",
    "sriov": "cni.plugins.sriov.planning:plan",
    "static": "ipam.static:plan",
    "multus": "cni.plugins.multus.planning:plan",
    "whereabouts": "ipam.planning:plan",
}

# In the order in which help lists them. The parser of `module:main` is `module:parser`, that of another
# function `module:function_parser`.
_COMMANDS = {
    "attachments": ("cni.cli.attachments:main", "list the attachments that the journal holds"),
    "show": ("cni.cli.show:main", "the attachments of this node, and how they are"),
    "plan": ("cni.cli.plan:main", "what a pod would get from a configuration here, without doing it"),
    "verify": ("cni.cli.verify.main:main", "find where journal, kernel, addresses and cluster disagree"),
    "bundle": ("cni.cli.bundle:main", "one archive for a bug report, without secrets"),
    "report": ("cni.cli.report.main:main", "one page of HTML about this node, or a bundle's"),
    "trace": ("cni.cli.trace:main", "what happened to a pod's networks, in the order of time"),
    "reclaim": ("cni.cli.reclaim:main", "give back what attachments hold whose sandbox is gone"),
    "install": ("cni.cli.install.main:install", "put the plugins where the container runtime looks"),
    "uninstall": ("cni.cli.install.main:uninstall", "take away what install has put somewhere"),
    "doctor": ("cni.cli.doctor.main:main", "find what would keep a pod from its networks on this node"),
    "daemon": ("cni.daemon.main:command", "serve the static clients of this node"),
    "lint": ("cni.cli.lint.main:main", "find mistakes in network configurations, offline"),
    "schemas": ("cni.cli.schemas:main", "print JSON Schemas of the configurations, for editors"),
    "ipam": ("ipam.cli:main", "look at the addresses that whereabouts gave out, and change them"),
    "completion": ("cni.cli.completion:main", "completion of this command for a shell"),
    "man": ("cni.cli.man:main", "the manual page of this command"),
}

TYPES = tuple(_PLUGINS)
PREFIX = "podrail-"  # of plugins that are installed beside others of the same names
COMMANDS = {name: help_text for name, (_, help_text) in _COMMANDS.items()}


def own_type(plugin_type: str) -> str:
    """Return the type in TYPES that a type means, or an empty string if it is none of ours."""
    name = plugin_type.removeprefix(PREFIX)
    return name if name in TYPES else ""


def load(plugin_type: str) -> Plugin[Any]:
    """Import the plugin of a type that is ours."""
    plugin: Plugin[Any] = _named(_PLUGINS[own_type(plugin_type)])
    return plugin


def load_plan(plugin_type: str) -> Callable[[Request, Any, Planning], Plan]:
    """Import what tells what ADD of a type that is ours would do, for its parsed configuration."""
    plan: Callable[[Request, Any, Planning], Plan] = _named(_PLANS[own_type(plugin_type)])
    return plan


def load_command(name: str) -> Callable[[list[str]], int]:
    """Import a group of the command `podrail`: it takes arguments and returns the exit status."""
    command: Callable[[list[str]], int] = _named(_COMMANDS[name][0])
    return command


def load_parser(name: str) -> ArgumentParser:
    """Make the parser of a command."""
    module, _, function = _COMMANDS[name][0].partition(":")
    made: ArgumentParser = _named(f"{module}:{'parser' if function == 'main' else f'{function}_parser'}")()
    return made


def load_pool_check() -> Callable[[Mapping[str, str]], Iterator[tuple[str, str]]]:
    """Import what tells, for an environment, which pools are nearly full: each with a sentence."""
    check: Callable[[Mapping[str, str]], Iterator[tuple[str, str]]] = _named("ipam.looking:nearly_full")
    return check


def load_pool_fills() -> Callable[[Mapping[str, str]], Iterator[tuple[str, str, int, int]]]:
    """Import what tells this node's pools: range, network_name, held addresses and size of each."""
    fills: Callable[[Mapping[str, str]], Iterator[tuple[str, str, int, int]]] = _named("ipam.looking:fills")
    return fills


def load_claim_repair() -> Callable[[Mapping[str, str]], Iterator[tuple[str, str]]]:
    """Import what removes claims of devices whose holder is gone, and tells each with the proof."""
    place = "cni.plugins.sriov.claims:repaired"
    repair: Callable[[Mapping[str, str]], Iterator[tuple[str, str]]] = _named(place)
    return repair


def load_pools() -> Callable[[Mapping[str, str]], Iterator[dict[str, Any]]]:
    """Import what tells, for an environment, each pool with its entries, or a store that fails."""
    pools: Callable[[Mapping[str, str]], Iterator[dict[str, Any]]] = _named("ipam.looking:told")
    return pools


@cache
def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    with uninterrupted():
        return getattr(import_module(module), name)
