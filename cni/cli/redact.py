"""Secrets are taken out of what leaves the node (pure).

Known by their key, or by their own look: private keys, tokens, credentials in URLs. In doubt a value goes.
"""

from __future__ import annotations

import json
import re
from typing import Any

REDACTED = "REDACTED"

_KEYS = re.compile(
    r"(?i)(?:^|[^a-z])(?:token|pass(?:word|wd|phrase)?|secrets?|credentials?|auth(?:orization)?|"
    r"api.?key|private.?key|(?:client|certificate).?.*data|id.?token|refresh.?token|access.?key)(?:$|[^a-z])"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")  # clientSecret is read as client-secret
_PEM = re.compile(r"-----BEGIN [^-]*-----.*?(?:-----END [^-]*-----|\Z)", re.DOTALL)
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{6,}")
_USERINFO = re.compile(r"(?<=://)[^/\s@\"']+@")
# `key: value`, `key=value`, `"key": "value"`, `--key value`; the value to the end of its quotes or the word.
_ASSIGNED = re.compile(
    r"""(?P<key>["']?[A-Za-z][A-Za-z0-9_.-]{1,60}["']?)(?P<between>\s*[:=]\s*)"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;{}\[\]"']+)"""
)
_FLAG = re.compile(r"(?i)(?<![\w-])(--?[a-z-]*(?:token|password|secret|api-?key)[a-z-]*)(\s+)[^\s-]\S*")
# Keys in base64: longer than any name or digest, no path, and of all kinds of characters.
_LONG = re.compile(r"(?<![A-Za-z0-9+/_.=-])[A-Za-z0-9+_-][A-Za-z0-9+/_-]{99,}={0,2}")


def text(value: str) -> str:
    """Return a text without what looks like a secret."""
    for pattern, replacement in (
        (_PEM, REDACTED),
        (_JWT, REDACTED),
        (_BEARER, rf"\1 {REDACTED}"),
        (_USERINFO, f"{REDACTED}@"),
        (_FLAG, rf"\1\2{REDACTED}"),
    ):
        value = pattern.sub(replacement, value)
    value = _ASSIGNED.sub(_assignment, value)
    return _LONG.sub(_long, value)


def document(value: Any) -> Any:
    """Return a JSON document without values whose key names a secret, and without what looks like one.

    The users of a kubeconfig lose all that they have but their names.
    """
    if isinstance(value, dict):
        is_kubeconfig = isinstance(value.get("users"), list) and "clusters" in value
        return {
            text(key) if isinstance(key, str) else key: _user_names(each)
            if is_kubeconfig and key == "users"
            else _value(str(key), each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [document(each) for each in value]
    return _string(value) if isinstance(value, str) else value


def is_secret(key: str) -> bool:
    """Tell whether a key names a secret, such as `clientSecret` or `client-key-data`."""
    return bool(_KEYS.search(_CAMEL.sub("-", key)))


def _value(key: str, value: Any) -> Any:
    if is_secret(key) and not isinstance(value, bool) and value not in (None, "", [], {}):
        return REDACTED
    return document(value)


def _string(value: str) -> str:
    """A text that is JSON itself, as configurations in annotations are, is read as such."""
    if value.lstrip()[:1] in ("{", "["):
        try:
            return json.dumps(document(json.loads(value)))
        except (ValueError, RecursionError):
            pass
    return text(value)


def _user_names(users: list[Any]) -> list[Any]:
    names = [each.get("name") if isinstance(each, dict) else None for each in users]
    return [{"name": name, "user": REDACTED} for name in names]


def _long(match: re.Match[str]) -> str:
    found = match[0]
    is_mixed = any(map(str.isupper, found)) and any(map(str.islower, found)) and any(map(str.isdigit, found))
    return REDACTED if is_mixed else found


def _assignment(match: re.Match[str]) -> str:
    key, between, value = match["key"], match["between"], match["value"]
    if not is_secret(key.strip("\"'")) or value in ("true", "false", "null", '""', REDACTED):
        return match[0]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{key}{between}{quote}{REDACTED}{quote}"


def file(content: str) -> str:
    """Return a file's text without secrets: read as JSON or YAML if it is such, else line by line.

    A kubeconfig that cannot be read is left out: what in it is secret is not known.
    """
    import yaml  # 15 ms that only bundles need

    try:
        return json.dumps(document(json.loads(content)), indent=2) + "\n"
    except (ValueError, RecursionError):
        pass
    try:
        documents = [document(each) for each in yaml.safe_load_all(content)]
        if any(isinstance(each, dict | list) for each in documents):
            return yaml.safe_dump_all(documents, sort_keys=False)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        if "clusters" in content or "users" in content:
            return "left out: it cannot be read, and may be a kubeconfig\n"
    return text(content)


def log(data: bytes) -> bytes:
    """Return lines of a log without secrets; lines of JSON are read as such."""
    lines = data.decode("utf-8", "replace").splitlines()
    return "".join(f"{_line(line)}\n" for line in lines).encode("utf-8", "backslashreplace")


def _line(line: str) -> str:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return text(line)
    return json.dumps(document(found)) if isinstance(found, dict) else text(line)
