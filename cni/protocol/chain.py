"""Chain: a network's plugins, called one after another as a runtime calls them.

A configuration of one plugin is a chain of one. Configurations stay the raw objects that somebody
wrote: keys that we do not know reach the plugins on every verb.

Source: the CNI spec, section 3, and `libcni` of the Go library for what is put into a configuration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cni.protocol import delegate, gojson, versions
from cni.protocol.errors import CniError, InvalidConfig, all_of
from cni.protocol.failures import collected
from cni.protocol.gojson import JsonObject
from cni.protocol.request import NAME, AttachmentKey, Request
from cni.protocol.result import Result

if TYPE_CHECKING:
    from cni.protocol.planning import Plan, Planning

CapabilityArgs = Mapping[str, Any]  # what a runtime asks for, by capability


@dataclass(frozen=True)
class Chain:
    """A configuration, or a list of them."""

    raw: JsonObject

    @classmethod
    def parse(cls, raw: Any, what: str, *, name: str = "") -> Chain:
        """Return a chain that can be called; one without a name gets the one that is given.

        Raises:
            InvalidConfig: code 7, it names no plugin, or its name is missing or malformed.
        """
        if not isinstance(raw, dict):
            raise InvalidConfig(
                f"{what} is a JSON {gojson.type_name(raw)}, not an object", fix="Give it as { … }."
            )
        if name and not gojson.get(raw, "name"):
            raw = put(raw, {"name": name})
        chain = cls(raw)
        _check_name(chain.name, what)
        _check_plugins(chain, what)
        return chain

    @cached_property
    def name(self) -> str:
        return str(gojson.get(self.raw, "name") or "")

    @cached_property
    def version(self) -> str:
        """The newest version that the configuration offers and we speak; it may state none."""
        stated, offered = gojson.get(self.raw, "cniVersion"), gojson.get(self.raw, "cniVersions")
        if not isinstance(offered, list):
            return str(stated or "")
        return max(
            (each for each in (*offered, stated) if each in versions.SUPPORTED), key=_order, default=""
        )

    @cached_property
    def is_list(self) -> bool:
        return not gojson.get(self.raw, "type") and isinstance(gojson.get(self.raw, "plugins"), list)

    @cached_property
    def plugins(self) -> tuple[JsonObject, ...]:
        """The plugins' configurations as they are written."""
        return tuple(gojson.get(self.raw, "plugins")) if self.is_list else (self.raw,)

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(str(gojson.get(plugin, "type")) for plugin in self.plugins)

    @property
    def capabilities(self) -> frozenset[str]:
        """The capabilities that any of the plugins declares."""
        return frozenset().union(*map(_capabilities, self.plugins))

    def knows(self, verb: str) -> bool:
        """Tell whether the chain's version has `verb`."""
        try:
            return versions.at_least(self.version or versions.UNSTATED, versions.SINCE[verb])
        except ValueError:
            return False

    def with_each(self, change: Callable[[JsonObject], JsonObject]) -> Chain:
        """Return the chain with every plugin's configuration changed."""
        if self.is_list:
            return Chain(put(self.raw, {"plugins": [change(plugin) for plugin in self.plugins]}))
        return Chain(change(self.raw))

    def find(self, request: Request) -> None:
        """Raises InvalidConfig if a plugin is not installed: nobody could undo its part later."""
        for plugin_type in self.types:
            delegate.find(plugin_type, request)

    def add(self, request: Request, args: CapabilityArgs) -> Result:
        """Call the plugins' ADD in order, each with the result of the one before.

        Raises:
            CniError: a plugin's own; those before it are not undone.
        """
        version = self.version or versions.UNSTATED
        versions.check(version, "ADD")
        result: Result | None = None
        for plugin in self.plugins:
            call = self._call(request, plugin, result.render(version) if result else None, args)
            result = delegate.add(_type(plugin), call)
        assert result is not None, "a chain has a plugin"  # noqa: S101  # parse saw to it
        return result

    def plan(self, request: Request, args: CapabilityArgs, planning: Planning) -> tuple[Plan, ...]:
        """Return what the plugins' ADDs would do, in order; a plugin's failure ends the chain.

        A plugin of another make hands on what it got, as far as that is known.

        Raises:
            CniError: code 1, the version is none that has ADD.
        """
        from cni.protocol.planning import Plan

        version = self.version or versions.UNSTATED
        versions.check(version, "ADD")
        steps: list[Plan] = []
        result: Result | None = None
        for plugin in self.plugins:
            call = self._call(request, plugin, result.render(version) if result else None, args)
            try:
                step = delegate.plan(_type(plugin), call, planning)
            except CniError as error:
                failed = Plan(_type(plugin), self.name, request.ifname, version=version, error=error)
                return (*steps, failed)
            if not step.is_known and result:
                step = replace(step, result=result)
            result = step.result if step.is_known else result
            steps.append(step)
        return tuple(steps)

    def delete(self, request: Request, args: CapabilityArgs, result: JsonObject | None) -> None:
        """Call the plugins' DEL in reverse, all of them although some fail.

        Raises:
            CniError: what failed.
        """
        knows_result = self.knows("CHECK")  # the same version brought both
        failures: list[CniError] = []
        for plugin in reversed(self.plugins):
            with collected(failures):
                call = self._call(request, plugin, result if knows_result else None, args)
                delegate.delete(_type(plugin), call)
        if failures:
            raise all_of(failures)

    def check(self, request: Request, args: CapabilityArgs, result: JsonObject | None) -> None:
        """Call the plugins' CHECK in order, unless the list does without.

        Raises:
            CniError: a plugin's own, or code 1, the chain's version has no CHECK.
        """
        if _is_true(gojson.get(self.raw, "disableCheck")):
            return
        versions.check(self.version or versions.UNSTATED, "CHECK")
        for plugin in self.plugins:
            delegate.check(_type(plugin), self._call(request, plugin, result, args))

    def status(self, request: Request) -> None:
        """Ask each plugin whether it could ADD; a version without STATUS is not asked."""
        if self.knows("STATUS"):
            for plugin in self.plugins:
                delegate.status(_type(plugin), self._call(request, plugin, None, {}))

    def gc(self, request: Request, keep: Iterable[AttachmentKey]) -> None:
        """Let each plugin give back what is not to keep; a version without GC is not asked.

        Raises:
            CniError: what failed; all are asked.
        """
        if not self.knows("GC") or _is_true(gojson.get(self.raw, "disableGC")):
            return
        valid = [{"containerID": container, "ifname": ifname} for container, ifname in sorted(keep)]
        listed = {"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid}  # libcni writes both
        failures: list[CniError] = []
        for plugin in self.plugins:
            with collected(failures):
                delegate.gc(_type(plugin), self._call(request, put(plugin, listed), None, {}))
        if failures:
            raise all_of(failures)

    def _call(
        self, request: Request, plugin: JsonObject, result: JsonObject | None, args: CapabilityArgs
    ) -> Request:
        """Return the call as one plugin gets it, with those arguments whose capability it declares."""
        added: JsonObject = {"name": self.name, "cniVersion": self.version}
        if result is not None:
            added["prevResult"] = result
        runtime = {name: args[name] for name in args if name in _capabilities(plugin)}
        if runtime:
            added["runtimeConfig"] = runtime
        return request.with_stdin(json.dumps(put(plugin, added)).encode())


def put(raw: Mapping[str, Any], values: Mapping[str, Any]) -> JsonObject:
    """Return an object with values put in, which replace theirs whatever the case of the keys."""
    replaced = {name.casefold() for name in values}
    return {key: value for key, value in raw.items() if key.casefold() not in replaced} | dict(values)


def _order(version: str) -> tuple[int, ...]:
    return versions.parse(version)


def _type(plugin: JsonObject) -> str:
    return str(gojson.get(plugin, "type"))


def _capabilities(plugin: JsonObject) -> frozenset[str]:
    declared = gojson.get(plugin, "capabilities")
    return frozenset(name for name, is_on in declared.items() if is_on is True) if declared else frozenset()


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _check_name(name: str, what: str) -> None:
    if not name:
        raise InvalidConfig(
            f'{what} has no "name"',
            why="Addresses and records of attachments are kept under it.",
            fix='Set "name".',
        )
    if not NAME.fullmatch(name):
        raise InvalidConfig(
            f'{what} has the "name" "{name[:100]}", which cannot be one',
            why="It becomes part of a path.",
            fix="It must begin with an ASCII letter or digit; then letters, digits, _ . - may follow.",
        )


def _check_plugins(chain: Chain, what: str) -> None:
    listed = gojson.get(chain.raw, "plugins")
    if not gojson.get(chain.raw, "type") and not listed:
        raise InvalidConfig(
            f"{what} names no plugin",
            why='It has neither "type" nor a list "plugins" with a plugin in it.',
            fix='Set "type" to a plugin, or list configurations of plugins in "plugins".',
        )
    if chain.is_list or gojson.get(chain.raw, "type"):
        for index, plugin in enumerate(chain.plugins):
            where = f"plugins[{index}]" if chain.is_list else "it"
            _check_plugin(plugin, where, what)
        return
    raise InvalidConfig(f'"plugins" of {what} is a JSON {gojson.type_name(listed)}', fix="Make it a list.")


def _check_plugin(plugin: Any, where: str, what: str) -> None:
    kind = gojson.get(plugin, "type") if isinstance(plugin, dict) else None
    if not isinstance(kind, str) or not kind:
        raise InvalidConfig(
            f"{what} names no plugin: {where} has no type",
            why='A plugin\'s configuration is an object with the string "type".',
            fix='Set "type" to the name of an executable in CNI_PATH.',
        )
    declared = gojson.get(plugin, "capabilities")
    if declared is not None and not isinstance(declared, dict):
        raise InvalidConfig(
            f'"capabilities" of {what} is a JSON {gojson.type_name(declared)}',
            fix='Write it as {"mac": true}.',
        )
