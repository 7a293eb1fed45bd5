"""How findings are told: as text, JSON, or SARIF 2.1.0 for code hosts and editors."""

from __future__ import annotations

import json
from importlib.metadata import version

from cni.cli.lint.finding import Finding
from cni.cli.lint.rules import RULES

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_text(findings: list[Finding], files: int) -> str:
    lines = []
    for each in findings:
        lines.append(f"{each.place}: {each.severity}: {each.message} [{each.rule}]")
        lines += [f"    {text}" for text in (each.why, each.fix) if text]
    errors = sum(each.severity == "error" for each in findings)
    told = f"{errors} errors, {len(findings) - errors} warnings" if findings else "no mistakes"
    return "\n".join([*lines, f"{told} in {files} files"]) + "\n"


def as_json(findings: list[Finding], files: int) -> str:
    listed = [
        {
            "file": each.place.file,
            "line": each.place.line,
            "column": each.place.column,
            "severity": each.severity,
            "rule": each.rule,
            "field": each.field,
            "message": each.message,
            "why": each.why,
            "fix": each.fix,
        }
        for each in findings
    ]
    return json.dumps({"files": files, "findings": listed}, indent=2) + "\n"


def as_sarif(findings: list[Finding], _files: int) -> str:
    rules = [{"id": name, "shortDescription": {"text": text}} for name, text in RULES.items()]
    driver = {"name": "podrail lint", "version": version("podrail"), "rules": rules}
    results = [_result(each) for each in findings]
    run = {"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _result(finding: Finding) -> dict[str, object]:
    region = {"startLine": finding.place.line, "startColumn": finding.place.column}
    location = {"artifactLocation": {"uri": finding.place.file}, "region": region}
    text = " ".join(filter(None, (f"{finding.message}.", finding.why, finding.fix)))
    return {
        "ruleId": finding.rule,
        "level": finding.severity,
        "message": {"text": text},
        "locations": [{"physicalLocation": location}],
    }


FORMATS = {"text": as_text, "json": as_json, "sarif": as_sarif}
