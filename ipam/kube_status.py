"""What the credential may not do, as STATUS tells it."""

from __future__ import annotations

from cni.kube.errors import ApiError, Unreachable
from cni.kube.rights import Rights
from ipam.kube_objects import Objects
from ipam.kube_pool import GROUP_VERSION
from ipam.kube_reservations import PLURAL

_NEEDED = {"ippools": ("get", "create", "patch")}
_NEEDED_TO_RESERVE = {PLURAL: ("get", "list", "create", "patch", "delete")}


def denied(objects: Objects, *, is_unique: bool) -> list[str]:
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
        for plural, verbs in (_NEEDED | (_NEEDED_TO_RESERVE if is_unique else {})).items()
        if (missing := rights.missing(group, plural, verbs))
    ]
