"""podrail doctor: find what would keep a pod from its networks on this node; changes nothing."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from cni.cli.doctor import cluster, install, node, state
from cni.cli.doctor.configured import Configured
from cni.cli.doctor.root import Root
from cni.cli.finding import Finding, as_json, as_text, status
from cni.cli.install import runtime
from cni.command import parser_of, told
from cni.protocol import registry


def parser() -> argparse.ArgumentParser:
    made = parser_of(
        "doctor",
        "Find what would keep a pod from its networks on this node. Nothing is changed.",
        statuses="0 no error, 1 an error (with --strict a warning too), 2 called wrongly",
        examples=(
            "podrail doctor",
            "podrail doctor --kubeconfig /etc/cni/net.d/whereabouts.d/whereabouts.kubeconfig --json",
            "podrail doctor --root /mnt/node    # another node's files",
            "podrail doctor --bundle podrail-node-a.tar.gz    # what it said when the bundle was made",
        ),
    )
    made.add_argument("--json", action="store_true", help="print it as JSON")
    made.add_argument("--strict", action="store_true", help="warnings fail too")
    made.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="the node's /; default: /")
    made.add_argument("--bundle", type=Path, metavar="FILE", help="what was found when that bundle was made")
    made.add_argument("--bin-dir", metavar="DIR", help="default: the runtime's, or /opt/cni/bin")
    made.add_argument("--conf-dir", metavar="DIR", help="default: the runtime's, or /etc/cni/net.d")
    made.add_argument("--kubeconfig", metavar="FILE", help="default: those that the networks name")
    return made


def main(arguments: list[str]) -> int:
    """Look, print what was found, and return the exit status."""
    parsed = parser().parse_args(arguments)
    if not parsed.root.is_dir():
        parser().error(f"{parsed.root} is no directory")
    if parsed.bundle:
        from cni.cli.snapshot import of_bundle  # it looks by this module

        with told("doctor") as failed:
            found = list(of_bundle(parsed.bundle).findings)
        if failed:
            return 2
    else:
        found = list(findings(parsed.root, parsed.bin_dir, parsed.conf_dir, parsed.kubeconfig))
    sys.stdout.write(as_json(found) if parsed.json else as_text(found))
    return status(found, is_strict=parsed.strict)


def findings(
    path: Path = Path("/"),
    bin_dir: str | None = None,
    conf_dir: str | None = None,
    kubeconfig: str | None = None,
) -> Iterator[Finding]:
    """Yield what is wrong with the node whose / is at `path`."""
    root = Root(path, os.environ)
    places = runtime.directories(path)
    binaries = bin_dir or str(places.binaries)
    configured = Configured.read(root, conf_dir or str(places.networks))
    yield from install.python_version(sys.version_info[:2])
    yield from node.check(root, configured)
    yield from install.check(root, configured, binaries)
    yield from state.check(root)
    if root.is_this_node:
        yield from _pools()
    yield from cluster.check(root, configured, kubeconfig)


def _pools() -> Iterator[Finding]:
    for about, message in registry.load_pool_check()(os.environ):
        yield Finding("pool-fill", about, message, "Make its range larger, or free addresses.", "warning")
