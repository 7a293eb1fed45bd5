"""Structural schemas of custom resources: what is dropped, what is filled in, what is refused; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

Schema = Mapping[str, Any]
_ANYTHING: Schema = {"x-kubernetes-preserve-unknown-fields": True}
Fault = tuple[str, str, str]  # field, reason, message

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def pruned(value: Any, schema: Schema, known: Any = None) -> Any:
    """Return a value without the fields that its schema does not know, and with its defaults.

    `known` went through this before: what is shared with it is not looked at again.
    """
    if value is known:
        return value
    if isinstance(value, list):
        items = schema.get("items", {})
        return [pruned(item, items) for item in value]
    if not isinstance(value, dict):
        return value
    before = known if isinstance(known, dict) else {}
    kept = {
        key: pruned(item, inner, before.get(key))
        for key, item in value.items()
        if (inner := _schema_of(key, schema)) is not None
    }
    for key, inner in schema.get("properties", {}).items():
        if key not in kept and "default" in inner:
            kept[key] = inner["default"]
    return kept


def _schema_of(key: str, schema: Schema) -> Schema | None:
    """Return the schema of an object's field; None if there is to be no such field."""
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    if key in properties:
        return cast(Schema, properties[key])
    if isinstance(others, Mapping):
        return others
    return _ANYTHING if others is True or schema.get("x-kubernetes-preserve-unknown-fields") else None


def faults(value: Any, schema: Schema, path: str = "", known: Any = None) -> Iterator[Fault]:
    """Yield everything that a schema does not allow; what is shared with `known` is allowed."""
    if value is known and known is not None:
        return
    wanted = schema.get("type")
    if wanted and not _is(value, wanted):
        if value is None and schema.get("nullable"):
            return
        found = _type_of(value)
        text = f'Invalid value: "{found}": {path} in body must be of type {wanted}: "{found}"'
        yield path, "FieldValueTypeInvalid", text
    elif isinstance(value, dict):
        yield from _faults_of_object(value, schema, path, known)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from faults(item, schema.get("items", {}), f"{path}[{index}]")
    else:
        yield from _faults_of_scalar(value, schema, path)


def _faults_of_object(value: dict[str, Any], schema: Schema, path: str, known: Any) -> Iterator[Fault]:
    def inner(key: str) -> str:
        return f"{path}.{key}" if path else key

    for key in schema.get("required", ()):
        if key not in value:
            yield inner(key), "FieldValueRequired", "Required value"
    before = known if isinstance(known, dict) else {}
    for key, item in value.items():
        if item is not before.get(key, value) and (wanted := _schema_of(key, schema)) is not None:
            yield from faults(item, wanted, inner(key), before.get(key))


def _faults_of_scalar(value: Any, schema: Schema, path: str) -> Iterator[Fault]:
    if "enum" in schema and value not in schema["enum"]:
        yield path, "FieldValueNotSupported", f'Unsupported value: "{value}"'
    if "pattern" in schema and not re.search(schema["pattern"], str(value)):
        yield path, "FieldValueInvalid", f'Invalid value: "{value}": {path} in body should match its pattern'
    if "minimum" in schema and value < schema["minimum"]:
        yield path, "FieldValueInvalid", f"Invalid value: {value}: {path} in body should be greater"


def _is(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    return isinstance(value, _TYPES[wanted])


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    return next(name for name in ("boolean", "integer", "number", *_TYPES) if _is(value, name))
