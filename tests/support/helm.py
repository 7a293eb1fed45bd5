"""Helm itself, and what it talks to: an API server that takes every object of the kinds that it knows.

Helm comes from the Python package helm-sdkpy, which needs a Python newer than the tests' own may be: it runs
in an environment that ./dev test makes. It renders a chart only when it installs it.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

PYTHON = Path(__file__).parents[2] / ".cache" / "helm" / "bin" / "python"

_INSTALL = """
import asyncio, helm_sdkpy, json, sys
told = json.load(sys.stdin)
configuration = helm_sdkpy.Configuration(namespace=told["namespace"], kubeconfig=told["kubeconfig"])
install = helm_sdkpy.Install(configuration).run(
    "podrail", told["chart"], values=told["values"], create_namespace=True, wait=False, take_ownership=True
)
try:
    json.dump(asyncio.run(install), sys.stdout)
except helm_sdkpy.InstallError as error:
    sys.exit(str(error))
"""
_VALIDATE = """
import json, kubernetes_validate, sys
for each in json.load(sys.stdin):
    kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
"""
_LINT = """
import asyncio, helm_sdkpy, json, sys
configuration = helm_sdkpy.Configuration()
json.dump(asyncio.run(helm_sdkpy.Lint(configuration).run(sys.argv[1])), sys.stdout)
"""

# Group and version, then kind, plural and whether it is in namespaces.
_KINDS = {
    "v1": [("Namespace", "namespaces", False)]
    + [(f"{name}", f"{name.lower()}s", True) for name in ("ConfigMap", "Secret", "ServiceAccount", "Pod")],
    "apps/v1": [("DaemonSet", "daemonsets", True)],
    "apiextensions.k8s.io/v1": [("CustomResourceDefinition", "customresourcedefinitions", False)],
    "rbac.authorization.k8s.io/v1": [
        *(("ClusterRole", "clusterroles", False), ("ClusterRoleBinding", "clusterrolebindings", False)),
        *(("Role", "roles", True), ("RoleBinding", "rolebindings", True)),
    ],
    "monitoring.coreos.com/v1": [("PodMonitor", "podmonitors", True)],
}
_VERBS = ["create", "get", "list", "patch", "update", "delete", "watch"]


class HelmRefused(Exception):
    """Helm did not install the chart; what it said."""


def install(chart: Path, kubeconfig: Path, namespace: str, values: dict[str, Any]) -> dict[str, Any]:
    """Install a chart as `helm install` does, and return the release.

    Raises:
        HelmRefused: it did not.
    """
    told = {"chart": str(chart), "kubeconfig": str(kubeconfig), "namespace": namespace, "values": values}
    release: dict[str, Any] = json.loads(_python(_INSTALL, told))
    return release


def validate(objects: list[dict[str, Any]]) -> None:
    """Refuse what Kubernetes' own schemas do not have."""
    _python(_VALIDATE, objects)


def lint(chart: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(_python(_LINT, None, str(chart)))
    return told


def _python(script: str, told: Any, *arguments: str) -> str:
    if not PYTHON.exists():
        pytest.skip("needs Helm: a Python of 3.12 or newer, with which ./dev test installs helm-sdkpy")
    done = subprocess.run(
        [PYTHON, "-c", script, *arguments],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise HelmRefused(done.stderr)
    return done.stdout


class HelmServer:
    """Says which kinds it knows, keeps objects by their path, and takes them as they are."""

    def __init__(self, folder: Path) -> None:
        self._kubeconfig = folder / "helm.kubeconfig"
        self.objects: dict[str, dict[str, Any]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def kubeconfig(self) -> Path:
        server = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "helm",
                    "contexts": [{"name": "helm", "context": {"cluster": "helm", "user": "helm"}}],
                    "clusters": [{"name": "helm", "cluster": {"server": server}}],
                    "users": [{"name": "helm", "user": {}}],
                }
            )
        )
        return self._kubeconfig

    def answer(self, method: str, path: str, sent: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if method == "GET" and (discovered := _discovery(path)) is not None:
            return 200, discovered
        if method == "POST":
            path = f"{path}/{sent['metadata']['name']}"
            if path in self.objects:
                return 409, _status(409, "AlreadyExists")
        elif path not in self.objects:
            return 404, _status(404, "NotFound")
        if method in ("POST", "PUT"):
            self.objects[path] = sent | _established(sent)
        return 200, self.objects[path]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                data, status, kind = self.rfile.read(length), 200, self.headers.get("Content-Type") or ""
                if (
                    "protobuf" not in kind
                ):  # that is Helm's own record of the release, which comes back as it is
                    sent = json.loads(data or b"{}")
                    status, told = server.answer(self.command, self.path.partition("?")[0], sent)
                    data, kind = json.dumps(told).encode(), "application/json"
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do  # noqa: N815  # the library's names

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                pass

        return Handler


def _discovery(path: str) -> dict[str, Any] | None:
    if path == "/version":
        return {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        versions = [{"groupVersion": name, "version": "v1"} for name in _KINDS if "/" in name]
        groups = [
            {"name": each["groupVersion"].split("/")[0], "versions": [each], "preferredVersion": each}
            for each in versions
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    if path.startswith("/openapi/v3"):
        return _openapi(path.removeprefix("/openapi/v3").strip("/"))
    found = re.fullmatch(r"/apis?/(.+)", path)
    if not found or found[1] not in _KINDS:
        return None
    resources = [
        {"name": plural, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": _VERBS}
        for kind, plural, namespaced in _KINDS[found[1]]
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": found[1], "resources": resources}


def _openapi(place: str) -> dict[str, Any] | None:
    """What makes Helm leave the look at fields to the server: that PATCH of a kind has a parameter for it."""
    places = {f"{'apis' if '/' in name else 'api'}/{name}": name for name in _KINDS}
    if not place:
        return {"paths": {each: {"serverRelativeURL": f"/openapi/v3/{each}"} for each in places}}
    if place not in places:
        return None
    group, _, version = places[place].rpartition("/")
    paths = {
        f"/{place}/{plural}": {
            "patch": {
                "parameters": [{"name": "fieldValidation", "in": "query"}],
                "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
            }
        }
        for kind, plural, _ in _KINDS[places[place]]
    }
    return {"openapi": "3.0.0", "paths": paths}


def _established(sent: dict[str, Any]) -> dict[str, Any]:
    if sent.get("kind") != "CustomResourceDefinition":
        return {}
    return {"status": {"conditions": [{"type": "Established", "status": "True"}]}}


def _status(code: int, reason: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
