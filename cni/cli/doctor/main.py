"""podrail doctor: find what would keep a pod from its networks on this node; changes nothing."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from cni.cli.doctor import cluster, install, node, state
from cni.cli.doctor.configured import Configured
from cni.cli.doctor.finding import Finding
from cni.cli.doctor.root import Root
from cni.cli.install import runtime
from cni.protocol import registry

_EPILOG = """exit status: 0 no error, 1 an error (with --strict a warning too), 2 called wrongly

examples:
  podrail doctor
  podrail doctor --kubeconfig /etc/cni/net.d/whereabouts.d/whereabouts.kubeconfig --json
  podrail doctor --root /mnt/node    # another node's files
"""


def main(arguments: list[str]) -> int:
    """Look, print what was found, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="podrail doctor",
        description=__doc__.partition(": ")[2],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument("--strict", action="store_true", help="warnings fail too")
    parser.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="the node's /; default: /"
    )
    parser.add_argument("--bin-dir", metavar="DIR", help="default: the runtime's, or /opt/cni/bin")
    parser.add_argument("--conf-dir", metavar="DIR", help="default: the runtime's, or /etc/cni/net.d")
    parser.add_argument("--kubeconfig", metavar="FILE", help="default: those that the networks name")
    parsed = parser.parse_args(arguments)
    if not parsed.root.is_dir():
        parser.error(f"{parsed.root} is no directory")
    findings = list(_findings(parsed))
    sys.stdout.write(_as_json(findings) if parsed.json else _as_text(findings))
    return int(any(each.severity == "error" or parsed.strict for each in findings))


def _findings(parsed: argparse.Namespace) -> Iterator[Finding]:
    root = Root(parsed.root, os.environ)
    places = runtime.directories(parsed.root)
    binaries = parsed.bin_dir or str(places.binaries)
    configured = Configured.read(root, parsed.conf_dir or str(places.networks))
    yield from install.python_version(sys.version_info[:2])
    yield from node.check(root, configured)
    yield from install.check(root, configured, binaries)
    yield from state.check(root)
    if root.is_this_node:
        yield from _pools()
    yield from cluster.check(root, configured, parsed.kubeconfig)


def _pools() -> Iterator[Finding]:
    for about, message in registry.load_pool_check()(os.environ):
        yield Finding("pool-fill", about, message, "Make its range larger, or free addresses.", "warning")


def _as_json(findings: list[Finding]) -> str:
    listed = [
        {
            "check": each.check,
            "severity": each.severity,
            "about": each.about,
            "message": each.message,
            "fix": each.fix,
        }
        for each in findings
    ]
    return json.dumps({"findings": listed}, indent=2) + "\n"


def _as_text(findings: list[Finding]) -> str:
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    lines = []
    for each in findings:
        mark: str = each.severity
        if is_coloured:
            mark = f"\x1b[{31 if each.severity == 'error' else 33}m{mark}\x1b[0m"
        lines += [f"{mark}: {each.about}: {each.message} [{each.check}]", f"    {each.fix}"]
    errors = sum(each.severity == "error" for each in findings)
    lines.append(f"{errors} errors, {len(findings) - errors} warnings" if findings else "nothing found")
    return "\n".join(lines) + "\n"
