"""The rights of the node daemon: with them everything works, and without any one of them something fails."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cni.kube.client import Client
from cni.kube.paths import resource
from tests.support import manifests
from tests.support.apiserver import ApiServer
from tests.support.apiserver.rbac import User
from tests.support.apiserver.real import RealApiServer
from tests.support.apiserver.server import LIMITED, USERS
from tests.support.cluster import Cluster as MultusCluster
from tests.support.manifests import Manifest
from tests.support.node import POD, Node
from tests.support.pods import StubPlugin
from tests.support.stores import PATIENT, Cluster
from tests.support.world import BIN

TOKEN = "podrail-token"
ACCOUNT = User("system:serviceaccount:podrail:podrail", ("system:serviceaccounts", "system:authenticated"))

NodeNamed = Callable[[str], Node]


def grant(server: ApiServer, objects: list[Manifest]) -> Path:
    """Give the daemon's service account its roles; return its kubeconfig."""
    if not server.find("/api/v1/namespaces/podrail"):
        server.seed(*manifests.read("namespace.yaml"))
    server.seed(*objects)
    server.users[TOKEN] = ACCOUNT
    return server.kubeconfig(TOKEN)


# -- what is done with them ------------------------------------------------------------------------


def claim_and_release(node: NodeNamed) -> None:
    """An address comes and goes; another's reservation is met; a pod comes again in another sandbox."""
    here = node("node-a")
    here.cluster.reserve("10.0.0.1", podref="default/other")
    assert here.add() == ["10.0.0.2/24"]
    assert here.add(CNI_CONTAINERID="sandbox-2") == ["10.0.0.2/24"]
    assert here.cluster.reservations()["10.0.0.2"]["containerid"] == "sandbox-2"
    here.delete(CNI_CONTAINERID="sandbox-2")
    assert here.cluster.entries() == {}
    assert list(here.cluster.reservations()) == ["10.0.0.1"]


def claim_blocks(node: NodeNamed) -> None:
    """Nodes divide a range, around what another pool has given out of it."""
    cluster = node("node-a").cluster
    held = {"id": "x", "podref": "default/old", "ifname": "net1"}
    cluster.record({"1": held}, name="10.0.0.0-30", range_="10.0.0.0/30")
    cluster.divide("other", "10.9.0.0/24", node_z="10.9.0.0/30")
    assert add_of_block(node("node-a"), 1) == ["10.0.0.2/28"]
    assert add_of_block(node("node-b"), 2) == ["10.0.0.5/28"]
    assert cluster.blocks() == {"10.0.0.0/30": "node-a", "10.0.0.4/30": "node-b"}


def inherit_block(node: NodeNamed) -> None:
    """A node that is gone for long loses its blocks, but for one with a pod that runs."""
    for number in range(8):
        add_of_block(node("node-a"), number)
    cluster = node("node-b").cluster
    make_node(cluster, "node-b")
    run_pod(cluster, "10.0.0.1")
    assert node("node-b").refused("ADD", of_blocks(node("node-b")), **pod(9))["code"] == 100
    let_deaths_be_old(cluster)
    assert add_of_block(node("node-b"), 9) == ["10.0.0.5/28"]


SCENES = {scene.__name__: scene for scene in (claim_and_release, claim_blocks, inherit_block)}

NEEDED_FOR = {
    "claim_and_release": [
        *(("ippools", verb) for verb in ("get", "create", "patch")),
        *(("overlappingrangeipreservations", verb) for verb in ("get", "list", "create", "patch", "delete")),
    ],
    "claim_blocks": [
        ("ippools", "list"),
        *(("nodeslicepools", verb) for verb in ("get", "list", "create", "patch")),
    ],
    "inherit_block": [("nodes", "list"), ("pods", "list")],
}
NEEDED_BY_MULTUS = [
    ("pods", "get"),
    ("pods/status", "update"),
    ("events", "create"),
    ("network-attachment-definitions", "get"),
]


def of_blocks(node: Node) -> dict[str, Any]:
    return node.conf(range="10.0.0.0/28", node_slice_size="/30", node_blocks=True)


def add_of_block(node: Node, number: int) -> list[str]:
    return node.add(of_blocks(node), **pod(number))


def pod(number: int) -> dict[str, str]:
    return {"CNI_CONTAINERID": f"s{number}", "CNI_ARGS": POD.format(f"web-{number}")}


def make_node(cluster: Cluster, name: str) -> None:
    cluster.server.seed({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})


def run_pod(cluster: Cluster, address: str) -> None:
    status = json.dumps([{"name": "rail", "interface": "net1", "ips": [address]}])
    annotations = {"k8s.v1.cni.cncf.io/network-status": status}
    cluster.server.seed(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web-0", "namespace": "default", "annotations": annotations},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
    )


def let_deaths_be_old(cluster: Cluster) -> None:
    path = cluster.path("nodeslicepools", "rail")
    noted = cluster.api.get(path)["metadata"].get("annotations") or {}
    then = (datetime.now(UTC) - timedelta(minutes=11)).isoformat(timespec="seconds")
    older = {name: f"{then} {text.partition(' ')[2]}" for name, text in noted.items()}
    cluster.api.patch(path, {"metadata": {"annotations": older}}, "application/merge-patch+json")


# -- whereabouts -----------------------------------------------------------------------------------


@pytest.fixture
def named(apiserver: ApiServer, tmp_path: Path) -> Callable[[Path], NodeNamed]:
    """Make nodes that ask with a kubeconfig, each the same one whenever it is named."""
    cluster = Cluster.of(apiserver)  # what a test itself does, it does as an administrator

    def with_kubeconfig(kubeconfig: Path) -> NodeNamed:
        def node(name: str) -> Node:
            made = Node(cluster, tmp_path / name, name)
            made.kubeconfig = str(kubeconfig)
            return made

        return node

    return with_kubeconfig


@pytest.mark.parametrize("scene", SCENES)
def test_the_roles_are_enough(apiserver: ApiServer, named: Callable[[Path], NodeNamed], scene: str) -> None:
    SCENES[scene](named(grant(apiserver, manifests.read("rbac.yaml"))))


@pytest.mark.parametrize(
    ("scene", "name", "verb"),
    [
        pytest.param(scene, name, verb, id=f"{scene} needs to {verb} {name}")
        for scene, rights in NEEDED_FOR.items()
        for name, verb in rights
    ],
)
def test_no_right_can_be_spared(
    apiserver: ApiServer, named: Callable[[Path], NodeNamed], scene: str, name: str, verb: str
) -> None:
    node = named(grant(apiserver, manifests.without(name, verb)))
    with pytest.raises(AssertionError):
        SCENES[scene](node)


# -- the same on the real API server ---------------------------------------------------------------


@pytest.fixture
def really_named(real_apiserver: RealApiServer, tmp_path: Path) -> Callable[[list[Manifest]], NodeNamed]:
    """Make nodes whose user has a role in a namespace of the test's own, once the server counts it."""
    cluster = Cluster.of_its_own(real_apiserver)
    kubeconfig = real_apiserver.kubeconfig(LIMITED, context={"namespace": cluster.namespace})

    def with_roles(objects: list[Manifest]) -> NodeNamed:
        for each in objects:
            if each["kind"] in ("Role", "RoleBinding"):
                give(real_apiserver, cluster.namespace, each)

        def node(name: str) -> Node:
            made = Node(cluster, tmp_path / name, name)
            made.kubeconfig = str(kubeconfig)
            return made

        return node

    return with_roles


def give(server: RealApiServer, namespace: str, manifest: Manifest) -> None:
    """Create a role or its binding, for the user that may nothing; wait until all that it gives counts."""
    given = manifest | {"metadata": {"name": manifest["metadata"]["name"], "namespace": namespace}}
    if "subjects" in given:
        user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USERS[LIMITED].name}
        given |= {"subjects": [user]}
    with server.client() as api:
        api.create(resource(given["apiVersion"], f"{given['kind'].lower()}s", namespace=namespace), given)
        role = api.get(resource(given["apiVersion"], "roles", namespace=namespace, name="podrail-addresses"))
    if "subjects" not in given:
        return
    rights = [(name, verb) for rule in role["rules"] for name in rule["resources"] for verb in rule["verbs"]]
    with server.client(LIMITED, PATIENT) as api:
        for _ in api.attempts():
            if all(may(api, namespace, *right) for right in rights):
                return
    raise AssertionError("the role does not count")


def may(api: Client, namespace: str, name: str, verb: str) -> bool:
    asked = {"group": "whereabouts.cni.cncf.io", "resource": name, "verb": verb, "namespace": namespace}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    answer = api.create(
        resource(review["apiVersion"], "selfsubjectaccessreviews"),
        review | {"spec": {"resourceAttributes": asked}},
    )
    return bool(answer["status"]["allowed"])


_ON_REAL = ("claim_and_release", "claim_blocks")  # the third needs the whole cluster to itself


@pytest.mark.parametrize("scene", _ON_REAL)
def test_the_role_is_enough_on_the_real_server(
    really_named: Callable[[list[Manifest]], NodeNamed], scene: str
) -> None:
    SCENES[scene](really_named(manifests.read("rbac.yaml")))


@pytest.mark.parametrize(
    ("scene", "name", "verb"),
    [
        pytest.param(scene, name, verb, id=f"{scene} needs to {verb} {name}")
        for scene in _ON_REAL
        for name, verb in NEEDED_FOR[scene]
    ],
)
def test_no_right_can_be_spared_on_the_real_server(
    really_named: Callable[[list[Manifest]], NodeNamed], scene: str, name: str, verb: str
) -> None:
    node = really_named(manifests.without(name, verb))
    with pytest.raises(AssertionError):
        SCENES[scene](node)


def test_doctor_misses_nothing_in_them(apiserver: ApiServer) -> None:
    kubeconfig = grant(apiserver, manifests.read("rbac.yaml"))
    kubeconfig.chmod(0o600)
    command = [BIN / "podrail", "doctor", "--json", "--kubeconfig", kubeconfig]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "rbac" not in {each["check"] for each in json.loads(done.stdout)["findings"]}


# -- multus ----------------------------------------------------------------------------------------


def attach(cluster: MultusCluster, default: StubPlugin, second: StubPlugin, kubeconfig: Path) -> None:
    """A pod gets the network of its annotation, its status and an event."""
    cluster.network("second", second.network("second"))
    conf = cluster.multus.conf(default.network("cbr0"), kubeconfig=str(kubeconfig))
    told = cluster.pod("second")
    cluster.multus.world.add(conf, **told)
    assert [entry["name"] for entry in cluster.status()] == ["cbr0", "default/second"]
    assert [each["reason"] for each in cluster.server.objects.store if each["kind"] == "Event"]


@pytest.fixture
def attaching(cluster: MultusCluster, stubs: Callable[..., StubPlugin]) -> Callable[[list[Manifest]], None]:
    plugins = stubs("flannel", "10.244.0.5/24"), stubs("second")
    return lambda objects: attach(cluster, *plugins, grant(cluster.server, objects))


def test_the_roles_are_enough_for_multus(attaching: Callable[[list[Manifest]], None]) -> None:
    attaching(manifests.read("rbac.yaml"))


@pytest.mark.parametrize(
    ("name", "verb"),
    [pytest.param(name, verb, id=f"multus needs to {verb} {name}") for name, verb in NEEDED_BY_MULTUS],
)
def test_multus_can_spare_no_right(attaching: Callable[[list[Manifest]], None], name: str, verb: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        attaching(manifests.without(name, verb))


def test_every_right_that_is_granted_is_taken_away_above() -> None:
    tried = [*NEEDED_BY_MULTUS, *(right for rights in NEEDED_FOR.values() for right in rights)]
    assert sorted(tried) == sorted(manifests.granted())
