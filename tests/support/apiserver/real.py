"""The real kube-apiserver and etcd, found as the ecosystem finds them: in `KUBEBUILDER_ASSETS`."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from cni.kube.client import Client
from cni.kube.config import load
from cni.kube.deadline import Limits
from cni.kube.errors import NotFound
from cni.kube.paths import resource
from tests.support.apiserver import crds
from tests.support.apiserver.certificates import Authority
from tests.support.apiserver.kubeconfig import kubeconfig
from tests.support.apiserver.server import ADMIN, USERS

_HOW = "tests/support/kube-assets prepare, then KUBEBUILDER_ASSETS=$(tests/support/kube-assets path)"
_SECONDS = 90  # longer than the start takes on a busy machine


def assets() -> Path:
    """Return the folder of the binaries, or skip and say how to get them."""
    folder = Path(os.environ.get("KUBEBUILDER_ASSETS") or "/nonexistent")
    if missing := [name for name in ("etcd", "kube-apiserver") if not (folder / name).exists()]:
        pytest.skip(f"needs a real {' and '.join(missing)} in KUBEBUILDER_ASSETS: {_HOW}")
    return folder


class RealApiServer:
    """etcd and kube-apiserver on loopback, for as long as the `with` block.

    It knows the same tokens as the ApiServer of the test process. There are no controllers and no nodes.
    """

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._binaries = assets()
        self.folder = folder
        self.authority = authority
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        client, peer, secure = _free_port(), _free_port(), _free_port()
        self.url = f"https://127.0.0.1:{secure}"
        try:
            self._start_etcd(client, peer)
            self._start_apiserver(client, secure)
            self._wait()
            for definition in crds.DEFINITIONS:
                self._define(definition)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._stop()

    def kubeconfig(self, token: str = ADMIN, **changes: Any) -> Path:
        return kubeconfig(self.folder, self.url, self.authority.certificate, token, **changes)

    def client(self, token: str = ADMIN, limits: Limits | None = None) -> Client:
        return Client(load(self.kubeconfig(token)), limits)

    def _start_etcd(self, client: int, peer: int) -> None:
        ours, others = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        self._start(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={ours}",
            f"--advertise-client-urls={ours}",
            f"--listen-peer-urls={others}",
            f"--initial-advertise-peer-urls={others}",
            f"--initial-cluster=default={others}",
            "--unsafe-no-fsync",  # a test's data need not survive a power cut
        )

    def _start_apiserver(self, etcd: int, secure: int) -> None:
        pair = self.authority.server()
        tokens = self.folder / "tokens.csv"
        lines = [
            f'{token},{user.name},{number},"{",".join(user.groups)}"'
            for number, (token, user) in enumerate(USERS.items())
        ]
        tokens.write_text("\n".join(lines) + "\n")
        self._start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=192.0.2.1",  # there is no default route to take it from
            "--endpoint-reconciler-type=none",
            f"--secure-port={secure}",
            f"--tls-cert-file={pair.certificate}",
            f"--tls-private-key-file={pair.key}",
            f"--client-ca-file={self.authority.certificate}",
            f"--cert-dir={self.folder / 'pki'}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pair.certificate}",
            f"--service-account-signing-key-file={pair.key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--disable-admission-plugins=ServiceAccount",
        )

    def _start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", self._binaries / name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)

    def _wait(self) -> None:
        """Wait for the server, and for what it makes itself after that."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        request = Request(f"{self.url}/readyz", headers={"Authorization": f"Bearer {ADMIN}"})
        end = time.monotonic() + _SECONDS
        while not self._is_ready(request, context):
            ended = any(process.poll() is not None for process in self._processes)
            if ended or time.monotonic() > end:
                log = (self.folder / "kube-apiserver.log").read_text()[-3000:]
                raise AssertionError(f"the API server did not start: {log}")
            time.sleep(0.2)  # it offers nothing to wait for

    def _define(self, definition: dict[str, Any]) -> None:
        """Add a custom resource and wait until it is served."""
        definitions = "apiextensions.k8s.io/v1", "customresourcedefinitions"
        spec = definition["spec"]
        version = f"{spec['group']}/{spec['versions'][0]['name']}"
        with self.client() as api:
            api.create(resource(*definitions), _with_empty_text(definition))
            for _ in api.attempts():
                try:
                    list(api.list(resource(version, spec["names"]["plural"])))
                    return
                except NotFound:
                    continue
        raise AssertionError(f"{definition['metadata']['name']} is not served")

    def _is_ready(self, request: Request, context: ssl.SSLContext) -> bool:
        try:
            with urlopen(request, context=context, timeout=5) as answer, self.client() as api:
                api.get(resource("v1", "namespaces", name="default"))
                return bool(answer.status == 200)
        except (URLError, OSError, NotFound):
            return False

    def _stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _with_empty_text(definition: dict[str, Any]) -> dict[str, Any]:
    """Let a slice's node be "", which says that it is free.

    kube-apiserver 1.20 takes "" for null if it was built with Go 1.19 or newer, as Debian's source is here.
    """
    text = '"nodeName": {"type": "string"'
    read: dict[str, Any] = json.loads(json.dumps(definition).replace(text, text + ', "nullable": true'))
    return read


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
