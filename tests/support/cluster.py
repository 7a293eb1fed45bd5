"""A cluster for multus: an API server that the test's host reaches, pods and networks in it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni.host import netns
from tests.support.apiserver.certificates import Authority
from tests.support.apiserver.rbac import User
from tests.support.apiserver.server import ApiServer
from tests.support.pods import Multus
from tests.support.world import Namespace

NETWORKS = "k8s.v1.cni.cncf.io/networks"
DEFAULT_NETWORK = "v1.multus-cni.io/default-network"
STATUS = "k8s.v1.cni.cncf.io/network-status"
_TOKEN = "multus-token"
# The role of the original's deployment: there is no patch on pods/status.
RULES = [
    {"apiGroups": ["k8s.cni.cncf.io"], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["pods", "pods/status"], "verbs": ["get", "list", "update", "watch"]},
    {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"]},
]


@dataclass(frozen=True)
class Cluster:
    """An API server with the rights that Multus' own manifests give."""

    server: ApiServer
    multus: Multus
    kubeconfig: Path

    def conf(self, *delegates: Mapping[str, Any], **keys: Any) -> dict[str, Any]:
        return self.multus.conf(*delegates, kubeconfig=str(self.kubeconfig), **keys)

    def network(
        self, name: str, conf: Mapping[str, Any] | str | None, namespace: str = "default", **annotations: str
    ) -> None:
        """Create a NetworkAttachmentDefinition; its configuration may be anything, also nothing."""
        text = conf if isinstance(conf, str) or conf is None else json.dumps(conf)
        document: dict[str, Any] = {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        }
        self.server.seed(document | ({} if text is None else {"spec": {"config": text}}))

    def pod(
        self, networks: object = None, name: str = "web", namespace: str = "default", **annotations: str
    ) -> dict[str, str]:
        """Create a pod that wants these networks, and return what the runtime says of it."""
        if networks is not None:
            annotations[NETWORKS] = networks if isinstance(networks, str) else json.dumps(networks)
        (created,) = self.server.seed(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
                "spec": {"containers": [{"name": "a", "image": "a", "newField": {"of": ["later"]}}]},
                "status": {"phase": "Pending"},
            }
        )
        return self.told(name, namespace, created["metadata"]["uid"])

    def told(self, name: str = "web", namespace: str = "default", uid: str = "") -> dict[str, str]:
        """The variables of a call for a pod, as containerd gives them."""
        args = {
            "K8S_POD_UID": uid,
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": namespace,
            "K8S_POD_NAME": name,
            "K8S_POD_INFRA_CONTAINER_ID": "pod-1",
        }
        return {"CNI_ARGS": ";".join(f"{key}={value}" for key, value in args.items()), "CNI_IFNAME": "eth0"}

    def object(self, name: str = "web", namespace: str = "default") -> dict[str, Any]:
        found = self.server.find(f"/api/v1/namespaces/{namespace}/pods/{name}")
        assert found is not None
        return found

    def status(self, name: str = "web", namespace: str = "default") -> list[dict[str, Any]]:
        """The network-status of a pod."""
        entries: list[dict[str, Any]] = json.loads(
            self.object(name, namespace)["metadata"]["annotations"][STATUS]
        )
        return entries

    def events(self) -> list[tuple[str, str, str]]:
        """Type, reason and message of the events, in the order of their creation."""
        seen = [json.loads(each.body) for each in self.server.requests if each.path.endswith("/events")]
        return [(each["type"], each["reason"], each["message"]) for each in seen]

    def requests(self) -> list[str]:
        """What was asked, such as `GET pods/web`, events left out."""
        told = [f"{each.method} {each.path.split('/default/')[-1]}" for each in self.server.requests]
        return [each for each in told if not each.endswith("/events") and not each.endswith(" events")]


@contextmanager
def cluster(multus: Multus, host: Namespace, authority: Authority, folder: Path) -> Iterator[Cluster]:
    """Run an API server that listens in the host's namespace."""
    with netns.opened(host.path) as inside:
        listening = inside.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.bind(("127.0.0.1", 0))
    listening.listen(1024)
    with ApiServer(folder, authority=authority, sock=listening) as server:
        server.users[_TOKEN] = User("multus")
        for name in ("web", "other", "secret"):
            server.seed({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        server.seed(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": "multus"},
                "rules": RULES,
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "multus"},
                "roleRef": {"kind": "ClusterRole", "name": "multus", "apiGroup": "rbac.authorization.k8s.io"},
                "subjects": [{"kind": "User", "name": "multus"}],
            },
        )
        yield Cluster(server, multus, server.kubeconfig(_TOKEN))
