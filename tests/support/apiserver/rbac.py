"""Who may do what: the roles and bindings among the objects, evaluated as the API server does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.support.apiserver import refusals
from tests.support.apiserver.objects import Objects
from tests.support.apiserver.refusals import Place

ADMINISTRATORS = "system:masters"


@dataclass(frozen=True)
class User:
    name: str
    groups: tuple[str, ...] = ()


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


def authorize(objects: Objects, user: User, verb: str, place: Place) -> None:
    """Refuse with 403 what no role grants."""
    if ADMINISTRATORS in user.groups:
        return
    if not any(_grants(rule, verb, place) for rule in _rules(objects, user, place.namespace)):
        raise refusals.forbidden(
            place.resource, place.name, user.name, verb, place.subresource, place.namespace
        )


def reviewed(objects: Objects, user: User, review: dict[str, Any]) -> dict[str, Any]:
    """Answer a SelfSubjectRulesReview: what the one who asks may do in a namespace."""
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    namespace = review["spec"]["namespace"]
    rules = [everything] if ADMINISTRATORS in user.groups else list(_rules(objects, user, namespace))
    listed = [{key: rule[key] for key in rule if key != "nonResourceURLs"} for rule in rules]
    return {**review, "status": {"resourceRules": listed, "nonResourceRules": [], "incomplete": False}}


def _rules(objects: Objects, user: User, namespace: str) -> Iterator[dict[str, Any]]:
    for item in objects.store:
        kind, where = item["kind"], item["metadata"].get("namespace", "")
        is_binding = kind == "ClusterRoleBinding" or (kind == "RoleBinding" and where == namespace)
        if is_binding and any(_is_subject(subject, user) for subject in item.get("subjects", ())):
            role = item["roleRef"]
            for other in objects.store:
                same_place = role["kind"] == "ClusterRole" or other["metadata"].get("namespace") == where
                if (other["kind"], other["metadata"]["name"]) == (role["kind"], role["name"]) and same_place:
                    yield from other.get("rules", ())


def _is_subject(subject: dict[str, Any], user: User) -> bool:
    if subject["kind"] == "ServiceAccount":
        return user.name == f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
    return subject["name"] == user.name if subject["kind"] == "User" else subject["name"] in user.groups


def _grants(rule: dict[str, Any], verb: str, place: Place) -> bool:
    what = f"{place.resource.plural}/{place.subresource}" if place.subresource else place.resource.plural
    names = rule.get("resourceNames")
    return (
        bool({verb, "*"} & set(rule.get("verbs", ())))
        and bool({place.resource.group, "*"} & set(rule.get("apiGroups", ())))
        and bool({what, "*"} & set(rule.get("resources", ())))
        and (not names or place.name in names)
    )
