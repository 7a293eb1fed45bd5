"""podrail install: put the plugins, and a network, where the container runtime looks for them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cni import durable, locks
from cni.cli.install import kubeconfig, manifest, networks, runtime
from cni.cli.install.executables import (
    Executable,
    bring_back,
    conflicts,
    is_client,
    is_ours,
    remove,
)
from cni.cli.install.executables import install as install_executables
from cni.command import parser_of, told
from cni.protocol import registry
from cni.protocol.errors import CniError, Code
from cni.state import Journal, Record


def install(arguments: list[str]) -> int:
    """Install, say what was done, and return the exit status."""
    parsed = install_parser().parse_args(arguments)
    return _done("install", lambda: _refresh(parsed) if parsed.refresh else _install(parsed))


def uninstall(arguments: list[str]) -> int:
    """Uninstall, say what was done, and return the exit status."""
    parsed = uninstall_parser().parse_args(arguments)
    return _done("uninstall", lambda: _uninstall(parsed))


def install_parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "install",
        "Put the plugins, and a network, where the container runtime looks for them.",
        statuses="0 done, 1 not done, or only what it says, 2 called wrongly",
        examples=(
            "podrail install                          # into the directory that containerd or CRI-O names",
            "podrail install --prefix podrail-        # beside the Go plugins: types are podrail-macvlan, …",
            "podrail install --conf 10-rail.conflist  # and a network, once its plugins are ready",
            "podrail install --refresh                # after an upgrade of podrail",
        ),
    )
    parser.add_argument("--bin-dir", type=Path, metavar="DIR", help="default: the runtime's, or /opt/cni/bin")
    parser.add_argument(
        "--conf-dir", type=Path, metavar="DIR", help="default: the runtime's, or /etc/cni/net.d"
    )
    conf = parser.add_mutually_exclusive_group()
    conf.add_argument("--conf", type=Path, metavar="FILE", help="a network to install once it would work")
    conf.add_argument(
        "--conf-from",
        type=Path,
        metavar="DIR",
        help="all networks there; one that came from there and is there no more is taken away",
    )
    parser.add_argument(
        "--client", type=Path, metavar="FILE", help="the node daemon's client, for every type"
    )
    parser.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="write one there that speaks for this pod"
    )
    parser.add_argument("--types", metavar="LIST", help=f"default: {','.join(registry.TYPES)}")
    parser.add_argument("--ready-within", type=float, default=60, metavar="SECONDS", help="default: 60")
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="bring what an earlier installation has put somewhere up to date, and do nothing else",
    )
    foreign = parser.add_mutually_exclusive_group()
    foreign.add_argument("--replace", action="store_true", help="keep files of another make beside")
    foreign.add_argument("--prefix", choices=[registry.PREFIX], help="install under names of our own")
    return parser


def uninstall_parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "uninstall",
        "Take away what podrail install has put somewhere, executables only when no pod needs them.",
        statuses="0 done, 1 attachments are left or it could not be done, 2 called wrongly",
        examples=("podrail uninstall", "podrail uninstall --wait 60"),
    )
    parser.add_argument("--bin-dir", type=Path, metavar="DIR", help="of an installation without a manifest")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="for attachments to go")
    parser.add_argument("--force", action="store_true", help="also while there are attachments")
    return parser


def _install(parsed: argparse.Namespace) -> None:
    found = runtime.directories()
    binaries = parsed.bin_dir or found.binaries
    if found.source and not parsed.bin_dir:
        _say(f"{found.source} names {binaries}")
    executables = _executables(parsed, binaries)
    directory = parsed.conf_dir or found.networks
    confs = {directory / each.name: each for each in networks.listed(parsed.conf, parsed.conf_from)}
    ours = manifest.load().networks
    foreign_confs = [target for target, conf in confs.items() if networks.is_foreign(conf, target, ours)]
    foreign = [*conflicts(executables), *foreign_confs]
    if foreign and not parsed.replace:
        raise CniError(
            f"{', '.join(map(str, foreign))}: another make's, left alone",
            why="Other networks of this node, its main one included, may use them. Nothing was changed.",
            fix=f"Use --prefix {registry.PREFIX} for names of our own, another name for a network; "
            "--replace keeps theirs beside.",
            code=Code.IO_FAILURE,
        )
    if not binaries.is_dir():
        binaries.mkdir(mode=0o755, parents=True)
    manifest.save(manifest.load().having(each.target for each in executables))
    for target, outcome in install_executables(executables):
        _say(f"{target}: {outcome}")
    if parsed.kubeconfig:
        manifest.save(manifest.load().having(kubeconfigs=[parsed.kubeconfig]))
        _say(f"{parsed.kubeconfig}: {kubeconfig.write(parsed.kubeconfig)}")
    for target, conf in confs.items():
        networks.wait_until_ready(conf, binaries, parsed.ready_within)
        _install_network(conf, target, keeping=target in foreign)
    if parsed.conf_from:
        _take_away(
            [Path(each) for each in ours if Path(each).parent == directory and Path(each) not in confs]
        )


def _refresh(parsed: argparse.Namespace) -> None:
    """Put a client in the place of a client, a script in the place of a script; others are left alone."""
    executables = []
    for target in map(Path, manifest.load().executables):
        found = durable.read(target)
        if found is None or not is_ours(found):
            why = "is gone" if found is None else "is another make's"
            _say(f"{target}: left alone: it {why}")
        elif not is_client(found):
            executables.append(Executable(_made() / registry.own_type(target.name), target))
        elif parsed.client:
            executables.append(Executable(parsed.client, target))
        else:
            raise CniError(f"{target} is the node daemon's client", fix="Name the new one by --client.")
    for target, outcome in install_executables(executables):
        _say(f"{target}: {outcome}")


def _made() -> Path:
    """Return where pip put the executables."""
    return Path(sys.argv[0]).resolve().parent


def _executables(parsed: argparse.Namespace, binaries: Path) -> list[Executable]:
    types = parsed.types.split(",") if parsed.types else list(registry.TYPES)
    unknown = [each for each in types if each not in registry.TYPES]
    if unknown:
        raise CniError(
            f"no such plugins: {', '.join(unknown)}", fix=f"There are {', '.join(registry.TYPES)}."
        )
    sources = {each: parsed.client or _made() / each for each in types}
    for source in sources.values():
        if not source.is_file():
            raise CniError(
                f"{source} does not exist", fix="Install podrail whole, or name the client's file."
            )
    return [Executable(source, binaries / f"{parsed.prefix or ''}{name}") for name, source in sources.items()]


def _install_network(conf: Path, target: Path, *, keeping: bool) -> None:
    manifest.save(manifest.load().having(networks=[target]))
    _say(f"{target}: {networks.write(conf, target, keeping=keeping)}")
    before = networks.sorting_before(target)
    if before:
        _say(f"note: the runtime takes the first file by name, and {', '.join(before)} sorts before it")


def _take_away(targets: list[Path]) -> None:
    """Remove networks of ours; what had been there is back."""
    for target in targets:
        target.unlink(missing_ok=True)
        _say(f"{target}: removed{'; what had been there is back' if bring_back(target) else ''}")
    manifest.save(manifest.load().without_networks(targets))


def _uninstall(parsed: argparse.Namespace) -> None:
    installed = manifest.load()
    listed = [Path(text) for text in installed.networks]
    if not parsed.force and not parsed.wait:
        _refuse_attached("Without the executables their DEL would fail. Nothing was changed.")
    with networks.withdrawn(listed) as withdrawn:  # first, so that no new pod is attached
        for path in withdrawn:
            _say(f"{path}: removed")
        if not parsed.force:
            _wait_for_attachments(parsed.wait)
    targets = [Path(text) for text in installed.executables]
    if parsed.bin_dir:
        names = [f"{prefix}{name}" for name in registry.TYPES for prefix in ("", registry.PREFIX)]
        targets += [
            path for name in names if (path := parsed.bin_dir / name).exists() and path not in targets
        ]
    for target in targets:
        _say(f"{target}: {remove(target)}" if target.parent.is_dir() else f"{target}: was not there")
    for path in listed:  # now that its own plugins are there again
        if bring_back(path):
            _say(f"{path}: what had been there is back")
    for text in installed.kubeconfigs:  # last: a DEL asks with it
        Path(text).unlink(missing_ok=True)
        _say(f"{text}: removed")
    manifest.save(manifest.Manifest())


def _wait_for_attachments(seconds: float) -> None:
    """Wait until no attachment is recorded; their DEL needs the executables.

    Raises:
        CniError: code 11, there still are some.
    """
    deadline = time.monotonic() + seconds
    while _attached():
        if time.monotonic() >= deadline:
            _refuse_attached("Their DEL needs the executables. The networks are back in their place.")
            return
        time.sleep(min(1.0, seconds))


def _refuse_attached(why: str) -> None:
    """Raises CniError, code 11, if there are attachments."""
    records = _attached()
    if not records:
        return
    count = len({record.key for record in records})
    kept = len(list((durable.state_directory(os.environ) / "queue").glob("[0-9]*")))
    queued = f" {kept} DELs are kept for a node daemon that is to carry them out." if kept else ""
    raise CniError(
        f"{count} attachment{' is' if count == 1 else 's are'} left, such as {records[0].attachment}",
        why=why + queued,
        fix="Delete those pods, or wait for them with --wait SECONDS; --force leaves them behind.",
        code=Code.TRY_AGAIN_LATER,
    )


def _attached() -> list[Record]:
    return [record for each in registry.TYPES for record in Journal(Record, each, os.environ).all()]


def _done(name: str, act: Callable[[], None]) -> int:
    # One at a time: what is installed stands in one manifest.
    with told(name) as failed, locks.held("install", os.environ):
        act()
    return int(bool(failed))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
