"""ApiServer: what tests see of it: users, faults, the log of requests, objects without a request."""

from __future__ import annotations

import copy
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cni.kube.client import Client
from cni.kube.config import load
from cni.kube.deadline import Limits
from tests.support.apiserver import crds
from tests.support.apiserver.certificates import Authority
from tests.support.apiserver.faults import Fault, Seen
from tests.support.apiserver.http import HttpServer
from tests.support.apiserver.kubeconfig import kubeconfig
from tests.support.apiserver.objects import Objects
from tests.support.apiserver.rbac import ADMINISTRATORS, User
from tests.support.apiserver.refusals import Place

ADMIN, LIMITED = "admin-token", "limited-token"
USERS = {ADMIN: User("admin", (ADMINISTRATORS,)), LIMITED: User("limited")}


@dataclass
class _Rule:
    """When a fault strikes: after `skip` requests that match, for the next `times`."""

    fault: Fault
    matches: Callable[[Seen], bool]
    skip: int
    times: int

    def strikes(self, seen: Seen) -> bool:
        if self.times == 0 or not self.matches(seen):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class ApiServer:
    """A server on a free port of 127.0.0.1, or on a given listening socket, as of another namespace.

    It speaks https if it has an authority, and runs for as long as the `with` block. `latency`, in
    seconds, is added to every request. `requests` holds all that came.
    """

    def __init__(
        self,
        folder: Path,
        *,
        authority: Authority | None = None,
        sock: socket.socket | None = None,
        definitions: Iterable[dict[str, Any]] = crds.DEFINITIONS,
    ) -> None:
        self.folder = folder
        self.latency = 0.0
        self.objects = Objects()
        self.users = dict(USERS)
        self.requests: list[Seen] = []
        self.ended = threading.Event()
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self.authority = authority
        listening = sock or socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._server = HttpServer(self, listening, self._tls_context())
        self.seed(*definitions)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.end()
        self._thread.join()

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        host = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"{'https' if self.authority else 'http'}://{host}:{port}"

    def kubeconfig(self, token: str = ADMIN, **changes: Any) -> Path:
        """Write a kubeconfig for a token; `user`, `cluster` and `context` replace or add fields."""
        ca = self.authority.certificate if self.authority else None
        return kubeconfig(self.folder, self.url, ca, token, **changes)

    def client(self, token: str = ADMIN, limits: Limits | None = None) -> Client:
        return Client(load(self.kubeconfig(token)), limits)

    def seed(self, *documents: dict[str, Any]) -> list[dict[str, Any]]:
        """Create objects without a request; with their status, unlike a POST."""
        return [self._seeded(document) for document in documents]

    def _seeded(self, document: dict[str, Any]) -> dict[str, Any]:
        group, _, version = document["apiVersion"].rpartition("/")
        resource = self.objects.resource(group, version, document["kind"])
        namespace = document["metadata"].get("namespace", "default") if resource.is_namespaced else ""
        created = self.objects.create(Place(resource, namespace), document)
        if not resource.has_status or "status" not in document:
            return created
        place = Place(resource, namespace, created["metadata"]["name"], "status")
        return self.objects.replace(place, {**created, "status": document["status"]})

    def find(self, path: str) -> dict[str, Any] | None:
        """Return an object without a request, None if there is none."""
        place = self.objects.place(path)
        return self.objects.store.find(place.resource, place.key)

    def alter(self, path: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Replace an object without a request, also what the API would not let anybody change."""
        place = self.objects.place(path)
        with self.objects.store.lock:
            found = self.objects.store.find(place.resource, place.key)
            assert found is not None, path
            self.objects.store.put(place.resource, place.key, change(copy.deepcopy(dict(found))))

    def on(
        self,
        fault: Fault,
        *,
        method: str = "",
        path: str = "",
        nth: int = 1,
        times: int = 1,
        when: Callable[[Seen], bool] = lambda seen: True,
    ) -> None:
        """Let a fault strike: the nth request that fits, and `times` in all; -1 is for ever.

        Args:
            path: a regular expression that is found somewhere in the path.
        """

        def matches(seen: Seen) -> bool:
            return method in ("", seen.method) and bool(re.search(path, seen.path)) and when(seen)

        with self._lock:
            self._rules.append(_Rule(fault, matches, nth - 1, times))

    def close_idle(self) -> None:
        """Close the connections, as a server does with those that were idle for long."""
        self._server.close_connections()

    def heal(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._rules.clear()

    def count(self, method: str = "", path: str = "") -> int:
        """Return how many requests fit."""
        with self._lock:
            return sum(
                method in ("", seen.method) and bool(re.search(path, seen.path)) for seen in self.requests
            )

    def noted(self, **fields: Any) -> tuple[Seen, Fault | None]:
        """Log a request; return it with the fault that is meant for it."""
        with self._lock:
            seen = Seen(**fields, number=len(self.requests) + 1)
            self.requests.append(seen)
            hits = [rule.fault for rule in self._rules if rule.strikes(seen)]
        return seen, hits[0] if hits else None

    def _tls_context(self) -> ssl.SSLContext | None:
        if self.authority is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = self.authority.server()
        context.load_cert_chain(pair.certificate, pair.key)
        context.load_verify_locations(self.authority.certificate)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context
