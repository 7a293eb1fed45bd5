"""Label and field selectors; pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.support.apiserver.refusals import Resource, bad_request

Selector = Callable[[dict[str, Any]], bool]

_SET = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)")


def labels(text: str) -> Selector:
    """Read `a=b,c!=d,e in (x,y),f,!g`."""
    terms = [term.strip() for term in re.split(r",(?![^(]*\))", text) if term.strip()]
    tests = [_label_term(term) for term in terms]

    def fits(item: dict[str, Any]) -> bool:
        present = item["metadata"].get("labels", {})
        return all(test(present) for test in tests)

    return fits


def _label_term(term: str) -> Callable[[dict[str, str]], bool]:
    if found := _SET.fullmatch(term):
        key, operator, values = found[1], found[2], {value.strip() for value in found[3].split(",")}
        return lambda present: (present.get(key) in values) == (operator == "in")
    if "!=" in term:
        key, value = (part.strip() for part in term.split("!="))
        return lambda present: present.get(key) != value
    if "=" in term:
        key, value = (part.strip() for part in term.replace("==", "=").split("="))
        return lambda present: present.get(key) == value
    if term.startswith("!"):
        return lambda present: term[1:].strip() not in present
    return lambda present: term in present


def fields(resource: Resource, text: str) -> Selector:
    """Read `spec.nodeName=a,metadata.name!=b`; only some fields may be named."""
    allowed = {"metadata.name", *(["metadata.namespace"] if resource.is_namespaced else []), *resource.fields}
    tests: list[tuple[list[str], bool, str]] = []
    for term in filter(None, text.split(",")):
        name, operator, value = re.split(r"(!=|==|=)", term, maxsplit=1) if "=" in term else (term, "", "")
        if name not in allowed or not operator:
            raise bad_request(f"field label not supported: {name}")
        tests.append((name.split("."), operator == "!=", value))
    return lambda item: all((_value(item, path) == value) != negated for path, negated, value in tests)


def _value(item: Any, path: list[str]) -> str:
    for key in path:
        item = item.get(key, {}) if isinstance(item, dict) else {}
    return item if isinstance(item, str) else ""
