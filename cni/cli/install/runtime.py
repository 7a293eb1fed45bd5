"""Where the container runtime looks for plugins and networks, as its own configuration says.

Sources: containerd's `config.toml` (version 2 has one `bin_dir`, version 3 a list), CRI-O's `crio.conf`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BIN_DIR, CONF_DIR = Path("/opt/cni/bin"), Path("/etc/cni/net.d")
_CONTAINERD = ("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "cri")


@dataclass(frozen=True)
class Directories:
    """The two directories, and which file said so; empty if none did."""

    binaries: Path
    networks: Path
    source: str = ""


def directories(root: Path = Path("/")) -> Directories:
    """Return what the first runtime's configuration below `root` says, else the usual places."""
    for source, told in _told(root):
        binaries, networks = told
        if binaries or networks:
            return Directories(Path(binaries or BIN_DIR), Path(networks or CONF_DIR), str(source))
    return Directories(BIN_DIR, CONF_DIR)


def _told(root: Path) -> Iterator[tuple[Path, tuple[str, str]]]:
    containerd = root / "etc/containerd/config.toml"
    plugins = _table(_read(containerd), "plugins")
    for name in _CONTAINERD:
        cni = _table(_table(plugins, name), "cni")
        yield containerd, (_first(cni, "bin_dirs", "bin_dir"), _first(cni, "conf_dir"))
    for path in (root / "etc/crio/crio.conf", *sorted((root / "etc/crio/crio.conf.d").glob("*.conf"))):
        network = _table(_table(_read(path), "crio"), "network")
        yield path, (_first(network, "plugin_dirs", "plugin_dir"), _first(network, "network_dir"))


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return tomllib.loads(path.read_text())
    return {}


def _table(value: dict[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _first(table: dict[str, Any], *keys: str) -> str:
    for key in keys:
        found = table.get(key)
        if isinstance(found, list):
            found = found[0] if found else ""
        if isinstance(found, str) and found:
            return found
    return ""
