"""The configurations in the documents: example files, and JSON blocks that name a plugin."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "conf-examples").glob("*.conf*"))
PAGES = sorted((ROOT / "docs").glob("*.md"))
# Examples with devices of this bus are run in the machine that has cards, see tests/vm.
_CARDS = '"0000:01:'


def json_blocks(page: Path) -> list[dict[str, Any]]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL)]


def configurations(*, with_cards: bool = False) -> list[Any]:
    """Every configuration in the documents that needs cards, or every one that needs none."""
    files = [pytest.param(json.loads(path.read_text()), id=path.name) for path in EXAMPLES]
    blocks = [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in (*PAGES, ROOT / "README.md")
        for number, block in enumerate(json_blocks(page))
        if {"type", "plugins"} & set(block)
    ]
    return [each for each in files + blocks if (_CARDS in json.dumps(each.values)) == with_cards]


def plugins_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the single configurations that a runtime makes of a file."""
    if "plugins" not in document:
        return [document]
    shared = {key: document[key] for key in ("cniVersion", "name")}
    return [{**plugin, **shared} for plugin in document["plugins"]]
