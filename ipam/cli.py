"""podrail ipam: look at addresses, explain one, free one, take over those of host-local, reconcile."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from cni.command import STATUSES, head, parser_of, told
from cni.protocol.addresses import parse_ip
from ipam import host_local, looking
from ipam.config import seconds
from ipam.holding import journal_of
from ipam.looking import Lives, Seen
from ipam.pool import Allocation, Claim, Owner
from ipam.ranges import Ip


def main(arguments: list[str]) -> int:
    """Run a command and return its exit status: 1 if it failed, 2 if it was called wrongly."""
    parsed = parser().parse_args(arguments)
    status = 1
    with told("ipam") as failed:
        status = int(parsed.run(parsed))
    return 1 if failed else status


def parser() -> argparse.ArgumentParser:
    made = parser_of(
        "ipam",
        "Look at the addresses that whereabouts gave out, and change them.",
        examples=("podrail ipam show", "podrail ipam explain 10.1.0.5", "podrail ipam COMMAND --help"),
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    show = _command(
        commands, "show", "list pools, their fill, and who holds what", "podrail ipam show --json"
    )
    show.add_argument("--json", action="store_true", help="print them as JSON")
    show.set_defaults(run=_show)
    explain = _command(
        commands, "explain", "tell all that is known of an address", "podrail ipam explain 10.1.0.5"
    )
    explain.add_argument("address", type=_address, metavar="ADDRESS", help="such as 10.1.0.5")
    explain.set_defaults(run=_explain)
    release = _command(
        commands,
        "release",
        "free an address whose holder will not come back",
        "podrail ipam release 10.1.0.5",
        "podrail ipam release 10.1.0.5 --yes --network-name blue",
        statuses="0 freed, 1 it failed, 2 called wrongly or without --yes",
    )
    release.add_argument("address", type=_address, metavar="ADDRESS", help="such as 10.1.0.5")
    release.add_argument("--yes", action="store_true", help="really do it; else it is only told")
    release.set_defaults(run=_release)
    for command in (show, explain, release):
        command.add_argument("--data-dir", metavar="DIR", help="the file store there, and no other")
        command.add_argument("--kubeconfig", metavar="FILE", help="the pools of that cluster, and no other")
        command.add_argument("--network-name", metavar="NAME", help='only pools of this "network_name"')
    host_local.add_options(
        _command(
            commands,
            "import",
            "take over the addresses of a host-local directory",
            "podrail ipam import /var/lib/cni/networks/rail0 --range 10.1.0.0/24",
            statuses="0 done, 1 it failed or some were left out, 2 called wrongly",
        )
    )
    reconcile = _command(
        commands,
        "reconcile",
        "free what pods hold that are gone; repair records",
        "podrail ipam reconcile --once --dry-run",
        "podrail ipam reconcile --kubeconfig /etc/kubernetes/admin.conf --interval 5m",
    )
    reconcile.add_argument("--once", action="store_true", help="make one pass and end")
    reconcile.add_argument("--dry-run", action="store_true", help="tell what would be done, and do nothing")
    reconcile.add_argument("--kubeconfig", metavar="FILE", help="which cluster; else this pod's or node's")
    reconcile.add_argument("--namespace", metavar="NAME", help="where the pools are; else the kubeconfig's")
    reconcile.add_argument("--grace", type=_duration, default=60.0, metavar="TIME", help="default 60s")
    reconcile.add_argument("--interval", type=_duration, default=60.0, metavar="TIME", help="default 60s")
    reconcile.set_defaults(run=_reconcile)
    return made


def _command(
    commands: Any, name: str, about: str, *examples: str, statuses: str = STATUSES
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=about, **head(f"{about[0].upper()}{about[1:]}.", statuses=statuses, examples=examples)
    )
    return made


def _reconcile(parsed: argparse.Namespace) -> int:
    from ipam.reconcile import run  # the client of the API: 45 ms

    return run(parsed)


def _duration(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _address(text: str) -> Ip:
    try:
        return parse_ip(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _pools(parsed: argparse.Namespace) -> list[Seen]:
    where = looking.places(os.environ, parsed.data_dir, parsed.kubeconfig)
    name = parsed.network_name
    return [seen for seen in looking.pools(os.environ, where) if name in (None, seen.key.network_name)]


def _show(parsed: argparse.Namespace) -> int:
    lives, seen = Lives.here(journal_of(os.environ)), _pools(parsed)
    if parsed.json:
        json.dump({"pools": [looking.to_json(pool, lives) for pool in seen]}, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return 0
    for pool in seen:
        sys.stdout.write(f"{pool.key}: {pool.fill}, in {pool.place.path}\n")
        width = max((len(str(each.address)) for each in pool.allocations), default=0)
        for each in pool.allocations:
            sys.stdout.write(f"  {each.address!s:{width}}  {_told(each, lives)}\n")
    if not seen:
        sys.stdout.write("no pools\n")
    return 0


def _told(allocation: Allocation, lives: Lives) -> str:
    if not allocation.owner:
        return "held by an entry that cannot be read"
    since = f" since {allocation.since}" if allocation.since else ""
    state = {"alive": "alive", "gone": "its sandbox is gone", "unknown": "not of this node's journal"}
    return f"{allocation.owner}{since}, {state[lives.of(allocation)]}"


def _explain(parsed: argparse.Namespace) -> int:
    lives = Lives.here(journal_of(os.environ))
    found = list(looking.holders(iter(_pools(parsed)), parsed.address))
    for pool, allocation in found:
        state = f"held by {_told(allocation, lives)}" if allocation else "free"
        sys.stdout.write(f"{parsed.address} in {pool.key} ({pool.fill}, in {pool.place.path}): {state}\n")
    if not found:
        sys.stdout.write(f"{parsed.address} is in no pool: nobody holds it\n")
    return 0


def _release(parsed: argparse.Namespace) -> int:
    lives = Lives.here(journal_of(os.environ))
    found = [
        (pool, each)
        for pool, each in looking.holders(iter(_pools(parsed)), parsed.address)
        if each is not None
    ]
    if not found:
        sys.stderr.write(f"podrail: nobody holds {parsed.address}\n")
        return 1
    if len(found) > 1:
        names = ", ".join(f"{pool.key} in {pool.place.path}" for pool, _ in found)
        sys.stderr.write(f"podrail: {parsed.address} is held in several pools: {names}\n")
        sys.stderr.write("Say which by --network-name, --data-dir or --kubeconfig.\n")
        return 1
    ((pool, allocation),) = found
    sys.stdout.write(f"{allocation.address} in {pool.key}: {_told(allocation, lives)}\n")
    if not parsed.yes:
        sys.stdout.write(
            "Nothing was done. With --yes it is freed, and may be given to another pod at once.\n"
        )
        return 2
    owner = allocation.owner or Owner("", "")
    claim = Claim(pool.key, allocation.address)
    pool.store.release(owner, (), [claim], is_recorded=True)
    sys.stdout.write("freed\n")
    return 0
