"""What must lie where: the runtime's directories, executables, configurations, Python's bytecode."""

from __future__ import annotations

import os
import stat
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cni.cli.doctor.configured import Configured
from cni.cli.doctor.root import Root
from cni.cli.finding import Finding

_OLDEST_PYTHON = (3, 11)
_POD_RESOURCES = "var/lib/kubelet/pod-resources/kubelet.sock"


def check(root: Root, configured: Configured, binaries: str) -> Iterator[Finding]:
    yield from _bytecode()
    yield from _executables(root, configured, binaries)
    yield from _networks(root, configured)
    yield from _runtime(root)
    yield from _kubelet(root, configured)
    yield from _daemon(root, binaries)


def _bytecode() -> Iterator[Finding]:
    """Without bytecode each call compiles what it imports, which doubles its time."""
    own = Path(__file__).parents[2] / "protocol"
    if not any(own.joinpath("__pycache__").glob("*.pyc")) and not os.access(own, os.W_OK):
        yield Finding(
            "bytecode",
            str(own),
            "there is no bytecode, and it cannot be written: every call compiles podrail anew",
            f"Run as root: {sys.executable} -m compileall {own.parent}",
            "warning",
        )


def _executables(root: Root, configured: Configured, binaries: str) -> Iterator[Finding]:
    if not root.at(binaries).is_dir():
        yield Finding("bin-dir", binaries, "the directory of plugins does not exist", "Run: podrail install")
        return
    if root.at(binaries).stat().st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        yield Finding(
            "bin-dir-mode",
            binaries,
            "others than root may write there, and so run what they like as root",
            f"Run: chmod go-w {binaries}",
        )
    for kind in sorted(configured.types):
        path = root.at(f"{binaries}/{kind}")
        if not path.exists():
            yield Finding(
                "plugin",
                kind,
                f"no plugin {kind} in {binaries}",
                "Install it, or correct the type that names it.",
            )
        elif not path.stat().st_mode & stat.S_IXUSR:
            yield Finding(
                "plugin-mode", kind, f"{binaries}/{kind} may not be executed", f"Run: chmod 755 {path}"
            )
        elif (interpreter := _interpreter(path)) and not root.exists(interpreter):
            yield Finding(
                "interpreter",
                kind,
                f"{binaries}/{kind} wants {interpreter}, which does not exist",
                "Install podrail again, then run: podrail install",
            )


def _interpreter(path: Path) -> str:
    with suppress(OSError), open(path, "rb") as file:
        line = file.readline(256)
        if line.startswith(b"#!"):
            return line[2:].decode(errors="replace").split()[0]
    return ""


def _networks(root: Root, configured: Configured) -> Iterator[Finding]:
    folder = configured.folder
    if not configured.files:
        yield Finding(
            "conf-dir", folder, "there is no network, so the runtime's network is not ready", "Install one."
        )
    for name, reason in configured.unreadable.items():
        yield Finding(
            "conf-file", f"{folder}/{name}", reason, "Correct it; podrail lint tells line and column."
        )
    owned = {plugin.file for plugin in configured.of_type("multus")}
    for name in sorted(owned):
        before = [each for each in configured.files if each < name]
        if before:
            yield Finding(
                "conf-order",
                f"{folder}/{name}",
                f"the runtime takes {before[0]} and never calls multus: pods come up without their networks",
                f"Rename it so that it sorts before {before[0]}, or remove that file.",
            )
    for name in configured.files:
        path = root.at(f"{folder}/{name}")
        with suppress(OSError):
            if path.stat().st_mode & stat.S_IWOTH:
                yield Finding(
                    "conf-mode", f"{folder}/{name}", "everybody may write to it", f"Run: chmod o-w {path}"
                )


def _runtime(root: Root) -> Iterator[Finding]:
    text = root.text("etc/containerd/config.toml")
    if text is None:
        return
    try:
        told = tomllib.loads(text)
    except ValueError as error:
        yield Finding("containerd", "etc/containerd/config.toml", f"it is not TOML: {error}", "Correct it.")
        return
    disabled = [each for each in told.get("disabled_plugins") or () if str(each).rpartition(".")[2] == "cri"]
    if disabled:
        yield Finding(
            "containerd",
            "etc/containerd/config.toml",
            'containerd serves no pods: "cri" is among its disabled_plugins',
            "Remove it from disabled_plugins, and restart containerd.",
        )


def _kubelet(root: Root, configured: Configured) -> Iterator[Finding]:
    if configured.of_type("multus") and root.exists("var/lib/kubelet") and not root.exists(_POD_RESOURCES):
        yield Finding(
            "pod-resources",
            f"/{_POD_RESOURCES}",
            "the kubelet does not tell which devices a pod was given",
            "Look whether the kubelet runs, and whether its feature KubeletPodResources is on.",
            "warning",
        )


def _daemon(root: Root, binaries: str) -> Iterator[Finding]:
    """The static client in the place of a plugin, and nobody who would serve it."""
    clients = []
    for name in root.names(binaries):
        with suppress(OSError), open(root.at(f"{binaries}/{name}"), "rb") as file:
            data = file.read(1 << 20)
            if data.startswith(b"\x7fELF") and b"podrail" in data:
                clients.append(name)
    run = root.environment.get("PODRAIL_RUN_DIR") or "/run/podrail"
    if clients and not any(root.at(run).glob("*.sock")):
        yield Finding(
            "daemon",
            run,
            f"{', '.join(clients)} hand calls to the node daemon, and there is no socket of it",
            "Start it: podrail daemon, or its systemd unit.",
        )


def python_version(version: tuple[int, ...]) -> Iterator[Finding]:
    if version < _OLDEST_PYTHON:
        told = ".".join(map(str, version[:2]))
        yield Finding("python", told, f"Python {told} is too old", "Install Python 3.11 or newer.")
