"""Networks from files: by their name in a directory, or by a path.

Source: the NPWG's multi-network specification, section 4.1.2, for names; `libcni` for `*.conflist`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cni.protocol import gojson
from cni.protocol.chain import put
from cni.protocol.errors import CniError, InvalidConfig
from cni.protocol.gojson import JsonObject
from cni.protocol.notes import note

_SUFFIXES = (".conf", ".conflist", ".json")


def find(directory: Path, name: str) -> JsonObject | None:
    """Return the network of that name: a list before a single configuration, then by file name.

    A file that cannot be read is noted and passed over: it may be another network's.
    """
    named = []
    for path in _files(directory):
        try:
            raw = _read(path)
        except CniError as error:
            note("", f"{error.msg}: {error.why} It is passed over.")
            continue
        if gojson.get(raw, "name") == name:
            named.append(raw)
    return min(named, key=lambda raw: bool(gojson.get(raw, "type")), default=None)


def load(path: Path) -> JsonObject:
    """Return the network of a file, or of a directory's first file.

    Raises:
        InvalidConfig: code 7, there is none, or it cannot be read.
    """
    if path.is_dir():
        files = _files(path)
        if not files:
            raise InvalidConfig(
                f"{path} holds no network",
                why=f"No file there ends with {', '.join(_SUFFIXES)}.",
                fix="Put one there, or name another path.",
            )
        path = files[0]
    raw = _read(path)
    has_more = path.suffix == ".conflist" and gojson.get(raw, "loadOnlyInlinedPlugins") is not True
    return _with_plugins_of(raw, path.parent) if has_more else raw


def plugins_beside(directory: Path, name: str) -> list[JsonObject]:
    """Return the plugins that lie as files in the directory of a list's name."""
    folder = directory / name
    return [_read(path) for path in _files(folder) if path.suffix == ".conf"] if name else []


def _with_plugins_of(raw: JsonObject, directory: Path) -> JsonObject:
    listed: Any = gojson.get(raw, "plugins")
    name = gojson.get(raw, "name")
    more = plugins_beside(directory, name) if isinstance(name, str) and "/" not in name else []
    return put(raw, {"plugins": [*(listed if isinstance(listed, list) else ()), *more]}) if more else raw


def _files(directory: Path) -> list[Path]:
    try:
        found = sorted(directory.iterdir())
    except OSError:
        return []
    return [path for path in found if path.suffix in _SUFFIXES and path.is_file()]


def _read(path: Path) -> JsonObject:
    try:
        return gojson.loads_object(path.read_bytes(), f"the network in {path}")
    except OSError as error:
        raise InvalidConfig(
            f"cannot read the network in {path}",
            why=f"The system says: {error.strerror}.",
            fix="Correct the path, or put a configuration there.",
        ) from error
    except CniError as error:
        raise InvalidConfig(error.msg, why=error.why, fix=error.fix) from error
