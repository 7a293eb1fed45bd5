"""The resources that the server has from the start, and those that definitions add."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.support.apiserver.refusals import Resource, bad_request, invalid

_PODS = ("spec.nodeName", "spec.restartPolicy", "status.phase", "status.podIP", "spec.serviceAccountName")
_EVENTS = ("involvedObject.name", "involvedObject.namespace", "involvedObject.uid", "reason", "type")
_RBAC, _EXTENSIONS = "rbac.authorization.k8s.io", "apiextensions.k8s.io"

BUILT_IN = (
    Resource("", "v1", "Namespace", "namespaces", is_namespaced=False, has_status=True),
    Resource("", "v1", "Node", "nodes", is_namespaced=False, has_status=True),
    Resource("", "v1", "Pod", "pods", has_status=True, fields=_PODS),
    Resource("", "v1", "Event", "events", fields=_EVENTS),
    Resource("", "v1", "ConfigMap", "configmaps"),
    Resource("", "v1", "Secret", "secrets", fields=("type",)),
    Resource("", "v1", "ServiceAccount", "serviceaccounts"),
    Resource("apps", "v1", "DaemonSet", "daemonsets"),
    Resource("coordination.k8s.io", "v1", "Lease", "leases"),
    Resource("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims", has_status=True),
    Resource(
        "resource.k8s.io",
        "v1",
        "ResourceSlice",
        "resourceslices",
        is_namespaced=False,
        fields=("spec.nodeName", "spec.driver"),
    ),
    Resource(_RBAC, "v1", "Role", "roles"),
    Resource(_RBAC, "v1", "RoleBinding", "rolebindings"),
    Resource(_RBAC, "v1", "ClusterRole", "clusterroles", is_namespaced=False),
    Resource(_RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", is_namespaced=False),
    Resource(
        _EXTENSIONS,
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        is_namespaced=False,
        has_status=True,
    ),
)
DEFINITIONS = BUILT_IN[-1]
NAMESPACES = BUILT_IN[0]
NODES, PODS = BUILT_IN[1:3]


def defined(definition: Mapping[str, Any]) -> list[Resource]:
    """Return what a CustomResourceDefinition adds, a resource for each version."""
    spec = definition["spec"]
    return [
        Resource(
            group=spec["group"],
            version=version["name"],
            kind=spec["names"]["kind"],
            plural=spec["names"]["plural"],
            is_namespaced=spec["scope"] == "Namespaced",
            has_status="status" in version.get("subresources", {}),
            schema=version["schema"]["openAPIV3Schema"],
        )
        for version in spec["versions"]
        if version["served"]
    ]


_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_METADATA = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "uid": str,
    "resourceVersion": str,
    "generation": int,
    "creationTimestamp": str,
    "deletionTimestamp": str,
    "deletionGracePeriodSeconds": int,
    "labels": dict,
    "annotations": dict,
    "ownerReferences": list,
    "finalizers": list,
}


def checked_metadata(metadata: Any) -> dict[str, Any]:
    """Return the known fields of metadata; unknown ones are dropped, a wrong type is 400."""
    if not isinstance(metadata, dict):
        raise bad_request("metadata must be an object")
    known = {key: metadata[key] for key in _METADATA if metadata.get(key) is not None}
    for key, value in known.items():
        if not isinstance(value, _METADATA[key]):
            raise bad_request(f"json: cannot unmarshal into Go struct field ObjectMeta.metadata.{key}")
        if isinstance(value, dict) and not all(isinstance(text, str) for text in value.values()):
            raise bad_request(f"json: cannot unmarshal into Go struct field ObjectMeta.metadata.{key}")
    return {key: value for key, value in known.items() if value not in ("", {}, [])}


def check_name(resource: Resource, name: str) -> None:
    """Refuse a name that is no DNS-1123 subdomain; RBAC's may be nearly anything."""
    if resource.group == _RBAC or (len(name) <= 253 and _SUBDOMAIN.fullmatch(name)):
        return
    message = f'Invalid value: "{name}": a DNS-1123 subdomain must consist of lower case characters'
    raise invalid(resource, name, [("metadata.name", "FieldValueInvalid", message)])
