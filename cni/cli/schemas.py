"""podrail schemas: JSON Schemas of the plugins' configurations, made of the models that read them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from cni.command import parser_of
from cni.protocol import registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(plugin_type: str) -> dict[str, Any]:
    """Return the schema of one plugin's configuration; keys are spelled as documents spell them."""
    conf = registry.load(plugin_type).conf
    made = conf.model_json_schema(by_alias=True)
    return {"$schema": DIALECT, **made, "title": f"podrail: configuration of {plugin_type}"}


def parser() -> argparse.ArgumentParser:
    made = parser_of(
        "schemas",
        "JSON Schemas of the plugins' configurations, by which editors complete and check them.",
        statuses="0 done, 2 called wrongly",
        examples=("podrail schemas macvlan >macvlan.json", "podrail schemas --into schemas"),
    )
    made.add_argument("type", nargs="?", choices=registry.TYPES, help="print the schema of this plugin")
    made.add_argument("--into", type=Path, metavar="DIR", help="write all schemas, a file each")
    return made


def main(arguments: list[str]) -> int:
    """Print the schema of a type, or write those of all into a directory."""
    parsed = parser().parse_args(arguments)
    if not parsed.type and not parsed.into:
        parser().error("say which TYPE to print, or --into which directory to write all")
    if parsed.type:
        sys.stdout.write(_text(parsed.type))
    if parsed.into:
        parsed.into.mkdir(parents=True, exist_ok=True)
        for plugin_type in registry.TYPES:
            (parsed.into / f"{plugin_type}.json").write_text(_text(plugin_type))
    return 0


def _text(plugin_type: str) -> str:
    return json.dumps(schema(plugin_type), indent=2) + "\n"
