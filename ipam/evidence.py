"""Evidence: what of a pod proves that an address which is recorded for it is free (pure).

Only what cannot be a matter of time is proof. A pod that starts, one that is being deleted, and a status
that is missing or cannot be read prove nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from cni.kube.paths import is_name, is_namespace
from ipam import kube_pods
from ipam.ranges import Ip


@dataclass(frozen=True)
class PodFacts:
    """What matters of a pod, so that thousands of them can be held."""

    phase: str
    is_being_deleted: bool
    is_evicted: bool  # the taint manager has marked it for deletion: its node will not call DEL
    addresses: frozenset[Ip] | None  # of its network-status; None if that tells none

    @classmethod
    def of(cls, pod: dict[str, Any]) -> Self:
        conditions = (pod.get("status") or {}).get("conditions") or ()
        is_evicted = any(
            each.get("type") == "DisruptionTarget"
            and each.get("status", "True") == "True"
            and each.get("reason") == "DeletionByTaintManager"
            for each in conditions
        )
        deleted = kube_pods.is_being_deleted(pod)
        return cls(kube_pods.phase(pod), deleted, is_evicted, kube_pods.addresses(pod))

    def has(self, address: Ip) -> bool:
        """Whether it is certain that the pod uses an address."""
        return self.phase == "Running" and address in (self.addresses or ())


def proof(podref: str, pod: PodFacts | None, address: Ip | None) -> str:
    """Return why an address that is recorded for a pod is free; "" if nothing proves it.

    Args:
        podref: `namespace/name`; entries of old versions have none.
        pod: the pod of that name as it is now, None if there is none.
        address: None for a key that means no address.
    """
    if not is_podref(podref):
        return ""
    if pod is None:
        return "the pod is not in the API"
    if pod.phase in ("Succeeded", "Failed"):
        return f"the pod has ended ({pod.phase})"
    if pod.is_evicted:
        return "the taint manager has marked the pod for deletion"
    if pod.is_being_deleted or pod.phase != "Running" or pod.addresses is None or address is None:
        return ""
    if address in pod.addresses:
        return ""
    has = ", ".join(map(str, sorted(pod.addresses, key=lambda each: (each.version, int(each)))))
    return f"the pod runs, and its network-status has only {has or 'no address'}"


def is_podref(text: str) -> bool:
    """Whether a pod of that name could exist."""
    namespace, _, name = text.partition("/")
    return is_namespace(namespace) and is_name(name)
