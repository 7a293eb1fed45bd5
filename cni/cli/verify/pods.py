"""What pods were told: annotations of the cluster beside what multus has attached."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cni.cli.attached import AnyRecord, pod_of
from cni.cli.finding import Finding
from cni.cli.selected import NETWORKS, selected
from cni.kube.client import Client
from cni.kube.config import load
from cni.kube.deadline import Limits
from cni.kube.errors import NotFound
from cni.kube.paths import resource
from cni.state import Journal

STATUS = "k8s.v1.cni.cncf.io/network-status"
_RECREATE = "Recreate the pod."


def check(environment: Mapping[str, str], kubeconfig: str, node: str | None) -> Iterator[Finding]:
    """Compare; with a node's name also look for pods of it that multus never saw.

    Raises:
        CniError: the kubeconfig is wrong, or the API server does not answer.
    """
    records = {pod_of(record): record for record in Journal(AnyRecord, "multus", environment).all()}
    limits = Limits(connect=3.0, request=8.0, silence=9.0, operation=60.0)
    with Client(load(kubeconfig), limits) as api:
        for name, record in sorted(records.items()):
            if "/" in name:
                yield from _attached(api, name, record)
        if node:
            yield from _unseen(api, node, records)


def _attached(api: Client, name: str, record: AnyRecord) -> Iterator[Finding]:
    namespace, _, short = name.partition("/")
    try:
        pod = api.get(resource("v1", "pods", namespace=namespace, name=short))
    except NotFound:
        yield Finding(
            "pod",
            name,
            "the API server does not know it, and its attachments are still here",
            "Let the runtime call DEL or GC; podrail reclaim gives back what no sandbox has any more.",
        )
        return
    called = (record.model_extra or {}).get("attachments") or ()
    yield from _selection(name, pod, called)
    yield from _status(name, pod, called)


def _selection(name: str, pod: dict[str, Any], called: Any) -> Iterator[Finding]:
    """The networks of the annotation must all be attached."""
    attached = [each["name"] for each in called]
    for wanted in _wanted(pod):
        if wanted in attached:
            attached.remove(wanted)
        else:
            yield Finding("network", name, f"its annotation names {wanted}, which is not attached", _RECREATE)


def _wanted(pod: dict[str, Any]) -> list[str]:
    text = str((pod["metadata"].get("annotations") or {}).get(NETWORKS) or "")
    try:
        return ["/".join(each) for each in selected(text, pod["metadata"]["namespace"])]
    except ValueError:
        return []


def _status(name: str, pod: dict[str, Any], called: Any) -> Iterator[Finding]:
    """The network-status must tell what the plugins answered."""
    text = (pod["metadata"].get("annotations") or {}).get(STATUS)
    try:
        entries = json.loads(text or "[]")
        told = {str(entry.get("interface", "")): entry for entry in entries}
    except (ValueError, AttributeError, TypeError):
        yield Finding("network-status", name, "its network-status cannot be read", _RECREATE)
        return
    for each in called:
        answer = each.get("result") or {}
        entry = told.get(each["ifname"])
        if entry is None:
            if any(link.get("name") == each["ifname"] for link in answer.get("interfaces") or ()):
                yield Finding(
                    "network-status", name, f"its network-status does not tell of {each['ifname']}", _RECREATE
                )
            continue
        addresses = sorted(str(ip["address"]).partition("/")[0] for ip in answer.get("ips") or ())
        if sorted(entry.get("ips") or ()) != addresses:
            yield Finding(
                "network-status",
                f"{name} {each['ifname']}",
                f"its network-status tells {', '.join(entry.get('ips') or ()) or 'no address'}, "
                f"ADD answered {', '.join(addresses) or 'none'}",
                _RECREATE,
            )


def _unseen(api: Client, node: str, records: Mapping[str, AnyRecord]) -> Iterator[Finding]:
    """Pods that run here and want networks, of which multus knows nothing: something bypassed it."""
    for pod in api.list(resource("v1", "pods"), fieldSelector=f"spec.nodeName={node}"):
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        is_running = (pod.get("status") or {}).get("phase") == "Running"
        wanted = _wanted(pod)
        if wanted and is_running and not (pod.get("spec") or {}).get("hostNetwork") and name not in records:
            yield Finding(
                "network",
                name,
                f"it runs without its networks {', '.join(wanted)}: multus was not called for it",
                "Look which configuration sorts first (podrail doctor), then recreate the pod.",
            )
