"""podrail verify: find where journal, kernel, addresses and cluster disagree; changes nothing."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from cni.cli.finding import Finding, as_json, as_text, status
from cni.cli.verify import addresses, kernel, pods
from cni.cli.verify.answers import CACHE
from cni.command import parser_of, told
from cni.host.netns import own


def parser() -> argparse.ArgumentParser:
    made = parser_of(
        "verify",
        "Find where what podrail remembers, what the kernel has, who holds which address, and with a "
        "kubeconfig what pods were told, disagree. Nothing is changed.",
        statuses="0 all agree, 1 something does not (with --strict a warning too), 2 called wrongly",
        examples=(
            "podrail verify",
            "podrail verify --kubeconfig /etc/cni/net.d/multus.d/multus.kubeconfig --node node-a --json",
        ),
    )
    made.add_argument("--json", action="store_true", help="print it as JSON")
    made.add_argument("--strict", action="store_true", help="warnings fail too")
    made.add_argument(
        "--cache-dir", type=Path, default=CACHE, metavar="DIR", help=f"the runtime's; default: {CACHE}"
    )
    made.add_argument(
        "--kubeconfig", metavar="FILE", help="compare with the annotations of that cluster's pods"
    )
    made.add_argument("--node", metavar="NAME", help="look for pods of this node that multus has not seen")
    made.add_argument("--bundle", type=Path, metavar="FILE", help="what was found when that bundle was made")
    return made


def main(arguments: list[str]) -> int:
    """Look, print what disagrees, and return the exit status."""
    parsed = parser().parse_args(arguments)
    if parsed.node and not parsed.kubeconfig:
        parser().error("--node needs --kubeconfig")
    with told("verify") as failed:
        findings = (
            _of_bundle(parsed.bundle)
            if parsed.bundle
            else found(parsed.kubeconfig, parsed.node, parsed.cache_dir)
        )
    if failed:
        return 2
    sys.stdout.write(as_json(findings) if parsed.json else as_text(findings))
    return status(findings, is_strict=parsed.strict)


def _of_bundle(path: Path) -> list[Finding]:
    from cni.cli.snapshot import of_bundle  # it looks by this module

    return list(of_bundle(path).drift)


def found(kubeconfig: str | None = None, node: str | None = None, cache: Path = CACHE) -> list[Finding]:
    """Return all that disagrees.

    Raises:
        CniError: the kubeconfig is wrong, or the API server does not answer.
    """
    held = addresses.Held.of(os.environ)
    with own() as host:
        findings = [*kernel.check(os.environ, host, held, cache), *addresses.check(held)]
    if kubeconfig:
        findings += pods.check(os.environ, kubeconfig, node)
    return findings
