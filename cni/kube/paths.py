"""Paths of the Kubernetes API: built from names that are checked, and told in words.

A name goes into a path only if it is one that an object can have, so no name of a configuration or of
the environment can lead a request elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cni.protocol.errors import CniError, Code

_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAX_SUBDOMAIN = 253
_MAX_LABEL = 63


class InvalidName(CniError):
    """A name that no object can have."""

    code = Code.INVALID_NETWORK_CONFIG


def is_name(text: str) -> bool:
    """Whether it is a DNS-1123 subdomain: what objects, resources and API groups are called."""
    return len(text) <= _MAX_SUBDOMAIN and _SUBDOMAIN.fullmatch(text) is not None


def is_namespace(text: str) -> bool:
    """Whether it is a DNS-1123 label."""
    return len(text) <= _MAX_LABEL and "." not in text and is_name(text)


def resource(
    version: str, plural: str, *, namespace: str | None = None, name: str | None = None, subresource: str = ""
) -> str:
    """Return the path of an object, or of a collection if no name is given.

    Args:
        version: `v1` for the core, else group and version: `whereabouts.cni.cncf.io/v1alpha1`.
        namespace: None for what has none, and for the collection across all namespaces.

    Raises:
        InvalidName: code 7; the name or namespace is none that Kubernetes allows.
    """
    if namespace is not None and not is_namespace(namespace):
        raise _refusal("namespace", namespace, _MAX_LABEL)
    if name is not None and not is_name(name):
        raise _refusal(f"name of {plural}", name, _MAX_SUBDOMAIN)
    parts = ["apis" if "/" in version else "api", version]
    parts += ["namespaces", namespace] if namespace is not None else []
    parts += [part for part in (plural, name, subresource) if part]
    return checked("/" + "/".join(parts))


def checked(path: str) -> str:
    """Return a path whose every segment is a name.

    Raises:
        InvalidName: one is not.
    """
    for segment in path.removeprefix("/").split("/"):
        if not is_name(segment):
            raise _refusal(f"part of the API path {path!r:.200}", segment, _MAX_SUBDOMAIN)
    return path


def _refusal(what: str, text: str, longest: int) -> InvalidName:
    return InvalidName(
        f"{what} cannot be {text!r:.100}",
        why=f"Kubernetes allows up to {longest} lower case letters, digits, '-' and (not in namespaces) '.', "
        "with a letter or digit at both ends.",
        fix="Correct the name.",
    )


@dataclass(frozen=True)
class Target:
    """What a path leads to."""

    group: str  # "" is the core
    plural: str
    namespace: str
    name: str
    subresource: str

    @classmethod
    def of(cls, path: str) -> Target:
        """Read a path that `resource` built."""
        _, root, *parts = path.split("/")
        if root not in ("api", "apis"):
            return cls("", path, "", "", "")
        group = parts.pop(0) if root == "apis" else ""
        parts = parts[1:]  # the version
        namespace = ""
        if parts[:1] == ["namespaces"] and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        plural, name, subresource, *_ = [*parts, "", "", ""]
        return cls(group, plural, namespace, name, subresource)

    @property
    def is_no_resource(self) -> bool:
        """Whether it is a plain URL such as `/version`."""
        return self.plural.startswith("/")

    @property
    def resource(self) -> str:
        """The resource as a role names it: `pods/status`."""
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural

    def __str__(self) -> str:
        named = f'{self.resource} "{self.name}"' if self.name else self.resource
        return f'{named} in namespace "{self.namespace}"' if self.namespace else named
