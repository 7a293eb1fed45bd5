"""What a process of many operations remembers of the API server from one to the next."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cni.kube import session
from cni.kube.client import Client
from cni.kube.config import KubeConfig, load
from cni.kube.errors import Forbidden, NotFound, Unauthorized
from cni.kube.paths import resource
from cni.protocol.memory import Memory
from tests.support.apiserver import LIMITED, ApiServer, faults

LONG_AGO = "2020-01-01T00:00:00Z"
PATH = resource("v1", "configmaps", namespace="default", name="one")


@pytest.fixture
def server(apiserver: ApiServer) -> ApiServer:
    apiserver.seed({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": "1"}})
    return apiserver


@dataclass(frozen=True)
class Operations:
    """Operations of one process, each with a client of its own."""

    config: KubeConfig
    memory: Memory | None = field(default_factory=Memory)

    def client(self) -> Client:
        return Client(self.config, memory=self.memory)

    def read(self) -> dict[str, Any]:
        with self.client() as api:
            return api.get(PATH)["data"]

    def settled(self, created: str = LONG_AGO) -> dict[str, Any]:
        with self.client() as api:
            return api.get_settled(PATH, created)["data"]

    def change(self, **data: str) -> None:
        with self.client() as api:
            api.replace(PATH, {**api.get(PATH), "data": data})


@pytest.fixture
def warm(server: ApiServer) -> Operations:
    return Operations(load(server.kubeconfig()))


def connections(server: ApiServer) -> list[int]:
    return [seen.connection for seen in server.requests]


def stamp(seconds: float) -> str:
    """A creationTimestamp of now and so many seconds."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_connection_serves_one_operation_after_another(server: ApiServer, warm: Operations) -> None:
    for _ in range(3):
        warm.read()
    assert connections(server) == [1, 1, 1]


def test_without_a_memory_each_operation_has_its_own(server: ApiServer) -> None:
    cold = Operations(load(server.kubeconfig()), memory=None)
    cold.read()
    cold.read()
    assert cold.settled() == cold.settled()
    assert connections(server) == [1, 2, 3, 4]


def test_another_credential_shares_no_connection(server: ApiServer, warm: Operations) -> None:
    warm.read()
    other = Operations(load(server.kubeconfig(LIMITED)), warm.memory)
    with pytest.raises(Forbidden):
        other.read()
    assert connections(server) == [1, 2]


def test_a_connection_that_the_server_closed_is_not_used(server: ApiServer, warm: Operations) -> None:
    warm.read()
    server.close_idle()
    assert warm.read() == {"a": "1"}
    assert connections(server) == [1, 2]


def test_a_connection_that_was_idle_for_long_is_not_used(
    server: ApiServer, warm: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm.read()
    monkeypatch.setattr(session, "_MOST_IDLE", 0.0)  # instead of that time
    warm.read()
    assert connections(server) == [1, 2]


def test_of_many_connections_few_wait_for_the_next_operation(server: ApiServer, warm: Operations) -> None:
    server.on(faults.delay(0.2), times=12)
    for _ in range(2):
        with warm.client() as api, ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _, api=api: api.get(PATH), range(6)))
    assert connections(server)[:6] != connections(server)[6:]
    assert len(set(connections(server))) == 10


def test_a_certificate_that_was_exchanged_counts_on_a_connection_made_anew(server: ApiServer) -> None:
    assert server.authority
    pair = server.authority.client("cn", "system:masters")
    user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
    warm = Operations(load(server.kubeconfig(user=user)))
    warm.read()
    # What a server says of a connection whose certificate has expired.
    server.on(faults.answer(401, "Unauthorized"))
    assert warm.read() == {"a": "1"}
    assert connections(server) == [1, 1, 2]
    server.on(faults.answer(401, "Unauthorized"), times=-1)
    with pytest.raises(Unauthorized):
        warm.read()


def test_an_object_is_remembered_for_what_was_created_before_it_was_read(
    server: ApiServer, warm: Operations
) -> None:
    assert warm.settled() == {"a": "1"}
    warm.change(a="2")
    before = server.count("GET")
    assert warm.settled() == {"a": "1"}
    assert server.count("GET") == before


@pytest.mark.parametrize(
    "created",
    [
        pytest.param(0.0, id="just-now"),
        pytest.param(-2.0, id="nearly-at-the-same-time"),
        pytest.param(60.0, id="by-a-clock-that-is-ahead"),
        pytest.param(None, id="nobody-knows-when"),
    ],
)
def test_it_is_read_for_what_may_have_been_created_after_a_change(
    warm: Operations, created: float | None
) -> None:
    warm.settled()
    warm.change(a="2")
    assert warm.settled("" if created is None else stamp(created)) == {"a": "2"}


def test_that_there_is_no_object_is_not_remembered(server: ApiServer, warm: Operations) -> None:
    server.on(faults.answer(404, "NotFound", "gone"))
    with pytest.raises(NotFound):
        warm.settled()
    assert warm.settled() == {"a": "1"}


def test_an_answer_that_took_long_is_not_remembered(server: ApiServer, warm: Operations) -> None:
    server.on(faults.delay(1.1))
    warm.settled()
    warm.change(a="2")
    assert warm.settled() == {"a": "2"}
