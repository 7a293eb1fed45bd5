"""docs/reference.md: every key of every plugin, made of the models that read them and of the plugins' pages.

Types, defaults and bounds are the models'; what a key means is what the plugin's page says of it.

    python -m tests.support.reference >docs/reference.md
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cni.cli.schemas import schema
from cni.protocol import registry

DOCS = Path(__file__).parents[2] / "docs"
_HEAD = """# Reference of every key

Made of the models that read configurations; a test keeps it current. `podrail schemas` prints the same as
JSON Schema, which editors complete, and [docs/schemas](schemas) has it. Keys may have any case, as with the
Go plugins. A key that is absent, `null`, `""` or 0 has its default, unless that is a value of its own.
"""
_PAGES = {"rdma": "sriov.md"}  # whose keys are on another plugin's page
_SHARED = {
    "name": "the network's name",
    "cniVersion": "the version of the CNI spec that the configuration is written in",
    "type": "the plugin: its executable's name",
    "prevResult": "the result of the chain so far, or of ADD; the runtime's",
    "runtimeConfig": "what the runtime gives for the capabilities; the runtime's",
    "capabilities": "what the runtime may give in `runtimeConfig`",
    "args": "further arguments, such as `args.cni`",
    "disableCheck": "runtimes call no CHECK",
    "disableGC": "runtimes call no GC",
    "loadOnlyInlinedPlugins": "the runtime's",
    "ipam": "the IPAM plugin's section",
    "dns": "DNS settings for the result",
    "nameservers": "their addresses",
    "domain": "the local domain",
    "search": "domains to search in",
    "options": "the resolver's",
    "dst": "where the route leads, as `10.9.0.0/16`",
    "gw": "the next hop; the address's gateway if left out",
    "advmss": "the largest TCP segment to advertise, bytes",
    "mtu": "bytes",
    "priority": "the metric",
    "table": "the routing table's number",
    "scope": "as `ip route` numbers it; 253 is on the link",
    "address": "with its prefix length",
    "gateway": "told with the address",
    "ips": "addresses that the pod asks for",
    "cni": "what a pod asks for",
    "maxAge": "days that a log file is kept",
    "maxSize": "megabytes of a log file before another is begun",
    "kubeconfig": "the file that tells how to reach the cluster",
    "k8s_api_root": "accepted, of no effect",
    "logToStderr": "see [the log](multus.md#the-log)",
    "logFile": "see [the log](multus.md#the-log)",
    "maxBackups": "log files that are kept",
    "compress": "whether kept log files are compressed",
    "cni.dev/valid-attachments": "what GC is to keep; the runtime's",
}

Schema = Mapping[str, Any]


def text() -> str:
    """Return the whole page."""
    schemas = {name: schema(name) for name in registry.TYPES}
    every = [whole["properties"] for whole in schemas.values()]
    shared = {key: told for key, told in every[0].items() if all(each.get(key) == told for each in every)}
    common = {**schemas["macvlan"], "properties": shared}
    out = [_HEAD, "\n## Every plugin\n", *_tables(common, {})]
    for name, whole in schemas.items():
        own = {key: told for key, told in whole["properties"].items() if key not in shared}
        page = _PAGES.get(name, f"{name}.md")
        out += [f"\n## {name}\n\nMore on [its page]({page}).\n"]
        out += _tables({**whole, "properties": own}, _told_by((DOCS / page).read_text()))
    return "".join(out)


def _tables(whole: Schema, told_by_page: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    known = whole.get("$defs", {})
    for title, section in _sections(whole, known, ""):
        yield f"\n### `{title}`\n\n" if title else "\n"
        yield "| key | type | default | bounds | meaning |\n|---|---|---|---|---|\n"
        for key, told in section["properties"].items():
            kind, meaning = told_by_page.get(key, ("string" if key in _SHARED else "any", ""))
            yield _row(key, told, known, kind, meaning or _SHARED.get(key, ""))


def _sections(told: Schema, known: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield a section and those within it that have keys of their own, each with its place."""
    yield path, told
    for key, inner in told["properties"].items():
        for each in _alternatives(inner, known):
            below, mark = (each.get("items", {}), "[]") if each.get("type") == "array" else (each, "")
            section = _resolved(below, known)
            if len(section.get("properties", ())) > 1 and path.count(".") < 3:
                yield from _sections(section, known, f"{path}.{key}{mark}".lstrip("."))


def _row(key: str, told: Schema, known: Schema, page_kind: str, meaning: str) -> str:
    kinds: list[str] = []
    bounds: list[str] = []
    for each in _alternatives(told, known):
        kind = _kind(each, known)
        kinds.append(page_kind if kind == "any" else kind)
        bounds += _bounds(each)
    is_plain = told.get("default") not in (None, "") and not isinstance(told["default"], dict)
    default = f"`{json.dumps(told['default'])}`" if is_plain else "none"
    kind = " or ".join(dict.fromkeys(kinds)) or page_kind
    return f"| {' | '.join([f'`{key}`', kind, default, ', '.join(bounds), meaning])} |\n"


def _kind(told: Schema, known: Schema) -> str:
    if "enum" in told or "const" in told:
        return "string" if isinstance((told.get("enum") or [told["const"]])[0], str) else "integer"
    kind = str(told.get("type", "object" if told.get("properties") else "any"))
    if kind == "array":
        inner = [_kind(each, known) for each in _alternatives(told.get("items", {}), known)]
        return f"list of {' or '.join(dict.fromkeys(inner)) or 'any'}"
    return kind


def _bounds(told: Schema) -> list[str]:
    found = []
    if values := told.get("enum") or ([told["const"]] if "const" in told else []):
        found.append(" ".join(f"`{value}`" for value in values))
    for name, sign in (
        ("minimum", "≥"),
        ("maximum", "≤"),
        ("exclusiveMinimum", ">"),
        ("minLength", "length ≥"),
    ):
        if name in told:
            found.append(f"{sign} {told[name]}")
    return found


def _alternatives(told: Schema, known: Schema) -> list[Schema]:
    """What a value may be, null apart."""
    each = told.get("anyOf") or told.get("oneOf") or [told]
    resolved = [_resolved(one, known) for one in each]
    return [one for one in resolved if one.get("type") != "null"]


def _resolved(told: Schema, known: Schema) -> Schema:
    found: Schema = known.get(str(told.get("$ref", "")).rpartition("/")[2], told)
    return found


def _told_by(page: str) -> dict[str, tuple[str, str]]:
    """What the tables of a page say of each key: its type, and the last cell of its row.

    A row that says "as all below" speaks for those below it that say nothing.
    """
    found: dict[str, tuple[str, str]] = {}
    for_all = ""
    for line in page.splitlines():
        if row := re.match(r"^\| (`[^|]+`) \| (.*) \|$", line):
            cells = [cell.strip() for cell in re.split(r"\|(?= |$)", row[2])]
            for_all = cells[-1] if "as all below" in cells[-1] else for_all
            for key in re.findall("`([^`]+)`", row[1]):
                found.setdefault(key, (cells[0], cells[-1] or for_all))
    return found


if __name__ == "__main__":
    sys.stdout.write(text())
