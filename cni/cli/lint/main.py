"""podrail lint: find mistakes in network configurations, offline.

Reads files, directories or stdin (`-`), as JSON or YAML: CNI configurations and lists, and Kubernetes'
NetworkAttachmentDefinitions, pods and what makes pods. Several are checked against each other too.
"""

from __future__ import annotations

import argparse
import sys

from cni.cli.lint import network, together
from cni.cli.lint.finding import Finding
from cni.cli.lint.kinds import Inputs
from cni.cli.lint.output import FORMATS
from cni.cli.lint.rules import RULES
from cni.cli.lint.source import Unreadable, files, read
from cni.command import parser_of


def main(arguments: list[str]) -> int:
    """Lint, print what was found, and return the exit status."""
    parsed = parser().parse_args(arguments)
    if parsed.rules:
        sys.stdout.write("".join(f"{name:18} {meaning}\n" for name, meaning in RULES.items()))
        return 0
    try:
        findings, count = _lint(parsed.paths or ["-"])
    except OSError as error:
        sys.stderr.write(f"podrail lint: {error.filename}: {error.strerror}\n")
        return 2
    sys.stdout.write(FORMATS["json" if parsed.json else parsed.format](findings, count))
    worst = network.severity(findings)
    return int(worst == "error" or (parsed.strict and worst is not None))


def parser() -> argparse.ArgumentParser:
    made = parser_of(
        "lint",
        "Find mistakes in network configurations, NetworkAttachmentDefinitions and pods, offline; several "
        "are checked against each other too.",
        statuses="0 no mistake, 1 an error (with --strict a warning too), 2 called wrongly",
        examples=(
            "podrail lint /etc/cni/net.d",
            "podrail lint networks.yaml pod.yaml --format sarif >lint.sarif",
            "kubectl get net-attach-def -A -o yaml | podrail lint -",
        ),
    )
    made.add_argument("paths", nargs="*", metavar="PATH", help="a file, a directory, or - for stdin")
    made.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    made.add_argument("--json", action="store_true", help="the same as --format json")
    made.add_argument("--strict", action="store_true", help="warnings fail too")
    made.add_argument("--rules", action="store_true", help="list the rules and exit")
    return made


def _lint(paths: list[str]) -> tuple[list[Finding], int]:
    """Return what is wrong, in the order of places, and how many files were read."""
    texts = {"-": sys.stdin.read()} if "-" in paths else {}
    for path in files([path for path in paths if path != "-"]):
        texts[str(path)] = path.read_bytes().decode("utf-8", "replace")
    inputs = Inputs()
    for file, text in texts.items():
        try:
            for document in read("<stdin>" if file == "-" else file, text):
                inputs.add(document)
        except Unreadable as error:
            inputs.findings.append(error.finding)
    findings = [*inputs.findings, *together.check(inputs)]
    for each in inputs.networks:
        findings += network.check(each)
    return sorted(dict.fromkeys(findings), key=lambda finding: (finding.place, finding.rule)), len(texts)
