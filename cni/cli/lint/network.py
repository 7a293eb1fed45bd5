"""The checks of one network: every plugin of it, by the models that the plugins themselves read with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from cni.cli.lint.finding import Finding, Severity
from cni.cli.lint.source import Document
from cni.protocol import gojson, registry, versions
from cni.protocol.config import PluginConf, unknown_keys
from cni.protocol.errors import CniError

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")


class Range(Protocol):
    """The addresses that a configuration hands out."""

    @property
    def network(self) -> Any: ...
    @property
    def path(self) -> str: ...
    @property
    def spans(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...


@runtime_checkable
class HasRanges(Protocol):
    """A configuration of an IPAM plugin that hands out addresses of ranges."""

    def ranges(self) -> tuple[Range, ...]: ...


@dataclass(frozen=True)
class Network:
    """A network of a file: its name, and each plugin of it with the path where it stands."""

    document: Document
    name: str
    raw: Mapping[str, Any]
    namespace: str = ""  # of a NetworkAttachmentDefinition
    resource: str = ""  # that it needs

    def plugins(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        listed = gojson.get(self.raw, "plugins")
        if not isinstance(listed, list):
            yield "", self.raw
            return
        for index, plugin in enumerate(listed):
            if isinstance(plugin, dict):
                shared = {"name": self.name, "cniVersion": gojson.get(self.raw, "cniVersion")}
                yield f"plugins[{index}]", {**plugin, **shared}

    def finding(self, rule: str, path: str, message: str, **details: Any) -> Finding:
        return Finding(self.document.place(path), rule, message, path, **details)


def check(network: Network) -> Iterator[Finding]:
    """Yield what is wrong with a network by itself."""
    yield from _duplicates(network)
    yield from _head(network)
    for path, raw in network.plugins():
        yield from _plugin(network, path, raw)


def section_of(raw: Mapping[str, Any], plugin_type: str) -> PluginConf | None:
    """Return a configuration as the plugin of that type reads it, None if it cannot or is not ours."""
    if not registry.own_type(plugin_type):
        return None
    try:
        conf: PluginConf = registry.load(plugin_type).conf.read({"name": "network", **raw})
        return conf
    except CniError:
        return None


def ipam_type(raw: Mapping[str, Any]) -> str:
    ipam = gojson.get(raw, "ipam")
    kind = gojson.get(ipam, "type") if isinstance(ipam, dict) else None
    return kind if isinstance(kind, str) else ""


def ranges_of(raw: Mapping[str, Any]) -> tuple[Range, ...]:
    """Return the ranges of a plugin's IPAM section; none if it has none, or they cannot be read."""
    conf: object = section_of(raw, ipam_type(raw))
    try:
        ranges = conf.ranges() if isinstance(conf, HasRanges) else ()
        return ranges if all(each.spans for each in ranges) else ()
    except CniError:
        return ()


def _duplicates(network: Network) -> Iterator[Finding]:
    for path, place in network.document.places.items():
        if path.endswith("#twice"):
            name = path.removesuffix("#twice")
            yield Finding(place, "duplicate-key", f'"{name}" stands twice', name, fix="Remove one of them.")


def _head(network: Network) -> Iterator[Finding]:
    name, version = gojson.get(network.raw, "name"), gojson.get(network.raw, "cniVersion")
    if not network.name:
        yield network.finding("no-name", "", "the network has no name", fix='Set "name".')
    elif not (isinstance(name, str) and _NAME.fullmatch(name)) and name is not None:
        yield network.finding(
            "invalid-value",
            "name",
            f'"{name}" cannot name a network',
            fix="Begin with a letter or digit; then letters, digits, _ . - may follow.",
        )
    if version is not None and version not in versions.SUPPORTED:
        yield network.finding(
            "version",
            "cniVersion",
            f'"{version}" is no version of the CNI spec that is spoken here',
            fix=f"Use one of {', '.join(versions.SUPPORTED)}.",
        )


def _plugin(network: Network, path: str, raw: Mapping[str, Any]) -> Iterator[Finding]:
    kind = gojson.get(raw, "type")
    if not isinstance(kind, str) or not kind:
        yield network.finding("no-type", path, "the plugin has no type", fix='Set "type".')
        return
    read = {**raw, "name": network.name or "network"}
    yield from _by_model(network, path, read, kind)
    if (ipam := ipam_type(raw)) and ipam != kind:
        yield from _by_model(network, path, read, ipam)
    yield from _ranges(network, path, raw)


def _by_model(network: Network, path: str, raw: Mapping[str, Any], kind: str) -> Iterator[Finding]:
    """Read a configuration with a plugin's own model, and tell what that would refuse or ignore."""
    if not registry.own_type(kind):
        return
    conf: PluginConf | None
    try:
        conf = registry.load(kind).conf.read(raw)
    except CniError as error:
        faults = error.faults or {"": error.msg}
        for field, sentence in faults.items():
            at = _below(path, field)
            yield network.finding("invalid-value", at, f"{field or kind}: {sentence}", fix=error.fix)
        bad = {re.split(r"[.\[]", field)[0].casefold() for field in faults}
        raw = {key: value for key, value in raw.items() if key.casefold() not in bad}
        conf = section_of(raw, kind)
    if conf is None:
        return
    for key, sentence in unknown_keys(conf, raw).items():
        place = network.document.places.get(f"{_below(path, key).casefold()}#key")
        if place:
            yield Finding(
                place,
                "unknown-key",
                sentence,
                _below(path, key),
                why=f'Plugin "{kind}" reads it.',
                severity="warning",
            )


def _ranges(network: Network, path: str, raw: Mapping[str, Any]) -> Iterator[Finding]:
    conf: object = section_of(raw, ipam_type(raw))
    if not isinstance(conf, HasRanges):
        return
    try:
        ranges = conf.ranges()
        for each in ranges:
            at = _below(path, f"{each.path}.range")
            for warning in each.warnings:
                yield network.finding("bound-outside", at, warning, severity="warning")
            if not each.spans:
                yield network.finding("empty-range", at, f"{each.network} has no address to give")
    except CniError as error:
        yield network.finding(
            "invalid-value", _below(path, _named(error)), error.why or error.msg, fix=error.fix
        )
        return
    yield from _gateway(network, path, raw, ranges)


def _gateway(
    network: Network, path: str, raw: Mapping[str, Any], ranges: tuple[Range, ...]
) -> Iterator[Finding]:
    gateway = getattr(getattr(section_of(raw, ipam_type(raw)), "ipam", None), "gateway", None)
    if gateway and ranges and not any(gateway in each.network for each in ranges):
        yield network.finding(
            "gateway-outside",
            _below(path, "ipam.gateway"),
            f"{gateway} is in none of {', '.join(str(each.network) for each in ranges)}",
            why="Pods could not reach it.",
            severity="warning",
        )


def _named(error: CniError) -> str:
    """Return the path that an error names in quotes."""
    found = re.search(r'"(ipam[^"]*)"', error.msg)
    return found[1] if found else "ipam"


def _below(path: str, field: str) -> str:
    return ".".join(filter(None, (path, field)))


def severity(findings: list[Finding]) -> Severity | None:
    """Return the worst of some findings."""
    worst = {finding.severity for finding in findings}
    return "error" if "error" in worst else "warning" if worst else None
