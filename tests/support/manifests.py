"""What podrail is deployed with on Kubernetes, as objects."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "packaging" / "kubernetes"

Manifest = dict[str, Any]


def read(name: str) -> list[Manifest]:
    """Return the objects of a file of the plain manifests."""
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def granted() -> list[tuple[str, str]]:
    """Return each right that the roles give: a resource and a verb."""
    rules = [rule for each in read("rbac.yaml") for rule in each.get("rules", ())]
    return [(name, verb) for rule in rules for name in rule["resources"] for verb in rule["verbs"]]


def without(resource: str, verb: str) -> list[Manifest]:
    """Return the objects of rbac.yaml without one right."""
    changed = copy.deepcopy(read("rbac.yaml"))
    for role in changed:
        role["rules"] = [kept for rule in role.get("rules", ()) for kept in _split(rule, resource, verb)]
    return changed


def _split(rule: Manifest, resource: str, verb: str) -> list[Manifest]:
    each = [{**rule, "resources": [name]} for name in rule["resources"]]
    return [
        {**one, "verbs": [v for v in one["verbs"] if (one["resources"], v) != ([resource], verb)]}
        for one in each
    ]
