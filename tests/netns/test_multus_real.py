"""multus against the real kube-apiserver: what is shown with the API server of the tests holds there too.

It needs etcd and kube-apiserver, see tests/support/kube-assets.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from cni.host import netns
from cni.kube.client import MERGE_PATCH
from cni.kube.paths import resource
from tests.support.apiserver import LIMITED
from tests.support.apiserver.kubeconfig import kubeconfig
from tests.support.apiserver.real import RealApiServer
from tests.support.cluster import DEFAULT_NETWORK, NETWORKS, RULES, STATUS
from tests.support.pods import Multus, StubPlugin
from tests.support.world import Namespace, rail, static

Stubs = Callable[..., StubPlugin]
_NAD = "k8s.cni.cncf.io/v1", "network-attachment-definitions"


class Passage:
    """Lets what connects to a port of 127.0.0.1 in a namespace come to the same port here."""

    def __init__(self, url: str, host: Namespace) -> None:
        self._port = urlsplit(url).port or 0
        with netns.opened(host.path) as inside:
            self._listening = inside.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listening.bind(("127.0.0.1", self._port))
        self._listening.listen(64)
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listening.accept()
                Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with (
            near,
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self._port)) as far,
            selectors.DefaultSelector() as selector,
        ):
            selector.register(near, selectors.EVENT_READ, far)
            selector.register(far, selectors.EVENT_READ, near)
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(1 << 16)
                    if not data:
                        return
                    key.data.sendall(data)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@dataclass(frozen=True)
class Real:
    """A namespace of the real cluster, for one test, and multus with the rights that Multus has."""

    server: RealApiServer
    multus: Multus
    kubeconfig: Path
    name: str

    def conf(self, *delegates: dict[str, Any], **keys: Any) -> dict[str, Any]:
        return self.multus.conf(
            *delegates, kubeconfig=str(self.kubeconfig), multusNamespace=self.name, **keys
        )

    def create(self, path: tuple[str, str], body: dict[str, Any]) -> dict[str, Any]:
        with self.server.client() as api:
            return api.create(resource(*path, namespace=self.name), body)

    def network(self, name: str, conf: dict[str, Any]) -> None:
        kind = {"apiVersion": _NAD[0], "kind": "NetworkAttachmentDefinition"}
        self.create(_NAD, {**kind, "metadata": {"name": name}, "spec": {"config": json.dumps(conf)}})

    def pod(self, networks: str, **annotations: str) -> dict[str, str]:
        metadata = {"name": "web", "annotations": {NETWORKS: networks, **annotations}}
        containers = [{"name": "a", "image": "a", "resources": {"limits": {"cpu": "1"}}}]
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"containers": containers},
        }
        uid = self.create(("v1", "pods"), document)["metadata"]["uid"]
        args = {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": self.name,
            "K8S_POD_NAME": "web",
            "K8S_POD_UID": uid,
        }
        args["K8S_POD_INFRA_CONTAINER_ID"] = "pod-1"
        return {"CNI_ARGS": ";".join(map("=".join, args.items())), "CNI_IFNAME": "eth0"}

    def object(self) -> dict[str, Any]:
        with self.server.client() as api:
            return api.get(self.path)

    @property
    def path(self) -> str:
        return resource("v1", "pods", namespace=self.name, name="web")

    def events(self) -> list[tuple[str, str]]:
        with self.server.client() as api:
            found = list(api.list(resource("v1", "events", namespace=self.name)))
        return sorted((each["reason"], each["message"]) for each in found)


@pytest.fixture
def real(real_apiserver: RealApiServer, multus: Multus, host: Namespace, tmp_path: Path) -> Iterator[Real]:
    name = f"pods-{uuid4().hex[:8]}"
    subject = {"kind": "User", "name": "limited", "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "ClusterRole", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
    with real_apiserver.client() as api:
        api.create(resource("v1", "namespaces"), {"metadata": {"name": name}})
        rbac = "rbac.authorization.k8s.io/v1"
        api.create(resource(rbac, "clusterroles"), {"metadata": {"name": name}, "rules": RULES})
        binding = {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]}
        api.create(resource(rbac, "clusterrolebindings"), binding)
    passage = Passage(real_apiserver.url, host)
    config = kubeconfig(tmp_path, real_apiserver.url, real_apiserver.authority.certificate, LIMITED)
    yield Real(real_apiserver, multus, config, name)
    passage.close()
    with real_apiserver.client() as api:
        api.delete(resource(rbac, "clusterrolebindings", name=name))


@pytest.fixture
def default(stubs: Stubs) -> StubPlugin:
    return stubs("flannel", "10.244.0.5/24")


def test_a_pod_with_two_networks_comes_and_goes(real: Real, default: StubPlugin) -> None:
    for number in (1, 2):
        real.network(f"rail{number}", rail(name=f"rail{number}", ipam=static(f"10.{number}.0.5/24")))
    pod = real.pod("rail1,rail2@data0")
    before = real.object()
    conf = real.conf(default.network("cbr0"))
    result = real.multus.world.add(conf, **pod)
    after = real.object()
    sandbox = real.multus.world.sandbox
    entries = json.loads(after["metadata"]["annotations"][STATUS])
    macs = {name: sandbox.link(name)["address"] for name in ("net1", "data0")}
    mtus = {name: sandbox.link(name)["mtu"] for name in ("net1", "data0")}
    told = [
        {"name": "cbr0", "interface": "eth0", "ips": ["10.244.0.5"], "mac": "02:00:00:00:00:07"}
        | {"default": True, "dns": {}}
    ]
    for number, name in ((1, "net1"), (2, "data0")):
        entry = {"name": f"{real.name}/rail{number}", "interface": name, "ips": [f"10.{number}.0.5"]}
        told.append(entry | {"mac": macs[name], "dns": {}} | _mtu_as_told(entries[number], mtus[name]))
    assert entries == told
    assert [ip["address"] for ip in result["ips"]] == ["10.244.0.5/24"]
    assert (after["spec"], after["status"]) == (before["spec"], before["status"])
    assert {reason for reason, _ in real.events()} == {"AddedInterface"}
    assert ("AddedInterface", f"Add net1 [10.1.0.5/24] from {real.name}/rail1") in real.events()
    with real.server.client() as api:
        api.delete(resource(*_NAD, namespace=real.name, name="rail1"))
        api.delete(real.path)
    real.multus.world.delete(conf, **pod)
    assert set(sandbox.links()) == {"lo"}
    assert real.multus.files() == []


def _mtu_as_told(entry: dict[str, Any], mtu: int) -> dict[str, int]:
    """An MTU need not be told before CNI 1.1.0, but if it is, it is the link's."""
    return {"mtu": mtu} if "mtu" in entry else {}


def test_a_change_of_the_pod_during_add_is_a_conflict_that_is_settled(
    real: Real, default: StubPlugin
) -> None:
    pod = real.pod("")
    change = (
        f"from cni.kube.client import Client; from cni.kube.config import load; "
        f"Client(load({str(real.server.kubeconfig())!r})).patch({real.path!r}, "
        f"{{'metadata': {{'labels': {{'by': 'rival'}}}}}}, {MERGE_PATCH!r})"
    )
    (default.folder / "change.py").write_text(change)
    line = default.folder / "line.ADD"
    line.write_text(f"{sys.executable} {default.folder}/change.py >/dev/null\n{line.read_text()}")
    real.multus.world.add(real.conf(default.network("cbr0")), **pod)
    metadata = real.object()["metadata"]
    assert metadata["labels"] == {"by": "rival"}
    assert json.loads(metadata["annotations"][STATUS])[0]["name"] == "cbr0"


def test_a_network_that_is_missing_is_an_error_and_an_event(real: Real, default: StubPlugin) -> None:
    pod = real.pod("nowhere")
    error = real.multus.world.refused("ADD", real.conf(default.network("cbr0")), **pod)
    assert error["code"] == 7
    assert f"(nowhere) in namespace ({real.name})" in error["msg"]
    assert [reason for reason, _ in real.events()] == ["NoNetworkFound"]
    assert default.calls() == []


def test_references_lead_to_networks_of_the_cluster(real: Real, default: StubPlugin, stubs: Stubs) -> None:
    other = stubs("calico", "10.245.0.5/24")
    real.network("cbr0", default.network("cbr0"))
    real.network("other", other.network("other"))
    conf = real.conf(clusterNetwork="cbr0")
    assert real.multus.world.call("STATUS", conf | {"cniVersion": "1.1.0"}).status == 0
    real.multus.world.add(conf, **real.pod("", **{DEFAULT_NETWORK: "other"}))
    assert (default.calls(), other.calls()) == ([], ["ADD pod-1 eth0"])


def test_another_pod_of_the_name_gets_nothing(real: Real, default: StubPlugin) -> None:
    pod = real.pod("")
    told = {**pod, "CNI_ARGS": pod["CNI_ARGS"].replace("K8S_POD_UID=", "K8S_POD_UID=0")}
    error = real.multus.world.refused("ADD", real.conf(default.network("cbr0")), **told)
    assert (error["code"], "expected pod UID" in error["msg"]) == (4, True)
    real.multus.world.delete(real.conf(default.network("cbr0")), **told)


def test_without_the_right_to_write_the_status_everything_is_undone(real: Real, default: StubPlugin) -> None:
    real.network("a", rail(name="a"))
    pod = real.pod("a")
    rules = [rule for rule in RULES if "pods" not in rule["resources"]]
    rules.append({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]})
    with real.server.client() as api:
        path = resource("rbac.authorization.k8s.io/v1", "clusterroles", name=real.name)
        api.patch(path, {"rules": rules}, MERGE_PATCH)
    error = real.multus.world.refused("ADD", real.conf(default.network("cbr0")), **pod)
    assert error["code"] == 7
    assert 'resources ["pods/status"], verbs ["update"]' in error["details"]
    assert set(real.multus.world.sandbox.links()) == {"lo"}
    assert real.multus.files() == []
