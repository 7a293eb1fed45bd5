"""Client: get, list, create, replace, patch and delete objects of the Kubernetes API as plain JSON.

    with Client(load("/etc/cni/net.d/multus.d/multus.kubeconfig")) as api:
        pod = api.get(resource("v1", "pods", namespace="default", name="web-0"))

A client works for one operation (an ADD, say): all its calls share one deadline, and one kept-alive
connection as long as they come one after another; threads that call at once get one each. `operation`
gives a further client on the same connections with a new deadline, and so does a process' memory.

What is certain to have done nothing is tried again by itself: reads, connections that were never made,
429 and 503 with Retry-After. A write that may have happened is `OutcomeUnknown`. Conflicts are the
caller's, who knows what to do about them: `for _ in api.attempts()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from types import TracebackType
from typing import Any, Self

from cni.kube.config import KubeConfig
from cni.kube.deadline import Deadline, Limits
from cni.kube.errors import Gone
from cni.kube.remembered import Objects
from cni.kube.retry import Backoff
from cni.kube.session import Server, Session, chance
from cni.protocol.memory import Memory

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"

_MOST_RESTARTS = 3  # of one list


class Client:
    """The API server as one operation sees it."""

    def __init__(
        self, config: KubeConfig, limits: Limits | None = None, memory: Memory | None = None
    ) -> None:
        server = Server(config) if memory is None else Server.remembered(config, memory)
        self._session = Session(server, limits or Limits())
        self._objects = Objects() if memory is None else memory.kept(("objects", config), Objects)

    @property
    def config(self) -> KubeConfig:
        return self._session.server.config

    @property
    def deadline(self) -> Deadline:
        """When the operation must be over."""
        return self._session.deadline

    def operation(self, limits: Limits | None = None) -> Client:
        """Return a client on the same connections with a deadline of its own."""
        client = copy(self)
        client._session = Session(self._session.server, limits or self._session.limits)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._session.server.rest()

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Return an object; `resourceVersion="0"` takes it from the API server's cache.

        Raises:
            NotFound: there is none.
            ApiError: as `cni.kube.errors` says, here and below.
        """
        return self._session.request("GET", path, query)

    def get_settled(self, path: str, created: str) -> dict[str, Any]:
        """Return an object as it was at some time after `created`, a creationTimestamp; as `get` otherwise.

        It may come from an earlier call of this process, and must not be changed.
        """
        found = self.remembered(path, created)
        if found is None:
            answer = self._session.read(path)
            self._objects.remember(path, answer)
            found = answer.body
        return found

    def remembered(self, path: str, created: str) -> dict[str, Any] | None:
        """Return what `get_settled` needs not ask for, None if it would."""
        return self._objects.recall(path, created)

    def list(self, path: str, limit: int = 500, **query: str) -> Iterator[dict[str, Any]]:
        """Yield the objects of a collection, in pages; `labelSelector` and `fieldSelector` as in the API.

        If the pages expire on the way it begins anew, and leaves out what it has yielded already.
        """
        seen: set[tuple[str, str]] = set()
        for restart in range(_MOST_RESTARTS + 1):
            try:
                for item in self._pages(path, {**query, "limit": str(limit)}):
                    key = item["metadata"].get("namespace", ""), item["metadata"]["name"]
                    if key not in seen:
                        seen.add(key)
                        yield item
            except Gone:
                if restart == _MOST_RESTARTS:
                    raise
            else:
                return

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object in a collection and return it as it is stored.

        Raises:
            AlreadyExists: the name is taken.
            OutcomeUnknown: here and below: look before doing it again.
        """
        return self._session.request("POST", path, body=body)

    def replace(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Replace an object or a subresource, and return it as it is stored.

        Raises:
            Conflict: the `metadata.resourceVersion` in it is not the present one.
        """
        return self._session.request("PUT", path, body=body)

    def patch(
        self, path: str, body: object, content_type: str = JSON_PATCH, accept: str = "application/json"
    ) -> dict[str, Any]:
        """Patch an object and return it as it is stored; to `accept` METADATA_ONLY no more than its metadata.

        Raises:
            Invalid: a `test` of a JSON patch failed, or the result breaks the schema.
        """
        return self._session.request("PATCH", path, body=body, content_type=content_type, accept=accept)

    def delete(
        self, path: str, uid: str | None = None, resource_version: str | None = None
    ) -> dict[str, Any]:
        """Delete an object; if given, only the one with this uid and resourceVersion.

        Raises:
            NotFound: there is none.
            Conflict: it is another one.
        """
        wanted = {"uid": uid, "resourceVersion": resource_version}
        preconditions = {key: value for key, value in wanted.items() if value is not None}
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        return self._session.request(
            "DELETE", path, body=options | ({"preconditions": preconditions} if preconditions else {})
        )

    def attempts(self, most: int | None = None, backoff: Backoff | None = None) -> Iterator[int]:
        """Yield 1, 2, ... with a random, growing wait between them, as long as the operation has time."""
        number = 1
        while True:
            yield number
            wait = (backoff or Backoff()).wait(number, chance())
            if number == most or wait >= self.deadline.left():
                return
            self.deadline.sleep(wait)
            number += 1

    def _pages(self, path: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        while True:
            page = self._session.request("GET", path, query)
            # The items of a list have no kind of their own.
            yield from page.get("items") or []
            token = page.get("metadata", {}).get("continue")
            if not token:
                return
            # A continuation must not name a resourceVersion: the token holds it.
            query = {key: value for key, value in query.items() if not key.startswith("resourceVersion")}
            query["continue"] = token
