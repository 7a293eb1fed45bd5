"""Rights: what a credential may do in a namespace, asked in one request and without changing anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cni.kube.client import Client
from cni.kube.paths import resource

_VERSION = "authorization.k8s.io/v1"


@dataclass(frozen=True)
class Rights:
    """The rules that an API server says apply; `is_whole` unless it says that there may be more."""

    rules: tuple[Mapping[str, Any], ...]
    is_whole: bool

    @classmethod
    def in_namespace(cls, api: Client, namespace: str) -> Rights:
        """Ask for them.

        Raises:
            ApiError: such as NotFound, of a server that does not tell.
        """
        kind = {"apiVersion": _VERSION, "kind": "SelfSubjectRulesReview"}
        review = api.create(
            resource(_VERSION, "selfsubjectrulesreviews"), {**kind, "spec": {"namespace": namespace}}
        )
        status = review.get("status") or {}
        return cls(tuple(status.get("resourceRules") or ()), not status.get("incomplete"))

    def missing(self, group: str, plural: str, verbs: Iterable[str]) -> list[str]:
        """Return those verbs that are surely not granted for all objects of a kind."""
        return [verb for verb in verbs if self.is_whole and not self._grants(group, plural, verb)]

    def _grants(self, group: str, plural: str, verb: str) -> bool:
        return any(
            {verb, "*"} & set(rule.get("verbs") or ())
            and {group, "*"} & set(rule.get("apiGroups") or ())
            and {plural, "*"} & set(rule.get("resources") or ())
            and not rule.get("resourceNames")  # a rule for some objects only
            for rule in self.rules
        )
