"""The network configuration that an installation brings: written last, and only when it would work."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cni import durable
from cni.cli.install.executables import KEPT, keep
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


def listed(conf: Path | None, folder: Path | None) -> list[Path]:
    """Return the one configuration that is given, or those in a folder, as a runtime would read them.

    Raises:
        OSError: the folder cannot be read.
    """
    if folder:
        return sorted(each for each in folder.iterdir() if each.suffix in SUFFIXES and each.is_file())
    return [conf] if conf else []


def is_foreign(conf: Path, target: Path, ours: Collection[str]) -> bool:
    """Whether the target is a file of somebody else: none that we put there, and not what is to be there."""
    found = durable.read(target)
    return found is not None and str(target) not in ours and found != conf.read_bytes()


def write(conf: Path, target: Path, *, keeping: bool) -> str:
    """Copy a configuration in one step, and return what was done; `keeping` what is there beside.

    Runtimes do not look at what is kept: its name ends otherwise.
    """
    data = conf.read_bytes()
    if durable.read(target) == data:
        return "in place already"
    if keeping:
        keep(target)
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    durable.replace(target, data, target.parent, is_lasting=True)
    target.chmod(0o600)
    return f"installed; what was there is kept as {target.name}{KEPT}" if keeping else "installed"


@contextmanager
def withdrawn(targets: Iterable[Path]) -> Iterator[list[Path]]:
    """Take networks out of the runtime's sight for the block, and away when it ends; yield which there were.

    If it fails they are back. One that a killed uninstall left out of sight counts as there.
    """
    aside = {target: target.with_name(f".{target.name}.withdrawn") for target in targets}
    for target, hidden in aside.items():
        if target.exists():
            target.rename(hidden)
    present = [target for target, hidden in aside.items() if hidden.exists()]
    try:
        yield present
    except BaseException:
        for target in present:
            aside[target].rename(target)
        raise
    for target in present:
        aside[target].unlink()


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
