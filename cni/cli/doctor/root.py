"""Root: a node's files, read below a directory, so that another node's copy can be looked at as well."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Root:
    """The node whose `/` is `path`; what is not readable counts as absent."""

    path: Path
    environment: Mapping[str, str]

    @property
    def is_this_node(self) -> bool:
        return self.path == Path("/")

    def at(self, name: str | Path) -> Path:
        return self.path / str(name).lstrip("/")

    def text(self, name: str | Path) -> str | None:
        """Return a file's text without white space around it, None if it cannot be read."""
        with suppress(OSError):
            return self.at(name).read_text(errors="replace").strip()
        return None

    def number(self, name: str | Path) -> int | None:
        with suppress(ValueError, TypeError):
            return int(self.text(name) or "", 0)
        return None

    def exists(self, name: str | Path) -> bool:
        return os.path.lexists(self.at(name))

    def names(self, folder: str | Path) -> list[str]:
        with suppress(OSError):
            return sorted(path.name for path in self.at(folder).iterdir())
        return []

    def link(self, name: str | Path) -> str:
        """Return the last part of what a symbolic link points to, empty if it is none."""
        with suppress(OSError):
            return self.at(name).readlink().name
        return ""
