"""podrail ipam reconcile: free the addresses of pods that are gone, and repair what has drifted apart.

When something was first seen is kept below the state directory, so that the grace counts from one run to
the next.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from cni import durable
from cni.kube.client import Client
from cni.kube.config import KubeConfig, in_cluster, load
from cni.kube.deadline import Limits
from cni.protocol.errors import CniError, Code
from cni.protocol.notes import note
from ipam.config import DIRECTORIES
from ipam.kube_store import KubeStore
from ipam.reconciler import Finding, Pass, settle

_PATIENT = Limits(operation=300.0)
_SPREAD = 0.2  # of the interval, so that several do not ask at once


def run(parsed: argparse.Namespace) -> int:
    """Make passes; return the exit status."""
    while True:
        try:
            _pass(parsed)
        except CniError as error:
            if parsed.once or error.code != Code.TRY_AGAIN_LATER:
                raise
            note("reconcile", f"{error.msg}. {error.details}")
        if parsed.once:
            return 0
        time.sleep(parsed.interval * random.uniform(1 - _SPREAD, 1 + _SPREAD))  # noqa: S311  # no secret


def _pass(parsed: argparse.Namespace) -> None:
    config = _config(parsed.kubeconfig)
    namespace = (
        parsed.namespace or config.namespace or os.environ.get("WHEREABOUTS_NAMESPACE") or "kube-system"
    )
    with Client(config, _PATIENT) as api:
        found = list(Pass(KubeStore(api, namespace, _PATIENT)).findings())
        memory = Memory.of(os.environ, config.server, namespace)
        now = time.time()
        seen = memory.seen(found, now)
        due = [finding for finding in found if now - seen[finding.identity] >= parsed.grace]
        settle(due, _tell, is_dry=parsed.dry_run)
        for finding in found:
            if finding not in due:
                left = parsed.grace - (now - seen[finding.identity])
                _tell(f"in {left:.0f} s will {finding.what}: {finding.why}")
        if not parsed.dry_run:
            memory.keep(seen)


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _config(kubeconfig: str | None) -> KubeConfig:
    if kubeconfig:
        return load(kubeconfig)
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster()
    places = [Path(folder) / "whereabouts.d" / "whereabouts.kubeconfig" for folder in DIRECTORIES]
    for place in places:
        if place.exists():
            return load(place)
    return in_cluster()


class Memory:
    """When findings were seen first, kept in a file for each namespace of each cluster."""

    def __init__(self, path: Path, state: Path) -> None:
        self._path = path
        self._state = state

    @classmethod
    def of(cls, environment: Mapping[str, str], server: str, namespace: str) -> Memory:
        state = durable.state_directory(environment)
        name = f"{namespace}@{server.partition('://')[2].replace('/', '_')}.json"
        return cls(state / "reconcile" / durable.component(name), state)

    def seen(self, findings: list[Finding], now: float) -> dict[str, float]:
        """Return when each was seen first, in seconds since 1970; what is found no more is forgotten."""
        try:
            raw = json.loads(durable.read(self._path) or b"{}")
            earlier = {str(key): min(now, float(value)) for key, value in raw.items()}
        except (ValueError, TypeError, AttributeError):
            earlier = {}
        return {finding.identity: earlier.get(finding.identity, now) for finding in findings}

    def keep(self, seen: dict[str, float]) -> None:
        if seen:
            durable.replace(self._path, json.dumps(seen, indent=2).encode() + b"\n", self._state)
        else:
            durable.remove(self._path, self._state)
