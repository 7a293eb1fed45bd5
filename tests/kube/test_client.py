"""The client against an API server that misbehaves in every way a network allows."""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cni.kube import errors
from cni.kube.client import JSON_PATCH, MERGE_PATCH, Client
from cni.kube.config import load
from cni.kube.deadline import Limits
from cni.kube.errors import ApiError
from cni.kube.paths import InvalidName, resource
from cni.protocol.errors import CniError
from tests.support.apiserver import ADMIN, LIMITED, ApiServer, faults
from tests.support.apiserver.certificates import Authority
from tests.support.apiserver.kubeconfig import kubeconfig
from tests.support.apiserver.server import USERS

MAPS = resource("v1", "configmaps", namespace="default")
HASTY = Limits(connect=0.4, request=0.4, silence=0.8, operation=3.0)  # where nobody answers


def path(name: str = "one") -> str:
    return resource("v1", "configmaps", namespace="default", name=name)


def config_map(name: str = "one", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@pytest.fixture
def api(apiserver: ApiServer) -> Iterator[Client]:
    apiserver.seed(config_map(a="1"))
    with apiserver.client() as client:
        yield client


@contextmanager
def took(least: float, most: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert least <= time.monotonic() - start <= most


READS: dict[str, Callable[[Client], object]] = {
    "get": lambda api: api.get(path()),
    "list": lambda api: list(api.list(MAPS)),
}
WRITES: dict[str, Callable[[Client], object]] = {
    "create": lambda api: api.create(MAPS, config_map("two")),
    "update": lambda api: api.replace(path(), config_map(b="2")),
    "patch": lambda api: api.patch(path(), [{"op": "add", "path": "/data/b", "value": "2"}]),
    "delete": lambda api: api.delete(path()),
}
METHODS = {"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
CALLS = READS | WRITES


def test_objects_are_created_read_changed_and_deleted(api: Client) -> None:
    created = api.create(MAPS, config_map("two", a="1"))
    assert api.get(path("two")) == created
    patched = api.patch(path("two"), [{"op": "add", "path": "/data/b", "value": "2"}], JSON_PATCH)
    assert patched["data"] == {"a": "1", "b": "2"}
    merged = api.patch(path("two"), {"data": {"a": None}}, MERGE_PATCH)
    replaced = api.replace(path("two"), {**merged, "data": {"c": "3"}})
    assert replaced["data"] == {"c": "3"}
    api.delete(path("two"), uid=replaced["metadata"]["uid"])
    with pytest.raises(errors.NotFound):
        api.get(path("two"))


def test_calls_one_after_another_share_a_connection(api: Client, apiserver: ApiServer) -> None:
    for call in (*READS.values(), *WRITES.values()):
        call(api)
    assert {seen.connection for seen in apiserver.requests} == {1}


def test_threads_get_a_connection_each(api: Client, apiserver: ApiServer) -> None:
    # The server answers none before all have come.
    apiserver.on(faults.rival(threading.Barrier(8, timeout=60).wait), times=8)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: api.get(path())["data"], range(8)))
    assert found == [{"a": "1"}] * 8
    assert len({seen.connection for seen in apiserver.requests}) == 8


@pytest.mark.parametrize("verb", CALLS)
def test_a_connection_that_was_closed_while_idle_is_replaced(
    api: Client, apiserver: ApiServer, verb: str
) -> None:
    api.get(path())
    apiserver.close_idle()
    CALLS[verb](api)
    assert apiserver.count() == 2


@pytest.mark.parametrize("verb", READS)
@pytest.mark.parametrize("fault", [faults.closed_before, faults.reset_before, faults.lost_answer])
def test_a_read_is_repeated_when_its_answer_is_lost(
    api: Client, apiserver: ApiServer, verb: str, fault: faults.Fault
) -> None:
    api.get(path())
    apiserver.on(fault, method="GET")
    READS[verb](api)
    assert apiserver.count() == 3


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(faults.closed_before, id="closed"),
        pytest.param(faults.reset_before, id="reset"),
        pytest.param(faults.lost_answer, id="done-and-closed"),
        pytest.param(faults.reset_after, id="done-and-reset"),
        pytest.param(faults.answer(504, "Timeout"), id="504"),
        pytest.param(
            faults.applied_but(faults.answer(500, message="etcdserver: request timed out")), id="500"
        ),
        pytest.param(faults.applied_but(faults.text(502, "bad gateway")), id="502"),
        pytest.param(faults.answer(503), id="503-without-a-promise"),
    ],
)
def test_a_write_that_may_have_happened_is_said_to_be_unknown_and_not_repeated(
    api: Client, apiserver: ApiServer, verb: str, fault: faults.Fault
) -> None:
    apiserver.on(fault, method=METHODS[verb])
    with pytest.raises(errors.OutcomeUnknown) as caught:
        WRITES[verb](api)
    assert (caught.value.code, caught.value.did_nothing) == (11, False)
    assert apiserver.count(METHODS[verb]) == 1
    assert api.get(resource("v1", "namespaces", name="default"))["kind"] == "Namespace"


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(faults.hang, id="no-answer"),
        pytest.param(faults.hang_after, id="done-and-no-answer"),
        pytest.param(faults.drip(0.05), id="an-answer-that-does-not-end"),
    ],
)
def test_a_write_that_is_not_answered_in_time_is_unknown(
    api: Client, apiserver: ApiServer, verb: str, fault: faults.Fault
) -> None:
    api.get(path())  # connects, which may take a busy machine longer
    apiserver.on(fault, method=METHODS[verb])
    with took(0.4, 4.0), pytest.raises(errors.OutcomeUnknown) as caught:
        WRITES[verb](api.operation(HASTY))
    assert "in time after the request was sent" in caught.value.details
    assert apiserver.count(METHODS[verb]) == 1


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize("fault", [faults.closed_before, faults.reset_before, faults.lost_answer])
def test_a_write_on_a_kept_alive_connection_that_breaks_is_unknown_too(
    api: Client, apiserver: ApiServer, verb: str, fault: faults.Fault
) -> None:
    api.get(path())
    apiserver.on(fault)
    with pytest.raises(errors.OutcomeUnknown):
        WRITES[verb](api)
    assert apiserver.count(METHODS[verb]) == 1


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(faults.answer(429, "TooManyRequests"), id="429"),
        pytest.param(faults.answer(429, retry_after=0), id="429-at-once"),
        pytest.param(faults.answer(503, retry_after=0), id="503-with-retry-after"),
    ],
)
def test_a_write_that_was_surely_not_done_is_repeated(
    api: Client, apiserver: ApiServer, verb: str, fault: faults.Fault
) -> None:
    apiserver.on(fault, times=2)
    WRITES[verb](api)
    assert apiserver.count(METHODS[verb]) == 3


def _in_seconds(seconds: int) -> str:
    return f"{datetime.now(UTC) + timedelta(seconds=seconds):%a, %d %b %Y %H:%M:%S GMT}"


@pytest.mark.parametrize("form", [lambda: 1, lambda: _in_seconds(2)], ids=["seconds", "date"])
def test_retry_after_is_waited_for(api: Client, apiserver: ApiServer, form: Callable[[], Any]) -> None:
    apiserver.on(faults.answer(429, retry_after=form()))
    with took(1.0, 6.0):
        api.create(MAPS, config_map("two"))


def test_retry_after_beyond_the_deadline_is_not_waited_for(api: Client, apiserver: ApiServer) -> None:
    apiserver.on(faults.answer(429, retry_after=60))
    with took(0, 4.0), pytest.raises(errors.TooManyRequests) as caught:
        api.get(path())
    assert (caught.value.retry_after, caught.value.code) == (60, 11)


def test_an_api_that_is_busy_for_ever_gets_the_whole_operation_and_no_more(
    api: Client, apiserver: ApiServer
) -> None:
    apiserver.on(faults.answer(429), times=-1)
    with took(0.0, 6.0), pytest.raises(errors.TooManyRequests):
        api.operation(Limits(operation=2.0)).create(MAPS, config_map("two"))
    assert apiserver.count() > 3  # the bounds of the first four waits fit into two seconds, whatever is drawn


def test_a_read_is_repeated_a_few_times_when_the_server_fails(api: Client, apiserver: ApiServer) -> None:
    apiserver.on(faults.answer(500), times=2)
    assert api.get(path())["data"] == {"a": "1"}
    apiserver.on(faults.answer(500, message="no leader"), times=-1)
    with pytest.raises(errors.ServerError) as caught:
        api.get(path())
    assert "no leader" in caught.value.details
    assert apiserver.count() == 3 + 5


@pytest.mark.parametrize(
    ("status", "reason", "kind", "code"),
    [
        pytest.param(400, "BadRequest", ApiError, 11, id="400"),
        pytest.param(404, "NotFound", errors.NotFound, 11, id="404"),
        pytest.param(409, "Conflict", errors.Conflict, 11, id="409-conflict"),
        pytest.param(409, "AlreadyExists", errors.AlreadyExists, 11, id="409-already-exists"),
        pytest.param(410, "Expired", errors.Gone, 11, id="410"),
        pytest.param(413, "", errors.TooLarge, 7, id="413"),
        pytest.param(415, "UnsupportedMediaType", ApiError, 11, id="415"),
        pytest.param(422, "Invalid", errors.Invalid, 7, id="422"),
    ],
)
def test_what_the_server_says_is_told_at_once(
    api: Client, apiserver: ApiServer, status: int, reason: str, kind: type[ApiError], code: int
) -> None:
    apiserver.on(faults.answer(status, reason, "because of this"))
    with pytest.raises(ApiError) as caught:
        api.create(MAPS, config_map("two"))
    error = caught.value
    assert (type(error), error.status, error.reason, int(error.code)) == (kind, status, reason, code)
    assert error.did_nothing
    assert "because of this" in error.details
    assert 'create configmaps in namespace "default"' in error.msg
    assert apiserver.count() == 1


def test_fields_that_break_a_schema_are_named(api: Client) -> None:
    pools = resource("whereabouts.cni.cncf.io/v1alpha1", "ippools", namespace="kube-system")
    pool = {"apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "IPPool", "metadata": {"name": "a"}}
    with pytest.raises(errors.Invalid) as caught:
        api.create(pools, {**pool, "spec": {"range": 5, "allocations": {}}})
    assert [cause.partition(":")[0] for cause in caught.value.causes] == ["spec.range"]
    with pytest.raises(errors.Invalid) as caught:
        api.create(pools, {**pool, "metadata": {"name": "A"}, "spec": {"range": "", "allocations": {}}})
    assert "metadata.name" in caught.value.details


def test_a_missing_right_is_named_as_a_role_would_grant_it(apiserver: ApiServer) -> None:
    apiserver.seed(config_map())
    file = apiserver.kubeconfig(LIMITED)
    pool = resource("whereabouts.cni.cncf.io/v1alpha1", "ippools", namespace="kube-system", name="a")
    with Client(load(file)) as api, took(0, 4.0), pytest.raises(errors.Forbidden) as caught:
        api.patch(pool, [])
    text = f"{caught.value.msg} {caught.value.details}"
    assert caught.value.code == 7
    for words in ("patch", 'ippools "a"', 'namespace "kube-system"', str(file), "whereabouts.cni.cncf.io"):
        assert words in text
    assert 'verbs ["patch"]' in text
    assert LIMITED not in text


def test_a_token_that_is_not_accepted_is_told_by_its_file(apiserver: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("expired-token")
    file = apiserver.kubeconfig(user={"tokenFile": str(tmp_path / "token")})
    with Client(load(file)) as api, took(0, 4.0), pytest.raises(errors.Unauthorized) as caught:
        api.create(MAPS, config_map())
    text = f"{caught.value.msg} {caught.value.details}"
    assert caught.value.code == 7
    assert all(words in text for words in ("users[test].user.tokenFile", str(tmp_path / "token"), str(file)))
    assert "expired-token" not in text
    assert apiserver.count() == 1


def test_a_token_file_that_rotates_is_used_at_once(apiserver: ApiServer, tmp_path: Path) -> None:
    apiserver.seed(config_map())
    token = tmp_path / "token"
    token.write_text(ADMIN)
    with Client(load(apiserver.kubeconfig(user={"tokenFile": str(token)}))) as api:
        api.get(path())
        apiserver.users["second-token"] = apiserver.users.pop(ADMIN)
        token.write_text("second-token\n")
        api.get(path())
    assert apiserver.count() == 2


def test_a_kubeconfig_that_an_installer_rewrote_is_read_again_when_its_token_fails(
    apiserver: ApiServer,
) -> None:
    apiserver.seed(config_map())
    file = apiserver.kubeconfig("first-token")
    apiserver.users["first-token"] = USERS[ADMIN]
    with Client(load(file)) as api:
        api.get(path())
        del apiserver.users["first-token"]
        file.write_text(file.read_text().replace("first-token", ADMIN))
        WRITES["patch"](api)
        api.get(path())
    assert apiserver.count() == 4


@contextmanager
def listening(handle: Callable[[socket.socket], object] | None) -> Iterator[str]:
    """A server that does with each connection what it is told; without that it accepts none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threads: list[threading.Thread] = []
        open_: list[socket.socket] = []

        def accept() -> None:
            while handle:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                open_.append(sock)
                thread = threading.Thread(target=_quietly, args=(handle, sock), daemon=True)
                thread.start()
                threads.append(thread)

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        acceptor.join()
        for sock in open_:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for sock in open_:
            sock.close()


def _quietly(handle: Callable[[socket.socket], object], sock: socket.socket) -> None:
    with suppress(OSError):
        handle(sock)


def _drip(data: bytes) -> Callable[[socket.socket], None]:
    def handle(sock: socket.socket) -> None:
        sock.recv(65536)
        for byte in data:
            sock.sendall(bytes([byte]))
            time.sleep(0.1)

    return handle


def _say(data: bytes) -> Callable[[socket.socket], None]:
    def handle(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    return handle


def _read_for_ever(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


def client_of(folder: Path, url: str, limits: Limits | None = None, **changes: Any) -> Client:
    return Client(load(kubeconfig(folder, url, None, "s3cret-token", **changes)), limits)


@pytest.mark.parametrize("verb", CALLS)
def test_a_server_that_is_not_there_is_told_within_seconds(loopback: None, tmp_path: Path, verb: str) -> None:
    with listening(None) as address:
        pass
    with took(0, 9.0), pytest.raises(errors.Unreachable) as caught:
        CALLS[verb](client_of(tmp_path, f"http://{address}", Limits()))
    assert (caught.value.code, caught.value.did_nothing) == (11, True)
    assert "connection refused" in caught.value.details
    assert address in caught.value.details


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "handle",
    [
        pytest.param(None, id="connections-are-not-accepted"),
        pytest.param(_read_for_ever, id="silence"),
        pytest.param(_drip(HEAD), id="dripping-head"),
        pytest.param(_drip(b"\x16\x03\x03\x40\x00\x02" + bytes(100)), id="dripping-tls"),
    ],
)
def test_a_server_that_gives_no_whole_answer_is_told_when_the_time_for_silence_is_over(
    loopback: None, tmp_path: Path, scheme: str, handle: Callable[[socket.socket], object] | None
) -> None:
    with listening(handle) as address, took(0, HASTY.silence + 3), pytest.raises(ApiError) as caught:
        client_of(tmp_path, f"{scheme}://{address}", HASTY).get(path())
    assert isinstance(caught.value, errors.Unreachable | errors.Untrusted | errors.NotAnApiServer)


def test_silence_is_over_within_ten_seconds_unless_told_otherwise() -> None:
    assert Limits().silence < 10
    assert Limits().request <= Limits().silence


def test_a_server_that_answers_slowly_is_waited_for(api: Client, apiserver: ApiServer) -> None:
    apiserver.latency = 1.0
    with took(2.0, 8.0):
        for _ in range(2):
            api.get(path())


def test_a_read_that_drips_is_repeated_and_ends_with_the_operation(api: Client, apiserver: ApiServer) -> None:
    api.get(path())
    apiserver.on(faults.drip(0.05), times=-1)
    with took(0.8, 6.0), pytest.raises(errors.Unreachable):
        api.operation(Limits(request=0.4, operation=1.5)).get(path())
    assert apiserver.count() > 2


def test_the_operation_ends_all_calls_and_another_begins_anew(api: Client, apiserver: ApiServer) -> None:
    api.get(path())
    short = api.operation(Limits(operation=0.5))
    apiserver.on(faults.hang)
    with took(0.4, 4.0), pytest.raises(errors.OutcomeUnknown):
        WRITES["patch"](short)
    for verb in CALLS:
        with took(0, 2.0), pytest.raises(errors.Unreachable) as caught:
            CALLS[verb](short)
        assert "whole operation is over" in caught.value.details
    assert apiserver.count() == 2
    assert short.operation(Limits()).get(path())["kind"] == "ConfigMap"


def test_attempts_end_with_the_operation_or_their_number(apiserver: ApiServer) -> None:
    with apiserver.client(limits=Limits(operation=0.5)) as api:
        assert list(api.attempts(most=3)) == [1, 2, 3]
    with apiserver.client(limits=Limits(operation=0.3)) as api, took(0, 4.0):
        assert len(list(api.attempts())) >= 2


def test_a_name_that_does_not_resolve_is_told(loopback: None, tmp_path: Path) -> None:
    with took(0, 6.0), pytest.raises(errors.Unreachable) as caught:
        client_of(tmp_path, "https://api.invalid:6443").get(path())
    assert '"api.invalid"' in caught.value.details


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(
            b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n",
            "https://elsewhere/",
            id="a-redirect",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "no JSON object", id="a-page"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "no JSON object", id="a-list"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP", id="another-protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50_000, "not HTTP", id="headers-without-end"),
    ],
)
def test_what_is_no_api_server_is_a_fault_of_the_configuration(
    loopback: None, tmp_path: Path, answer: bytes, words: str
) -> None:
    with listening(_say(answer)) as address, took(0, 4.0), pytest.raises(errors.NotAnApiServer) as caught:
        client_of(tmp_path, f"http://{address}").get(path())
    assert caught.value.code == 7
    assert words in caught.value.details
    assert '"server"' in caught.value.details


def test_only_kubernetes_own_word_proves_that_an_object_is_not_there(
    api: Client, apiserver: ApiServer
) -> None:
    with pytest.raises(errors.NotFound) as caught:
        api.get(path("nowhere"))
    assert caught.value.is_proof
    apiserver.on(faults.text(404, "<html>nothing here</html>"))
    with pytest.raises(errors.NotFound) as caught:
        api.get(path())
    assert not caught.value.is_proof


def test_a_missing_definition_is_told(api: Client) -> None:
    missing = resource("k8s.cni.cncf.io/v9", "network-attachment-definitions", namespace="default", name="a")
    with pytest.raises(errors.NotFound) as caught:
        api.get(missing)
    assert '"network-attachment-definitions.k8s.cni.cncf.io"' in caught.value.details
    assert not caught.value.is_proof


def test_an_answer_without_end_is_not_read_for_ever(loopback: None, tmp_path: Path) -> None:
    def flood(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sock.sendall(bytes(1 << 20))

    with listening(flood) as address, pytest.raises(errors.NotAnApiServer) as caught:
        client_of(tmp_path, f"http://{address}").get(path())
    assert "longer than" in caught.value.details


def test_an_answer_that_ends_early_is_no_answer(loopback: None, tmp_path: Path) -> None:
    with listening(_say(HEAD + b"{")) as address:
        with pytest.raises(errors.Unreachable):
            client_of(tmp_path, f"http://{address}").get(path())
        with pytest.raises(errors.OutcomeUnknown):
            client_of(tmp_path, f"http://{address}").create(MAPS, config_map())


def test_an_answer_without_a_length_ends_with_the_connection(loopback: None, tmp_path: Path) -> None:
    with listening(_say(b'HTTP/1.0 200 OK\r\n\r\n{"kind":"ConfigMap"}')) as address:
        assert client_of(tmp_path, f"http://{address}").get(path()) == {"kind": "ConfigMap"}


def test_a_refusal_that_comes_before_the_whole_request_is_read_is_told(
    loopback: None, tmp_path: Path
) -> None:
    def refuse(sock: socket.socket) -> None:
        sock.recv(1024)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        _read_for_ever(sock)

    with listening(refuse) as address, pytest.raises(errors.TooLarge):
        client_of(tmp_path, f"http://{address}").create(MAPS, config_map(a="x" * 3_000_000))


def test_a_list_comes_in_pages(api: Client, apiserver: ApiServer) -> None:
    apiserver.seed(*(config_map(f"m{number}") for number in range(7)))
    names = [item["metadata"]["name"] for item in api.list(MAPS, limit=3)]
    assert names == [*(f"m{number}" for number in range(7)), "one"]
    assert apiserver.count("GET") == 3


def test_a_list_whose_pages_expire_begins_anew_and_repeats_nothing(api: Client, apiserver: ApiServer) -> None:
    apiserver.seed(*(config_map(f"m{number}") for number in range(7)))
    apiserver.on(faults.rival(apiserver.objects.store.compact), nth=2)
    names = [item["metadata"]["name"] for item in api.list(MAPS, limit=3)]
    assert names == [*(f"m{number}" for number in range(7)), "one"]
    assert apiserver.count("GET") == 5


def test_a_list_whose_pages_always_expire_ends(api: Client, apiserver: ApiServer) -> None:
    apiserver.seed(*(config_map(f"m{number}") for number in range(7)))
    apiserver.on(
        faults.rival(apiserver.objects.store.compact), times=-1, when=lambda seen: "continue" in seen.query
    )
    with pytest.raises(errors.Gone):
        list(api.list(MAPS, limit=3))


def test_selectors_and_versions_reach_the_server(api: Client, apiserver: ApiServer) -> None:
    assert list(api.list(MAPS, labelSelector="a=b,c in (d,e)", resourceVersion="0")) == []
    api.get(path(), resourceVersion="0")
    assert [seen.query for seen in apiserver.requests] == [
        {"labelSelector": "a=b,c in (d,e)", "resourceVersion": "0", "limit": "500"},
        {"resourceVersion": "0"},
    ]


@pytest.mark.parametrize("name", ["..", "a/../b", "a?b", "A", "", "a\r\nb"])
def test_no_request_is_made_for_what_is_no_name(api: Client, apiserver: ApiServer, name: str) -> None:
    for call in (api.get, api.delete, lambda where: list(api.list(where))):
        with pytest.raises(InvalidName):
            call(f"{MAPS}/{name}")
    assert apiserver.requests == []


def test_a_servers_certificate_of_another_authority_is_not_trusted(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", "another authority")
    file = apiserver.kubeconfig(cluster={"certificate-authority": str(other.certificate)})
    with Client(load(file)) as api, took(0, 4.0), pytest.raises(errors.Untrusted) as caught:
        api.create(MAPS, config_map())
    assert caught.value.code == 7
    assert "certificate is not accepted" in caught.value.details
    assert str(file) in caught.value.details
    assert apiserver.requests == []


def test_without_an_authority_the_systems_decide(apiserver: ApiServer) -> None:
    file = kubeconfig(apiserver.folder, apiserver.url, None, ADMIN)
    with Client(load(file)) as api, pytest.raises(errors.Untrusted):
        api.get(path())


def test_verification_can_be_switched_off(apiserver: ApiServer) -> None:
    apiserver.seed(config_map())
    off = {"insecure-skip-tls-verify": True}
    with Client(load(kubeconfig(apiserver.folder, apiserver.url, None, ADMIN, cluster=off))) as api:
        assert api.get(path())["kind"] == "ConfigMap"


@pytest.mark.parametrize(("name", "is_accepted"), [("kubernetes.default.svc", True), ("elsewhere", False)])
def test_the_certificate_is_for_the_name_that_is_configured(
    apiserver: ApiServer, name: str, is_accepted: bool
) -> None:
    apiserver.seed(config_map())
    with Client(load(apiserver.kubeconfig(cluster={"tls-server-name": name}))) as api:
        if is_accepted:
            api.get(path())
        else:
            with pytest.raises(errors.Untrusted) as caught:
                api.get(path())
            assert "elsewhere" in caught.value.details


def test_a_client_certificate_speaks_for_us_given_as_file_or_data(apiserver: ApiServer) -> None:
    assert apiserver.authority
    pair = apiserver.authority.client("node-a", "system:masters")
    apiserver.seed(config_map())
    files = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
    data = {
        "client-certificate-data": base64.b64encode(pair.certificate.read_bytes()).decode(),
        "client-key-data": base64.b64encode(pair.key.read_bytes()).decode(),
    }
    for user in (files, data):
        with Client(load(apiserver.kubeconfig(user=user))) as api:
            api.get(path())
    assert [seen.user for seen in apiserver.requests] == ["node-a", "node-a"]


@pytest.mark.parametrize(
    ("user", "cluster", "words"),
    [
        pytest.param(
            {"client-certificate-data": "YQ==", "client-key-data": "YQ=="},
            {},
            "users[test].user.client-certificate-data",
            id="a-client-certificate-that-is-none",
        ),
        pytest.param(
            {},
            {"certificate-authority-data": "YQ=="},
            "clusters[test].cluster",
            id="an-authority-that-is-none",
        ),
        pytest.param({}, {"certificate-authority": "/nowhere"}, "/nowhere", id="a-missing-authority"),
    ],
)
def test_unusable_certificates_are_named(
    apiserver: ApiServer, user: dict[str, Any], cluster: dict[str, Any], words: str
) -> None:
    with (
        Client(load(apiserver.kubeconfig(user=user, cluster=cluster))) as api,
        took(0, 4.0),
        pytest.raises(CniError) as caught,
    ):
        api.get(path())
    assert caught.value.code == 7
    assert words in f"{caught.value.msg} {caught.value.details}"


@pytest.fixture
def demanding(authority: Authority) -> ssl.SSLContext:
    """TLS of a server that wants a certificate of its clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = authority.server()
    context.load_cert_chain(pair.certificate, pair.key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_client_certificate_that_is_wanted_and_missing_is_told(
    demanding: ssl.SSLContext, authority: Authority, loopback: None, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    demanding.maximum_version = version

    def handle(sock: socket.socket) -> None:
        demanding.wrap_socket(sock, server_side=True).recv(1)

    trusted = {"certificate-authority": str(authority.certificate)}
    with listening(handle) as address, pytest.raises(errors.Untrusted) as caught:
        client_of(tmp_path, f"https://{address}", cluster=trusted).create(MAPS, config_map())
    assert "certificate" in caught.value.details


def test_an_answer_that_tls_cannot_read_leaves_the_outcome_unknown(
    authority: Authority, loopback: None, tmp_path: Path, demanding: ssl.SSLContext
) -> None:
    demanding.verify_mode = ssl.CERT_NONE

    def handle(sock: socket.socket) -> None:
        raw = sock.dup()
        demanding.wrap_socket(sock, server_side=True).recv(65536)
        raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        _read_for_ever(raw)

    trusted = {"certificate-authority": str(authority.certificate)}
    with listening(handle) as address, pytest.raises(errors.OutcomeUnknown):
        client_of(tmp_path, f"https://{address}", HASTY, cluster=trusted).create(MAPS, config_map())


def test_tls_where_there_is_none_and_none_where_there_is(
    apiserver: ApiServer, loopback: None, tmp_path: Path
) -> None:
    with ApiServer(tmp_path) as plain:
        url = plain.url.replace("http:", "https:")
        with took(0, 4.0), pytest.raises(errors.Untrusted) as caught:
            client_of(tmp_path, url, cluster={"insecure-skip-tls-verify": True}).get(path())
        assert caught.value.code == 7
    with took(0, 4.0), pytest.raises(errors.ApiError):
        client_of(tmp_path, apiserver.url.replace("https:", "http:")).get(path())


def test_ipv6(loopback: None, tmp_path: Path, authority: Authority) -> None:
    sock = socket.create_server(("::1", 0), family=socket.AF_INET6)
    with ApiServer(tmp_path, authority=authority, sock=sock) as server:
        server.seed(config_map())
        assert "[::1]" in server.url
        assert server.client().get(path())["kind"] == "ConfigMap"
        assert server.requests[0].headers["host"].startswith("[::1]:")


def test_every_address_of_a_name_is_tried(apiserver: ApiServer) -> None:
    """The server listens on 127.0.0.1 alone; localhost may be ::1 first."""
    apiserver.seed(config_map())
    there = {"server": apiserver.url.replace("127.0.0.1", "localhost")}
    with Client(load(apiserver.kubeconfig(cluster=there))) as api:
        assert api.get(path())["kind"] == "ConfigMap"


def test_a_path_before_the_api_is_kept(loopback: None, tmp_path: Path) -> None:
    asked: list[bytes] = []

    def handle(sock: socket.socket) -> None:
        asked.append(sock.recv(65536))
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with listening(handle) as address:
        client_of(tmp_path, f"http://{address}/k8s/clusters/c-1").get(path())
    assert asked[0].startswith(b"GET /k8s/clusters/c-1/api/v1/namespaces/default/configmaps/one HTTP/1.1\r\n")


def test_no_token_or_key_is_ever_told(
    loopback: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def echo(sock: socket.socket) -> None:
        request = sock.recv(65536)
        body = json.dumps({"kind": "Status", "message": "no"}).encode()
        assert b"s3cret-token" in request
        sock.sendall(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    told = []
    for handle in (echo, _say(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), _read_for_ever):
        with listening(handle) as address, pytest.raises(ApiError) as caught:
            client_of(tmp_path, f"http://{address}", HASTY).get(path())
        error: BaseException | None = caught.value
        while error:
            told.append(f"{error} {error!r} {getattr(error, 'details', '')} {vars(error)}")
            error = error.__cause__ or error.__context__
    output = capfd.readouterr()
    assert not re.search("s3cret", " ".join(told) + output.out + output.err)
