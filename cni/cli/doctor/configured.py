"""Configured: what the node's networks ask of it, as the files in the configuration directory say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cni.cli.doctor.root import Root
from cni.protocol import gojson
from cni.protocol.errors import CniError

SUFFIXES = (".conf", ".conflist", ".json")


@dataclass(frozen=True)
class Plugin:
    """One plugin of a network, with what it says."""

    file: str
    network: str
    raw: dict[str, Any]

    @property
    def type(self) -> str:
        return self.text("type")

    def text(self, key: str) -> str:
        value = gojson.get(self.raw, key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int:
        value = gojson.get(self.raw, key)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    @property
    def ipam(self) -> dict[str, Any]:
        value = gojson.get(self.raw, "ipam")
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Configured:
    """The networks of a directory, in the order in which a runtime reads them."""

    folder: str
    files: tuple[str, ...] = ()
    plugins: tuple[Plugin, ...] = ()
    unreadable: dict[str, str] = field(default_factory=dict)  # by file

    @classmethod
    def read(cls, root: Root, folder: str) -> Configured:
        files = tuple(name for name in root.names(folder) if Path(name).suffix in SUFFIXES)
        plugins: list[Plugin] = []
        unreadable = {}
        for name in files:
            try:
                data = root.at(f"{folder}/{name}").read_bytes()
                plugins += _plugins(name, gojson.loads_object(data, name))
            except OSError as error:
                unreadable[name] = error.strerror or str(error)
            except CniError as error:
                unreadable[name] = f"{error.msg}. {error.why}".rstrip()
        return cls(folder, files, tuple(plugins), unreadable)

    @property
    def types(self) -> set[str]:
        """The types of all plugins, those that hand out addresses included."""
        ipam = {gojson.get(plugin.ipam, "type") for plugin in self.plugins}
        return {
            kind for kind in {plugin.type for plugin in self.plugins} | ipam if isinstance(kind, str) and kind
        }

    def of_type(self, *types: str) -> list[Plugin]:
        return [plugin for plugin in self.plugins if plugin.type.removeprefix("podrail-") in types]


def _plugins(file: str, raw: dict[str, Any]) -> Iterator[Plugin]:
    name = gojson.get(raw, "name")
    listed = gojson.get(raw, "plugins")
    for each in listed if isinstance(listed, list) else [raw]:
        if isinstance(each, dict):
            yield Plugin(file, name if isinstance(name, str) else "", each)
            delegates = gojson.get(each, "delegates")
            for delegate in delegates if isinstance(delegates, list) else ():
                if isinstance(delegate, dict):
                    yield from _plugins(file, delegate)
