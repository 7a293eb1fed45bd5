"""What the credential may not do, as STATUS tells it."""

from __future__ import annotations

from collections.abc import Mapping

from cni.kube.errors import ApiError, Unreachable
from cni.kube.rights import Rights
from ipam.kube_objects import SLICE_POOLS, Objects
from ipam.kube_pool import GROUP_VERSION
from ipam.kube_reservations import PLURAL

Needed = Mapping[str, tuple[str, ...]]  # verbs by resource

FOR_POOLS: Needed = {"ippools": ("get", "create", "patch")}
FOR_RESERVATIONS: Needed = {PLURAL: ("get", "list", "create", "patch", "delete")}
FOR_BLOCKS: Needed = {"ippools": ("list",), SLICE_POOLS: ("get", "list", "create", "patch")}


def denied(objects: Objects, needed: Needed) -> list[str]:
    """Return a sentence for each resource of which a verb is missing."""
    try:
        rights = Rights.in_namespace(objects.api, objects.namespace)
    except Unreachable:
        raise
    except ApiError:
        return []  # a server that does not tell; the claim itself will
    group = GROUP_VERSION.partition("/")[0]
    return [
        f'the credential may not {", ".join(missing)} {plural} of {group} in namespace "{objects.namespace}"'
        for plural, verbs in needed.items()
        if (missing := rights.missing(group, plural, verbs))
    ]
