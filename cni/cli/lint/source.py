"""Documents with positions: what a file says, and where it says it.

YAML's reader serves JSON too, which is a part of it, since it tells where each key and value begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cni.cli.lint.finding import Finding, Place

SUFFIXES = (".conf", ".conflist", ".json", ".yaml", ".yml")


@dataclass(frozen=True)
class Document:
    """A parsed document; `places` leads from a path, such as `ipam.range`, to where it stands."""

    file: str
    value: Any
    places: dict[str, Place] = field(default_factory=dict)

    def place(self, path: str) -> Place:
        """Return where a path stands, or the nearest one above it that does."""
        while path and path.casefold() not in self.places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.places.get(path.casefold(), Place(self.file, 1, 1))

    def within(self, path: str, text: str) -> Document:
        """Read JSON that is the text of a string in this document, and find its places in this file.

        Raises:
            Unreadable: it is not JSON.
        """
        start = self.places.get(f"{path.casefold()}#text", self.place(path))
        return parse_json(text, self.file, start)


class Unreadable(Exception):
    """A text that is not what it should be; `finding` says where it ends to be."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


def read(file: str, text: str) -> Iterator[Document]:
    """Yield the documents of a file: one of JSON, or several of YAML.

    Raises:
        Unreadable: it is neither.
    """
    if text.lstrip()[:1] in ("{", "["):
        yield parse_json(text, file, Place(file, 1, 1))
        return
    try:
        for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
            yield _document(node, file, Place(file, 1, 1))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise Unreadable(Finding(place, "syntax", f"this is not YAML: {problem}")) from error


def parse_json(text: str, file: str, start: Place) -> Document:
    """Read one JSON document that begins at `start` in a file.

    Raises:
        Unreadable: it is not JSON.
    """
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        place = start.beyond(error.lineno - 1, error.colno - 1)
        raise Unreadable(Finding(place, "syntax", f"this is not JSON: {error.msg}")) from error
    # A tab between tokens is JSON and no YAML; within a string it would be neither.
    return _document(yaml.compose(text.replace("\t", " "), Loader=yaml.SafeLoader), file, start)


def files(paths: list[str]) -> Iterator[Path]:
    """Yield the files that are named, and of directories those that may hold configurations.

    Raises:
        FileNotFoundError: one does not exist.
    """
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES and each.is_file())
        elif path.exists():
            yield path
        else:
            raise FileNotFoundError(2, "there is no such file or directory", str(path))


def _document(node: yaml.Node | None, file: str, start: Place) -> Document:
    places: dict[str, Place] = {}
    value = _value(node, "", start, places) if node is not None else None
    return Document(file, value, places)


def _value(node: yaml.Node, path: str, start: Place, places: dict[str, Place]) -> Any:
    """Return what a node means, and note where it and all below it stand."""
    places.setdefault(path.casefold(), start.beyond(node.start_mark.line, node.start_mark.column))
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            below = f"{path}.{key}" if path else key
            place = start.beyond(key_node.start_mark.line, key_node.start_mark.column)
            if key in found:
                places[f"{below.casefold()}#twice"] = place
            places[f"{below.casefold()}#key"] = place
            found[key] = _value(value_node, below, start, places)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_value(each, f"{path}[{index}]", start, places) for index, each in enumerate(node.value)]
    places[f"{path.casefold()}#text"] = _text_start(node, start)
    return yaml.SafeLoader("").construct_object(node)


def _text_start(node: Any, start: Place) -> Place:
    """Return where the text of a string begins: after its quote, or in a block on the line after its mark."""
    mark = node.start_mark
    if node.style in ("|", ">"):
        lines = mark.buffer[mark.pointer :].split("\n")
        first = next((line for line in lines[1:] if line.strip()), "")
        indent = len(first) - len(first.lstrip(" \0"))
        place = start.beyond(mark.line + 1, indent)
        return Place(place.file, place.line, place.column, start.indent + indent)
    return start.beyond(mark.line, mark.column + (1 if node.style in ("'", '"') else 0))
