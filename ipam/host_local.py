"""podrail ipam import: take over the addresses that host-local holds, so that a node can change over.

host-local keeps a file for each address in `<dataDir>/<network>/`, which holds the container ID and the
interface name (Debian's 1.1.1 and older ones: `plugins/ipam/host-local/backend/disk`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from cni.protocol.addresses import parse_ip
from cni.protocol.errors import CniError, InvalidConfig
from ipam.config import WhereaboutsConf
from ipam.file_store import FileStore
from ipam.looking import places
from ipam.pool import Owner, PoolKey
from ipam.ranges import Ip, parse_range
from ipam.stores import opened


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `podrail ipam import`."""
    command.add_argument("directory", type=Path, metavar="DIR", help="such as /var/lib/cni/networks/rail0")
    command.add_argument(
        "--range", action="append", default=[], metavar="CIDR", help="a range of the new network; repeatable"
    )
    command.add_argument("--config", type=Path, metavar="FILE", help="the new network configuration instead")
    command.add_argument("--network-name", default="", metavar="NAME", help='its "network_name", if any')
    command.add_argument("--network", metavar="NAME", help="its CNI name; default: the directory's")
    command.add_argument("--data-dir", metavar="DIR", help='its "dataDir", if any')
    command.set_defaults(run=_import)


def leases(directory: Path) -> Iterator[tuple[Ip, str, str]]:
    """Yield address, container ID and interface name of each file that is an address."""
    for path in sorted(directory.iterdir()):
        try:
            address = parse_ip(path.name.replace("_", ":"))  # a colon is none in names that Windows can have
        except ValueError:
            continue  # the lock, and the last address that was reserved
        lines = path.read_text(errors="replace").split()
        yield address, lines[0] if lines else "", lines[1] if len(lines) > 1 else ""


def _import(parsed: argparse.Namespace) -> int:
    keys, data_dir = _targets(parsed)
    (place,) = places(os.environ, data_dir, None)[:1] if data_dir else places(os.environ, None, None)[:1]
    store = opened(place, os.environ)
    if not isinstance(store, FileStore):
        raise InvalidConfig("host-local's addresses are one node's", fix='Import them into a "dataDir".')
    network = parsed.network or parsed.directory.resolve().name
    taken: dict[PoolKey, dict[Ip, Owner]] = {key: {} for key in keys}
    skipped = []
    for address, container_id, ifname in leases(parsed.directory):
        key = next((key for key in keys if address in key.network), None)
        if key and container_id:
            taken[key][address] = Owner(container_id, ifname, network=network)
        else:
            skipped.append(f"{address}: {'its file is empty' if key else 'in none of the ranges'}")
    imported = 0
    for key, holders in taken.items():
        refused = store.take_over(key, holders)
        imported += len(holders) - len(refused)
        skipped += [f"{address}: held by {holder} already" for address, holder in refused.items()]
    sys.stdout.write(f"imported {imported} addresses into {place.path}\n")
    for text in skipped:
        sys.stdout.write(f"  left out {text}\n")
    return 1 if skipped else 0


def _targets(parsed: argparse.Namespace) -> tuple[list[PoolKey], str | None]:
    """Return the pools to import into, and the data directory if it is told."""
    if parsed.config:
        conf = _configuration(parsed.config)
        keys = [PoolKey(range_.network, conf.ipam.network_name) for range_ in conf.ranges()]
        return keys, parsed.data_dir or conf.ipam.data_dir
    try:
        networks = [parse_range(text).network for text in parsed.range]
    except ValueError as error:
        raise InvalidConfig(f"--range: {error}", fix='Write it as "10.0.0.0/24".') from error
    if not networks:
        raise CniError(
            "it is not told which range the addresses belong to",
            fix="Give --config FILE with the new network configuration, or --range CIDR.",
        )
    return [PoolKey(network, parsed.network_name) for network in networks], parsed.data_dir


def _configuration(path: Path) -> WhereaboutsConf:
    """Read a configuration file; of a list, the first plugin that has whereabouts."""
    try:
        raw = json.loads(path.read_bytes())
    except ValueError as error:
        raise InvalidConfig(f"{path} is not valid JSON", why=f"{error}.") from error
    plugins = raw.get("plugins", [raw]) if isinstance(raw, dict) else []
    for plugin in plugins:
        if isinstance(plugin, dict) and (plugin.get("ipam") or {}).get("type") == "whereabouts":
            return WhereaboutsConf.parse({"name": raw.get("name", "imported"), **plugin})
    raise InvalidConfig(f"{path} has no whereabouts", fix='Set "ipam.type" to "whereabouts" in it.')
