"""The network configuration that an installation brings: written last, and only when it would work."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from cni import durable
from cni.protocol import gojson
from cni.protocol.errors import CniError, Code, InvalidConfig

SUFFIXES = (".conf", ".conflist", ".json")
_PAUSE = 0.2  # seconds between two questions whether a plugin is ready


def wait_until_ready(conf: Path, binaries: Path, seconds: float) -> None:
    """Ask the plugins of a configuration for STATUS until each says that it would serve.

    Raises:
        CniError: the last answer, or code 7 if the file is no configuration.
    """
    deadline = time.monotonic() + seconds
    for plugin in _plugins(conf):
        while (fault := _fault(plugin, binaries)) is not None:
            if time.monotonic() > deadline:
                raise CniError(
                    f'plugin "{gojson.get(plugin, "type")}" is not ready, so {conf.name} was not installed',
                    why=fault,
                    fix="Start the node daemon, or correct what it says; then call again.",
                    code=Code.NOT_AVAILABLE,
                )
            time.sleep(_PAUSE)


def write(conf: Path, directory: Path) -> tuple[Path, str]:
    """Copy a configuration in one step; return where it is and what was done."""
    target = directory / conf.name
    data = conf.read_bytes()
    if durable.read(target) == data:
        return target, "in place already"
    durable.replace(target, data, directory, is_lasting=True)
    target.chmod(0o600)
    return target, "installed"


def sorting_before(target: Path) -> list[str]:
    """Return the files that a runtime takes before this one: it uses the first, by name."""
    if not target.parent.is_dir():
        return []
    names = sorted(path.name for path in target.parent.iterdir() if path.suffix in SUFFIXES)
    return [name for name in names if name < target.name]


def _plugins(conf: Path) -> list[dict[str, Any]]:
    raw = gojson.loads_object(conf.read_bytes(), str(conf))
    listed = gojson.get(raw, "plugins")
    shared = {key: value for key, value in raw.items() if key in ("name", "cniVersion")}
    plugins = [{**each, **shared} for each in listed] if isinstance(listed, list) else [raw]
    if not all(isinstance(gojson.get(each, "type"), str) for each in plugins):
        raise InvalidConfig(f"{conf} has a plugin without a type", fix='Set "type", or ask podrail lint.')
    return plugins


def _fault(plugin: dict[str, Any], binaries: Path) -> str | None:
    """Return why a plugin would not serve this network now; None if it would."""
    environment = {**os.environ, "CNI_COMMAND": "STATUS", "CNI_PATH": str(binaries)}
    asked = {**plugin, "cniVersion": "1.1.0"}  # older versions have no STATUS
    try:
        done = subprocess.run(  # noqa: S603  # a file of the directory that was just installed into
            [binaries / plugin["type"]],
            input=json.dumps(asked).encode(),
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{error}."
    if done.returncode == 0:
        return None
    try:
        told = json.loads(done.stdout)
    except ValueError:
        return done.stdout.decode(errors="replace")[:500]
    if told.get("code") == Code.INCOMPATIBLE_VERSION:
        return None  # a plugin of another make that knows no STATUS
    return f"{told.get('msg', '')}. {told.get('details', '')}".strip()
