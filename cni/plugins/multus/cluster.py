"""What multus asks of the API server: the pod, the networks that it names; and what it tells.

Loaded only where a cluster is configured.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from threading import Thread

from cni.kube.client import Client
from cni.kube.errors import Conflict, Forbidden, NotFound, OutcomeUnknown
from cni.kube.paths import resource
from cni.plugins.multus.annotation import of_pod
from cni.plugins.multus.args import PodArgs
from cni.protocol.errors import CniError, Code, InvalidEnvironment
from cni.protocol.gojson import JsonObject
from cni.protocol.notes import note

STATUS_ANNOTATION = "k8s.v1.cni.cncf.io/network-status"
_NETWORKS = ("k8s.cni.cncf.io/v1", "network-attachment-definitions")
_CONFIG_SOURCE = "kubernetes.io/config.source"
_MOST_READERS = 8  # a connection each, and a handshake of a few ms of CPU
_MOST_WRITES = 8

Reference = tuple[str, str]  # namespace and name of a network


def read_pod(api: Client, args: PodArgs) -> JsonObject:
    """Return the pod that the runtime speaks of.

    Raises:
        CniError: code 11, there is none; code 4, another one has its name by now, or no namespace is told.
    """
    if not args.namespace:
        raise InvalidEnvironment(
            f'CNI_ARGS names the pod "{args.name}" without its namespace',
            why="K8S_POD_NAMESPACE is missing or empty.",
            fix="The runtime must pass both, or none for what is no pod.",
        )
    try:
        pod = api.get(resource("v1", "pods", namespace=args.namespace, name=args.name))
    except NotFound as error:
        raise CniError(
            f"pod {args} is unknown to the API server",
            why="It was deleted, or it is a static pod that is not announced yet.",
            fix="Nothing, if it was deleted; the runtime calls again otherwise.",
            code=Code.TRY_AGAIN_LATER,
        ) from error
    told = str(pod["metadata"].get("uid", ""))
    if args.uid and told != args.uid and not _is_static(pod):
        raise InvalidEnvironment(
            f'expected pod UID "{args.uid}" but got "{told}" from the API server',
            why=f"Pod {args} was deleted, and another one has its name.",
            fix="Nothing; the runtime gives the old one up.",
        )
    return pod


def read_networks(
    api: Client, references: Iterable[Reference], created: str = ""
) -> dict[Reference, JsonObject | Exception]:
    """Return the networks, read side by side and each once, or why one could not be read.

    As they were after the pod was `created`: a warm process may have read them for another pod.
    """
    wanted = list(dict.fromkeys(references))
    found: dict[Reference, JsonObject | Exception] = {
        reference: known for reference in wanted if (known := _remembered(api, reference, created))
    }
    waiting = [reference for reference in wanted if reference not in found]

    def read() -> None:
        with suppress(IndexError):
            while True:
                reference = waiting.pop()  # atomic
                found[reference] = _network(api, reference, created)

    helpers = [Thread(target=read, daemon=True) for _ in range(min(len(waiting), _MOST_READERS) - 1)]
    for helper in helpers:
        helper.start()
    read()
    for helper in helpers:
        helper.join()
    return found


def write_status(api: Client, pod: JsonObject, text: str) -> None:
    """Put the network-status into the pod, beside whatever else it holds; a pod that is gone needs none.

    By reading and replacing, as the original does: its role has no `patch` on pods/status.

    Raises:
        ApiError: it could not be written.
    """
    named = {"namespace": pod["metadata"]["namespace"], "name": pod["metadata"]["name"]}
    uid = pod["metadata"].get("uid")
    for attempt in api.attempts(_MOST_WRITES):
        metadata = {**pod["metadata"], "annotations": {**of_pod(pod), STATUS_ANNOTATION: text}}
        try:
            api.replace(resource("v1", "pods", **named, subresource="status"), {**pod, "metadata": metadata})
            return
        except NotFound:
            note(f"{named['namespace']}/{named['name']}", "the pod is gone, so it gets no network-status")
            return
        except (Conflict, OutcomeUnknown):
            if attempt == _MOST_WRITES:
                raise
        pod = api.get(resource("v1", "pods", **named))
        if pod["metadata"].get("uid") != uid or of_pod(pod).get(STATUS_ANNOTATION) == text:
            return  # another pod by now, or it was written after all


def _remembered(api: Client, reference: Reference, created: str) -> JsonObject | None:
    with suppress(CniError):  # of a name that is none, which is told when it is read
        return api.remembered(_path(reference), created)
    return None


def _network(api: Client, reference: Reference, created: str) -> JsonObject | Exception:
    try:
        return api.get_settled(_path(reference), created)
    except Exception as error:  # for the thread that asked; here nobody would hear of it
        return error


def _path(reference: Reference) -> str:
    namespace, name = reference
    version, plural = _NETWORKS
    return resource(version, plural, namespace=namespace, name=name)


def check_answering(api: Client) -> None:
    """Ask for what everybody may read.

    Raises:
        ApiError: the API server would not serve an ADD.
    """
    with suppress(NotFound, Forbidden):  # it answers, and knows us
        api.get("/version")


def _is_static(pod: JsonObject) -> bool:
    """Tell whether the kubelet made the pod of a file: its UID is not the API server's."""
    return str(of_pod(pod).get(_CONFIG_SOURCE, "api")) != "api"
