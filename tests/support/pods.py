"""Pods for multus: its configuration in a world of one test, and delegates of another make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.world import BIN, StubIpam, World

NETWORK = "multus-cni-network"


@dataclass(frozen=True)
class Multus:
    """multus in a world: its directories lie below `folder`."""

    world: World
    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def conf_dir(self) -> Path:
        return self.folder / "net.d"

    def conf(self, *delegates: Mapping[str, Any], **keys: Any) -> dict[str, Any]:
        """A configuration with these delegates; `keys` are added or replaced."""
        conf: dict[str, Any] = {
            "cniVersion": "1.0.0",
            "name": NETWORK,
            "type": "multus",
            "cniDir": str(self.cache),
            "confDir": str(self.conf_dir),
            "binDir": str(BIN),
        }
        return conf | ({"delegates": list(delegates)} if delegates else {}) | keys

    def network_file(self, name: str, content: Mapping[str, Any] | str) -> Path:
        """Write a file of `confDir`."""
        self.conf_dir.mkdir(parents=True, exist_ok=True)
        path = self.conf_dir / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def files(self) -> list[Path]:
        """What is kept of attachments, in the journal and in Multus' cache."""
        kept = [path for path in self.cache.rglob("*") if path.is_file()]
        return sorted([*self.world.records(), *kept])

    def entries(self, container_id: str = "pod-1") -> list[dict[str, Any]]:
        """What Multus' cache lists of a container."""
        return json.loads((self.cache / container_id).read_text())


class StubPlugin(StubIpam):
    """An interface plugin of another make that answers with an interface of its own, and makes none."""

    def __init__(self, folder: Path, plugin_type: str, address: str = "10.7.0.5/24") -> None:
        super().__init__(folder, plugin_type)
        self.does(
            "ADD",
            "env >environment.ADD; "
            'printf \'{"cniVersion":"1.0.0","interfaces":[{"name":"%s","mac":"02:00:00:00:00:07",'
            f'"sandbox":"%s"}}],"ips":[{{"interface":0,"address":"{address}"}}]}}\' '
            '"$CNI_IFNAME" "$CNI_NETNS"; exit 0',
        )
        self.does("DEL", "env >environment.DEL")

    def environment(self, command: str) -> dict[str, str]:
        """The environment of the last call of ADD or DEL."""
        lines = (self.folder / f"environment.{command}").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def network(self, name: str, **keys: Any) -> dict[str, Any]:
        """A configuration of this plugin."""
        return {"cniVersion": "1.0.0", "name": name, "type": self.type} | keys
