"""What the API server answers when it refuses: Status objects, worded as the real one's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Resource:
    """One resource of the API."""

    group: str  # "" is the core
    version: str
    kind: str
    plural: str
    is_namespaced: bool = True
    has_status: bool = False
    schema: dict[str, Any] | None = None  # of a custom resource
    fields: tuple[str, ...] = ()  # further ones that a fieldSelector may name

    @property
    def is_custom(self) -> bool:
        return self.schema is not None

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


@dataclass(frozen=True)
class Place:
    """What a path leads to."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name


class Refusal(Exception):
    """An answer of 400 and above."""

    def __init__(self, code: int, reason: str, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": fields.pop("metadata", {}),
            "status": "Failure",
            "message": message,
            "reason": reason,
            **({"details": fields} if fields else {}),
            "code": code,
        }


def bad_request(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message)


def unauthorized() -> Refusal:
    return Refusal(401, "Unauthorized", "Unauthorized")


def forbidden(
    resource: Resource, name: str, user: str, verb: str, subresource: str, namespace: str
) -> Refusal:
    what = f'{resource.qualified} "{name}"' if name else resource.qualified
    plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    return Refusal(
        403,
        "Forbidden",
        f'{what} is forbidden: User "{user}" cannot {verb} resource "{plural}" '
        f'in API group "{resource.group}" {where}',
        **_details(resource, name),
    )


def not_found(resource: Resource, name: str) -> Refusal:
    return Refusal(404, "NotFound", f'{resource.qualified} "{name}" not found', **_details(resource, name))


def no_such_path() -> Refusal:
    return Refusal(404, "NotFound", "the server could not find the requested resource")


def already_exists(resource: Resource, name: str) -> Refusal:
    return Refusal(
        409, "AlreadyExists", f'{resource.qualified} "{name}" already exists', **_details(resource, name)
    )


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(resource: Resource, name: str, why: str = MODIFIED) -> Refusal:
    return Refusal(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}',
        **_details(resource, name),
    )


def expired(token: str = "") -> Refusal:
    metadata = {"continue": token} if token else {}
    message = "The provided continue parameter is too old to display a consistent list result."
    return Refusal(410, "Expired", message, metadata=metadata)


def too_large(limit: int) -> Refusal:
    return Refusal(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def unsupported_media_type(wanted: Sequence[str]) -> Refusal:
    message = "the body of the request was in an unknown format - accepted media types include: "
    return Refusal(415, "UnsupportedMediaType", message + ", ".join(wanted))


def invalid(resource: Resource, name: str, faults: Sequence[tuple[str, str, str]]) -> Refusal:
    """Return the refusal of an object; `faults` are field, reason and message."""
    told = ", ".join(f"{path}: {message}" for path, _, message in faults)
    causes = [{"reason": reason, "message": message, "field": path} for path, reason, message in faults]
    return Refusal(
        422,
        "Invalid",
        f'{resource.qualified_kind} "{name}" is invalid: {told if len(faults) == 1 else f"[{told}]"}',
        **_details(resource, name) | {"kind": resource.kind, "causes": causes},
    )


def patch_failed() -> Refusal:
    return Refusal(422, "Invalid", "the server rejected our request due to an error in our request")


def etcd_limit() -> Refusal:
    return Refusal(500, "", "etcdserver: request is too large")


def _details(resource: Resource, name: str) -> dict[str, Any]:
    details: dict[str, Any] = {"name": name} if name else {}
    return details | ({"group": resource.group} if resource.group else {}) | {"kind": resource.plural}
