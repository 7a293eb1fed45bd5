"""What the credential may not do, as STATUS tells it: asked in one request, and without changing anything."""

from __future__ import annotations

from typing import Any

from cni.kube.errors import ApiError, Unreachable
from cni.kube.paths import resource
from ipam.kube_objects import Objects
from ipam.kube_pool import GROUP_VERSION
from ipam.kube_reservations import PLURAL

_NEEDED = {"ippools": ("get", "create", "patch")}
_NEEDED_TO_RESERVE = {PLURAL: ("get", "list", "create", "patch", "delete")}


def denied(objects: Objects, *, is_unique: bool) -> list[str]:
    """Return a sentence for each resource of which a verb is missing."""
    path = resource("authorization.k8s.io/v1", "selfsubjectrulesreviews")
    kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}
    try:
        review = objects.api.create(path, {**kind, "spec": {"namespace": objects.namespace}})
    except Unreachable:
        raise
    except ApiError:
        return []  # a server that does not tell; the claim itself will
    status = review.get("status") or {}
    if status.get("incomplete"):
        return []
    faults = []
    for plural, verbs in (_NEEDED | (_NEEDED_TO_RESERVE if is_unique else {})).items():
        missing = [verb for verb in verbs if not _grants(status.get("resourceRules") or (), plural, verb)]
        if missing:
            faults.append(
                f"the credential may not {', '.join(missing)} {plural} of {GROUP_VERSION.partition('/')[0]} "
                f'in namespace "{objects.namespace}"'
            )
    return faults


def _grants(rules: Any, plural: str, verb: str) -> bool:
    group = GROUP_VERSION.partition("/")[0]
    return any(
        {verb, "*"} & set(rule.get("verbs") or ())
        and {group, "*"} & set(rule.get("apiGroups") or ())
        and {plural, "*"} & set(rule.get("resources") or ())
        and not rule.get("resourceNames")
        for rule in rules
    )
