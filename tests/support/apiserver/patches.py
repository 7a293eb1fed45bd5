"""The three kinds of patch, as the API server applies them; pure.

Objects are never changed in place: what a patch does not touch is shared with the original.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class PatchFailed(Exception):
    """A JSON patch cannot be applied: 422."""


class MalformedPatch(Exception):
    """The document is no patch: 400."""


def json_patch(document: Any, operations: Any) -> Any:
    """Apply an RFC 6902 patch. As in Kubernetes, a `test` for null passes if there is no such key."""
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise MalformedPatch("a JSON patch is a list of objects")
    for operation in operations:
        apply = _OPERATIONS.get(operation.get("op", ""))
        if apply is None or not isinstance(operation.get("path"), str):
            raise PatchFailed(f"unexpected kind: {operation.get('op')}")
        document = apply(document, operation)
    return document


def _add(document: Any, operation: dict[str, Any]) -> Any:
    def change(parent: Any, key: str) -> Any:
        if isinstance(parent, list):
            index = len(parent) if key == "-" else _index(key, len(parent) + 1)
            return [*parent[:index], operation.get("value"), *parent[index:]]
        return {**parent, key: operation.get("value")}

    return _changed(document, operation["path"], change)


def _remove(document: Any, operation: dict[str, Any]) -> Any:
    def change(parent: Any, key: str) -> Any:
        _required(parent, key)
        if isinstance(parent, list):
            return parent[: int(key)] + parent[int(key) + 1 :]
        return {name: value for name, value in parent.items() if name != key}

    return _changed(document, operation["path"], change)


def _replace(document: Any, operation: dict[str, Any]) -> Any:
    def change(parent: Any, key: str) -> Any:
        if isinstance(parent, list):
            _required(parent, key)
            return [*parent[: int(key)], operation.get("value"), *parent[int(key) + 1 :]]
        # Kubernetes adds what is not there, against the RFC.
        return {**parent, key: operation.get("value")}

    return _changed(document, operation["path"], change)


def _test(document: Any, operation: dict[str, Any]) -> Any:
    def look(parent: Any, key: str) -> Any:
        # A missing key is null; a missing parent is an error.
        found = parent.get(key) if isinstance(parent, dict) else _required(parent, key)
        if not same(found, operation.get("value")):
            raise PatchFailed(f"testing value {operation['path']} failed: test failed")
        return parent

    _changed(document, operation["path"], look)
    return document


def _move(document: Any, operation: dict[str, Any]) -> Any:
    value = _value_at(document, operation)
    removed = _remove(document, {"path": operation["from"]})
    return _add(removed, {"path": operation["path"], "value": value})


def _copy(document: Any, operation: dict[str, Any]) -> Any:
    return _add(document, {"path": operation["path"], "value": _value_at(document, operation)})


_OPERATIONS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "test": _test,
    "move": _move,
    "copy": _copy,
}


def _value_at(document: Any, operation: dict[str, Any]) -> Any:
    value = document
    for key in _keys(str(operation.get("from", ""))):
        value = _required(value, key)
    return value


def _changed(document: Any, path: str, change: Callable[[Any, str], Any]) -> Any:
    """Return a document whose container at a path was replaced, and nothing else copied."""
    *parents, last = _keys(path)

    def descend(value: Any, keys: list[str]) -> Any:
        if not isinstance(value, dict | list):
            raise PatchFailed(f"missing path: {path}")
        if not keys:
            return change(value, last)
        inner = descend(_required(value, keys[0]), keys[1:])
        if isinstance(value, list):
            return [*value[: int(keys[0])], inner, *value[int(keys[0]) + 1 :]]
        return {**value, keys[0]: inner}

    return descend(document, parents)


def _keys(pointer: str) -> list[str]:
    if not pointer.startswith("/"):
        raise PatchFailed(f"not a JSON pointer: {pointer!r}")
    return [key.replace("~1", "/").replace("~0", "~") for key in pointer[1:].split("/")]


def _required(parent: Any, key: str) -> Any:
    if isinstance(parent, list):
        return parent[_index(key, len(parent))]
    if not isinstance(parent, dict) or key not in parent:
        raise PatchFailed(f"missing key: {key}")
    return parent[key]


def _index(key: str, end: int) -> int:
    if not key.isdecimal() or int(key) >= end:
        raise PatchFailed(f"invalid index: {key}")
    return int(key)


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON; to Python `true` is 1."""
    if one is other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def merge_patch(document: Any, patch: Any) -> Any:
    """Apply an RFC 7386 patch."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


# Lists of built-in kinds that are merged by a key instead of being replaced; those that tests touch.
_MERGE_KEYS = {
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "ownerReferences": "uid",
    "podIPs": "ip",
    "volumes": "name",
}


def strategic_merge(document: Any, patch: Any, field: str = "") -> Any:
    """Apply a strategic merge patch: a merge patch that knows the keys of some lists."""
    if isinstance(patch, list) and field in _MERGE_KEYS:
        return _merged_list(document or [], patch, _MERGE_KEYS[field])
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    merged = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = strategic_merge(merged.get(key), value, key)
    return merged


def _merged_list(present: list[Any], patch: list[Any], key: str) -> list[Any]:
    changes = {item[key]: item for item in patch}
    merged = [
        strategic_merge(item, changes.pop(item[key])) if item[key] in changes else item for item in present
    ]
    return [item for item in [*merged, *changes.values()] if item.get("$patch") != "delete"]
