"""podrail daemon: bind the socket, import what calls need, then serve."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import os
import pkgutil
import resource
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel

from cni.command import parser_of
from cni.daemon import systemd
from cni.daemon.daemon import Daemon
from cni.daemon.http import CannotServe
from cni.daemon.log import Notes, log
from cni.daemon.settings import Settings, add_options
from cni.daemon.wire import MAGIC
from cni.host.mounts import Mounts
from cni.protocol import registry

# What the modules of calls are in; the command's own would only take memory.
_CALLED = ("cni.protocol", "cni.host", "cni.device", "cni.kube", "cni.plugins", "cni.daemon", "ipam")
_ONLY_LOOKING = (".planning", ".cli", ".host_local")
_IMPORTED_LATE = ("difflib", "traceback")  # what a call may need of the standard library, but seldom
_OTHER_FILES = 256  # sockets of workers, metrics, what is read for a moment
_BACKLOG = 1024  # connections that the kernel keeps until they are taken


class CannotStart(Exception):
    """Why there is no daemon; a sentence for the administrator."""


def command(arguments: list[str]) -> int:
    """Run `podrail daemon`; return the exit status."""
    return serve(Settings.of(command_parser().parse_args(arguments), os.environ), os.environ)


def command_parser() -> argparse.ArgumentParser:
    made = parser_of(
        "daemon",
        "Serve the static clients of this node.",
        statuses="0 it was told to stop, 1 it could not start, 2 called wrongly",
        examples=(
            "podrail daemon",
            "podrail daemon --concurrency 16 --metrics 127.0.0.1:9464",
            "podrail daemon --metrics unix:/run/podrail/metrics.sock",
        ),
    )
    add_options(made)
    return made


def serve(settings: Settings, environment: Mapping[str, str]) -> int:
    """Run the daemon until it is told to stop; return the exit status."""
    try:
        _allow_files(settings)
        lock = _locked(settings)
        mounts = _mounts(settings.host_pid)
        with _listening(settings, environment) as listening:
            warm()
            with redirect_stderr(Notes()):
                return asyncio.run(_serve(settings, environment, listening, lock, mounts))
    except (CannotStart, CannotServe) as error:
        sys.stderr.write(f"podrail daemon: {error}\n")
        return 1


async def _serve(
    settings: Settings,
    environment: Mapping[str, str],
    listening: socket.socket,
    lock: int,
    mounts: Mounts | None,
) -> int:
    return await Daemon(settings, environment, listening, lock, mounts).run()


def _allow_files(settings: Settings) -> None:
    """Raise the limit of open files to what a full queue needs, as far as that may be: two for each call."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * (settings.queue + settings.concurrency) + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def warm() -> None:
    """Import and build all that calls need, and keep it out of garbage collection's way.

    Workers share these pages with the daemon for as long as nobody writes to them.
    """
    for plugin_type in registry.TYPES:
        registry.load(plugin_type)
    for package in _CALLED:
        for found in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            if not found.name.endswith(_ONLY_LOOKING):
                import_module(found.name)
    for name in _IMPORTED_LATE:
        import_module(name)
    models = [BaseModel]
    for model in models:
        models += model.__subclasses__()
        if model.__module__.split(".")[0] in ("cni", "ipam"):
            model.model_rebuild()
    gc.collect()
    gc.freeze()


def _locked(settings: Settings) -> int:
    """Hold the lock that is the daemon's and its workers', so that no two daemons' calls meet.

    A daemon that was killed leaves workers that undo their calls: those are waited for.
    """
    try:
        settings.lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(settings.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(f"{settings.lock} cannot be opened: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if _is_served(settings.socket):
            raise CannotStart(f"another daemon serves {settings.socket}; stop it first") from None
        log("waiting", msg="calls of an earlier daemon are still ending", lock=str(settings.lock))
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(OSError):
        probe.settimeout(2)
        probe.connect(str(path))
        return probe.recv(len(MAGIC)) == MAGIC
    return False


def _mounts(pid: int) -> Mounts | None:
    try:
        return Mounts.of(pid)
    except OSError as error:
        raise CannotStart(
            f"the mounts of process {pid} cannot be reached: {error}. Run it as root with the host's "
            "process IDs (hostPID), or name a process whose mounts are the callers' with --host-pid"
        ) from error


@contextmanager
def _listening(settings: Settings, environment: Mapping[str, str]) -> Iterator[socket.socket]:
    """Open the socket, or take the one that systemd opened; remove ours in the end."""
    handed_over = systemd.listening_sockets(environment)
    if handed_over:
        handed_over[0].setblocking(False)
        yield handed_over[0]
        return
    path = settings.socket
    endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    endpoint.setblocking(False)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()  # a killed daemon's: the lock is ours
        before = os.umask(0o177)
        try:
            endpoint.bind(str(path))
        finally:
            os.umask(before)
        endpoint.listen(_BACKLOG)
    except OSError as error:
        raise CannotStart(f"{path} cannot be listened on: {error}") from error
    own = path.stat()
    yield endpoint
    with suppress(OSError):
        if os.path.samestat(own, path.stat()):
            path.unlink()
