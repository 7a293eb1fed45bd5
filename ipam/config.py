"""WhereaboutsConf: the configuration of whereabouts, with what a flat file adds to it.

The keys are Whereabouts' (`pkg/types`, `pkg/config`). The flat file holds the contents of an `ipam`
section; a value of the network configuration that is not empty wins, objects are merged, lists taken whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PlainValidator

from cni import durable
from cni.protocol import gojson, registry
from cni.protocol.addresses import Cidr, parse_ip
from cni.protocol.config import Dns, Flag, PluginConf, Section, Text
from cni.protocol.errors import InvalidConfig
from cni.protocol.result import Route
from ipam.ranges import Ip, Range, parse_ip_leniently, parse_range

DIRECTORIES = (
    "/etc/kubernetes/cni/net.d",
    "/etc/cni/net.d",
    "/host/etc/cni/net.d",
    "/var/lib/rancher/k3s/agent/etc/cni/net.d",  # ours, as the next
    "/var/lib/rancher/rke2/agent/etc/cni/net.d",
)
FLAT_FILES = tuple(Path(folder, "whereabouts.d/whereabouts.conf") for folder in DIRECTORIES)

_NETWORK_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_SLICE_SIZE = re.compile(r"/?(\d{1,3})")
_SECONDS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600}


def _gateway(text: Any) -> Ip:
    return parse_ip_leniently(text) if isinstance(text, str) and text.isascii() else parse_ip(text)


def _network_name(text: Any) -> str:
    if not isinstance(text, str):
        raise ValueError("must be a string")
    if text and not _NETWORK_NAME.fullmatch(text):
        raise ValueError(
            f'"{text}" cannot begin an object\'s name; use lower-case letters, digits, "-" and "."'
        )
    return text


def _prefix_length(value: Any) -> int | None:
    if value in ("", None):
        return None
    match = _SLICE_SIZE.fullmatch(str(value)) if isinstance(value, str | int) else None
    if not match or isinstance(value, bool):
        raise ValueError(f'"{value}" is no prefix length such as "/26"')
    return int(match[1])


def _directory(value: Any) -> str | None:
    if value in ("", None):
        return None
    if not isinstance(value, str):
        raise ValueError("must be a string")
    if not value.startswith("/") or "\0" in value:
        raise ValueError(f'"{value}" is no absolute path; where a runtime stands is nobody\'s choice')
    return value


def seconds(value: Any) -> float:
    """Read `30`, `"30s"`, `"500ms"`, `"2m"` or `"1h"`.

    Raises:
        ValueError: with a sentence that shows the value.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        return float(value)
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)(|ms|s|m|h)", value) if isinstance(value, str) else None
    if not match:
        raise ValueError(f'{value!r} is no duration such as "30s"')
    return float(match[1]) * _SECONDS[match[2]]


OptionalGateway = Annotated[Ip | None, PlainValidator(lambda value: _gateway(value) if value else None)]
Directory = Annotated[str | None, PlainValidator(_directory)]
Duration = Annotated[float, PlainValidator(seconds)]


class RangeSection(Section):
    """One range with its bounds, as it is written."""

    range: Text = None
    range_start: Text = None
    range_end: Text = None
    exclude: tuple[str, ...] = ()


class StaticAddress(Section):
    address: Cidr
    gateway: OptionalGateway = None


class KubernetesSection(Section):
    kubeconfig: Text = None
    k8s_api_root: Text = None


class WhereaboutsSection(RangeSection):
    """The `ipam` section."""

    type: Text = None
    ip_ranges: tuple[RangeSection, ...] = Field(default=(), alias="ipRanges")
    gateway: OptionalGateway = None
    routes: tuple[Route, ...] = ()
    dns: Dns = Dns()
    addresses: tuple[StaticAddress, ...] = ()
    network_name: Annotated[str, PlainValidator(_network_name)] = ""
    enable_overlapping_ranges: Flag = True
    enable_l3: Flag = False  # the first and last address may be given out, as in a fork of Whereabouts
    exclude_gateway: Flag = False  # likewise: the gateway may not
    node_slice_size: Annotated[int | None, PlainValidator(_prefix_length)] = None
    node_blocks: Flag = False  # ours: nodes claim blocks of that size themselves
    block_hold_time: Duration = 600.0  # ours: seconds that a node must be gone before its blocks are taken
    datastore: Text = None  # "file"; anything else means Kubernetes, as it does to Whereabouts
    data_dir: Directory = Field(default=None, alias="dataDir")
    kubernetes: KubernetesSection = KubernetesSection()
    configuration_path: Text = None
    log_file: Text = None
    log_level: Text = None
    rest_time: Duration = 0.0  # ours: seconds that an address lies idle after it was given back
    request_timeout: Duration = 10.0  # ours: seconds without any answer of the API server
    total_timeout: Duration = 40.0  # ours: seconds for a call in all
    # Accepted and of no effect: there is no leader to elect, and etcd went from Whereabouts too.
    leader_lease_duration: Any = None
    leader_renew_deadline: Any = None
    leader_retry_period: Any = None
    optimistic_ipam: Any = None
    reconciler_cron_expression: Any = None
    sleep_for_race: Any = None
    etcd_host: Any = None
    etcd_username: Any = None
    etcd_password: Any = None
    etcd_key_file: Any = None
    etcd_cert_file: Any = None
    etcd_ca_cert_file: Any = None

    def ignored(self) -> list[str]:
        """Return the keys that are set and have no effect."""
        names = (
            name
            for name in self.spellings()
            if name.startswith(("leader_", "etcd_", "optimistic_", "sleep_"))
        )
        return [name for name in names if getattr(self, name) is not None]


class RequestedAddresses(Section):
    is_open = True
    ips: tuple[str, ...] = ()


class WhereaboutsConf(PluginConf):
    is_open = True  # the same stdin is the interface plugin's
    reads_files = True
    ipam: WhereaboutsSection  # type: ignore[assignment]  # a section of its own, where others see an open one
    runtime_config: RequestedAddresses = Field(default=RequestedAddresses(), alias="runtimeConfig")  # type: ignore[assignment]  # likewise

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> WhereaboutsConf:
        """Read a configuration with its flat file.

        Raises:
            InvalidConfig: code 7; every bad key is named with its path.
        """
        conf = cls.read(with_flat_file(raw))
        if registry.own_type(conf.ipam.type or "") != "whereabouts":
            raise InvalidConfig(
                f'the network configuration is not valid: "ipam.type" is "{conf.ipam.type or ""}"',
                why='This is the IPAM plugin "whereabouts".',
                fix='Set "ipam.type" to "whereabouts", or call the plugin that it names.',
            )
        return conf

    def ranges(self) -> tuple[Range, ...]:
        """Return the configured ranges: one address is given out of each, in this order.

        Raises:
            InvalidConfig: code 7, one cannot be read.
        """
        section = self.ipam
        written: list[tuple[str, RangeSection]] = [("ipam", section)] if section.range else []
        written += [(f"ipam.ipRanges[{i}]", each) for i, each in enumerate(section.ip_ranges)]
        return tuple(_range(path, each, section) for path, each in written)


def _range(path: str, written: RangeSection, section: WhereaboutsSection) -> Range:
    try:
        if not written.range:
            raise ValueError("is missing")
        range_ = parse_range(
            written.range,
            start=_bound(path, "range_start", written.range_start),
            end=_bound(path, "range_end", written.range_end),
            exclude=written.exclude,
            path=path,
            whole=section.enable_l3,
        )
    except ValueError as error:
        raise InvalidConfig(
            f'the network configuration is not valid: "{path}.range"',
            why=f"{path}.range: {error}.",
            fix='Write it as "10.0.0.0/24" or "10.0.0.5-10.0.0.20/24".',
        ) from error
    if section.exclude_gateway and section.gateway and section.gateway in range_.network:
        return replace(range_, kept_back=(int(section.gateway),))
    return range_


def _bound(path: str, name: str, text: str | None) -> str | None:
    """Return a bound as it is written; in `ipRanges` it must be an address, beside `range` any text does."""
    if text is not None and path != "ipam":
        try:
            parse_ip_leniently(text)
        except ValueError as error:
            raise InvalidConfig(
                f'the network configuration is not valid: "{path}.{name}"',
                why=f"{path}.{name}: {error}.",
                fix="Write it as one address, or leave it out.",
            ) from error
    return text


def with_flat_file(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with what its flat file, if there is one, adds to `ipam`.

    Raises:
        CniError: code 5 or 6, the file cannot be read, or is no JSON object.
    """
    folded = dict(raw)
    ipam = gojson.get(raw, "ipam")
    if not isinstance(ipam, dict):
        return folded
    found = flat_file(ipam)
    if found is None:
        return folded
    below = gojson.loads_object(found.data, f"the flat file {found.path}")
    spelled = {key: value for key, value in folded.items() if key.casefold() != "ipam"}
    return {**spelled, "ipam": _merged(below, ipam)}


@dataclass(frozen=True)
class FlatFile:
    path: Path
    data: bytes


def flat_file(ipam: Mapping[str, Any]) -> FlatFile | None:
    """Return the first flat file that exists, with its contents; it wins alone."""
    for path in searched(ipam):
        data = durable.read(path)
        if data is not None:
            return FlatFile(path, data)
    return None


def searched(ipam: Mapping[str, Any]) -> list[Path]:
    """Return where a flat file is looked for, in this order."""
    configured = gojson.get(ipam, "configuration_path")
    if not (isinstance(configured, str) and configured):
        return [*FLAT_FILES]
    path = Path(configured)
    return [path / "whereabouts.conf" if path.is_dir() else path, *FLAT_FILES]


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `above` with what it lacks taken from `below`; keys match whatever their case."""
    merged = dict(above)
    spelled = {key.casefold(): key for key in above}
    for key, value in below.items():
        name = spelled.get(key.casefold(), key)
        mine = merged.get(name)
        if isinstance(mine, dict) and isinstance(value, dict):
            merged[name] = _merged(value, mine)
        elif mine is not False and not mine:  # Go's zero values are absent, but a "false" was meant
            merged[name] = value
    return merged
