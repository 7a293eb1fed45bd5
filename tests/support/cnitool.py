"""cnitool: plugins called by the Go library that runtimes use, built from Debian's source of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.golang import built
from tests.support.world import Answer, World

NEWEST = "1.0.0"  # what Debian's library speaks
_SOURCE = Path(__file__).parent / "cnitool" / "main.go"


@dataclass(frozen=True)
class Cnitool:
    """One network of a world, attached and detached by libcni.

    Configurations and what libcni keeps of its own lie in `folder`.
    """

    world: World
    folder: Path
    network: str = "rail"

    def configure(self, *plugins: Mapping[str, Any], version: str = NEWEST, **keys: Any) -> None:
        """Write the network's configuration list; `name` and `cniVersion` are the list's, not a plugin's."""
        self._configuration.mkdir(parents=True, exist_ok=True)
        conf = {"cniVersion": version, "name": self.network, "plugins": list(map(_unnamed, plugins)), **keys}
        (self._configuration / f"{self.network}.conflist").write_text(json.dumps(conf))

    def call(self, *arguments: str, **variables: str) -> Answer:
        """Run the tool inside the host's namespace; variables are added to the environment."""
        environment = {
            **self.world.environment("", NETCONFPATH=str(self._configuration), CNI_CACHE_DIR=str(self.cache)),
            **variables,
        }
        done = subprocess.run(
            ["ip", "netns", "exec", self.world.host.name, built("cnitool", _SOURCE), *arguments],
            env=environment,
            capture_output=True,
            check=False,
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    def add(self, **variables: str) -> dict[str, Any]:
        return self._succeed("add", **variables).json

    def check(self, **variables: str) -> None:
        self._succeed("check", **variables)

    def delete(self, **variables: str) -> None:
        self._succeed("del", **variables)

    def fails(self, command: str, **variables: str) -> str:
        """A call that must fail; return what libcni says."""
        answer = self.call(command, self.network, self.world.sandbox.path, **variables)
        assert (answer.status, answer.stdout) == (1, ""), answer
        return answer.stderr

    def _succeed(self, command: str, **variables: str) -> Answer:
        answer = self.call(command, self.network, self.world.sandbox.path, **variables)
        assert answer.status == 0, answer
        return answer

    @property
    def cache(self) -> Path:
        """Where libcni keeps results for CHECK and DEL."""
        return self.folder / "libcni"

    @property
    def _configuration(self) -> Path:
        return self.folder / "net.d"


def _unnamed(plugin: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in plugin.items() if key not in ("name", "cniVersion")}
