"""Where the container runtime looks for plugins and networks, as its own configuration says.

Sources: containerd's `config.toml` and what it imports (version 2 has one `bin_dir`, version 3 a list), also
k3s' and rke2's; CRI-O's `crio.conf` and its fragments.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BIN_DIR, CONF_DIR = Path("/opt/cni/bin"), Path("/etc/cni/net.d")
_CONTAINERD = (
    "etc/containerd/config.toml",
    "var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    "var/lib/rancher/rke2/agent/etc/containerd/config.toml",
)
_CRI = ("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "cri")


@dataclass(frozen=True)
class Directories:
    """The two directories, and which file said so; empty if none did."""

    binaries: Path
    networks: Path
    source: str = ""


def directories(root: Path = Path("/")) -> Directories:
    """Return what the first runtime's configuration below `root` says, else the usual places."""
    for files, told in _runtimes(root):
        binaries, networks, source = "", "", ""
        for path in files:  # a later file wins, key by key
            found = told(_read(path))
            binaries, networks = found[0] or binaries, found[1] or networks
            source = str(path) if any(found) else source
        if source:
            return Directories(Path(binaries or BIN_DIR), Path(networks or CONF_DIR), source)
    return Directories(BIN_DIR, CONF_DIR)


def _runtimes(root: Path) -> Iterator[tuple[list[Path], Callable[[dict[str, Any]], tuple[str, str]]]]:
    """Yield each runtime's files, in the order in which it reads them, and what looks into one."""
    for name in _CONTAINERD:
        yield [root / name, *_imported(root, root / name)], _containerd
    yield [root / "etc/crio/crio.conf", *sorted((root / "etc/crio/crio.conf.d").glob("*"))], _crio


def _imported(root: Path, config: Path) -> Iterator[Path]:
    """Yield the files that a containerd configuration imports; relative ones are beside it."""
    imports = _read(config).get("imports")
    for pattern in imports if isinstance(imports, list) else ():
        if isinstance(pattern, str) and pattern:
            folder = root if pattern.startswith("/") else config.parent
            yield from sorted(folder.glob(pattern.lstrip("/")))


def _containerd(config: dict[str, Any]) -> tuple[str, str]:
    plugins = _table(config, "plugins")
    sections = [_table(_table(plugins, name), "cni") for name in _CRI]
    cni = next((each for each in sections if each), {})
    return _first(cni, "bin_dirs", "bin_dir"), _first(cni, "conf_dir")


def _crio(config: dict[str, Any]) -> tuple[str, str]:
    network = _table(_table(config, "crio"), "network")
    return _first(network, "plugin_dirs", "plugin_dir"), _first(network, "network_dir")


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
