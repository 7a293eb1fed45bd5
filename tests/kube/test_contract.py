"""What Kubernetes does, shown on the API server of the test process and on the real one alike.

Whatever other tests rely on belongs here. With KUBEBUILDER_ASSETS set everything runs twice.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from cni.kube import errors
from cni.kube.client import JSON_PATCH, MERGE_PATCH, METADATA_ONLY, STRATEGIC_MERGE_PATCH, Client
from cni.kube.config import load
from cni.kube.deadline import Limits
from cni.kube.errors import ApiError
from cni.kube.paths import resource
from tests.support.apiserver import ADMIN, LIMITED, ApiServer
from tests.support.apiserver.real import RealApiServer

POOLS = "whereabouts.cni.cncf.io/v1alpha1"
RBAC = "rbac.authorization.k8s.io/v1"
PATIENT = Limits(connect=10, request=30, silence=60, operation=120)


@dataclass(frozen=True)
class Cluster:
    """An API server with a namespace for one test."""

    server: ApiServer | RealApiServer
    api: Client
    namespace: str

    def path(self, plural: str, name: str | None = None, subresource: str = "", version: str = "v1") -> str:
        return resource(version, plural, namespace=self.namespace, name=name, subresource=subresource)

    def pool(self, name: str | None = None) -> str:
        return self.path("ippools", name, version=POOLS)

    def raw(
        self, method: str, path: str, body: bytes = b"", token: str = ADMIN, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Make a request without our client: what it never sends, and answers it does not show."""
        connection = self._connection()
        named = {"Content-Type": "application/json", **headers}
        if token:
            named["Authorization"] = f"Bearer {token}"
        connection.request(method, path, body or None, named)
        answer = connection.getresponse()
        told = answer.status, json.loads(answer.read())
        connection.close()
        return told

    def watch(self, path: str, seconds: int = 2) -> Iterator[dict[str, Any]]:
        connection = self._connection()
        query = f"{'&' if '?' in path else '?'}watch=true&timeoutSeconds={seconds}"
        connection.request("GET", path + query, headers={"Authorization": f"Bearer {ADMIN}"})
        answer = connection.getresponse()
        for line in answer:
            yield json.loads(line)
        connection.close()

    def _connection(self) -> http.client.HTTPSConnection:
        assert self.server.authority
        context = ssl.create_default_context(cafile=str(self.server.authority.certificate))
        return http.client.HTTPSConnection(
            self.server.url.removeprefix("https://"), context=context, timeout=60
        )


@pytest.fixture
def cluster(any_apiserver: ApiServer | RealApiServer) -> Iterator[Cluster]:
    with any_apiserver.client(limits=PATIENT) as api:
        name = f"test-{uuid.uuid4().hex[:8]}"
        api.create(resource("v1", "namespaces"), {"metadata": {"name": name}})
        yield Cluster(any_apiserver, api, name)


def config_map(name: str = "one", **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} | fields


def pod(name: str = "web-0", node: str = "", **metadata: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "c", "image": "i"}]}
    if node:
        spec["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name} | metadata, "spec": spec}


def pool(name: str = "10.0.0.0-24", **allocations: Any) -> dict[str, Any]:
    spec = {"range": "10.0.0.0/24", "allocations": allocations}
    return {"apiVersion": POOLS, "kind": "IPPool", "metadata": {"name": name}, "spec": spec}


def holder(number: int) -> dict[str, str]:
    return {"id": f"id-{number}", "podref": f"default/web-{number}", "ifname": "net1"}


# Creating


def test_a_created_object_gets_its_identity(cluster: Cluster) -> None:
    created = cluster.api.create(cluster.path("configmaps"), config_map(data={"a": "1"}))
    metadata = created["metadata"]
    assert metadata["namespace"] == cluster.namespace
    assert uuid.UUID(metadata["uid"])
    assert int(metadata["resourceVersion"]) > 0
    assert metadata["creationTimestamp"].endswith("Z")
    assert (created["kind"], created["apiVersion"], created["data"]) == ("ConfigMap", "v1", {"a": "1"})
    assert cluster.api.get(cluster.path("configmaps", "one")) == created


def test_generate_name_adds_five_characters(cluster: Cluster) -> None:
    body = config_map() | {"metadata": {"generateName": "event-"}}
    names = {cluster.api.create(cluster.path("configmaps"), body)["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("event-") and len(name) == 11 for name in names)


@pytest.mark.parametrize("plural", ["configmaps", "ippools"])
def test_a_second_of_one_name_already_exists(cluster: Cluster, plural: str) -> None:
    is_custom = plural == "ippools"
    path, body = (cluster.pool(), pool("one")) if is_custom else (cluster.path("configmaps"), config_map())
    cluster.api.create(path, body)
    with pytest.raises(errors.AlreadyExists) as caught:
        cluster.api.create(path, body)
    group = ".whereabouts.cni.cncf.io" if is_custom else ""
    assert caught.value.answer.message == f'{plural}{group} "one" already exists'


def test_nothing_is_created_in_a_namespace_that_is_missing(cluster: Cluster) -> None:
    with pytest.raises(errors.NotFound) as caught:
        cluster.api.create(resource("v1", "configmaps", namespace="nowhere"), config_map())
    assert caught.value.answer.message == 'namespaces "nowhere" not found'


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        pytest.param({"metadata": {"name": "A"}}, 422, "Invalid", id="a-name-in-capitals"),
        pytest.param({"metadata": {"name": "-64"}}, 422, "Invalid", id="a-name-that-begins-with-a-dash"),
        pytest.param({"metadata": {}}, 422, "Invalid", id="no-name"),
        pytest.param(
            {"metadata": {"name": "a", "namespace": "default"}}, 400, "BadRequest", id="another-namespace"
        ),
        pytest.param({"metadata": {"name": "a", "labels": {"a": 5}}}, 400, "BadRequest", id="a-label-of-5"),
        pytest.param({"kind": "Pod"}, 400, "BadRequest", id="another-kind"),
        pytest.param({"metadata": {"name": "a", "resourceVersion": "5"}}, 500, "", id="with-a-version"),
    ],
)
def test_an_object_that_cannot_be_is_refused(
    cluster: Cluster, change: dict[str, Any], status: int, reason: str
) -> None:
    body = json.dumps(config_map() | change).encode()
    answer, told = cluster.raw("POST", cluster.path("configmaps"), body)
    assert (answer, told.get("reason", "")) == (status, reason), told


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(b"{", {}, 400, id="no-json"),
        pytest.param(b"[]", {}, 400, id="a-list"),
        pytest.param(b"{}", {"Content-Type": "text/plain"}, 415, id="another-content-type"),
    ],
)
def test_a_body_that_is_no_object_is_refused(
    cluster: Cluster, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert cluster.raw("POST", cluster.path("configmaps"), body, **headers)[0] == status


@pytest.mark.parametrize(
    "path",
    ["/api/v1/namespaces/default/nothings", "/apis/nobody.example.com/v1/things", "/api/v2/pods", "/nothing"],
)
def test_a_path_that_leads_nowhere_is_not_found(cluster: Cluster, path: str) -> None:
    with pytest.raises(errors.NotFound):
        cluster.api.get(path)


def test_what_is_not_there_is_not_found(cluster: Cluster) -> None:
    pools = "ippools.whereabouts.cni.cncf.io"
    for path, kind in ((cluster.path("pods", "gone"), "pods"), (cluster.pool("gone"), pools)):
        for call in (
            cluster.api.get,
            cluster.api.delete,
            lambda path: cluster.api.patch(path, {"metadata": {"labels": {"a": "b"}}}, MERGE_PATCH),
        ):
            with pytest.raises(errors.NotFound) as caught:
                call(path)
            assert caught.value.answer.message == f'{kind} "gone" not found'


# Versions


@pytest.mark.parametrize("is_custom", [False, True], ids=["built-in-kind", "custom-resource"])
def test_a_write_with_a_stale_version_is_a_conflict(cluster: Cluster, is_custom: bool) -> None:
    api = cluster.api
    path, body = (cluster.pool(), pool("a")) if is_custom else (cluster.path("configmaps"), config_map("a"))
    first = api.create(path, body)
    version = first["metadata"]["resourceVersion"]
    labelled = {**first, "metadata": {**first["metadata"], "labels": {"a": "b"}}}
    assert int(api.replace(f"{path}/a", labelled)["metadata"]["resourceVersion"]) > int(version)
    merge = {"metadata": {"resourceVersion": version, "labels": {"c": "d"}}}
    operations = [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/metadata/labels/c", "value": "d"},
    ]
    writes: list[Callable[[], object]] = [
        lambda: api.replace(f"{path}/a", first),
        lambda: api.patch(f"{path}/a", merge, MERGE_PATCH),
        lambda: api.patch(f"{path}/a", operations, JSON_PATCH),
    ]
    for write in writes:
        with pytest.raises(errors.Conflict) as caught:
            write()
        assert "the object has been modified" in caught.value.answer.message


def test_a_replacement_without_a_version_is_for_built_in_kinds_only(cluster: Cluster) -> None:
    cluster.api.create(cluster.path("configmaps"), config_map())
    replaced = cluster.api.replace(cluster.path("configmaps", "one"), config_map(data={"a": "1"}))
    assert replaced["data"] == {"a": "1"}
    cluster.api.create(cluster.pool(), pool("one"))
    with pytest.raises(errors.Invalid) as caught:
        cluster.api.replace(cluster.pool("one"), pool("one"))
    assert "metadata.resourceVersion" in caught.value.causes[0]


def test_a_write_that_changes_nothing_makes_no_version(cluster: Cluster) -> None:
    created = cluster.api.create(cluster.pool(), pool("a", **{"1": holder(1)}))
    for again in (
        cluster.api.replace(cluster.pool("a"), created),
        cluster.api.patch(cluster.pool("a"), {"spec": {"range": "10.0.0.0/24"}}, MERGE_PATCH),
        cluster.api.patch(cluster.pool("a"), [{"op": "test", "path": "/spec/range", "value": "10.0.0.0/24"}]),
    ):
        assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


def test_generation_counts_changes_of_a_custom_resources_spec(cluster: Cluster) -> None:
    api, path = cluster.api, cluster.pool("a")
    assert api.create(cluster.pool(), pool("a"))["metadata"]["generation"] == 1
    claim = [{"op": "add", "path": "/spec/allocations/1", "value": holder(1)}]
    assert api.patch(path, claim)["metadata"]["generation"] == 2
    assert api.patch(path, {"metadata": {"labels": {"a": "b"}}}, MERGE_PATCH)["metadata"]["generation"] == 2


def test_identity_cannot_be_changed(cluster: Cluster) -> None:
    created = cluster.api.create(cluster.path("configmaps"), config_map())
    path = cluster.path("configmaps", "one")
    with pytest.raises(errors.Conflict):
        cluster.api.replace(path, {**created, "metadata": {**created["metadata"], "uid": str(uuid.uuid4())}})
    with pytest.raises(ApiError) as caught:
        cluster.api.replace(path, {**created, "metadata": {**created["metadata"], "name": "other"}})
    assert caught.value.status == 400
    old = {**created["metadata"], "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 7}
    kept = cluster.api.replace(path, {**created, "metadata": old, "data": {"a": "1"}})["metadata"]
    assert kept["creationTimestamp"] == created["metadata"]["creationTimestamp"]


# Patches


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        pytest.param(
            [
                {"op": "test", "path": "/spec/allocations/5", "value": None},
                {"op": "add", "path": "/spec/allocations/5", "value": holder(5)},
            ],
            {"1": holder(1), "5": holder(5)},
            id="claim-a-free-key",
        ),
        pytest.param(
            [
                {"op": "test", "path": "/spec/allocations/1", "value": None},
                {"op": "add", "path": "/spec/allocations/1", "value": holder(5)},
            ],
            422,
            id="claim-a-taken-key",
        ),
        pytest.param(
            [
                {"op": "test", "path": "/spec/allocations/1/id", "value": "id-1"},
                {"op": "remove", "path": "/spec/allocations/1"},
            ],
            {},
            id="release-ones-own",
        ),
        pytest.param(
            [
                {"op": "test", "path": "/spec/allocations/1/id", "value": "id-2"},
                {"op": "remove", "path": "/spec/allocations/1"},
            ],
            422,
            id="release-anothers",
        ),
        pytest.param(
            [{"op": "test", "path": "/spec/allocations/5/id", "value": "id-1"}],
            422,
            id="test-too-deep",
        ),
        pytest.param(
            [{"op": "test", "path": "/spec/allocations/5/id", "value": None}],
            422,
            id="test-for-null-below-a-missing-key",
        ),
        pytest.param(
            [{"op": "test", "path": "/spec/allocations/5", "value": holder(1)}], 422, id="test-a-missing-key"
        ),
        pytest.param(
            [
                {"op": "test", "path": "/spec/allocations/1", "value": holder(1)},
                {"op": "replace", "path": "/spec/allocations/1", "value": holder(2)},
            ],
            {"1": holder(2)},
            id="adopt",
        ),
        pytest.param(
            [
                {
                    "op": "test",
                    "path": "/spec/allocations/1",
                    "value": dict(reversed(list(holder(1).items()))),
                },
                {"op": "replace", "path": "/spec/allocations/1/id", "value": "new"},
            ],
            {"1": holder(1) | {"id": "new"}},
            id="the-order-of-keys-does-not-matter",
        ),
        pytest.param([{"op": "remove", "path": "/spec/allocations/5"}], 422, id="remove-nothing"),
        pytest.param(
            [{"op": "replace", "path": "/spec/allocations/5", "value": holder(5)}],
            {"1": holder(1), "5": holder(5)},
            id="replace-adds-what-is-not-there",
        ),
        pytest.param(
            [{"op": "add", "path": "/spec/nothing/5", "value": holder(5)}], 422, id="add-below-a-missing-key"
        ),
        pytest.param(
            [{"op": "add", "path": "/spec/allocations/1", "value": holder(2)}],
            {"1": holder(2)},
            id="add-replaces-what-is-there",
        ),
        pytest.param(
            [
                {"op": "remove", "path": "/spec/allocations/1"},
                {"op": "test", "path": "/spec/allocations/1", "value": None},
                {"op": "add", "path": "/spec/allocations/2", "value": holder(2)},
            ],
            {"2": holder(2)},
            id="operations-see-those-before-them",
        ),
        pytest.param(
            [
                {"op": "add", "path": "/spec/allocations/2", "value": holder(2)},
                {"op": "test", "path": "/spec/allocations/1", "value": None},
            ],
            422,
            id="all-or-nothing",
        ),
        pytest.param(
            [{"op": "move", "from": "/spec/allocations/1", "path": "/spec/allocations/2"}],
            {"2": holder(1)},
            id="move",
        ),
        pytest.param(
            [{"op": "copy", "from": "/spec/allocations/1", "path": "/spec/allocations/2"}],
            {"1": holder(1), "2": holder(1)},
            id="copy",
        ),
        pytest.param([{"op": "nothing", "path": "/spec"}], 422, id="an-unknown-operation"),
        pytest.param(
            [{"op": "test", "path": "/metadata/resourceVersion", "value": "1"}], 422, id="stale-version"
        ),
        pytest.param(
            [{"op": "add", "path": "/spec/allocations/2", "value": {"id": 5}}], 422, id="wrong-type"
        ),
        pytest.param({"op": "test"}, 400, id="no-list"),
    ],
)
def test_json_patch(cluster: Cluster, operations: Any, expected: Any) -> None:
    before = cluster.api.create(cluster.pool(), pool("a", **{"1": holder(1)}))
    if isinstance(expected, int):
        with pytest.raises(ApiError) as caught:
            cluster.api.patch(cluster.pool("a"), operations)
        assert caught.value.status == expected
        assert cluster.api.get(cluster.pool("a")) == before
    else:
        changed = cluster.api.patch(cluster.pool("a"), operations)
        assert changed["spec"]["allocations"] == expected
        assert cluster.api.get(cluster.pool("a")) == changed


def test_json_patch_of_lists_and_of_keys_with_a_slash(cluster: Cluster) -> None:
    annotations = {"k8s.v1.cni.cncf.io/networks": "a"}
    owners = [{"apiVersion": "v1", "kind": "Node", "name": f"n{n}", "uid": f"u{n}"} for n in range(4)]
    cluster.api.create(cluster.path("pods"), pod(annotations=annotations, ownerReferences=owners[:2]))
    operations = [
        {"op": "test", "path": "/metadata/annotations/k8s.v1.cni.cncf.io~1networks", "value": "a"},
        {"op": "replace", "path": "/metadata/annotations/k8s.v1.cni.cncf.io~1networks", "value": "c"},
        {"op": "add", "path": "/metadata/ownerReferences/-", "value": owners[2]},
        {"op": "add", "path": "/metadata/ownerReferences/0", "value": owners[3]},
        {"op": "remove", "path": "/metadata/ownerReferences/1"},
    ]
    changed = cluster.api.patch(cluster.path("pods", "web-0"), operations)["metadata"]
    assert changed["annotations"] == {"k8s.v1.cni.cncf.io/networks": "c"}
    assert changed["ownerReferences"] == [owners[3], owners[1], owners[2]]


def test_merge_patch_sets_and_removes(cluster: Cluster) -> None:
    cluster.api.create(cluster.pool(), pool("a", **{"1": holder(1), "2": holder(2)}))
    patch = {"metadata": {"labels": {"a": "b"}}, "spec": {"allocations": {"1": None, "3": holder(3)}}}
    changed = cluster.api.patch(cluster.pool("a"), patch, MERGE_PATCH)
    assert changed["metadata"]["labels"] == {"a": "b"}
    assert changed["spec"]["allocations"] == {"2": holder(2), "3": holder(3)}


def test_strategic_merge_patch_is_for_built_in_kinds(cluster: Cluster) -> None:
    cluster.api.create(cluster.path("pods"), pod(annotations={"a": "1", "b": "2"}))
    path = cluster.path("pods", "web-0")
    patch = {"metadata": {"annotations": {"b": None, "c": "3"}}}
    assert cluster.api.patch(path, patch, STRATEGIC_MERGE_PATCH)["metadata"]["annotations"] == {
        "a": "1",
        "c": "3",
    }
    for kind, status in (("Ready", "False"), ("Initialized", "True"), ("Ready", "True")):
        condition = {"status": {"conditions": [{"type": kind, "status": status}]}}
        answer = cluster.api.patch(f"{path}/status", condition, STRATEGIC_MERGE_PATCH)
    conditions = {item["type"]: item["status"] for item in answer["status"]["conditions"]}
    assert conditions == {"Ready": "True", "Initialized": "True"}
    cluster.api.create(cluster.pool(), pool("a"))
    with pytest.raises(ApiError) as caught:
        cluster.api.patch(cluster.pool("a"), {}, STRATEGIC_MERGE_PATCH)
    assert caught.value.status == 415


def test_another_kind_of_patch_is_refused(cluster: Cluster) -> None:
    cluster.api.create(cluster.path("configmaps"), config_map())
    with pytest.raises(ApiError) as caught:
        cluster.api.patch(cluster.path("configmaps", "one"), {}, "application/json")
    assert caught.value.status == 415


def test_patches_of_different_keys_never_conflict(cluster: Cluster) -> None:
    cluster.api.create(cluster.pool(), pool("a"))
    failures: list[Exception] = []

    def claim(number: int) -> None:
        key = f"/spec/allocations/{number}"
        test = {"op": "test", "path": key, "value": None}
        try:
            with cluster.server.client(limits=PATIENT) as api:
                api.patch(cluster.pool("a"), [test, {"op": "add", "path": key, "value": holder(number)}])
        except ApiError as error:
            failures.append(error)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(cluster.api.get(cluster.pool("a"))["spec"]["allocations"]) == 4


# Custom resources


def test_fields_that_a_schema_does_not_know_are_dropped(cluster: Cluster) -> None:
    body = pool("a", **{"1": holder(1) | {"since": "today"}})
    body["spec"]["more"] = {"a": 1}
    body["top"] = "x"
    body["metadata"] |= {"annotations": {"kept": "yes"}, "odd": 5}
    created = cluster.api.create(cluster.pool(), body)
    assert created["spec"] == {"range": "10.0.0.0/24", "allocations": {"1": holder(1)}}
    assert created["metadata"]["annotations"] == {"kept": "yes"}
    assert not {"top", "odd"} & {*created, *created["metadata"]}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({"range": 5, "allocations": {}}, "spec.range", id="a-number-as-text"),
        pytest.param({"range": None, "allocations": {}}, "spec.range", id="null-as-text"),
        pytest.param({"range": "10.0.0.0/24", "allocations": []}, "spec.allocations", id="a-list"),
        pytest.param({"range": "10.0.0.0/24"}, "spec.allocations", id="a-missing-field"),
        pytest.param(
            {"range": "10.0.0.0/24", "allocations": {"1": {"podref": "a"}}},
            "spec.allocations.1.id",
            id="deep-missing",
        ),
        pytest.param(
            {"range": "10.0.0.0/24", "allocations": {"1": {"id": True, "podref": "a"}}},
            "spec.allocations.1.id",
            id="deep-wrong",
        ),
    ],
)
def test_what_breaks_a_schema_is_invalid_and_named(
    cluster: Cluster, spec: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.Invalid) as caught:
        cluster.api.create(cluster.pool(), pool("a") | {"spec": spec})
    assert [cause.partition(": ")[0] for cause in caught.value.causes] == [field], caught.value.causes
    assert caught.value.answer.message.startswith('IPPool.whereabouts.cni.cncf.io "a" is invalid: ')


def test_an_attachment_definition_may_be_empty(cluster: Cluster) -> None:
    version = "k8s.cni.cncf.io/v1"
    path = cluster.path("network-attachment-definitions", version=version)
    definition = {"apiVersion": version, "kind": "NetworkAttachmentDefinition", "metadata": {"name": "a"}}
    assert "spec" not in cluster.api.create(path, definition)
    named = {**definition, "metadata": {"name": "b"}, "spec": {"config": "{}"}}
    assert cluster.api.create(path, named)["spec"] == {"config": "{}"}


def test_status_is_a_plain_field_where_there_is_no_status_subresource(cluster: Cluster) -> None:
    path = cluster.path("nodeslicepools", version=POOLS)
    slices = [{"nodeName": "node-a", "sliceRange": "10.0.0.0/26"}]
    body = {
        "apiVersion": POOLS,
        "kind": "NodeSlicePool",
        "metadata": {"name": "a"},
        "spec": {"range": "10.0.0.0/24", "sliceSize": "26"},
        "status": {"allocations": slices},
    }
    assert cluster.api.create(path, body)["status"] == {"allocations": slices}
    with pytest.raises(errors.NotFound):
        cluster.api.get(f"{path}/a/status")


def test_an_object_that_is_too_large_is_refused(cluster: Cluster) -> None:
    keys = {str(number): holder(number) | {"id": "x" * 64} for number in range(14_000)}
    with pytest.raises(errors.TooLarge):
        cluster.api.create(cluster.pool(), pool("a", **keys))
    body = json.dumps(pool("b", **{"1": holder(1) | {"id": "x" * (3 << 20)}})).encode()
    assert cluster.raw("POST", cluster.pool(), body)[0] == 413
    assert list(cluster.api.list(cluster.pool())) == []


# Pods


def test_a_pods_status_and_the_rest_are_written_apart(cluster: Cluster) -> None:
    created = cluster.api.create(cluster.path("pods"), pod() | {"status": {"phase": "Running"}})
    assert created["status"]["phase"] == "Pending"
    path = cluster.path("pods", "web-0")
    status = {**created["status"], "phase": "Running", "podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}]}
    annotated = {**created["metadata"], "annotations": {"k8s.v1.cni.cncf.io/network-status": "[]"}}
    written = cluster.api.replace(f"{path}/status", {**created, "metadata": annotated, "status": status})
    assert (written["status"]["phase"], written["status"]["podIP"]) == ("Running", "10.1.1.1")
    # Multus writes its annotation this way.
    assert written["metadata"]["annotations"] == {"k8s.v1.cni.cncf.io/network-status": "[]"}
    labelled = {**written["metadata"], "labels": {"a": "b"}}
    again = cluster.api.replace(path, {**written, "metadata": labelled, "status": {"phase": "Failed"}})
    assert (again["metadata"]["labels"], again["status"]["phase"]) == ({"a": "b"}, "Running")
    assert cluster.api.get(f"{path}/status") == again


def test_a_stale_status_is_a_conflict(cluster: Cluster) -> None:
    created = cluster.api.create(cluster.path("pods"), pod())
    path = cluster.path("pods", "web-0")
    cluster.api.patch(path, {"metadata": {"labels": {"a": "b"}}}, MERGE_PATCH)
    with pytest.raises(errors.Conflict):
        cluster.api.replace(f"{path}/status", {**created, "status": {"phase": "Running"}})


def test_a_pods_spec_is_fixed(cluster: Cluster) -> None:
    cluster.api.create(cluster.path("pods"), pod())
    with pytest.raises(errors.Invalid):
        cluster.api.patch(cluster.path("pods", "web-0"), {"spec": {"hostNetwork": True}}, MERGE_PATCH)
    with pytest.raises(errors.Invalid):
        cluster.api.create(cluster.path("pods"), pod("web-1") | {"spec": {"containers": []}})


def test_a_pod_without_a_node_is_deleted_at_once_and_one_with_a_node_is_marked(cluster: Cluster) -> None:
    cluster.api.create(cluster.path("pods"), pod("free"))
    cluster.api.create(cluster.path("pods"), pod("bound", node="node-a"))
    cluster.api.delete(cluster.path("pods", "free"))
    with pytest.raises(errors.NotFound):
        cluster.api.get(cluster.path("pods", "free"))
    cluster.api.delete(cluster.path("pods", "bound"))
    marked = cluster.api.get(cluster.path("pods", "bound"))["metadata"]
    assert (marked["deletionGracePeriodSeconds"], "deletionTimestamp" in marked) == (30, True)
    cluster.raw("DELETE", cluster.path("pods", "bound"), b'{"gracePeriodSeconds":0}')
    with pytest.raises(errors.NotFound):
        cluster.api.get(cluster.path("pods", "bound"))


# Deleting


def test_deletion_with_preconditions(cluster: Cluster) -> None:
    created = cluster.api.create(cluster.pool(), pool("a"))["metadata"]
    path = cluster.pool("a")
    changed = cluster.api.patch(path, {"metadata": {"labels": {"a": "b"}}}, MERGE_PATCH)["metadata"]
    for wrong in ({"uid": str(uuid.uuid4())}, {"resource_version": created["resourceVersion"]}):
        with pytest.raises(errors.Conflict):
            cluster.api.delete(path, **wrong)
    deleted = cluster.api.delete(path, uid=created["uid"], resource_version=changed["resourceVersion"])
    assert (deleted["kind"], deleted["status"]) == ("Status", "Success")
    assert (deleted["details"]["name"], deleted["details"]["uid"]) == ("a", created["uid"])
    assert cluster.api.create(cluster.pool(), pool("a"))["metadata"]["uid"] != created["uid"]


# Lists


@pytest.fixture
def pods(cluster: Cluster) -> Cluster:
    for number in range(6):
        labels = {"number": str(number), "parity": "even" if number % 2 == 0 else "odd"}
        body = pod(f"web-{number}", node="node-a" if number < 2 else "", labels=labels)
        cluster.api.create(cluster.path("pods"), body)
    return cluster


def names(cluster: Cluster, path: str, **query: Any) -> list[str]:
    return [item["metadata"]["name"] for item in cluster.api.list(path, **query)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param({}, "012345", id="all"),
        pytest.param({"labelSelector": "parity=even"}, "024", id="equal"),
        pytest.param({"labelSelector": "parity!=even"}, "135", id="unequal"),
        pytest.param({"labelSelector": "number in (1,2,9)"}, "12", id="in"),
        pytest.param({"labelSelector": "parity=odd,number notin (1,3)"}, "5", id="not-in"),
        pytest.param({"labelSelector": "number,!parity"}, "", id="present-and-absent"),
        pytest.param({"fieldSelector": "spec.nodeName=node-a"}, "01", id="on-a-node"),
        pytest.param({"fieldSelector": "spec.nodeName!=node-a,metadata.name!=web-3"}, "245", id="elsewhere"),
        pytest.param({"fieldSelector": "metadata.name=web-4"}, "4", id="by-name"),
        pytest.param({"fieldSelector": "status.phase=Running"}, "", id="by-phase"),
    ],
)
def test_selectors(pods: Cluster, query: dict[str, str], expected: str) -> None:
    assert names(pods, pods.path("pods"), **query) == [f"web-{number}" for number in expected]
    paged = names(pods, pods.path("pods"), limit=2, **query)
    assert paged == [f"web-{number}" for number in expected]


def test_a_field_that_cannot_be_selected_by_is_refused(pods: Cluster) -> None:
    for path, field in ((pods.path("pods"), "spec.hostname"), (pods.pool(), "spec.range")):
        with pytest.raises(ApiError) as caught:
            names(pods, path, fieldSelector=f"{field}=a")
        assert caught.value.status == 400


def test_a_list_in_pages_shows_one_moment(pods: Cluster) -> None:
    path = pods.path("pods")
    _, first = pods.raw("GET", f"{path}?limit=4")
    assert (first["kind"], first["apiVersion"], len(first["items"])) == ("PodList", "v1", 4)
    assert first["metadata"]["remainingItemCount"] == 2
    pods.api.delete(f"{path}/web-5")
    _, second = pods.raw("GET", f"{path}?limit=4&continue={first['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in second["items"]] == ["web-4", "web-5"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in second["metadata"]
    assert names(pods, path) == ["web-0", "web-1", "web-2", "web-3", "web-4"]


def test_the_cache_answers_in_one_piece(pods: Cluster) -> None:
    _, page = pods.raw("GET", f"{pods.path('pods')}?limit=4&resourceVersion=0")
    assert (len(page["items"]), page["metadata"].get("continue", "")) == (6, "")
    assert pods.api.get(pods.path("pods", "web-0"), resourceVersion="0")["metadata"]["name"] == "web-0"


def test_a_continuation_that_is_none_is_refused(pods: Cluster) -> None:
    assert pods.raw("GET", f"{pods.path('pods')}?limit=1&continue=nonsense")[0] == 400


def test_all_namespaces_are_listed_together(cluster: Cluster) -> None:
    cluster.api.create(cluster.pool(), pool("a"))
    everywhere = list(cluster.api.list(resource(POOLS, "ippools")))
    assert cluster.namespace in {item["metadata"]["namespace"] for item in everywhere}
    status, page = cluster.raw("GET", cluster.pool())
    assert (status, page["kind"], page["items"][0]["kind"]) == (200, "IPPoolList", "IPPool")


def test_metadata_alone_can_be_asked_for(pods: Cluster) -> None:
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    _, page = pods.raw("GET", f"{pods.path('pods')}?limit=1", Accept=accept)
    assert page["kind"] == "PartialObjectMetadataList"
    assert page["items"][0]["metadata"]["name"] == "web-0"
    assert "spec" not in page["items"][0]


def test_a_patch_is_answered_by_the_metadata_alone_where_that_is_asked_for(cluster: Cluster) -> None:
    created = cluster.api.create(cluster.pool(), pool("a"))
    path, value = "/spec/allocations/7", {"id": "x", "podref": "default/web-0"}
    operation = {"op": "add", "path": path, "value": value}
    answer = cluster.api.patch(cluster.pool("a"), [operation], accept=METADATA_ONLY)
    assert answer["kind"] == "PartialObjectMetadata"
    assert "spec" not in answer
    found = cluster.api.get(cluster.pool("a"))
    assert found["spec"]["allocations"]["7"] == value
    assert answer["metadata"] == found["metadata"]
    assert found["metadata"]["uid"] == created["metadata"]["uid"]


def test_the_generation_counts_changes_of_the_spec_and_no_others(cluster: Cluster) -> None:
    generations = [cluster.api.create(cluster.pool(), pool("a"))["metadata"]["generation"]]
    entry = {"id": "x", "podref": "default/web-0"}
    for operation in (
        {"op": "add", "path": "/spec/allocations/7", "value": entry},
        {"op": "add", "path": "/spec/allocations/7", "value": entry},
        {"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}},
        {"op": "remove", "path": "/spec/allocations/7"},
    ):
        answer = cluster.api.patch(cluster.pool("a"), [operation], accept=METADATA_ONLY)
        generations.append(answer["metadata"]["generation"])
    assert generations == [1, 2, 2, 2, 3]


def test_a_patch_can_test_the_generation_and_the_uid(cluster: Cluster) -> None:
    created = cluster.api.create(cluster.pool(), pool("a"))
    tests = [
        {"op": "test", "path": "/metadata/uid", "value": created["metadata"]["uid"]},
        {"op": "test", "path": "/metadata/generation", "value": 1},
        {"op": "add", "path": "/spec/allocations/7", "value": {"id": "x", "podref": "default/web-0"}},
    ]
    cluster.api.patch(cluster.pool("a"), tests)
    with pytest.raises(errors.Invalid) as caught:
        cluster.api.patch(cluster.pool("a"), tests)
    assert not caught.value.causes


def test_a_patch_can_let_go_of_who_has_set_what(cluster: Cluster) -> None:
    cluster.api.create(cluster.pool(), pool("a"))
    for number in range(50):
        entry = {"id": "x", "podref": "default/web-0"}
        operations: list[dict[str, Any]] = [
            {"op": "add", "path": f"/spec/allocations/{number}", "value": entry},
            {"op": "add", "path": "/metadata/managedFields", "value": [{}]},
        ]
        cluster.api.patch(cluster.pool("a"), operations)
    found = cluster.api.get(cluster.pool("a"))
    assert len(found["spec"]["allocations"]) == 50
    assert len(json.dumps(found["metadata"].get("managedFields"))) < 500


# Watches


def test_a_watch_shows_what_happens_after_a_list(cluster: Cluster) -> None:
    path = cluster.pool()
    version = cluster.raw("GET", path)[1]["metadata"]["resourceVersion"]
    cluster.api.create(path, pool("late"))
    cluster.api.patch(f"{path}/late", {"metadata": {"labels": {"a": "b"}}}, MERGE_PATCH)
    cluster.api.delete(f"{path}/late")
    seen = [(event["type"], event["object"]) for event in cluster.watch(f"{path}?resourceVersion={version}")]
    assert [kind for kind, _ in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert {item["metadata"]["name"] for _, item in seen} == {"late"}
    versions = [int(item["metadata"]["resourceVersion"]) for _, item in seen]
    assert versions == sorted(set(versions))


def test_a_watch_from_nowhere_begins_with_what_is_there(pods: Cluster) -> None:
    seen = list(pods.watch(f"{pods.path('pods')}?labelSelector=parity%3Deven"))
    assert sorted((event["type"], event["object"]["metadata"]["name"]) for event in seen) == [
        ("ADDED", "web-0"),
        ("ADDED", "web-2"),
        ("ADDED", "web-4"),
    ]


def test_a_watch_with_a_selector_sees_objects_enter_and_leave(pods: Cluster) -> None:
    path = pods.path("pods")
    version = pods.raw("GET", path)[1]["metadata"]["resourceVersion"]
    for parity in ("even", "odd"):
        pods.api.patch(f"{path}/web-1", {"metadata": {"labels": {"parity": parity}}}, MERGE_PATCH)
    query = f"?resourceVersion={version}&labelSelector=parity%3Deven"
    assert [event["type"] for event in pods.watch(path + query)] == ["ADDED", "DELETED"]


def test_a_watch_from_a_time_that_is_forgotten_is_gone(cluster: Cluster) -> None:
    if isinstance(cluster.server, ApiServer):
        cluster.server.objects.store.compact()
    events = list(cluster.watch(f"{cluster.pool()}?resourceVersion=1"))
    assert [event["type"] for event in events] == ["ERROR"]
    assert (events[0]["object"]["code"], events[0]["object"]["reason"]) == (410, "Expired")


def test_a_watch_may_tell_how_far_it_has_come(cluster: Cluster) -> None:
    created = cluster.api.create(cluster.pool(), pool("a"))
    first, *bookmarks = cluster.watch(f"{cluster.pool()}?allowWatchBookmarks=true", seconds=1)
    assert (first["type"], first["object"]) == ("ADDED", created)
    # Kubernetes promises none; the server of the test process always ends with one.
    assert bookmarks or isinstance(cluster.server, RealApiServer)
    for event in bookmarks:
        assert (event["type"], event["object"]["kind"]) == ("BOOKMARK", "IPPool")
        assert int(event["object"]["metadata"]["resourceVersion"]) >= int(
            created["metadata"]["resourceVersion"]
        )


# Who may do what


def test_a_token_that_is_unknown_is_unauthorized(cluster: Cluster) -> None:
    status, told = cluster.raw("GET", cluster.path("pods"), token="unknown")
    assert (status, told["reason"], told["message"]) == (401, "Unauthorized", "Unauthorized")


def test_nobody_may_next_to_nothing(cluster: Cluster) -> None:
    status, told = cluster.raw("GET", cluster.path("pods"), token="")
    assert (status, told["reason"]) == (403, "Forbidden")
    assert 'User "system:anonymous" cannot list resource "pods" in API group ""' in told["message"]


def test_what_no_role_grants_is_forbidden(cluster: Cluster) -> None:
    rules = [
        {"apiGroups": [""], "resources": ["pods", "pods/status"], "verbs": ["get", "update"]},
        {"apiGroups": ["whereabouts.cni.cncf.io"], "resources": ["*"], "verbs": ["*"]},
    ]
    subject = {"kind": "User", "name": "limited", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "some"}
    meta = {"metadata": {"name": "some"}}
    cluster.api.create(
        cluster.path("roles", version=RBAC), {"apiVersion": RBAC, "kind": "Role", "rules": rules, **meta}
    )
    binding = {"apiVersion": RBAC, "kind": "RoleBinding", "subjects": [subject], "roleRef": reference, **meta}
    cluster.api.create(cluster.path("rolebindings", version=RBAC), binding)
    created = cluster.api.create(cluster.path("pods"), pod())
    with Client(load(cluster.server.kubeconfig(LIMITED)), PATIENT) as limited:
        for _ in limited.attempts():  # the real server's authorizer learns of a binding a little later
            try:
                limited.get(cluster.path("pods", "web-0"))
                break
            except errors.Forbidden:
                continue
        limited.replace(cluster.path("pods", "web-0", "status"), created)
        limited.create(cluster.pool(), pool("a"))
        limited.patch(cluster.pool("a"), [])
        path = cluster.path("pods", "web-0")
        for call, words in (
            (
                lambda: limited.patch(f"{path}/status", {}, MERGE_PATCH),
                f'pods "web-0" is forbidden: User "limited" cannot patch resource "pods/status" '
                f'in API group "" in the namespace "{cluster.namespace}"',
            ),
            (
                lambda: list(limited.list(cluster.path("pods"))),
                f'pods is forbidden: User "limited" cannot list resource "pods" '
                f'in API group "" in the namespace "{cluster.namespace}"',
            ),
            (
                lambda: limited.get(resource(POOLS, "ippools", namespace="default", name="a")),
                'ippools.whereabouts.cni.cncf.io "a" is forbidden: User "limited" cannot get resource '
                '"ippools" in API group "whereabouts.cni.cncf.io" in the namespace "default"',
            ),
            (
                lambda: limited.get(resource("v1", "nodes", name="a")),
                'nodes "a" is forbidden: User "limited" cannot get resource "nodes" in API group "" '
                "at the cluster scope",
            ),
        ):
            with pytest.raises(errors.Forbidden) as caught:
                call()
            assert caught.value.answer.message == words


def test_a_client_certificate_speaks_for_its_name_and_groups(cluster: Cluster) -> None:
    assert cluster.server.authority
    pair = cluster.server.authority.client("someone", "system:masters")
    user = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
    with Client(load(cluster.server.kubeconfig(user=user)), PATIENT) as api:
        api.create(cluster.path("configmaps"), config_map())


def test_the_server_tells_its_version(cluster: Cluster) -> None:
    assert cluster.api.get("/version")["gitVersion"].startswith("v")
