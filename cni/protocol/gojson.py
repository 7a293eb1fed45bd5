"""JSON as Go's encoding/json reads it, since configurations are written for Go plugins.

Keys match whatever their case, the last of several wins, `null` is absent, invalid UTF-8 and lone
surrogates become U+FFFD, and NaN, Infinity and text after the document are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn

from cni.protocol.errors import DecodingFailure

MAX_BYTES = 16 * 1024 * 1024
_MAX_DEPTH = 128  # Go's is 10 000; what is read here must be written and read again by others with less

JsonObject = dict[str, Any]


def loads(data: bytes, what: str) -> Any:
    """Parse one JSON document.

    A repeated key keeps its last value and its last place, so that a fold over keys that differ
    by case only still finds the text's last one last.

    Raises:
        DecodingFailure: `what` is not one valid document of at most 16 MB.
    """
    if len(data) > MAX_BYTES:
        raise DecodingFailure(
            f"{what} is larger than {MAX_BYTES} bytes",
            fix="Look for what makes it so large; a network configuration has a few kilobytes.",
        )
    text = data.decode("utf-8", "replace")
    may_hold_lone_surrogates = "\\ud" in text or "\\uD" in text

    try:
        document = json.loads(
            text, object_pairs_hook=_keep_last, parse_constant=_refuse_constant, parse_float=_finite
        )
        if text.count("{") + text.count("[") > _MAX_DEPTH and _is_deeper(document, _MAX_DEPTH):
            raise RecursionError
        return _without_surrogates(document) if may_hold_lone_surrogates else document
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DecodingFailure(
            f"{what} is not valid JSON",
            why=f"{reason[:300]}." if text.strip() else "It is empty.",
            fix="Give it as one JSON document.",
        ) from error


def loads_object(data: bytes, what: str) -> JsonObject:
    """Parse one JSON document that must be an object.

    Raises:
        DecodingFailure: as `loads`, or the document is something else.
    """
    document = loads(data, what)
    if not isinstance(document, dict):
        raise DecodingFailure(
            f"{what} is a JSON {type_name(document)}, not an object", fix="Give it as { … }."
        )
    return document


def get(mapping: Mapping[str, Any], name: str) -> Any:
    """Return the value that Go would decode into the field `name`, or None."""
    return fold(mapping, (name,)).get(name)


def fold(mapping: Mapping[str, Any], names: tuple[str, ...]) -> JsonObject:
    """Return `mapping` with the keys that match one of `names`, spelled like it.

    `null` never replaces a value, other keys are dropped.
    """
    spelled = _spelled(names)
    found: JsonObject = {}
    for key, value in mapping.items():
        # As `folded` has it, without a call for each key: one that got longer matches nothing.
        name = spelled.get(key) or spelled.get(key.casefold())
        if name is not None and value is not None and len(name) == len(key):
            found[name] = value
    return found


@lru_cache(maxsize=256)  # the names are fields of models, and a call folds some fifty times
def _spelled(names: tuple[str, ...]) -> Mapping[str, str]:
    """Return each name by itself and by what keys that match it have in common."""
    return {folded(name): name for name in names} | {name: name for name in names}


def folded(key: str) -> str:
    """Return what keys have in common that Go takes for the same, such as `IPAM` and `ipam`.

    Go folds letter by letter, so "ß" is not "ss": a key that would get longer matches nothing but itself.
    """
    result = key.casefold()
    return result if len(result) == len(key) else key


def type_name(value: Any) -> str:
    """Return what JSON calls the type of a parsed value."""
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _keep_last(pairs: list[tuple[str, Any]]) -> JsonObject:
    result = dict(pairs)
    if len(result) < len(pairs):
        result.clear()
        for key, value in pairs:
            result.pop(key, None)
            result[key] = value
    return result


def _finite(text: str) -> float:
    """What becomes infinite could be written to no record: JSON has no word for it. Go refuses it too."""
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _is_deeper(document: Any, levels: int) -> bool:
    """Tell whether objects and lists lie in each other more than so many levels deep."""
    level = [document]
    for _ in range(levels):
        level = [
            item
            for each in level
            for item in (each.values() if type(each) is dict else each if type(each) is list else ())
            if type(item) in (dict, list)
        ]
        if not level:
            return False
    return True


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value
