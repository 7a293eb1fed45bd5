"""Settings of `podrail daemon`: its options, and the variables that stand in for some."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cni.daemon.http import check_address
from cni.durable import run_directory, state_directory

_LEAST_SECONDS = 0.1
_NODE = "NODENAME"  # which whereabouts wants for node slices and blocks, and no runtime sets


@dataclass(frozen=True)
class Settings:
    """What an administrator can choose."""

    socket: Path
    state: Path
    run: Path
    cni_path: str
    concurrency: int
    queue: int
    time_limit: float  # seconds
    undo_limit: float  # seconds
    stop_limit: float  # seconds
    retry: float  # seconds
    calls_per_worker: int
    host_pid: int
    metrics: str | None
    node: str  # its name in the cluster, empty if the daemon was not told

    @property
    def lock(self) -> Path:
        return self.socket.with_name("daemon.lock")

    @property
    def defaults(self) -> dict[str, str]:
        """Variables that a call has unless its caller says otherwise."""
        found = {"PODRAIL_STATE_DIR": str(self.state), "PODRAIL_RUN_DIR": str(self.run)}
        return found | ({_NODE: self.node} if self.node else {})

    @classmethod
    def of(cls, parsed: argparse.Namespace, environment: Mapping[str, str]) -> Settings:
        run = run_directory(environment)
        return cls(
            socket=Path(parsed.socket or environment.get("PODRAIL_SOCKET") or run / "daemon.sock"),
            state=state_directory(environment),
            run=run,
            cni_path=parsed.cni_path,
            concurrency=parsed.concurrency,
            queue=parsed.queue,
            time_limit=parsed.time_limit,
            undo_limit=parsed.undo_limit,
            stop_limit=parsed.stop_limit,
            retry=parsed.retry,
            calls_per_worker=parsed.calls_per_worker,
            host_pid=parsed.host_pid,
            metrics=parsed.metrics,
            node=environment.get(_NODE, ""),
        )


def calls_at_once() -> int:
    """Return how many calls this machine carries out at once, unless it is told.

    A worker that has served keeps 8 MB of its own, and the kernel lets one change links at a time.
    """
    return min(32, max(4, 2 * (os.cpu_count() or 1)))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `podrail daemon`."""
    options = (
        ("--socket", str, "", "where clients find it; PODRAIL_SOCKET or PODRAIL_RUN_DIR can say so too"),
        ("--cni-path", str, "/opt/cni/bin", "CNI_PATH of the calls that it makes by itself"),
        ("--concurrency", _positive, calls_at_once(), "calls at once"),
        ("--queue", _positive, 1000, "calls that may wait; more are refused"),
        ("--time-limit", _some_seconds, 180.0, "seconds that a call may take, waiting included"),
        ("--undo-limit", _seconds, 10.0, "seconds that a call may then take to undo what it did"),
        ("--stop-limit", _seconds, 60.0, "seconds that calls may go on when it is to stop"),
        (
            "--retry",
            _some_seconds,
            10.0,
            "seconds until a DEL of its own that failed is tried again; they double",
        ),
        ("--calls-per-worker", _positive, 1000, "calls before a worker process is replaced"),
        ("--host-pid", int, 1, "process whose mounts the callers' paths are of"),
        ("--metrics", _loopback, None, "where /metrics is served: unix:PATH or HOST:PORT"),
    )
    for name, kind, default, text in options:
        shown = f" ({default})" if default else ""
        parser.add_argument(name, type=kind, default=default, help=text + shown)


def _loopback(address: str) -> str:
    try:
        check_address(address)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return address


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError("it must be 0 or more seconds")
    return seconds


def _some_seconds(text: str) -> float:
    if _seconds(text) < _LEAST_SECONDS:
        raise argparse.ArgumentTypeError(f"it must be {_LEAST_SECONDS} seconds or more")
    return float(text)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be 1 or more")
    return number
