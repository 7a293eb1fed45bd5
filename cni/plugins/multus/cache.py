"""Multus' own cache: what it, too, writes before its first delegate and reads on DEL.

`<cniDir>/<container ID>` lists the delegates, `<cniDir>/results/<network>-<container ID>-<interface>` is
libcni's, with a delegate's arguments and result. Both are written and read, so that a node may change
over, either way, under running pods.

Source: the original's `pkg/types` (DelegateNetConf) and `pkg/multus`; `libcni/api.go` (cniCacheV1).
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni import durable
from cni.plugins.multus.naming import interface_name
from cni.plugins.multus.record import Called
from cni.plugins.multus.selection import Selection
from cni.protocol import gojson
from cni.protocol.chain import Chain
from cni.protocol.errors import CniError, DecodingFailure
from cni.protocol.gojson import JsonObject
from cni.protocol.notes import note
from cni.protocol.request import NAME, AttachmentKey

_KIND = "cniCacheV1"


@dataclass(frozen=True)
class Cache:
    """The cache in one `cniDir`."""

    folder: Path

    # -- the list of delegates -------------------------------------------------------------------

    def write(self, container_id: str, entries: list[JsonObject]) -> None:
        durable.replace(self.folder / container_id, json.dumps(entries).encode(), self.folder)

    def read(self, container_id: str) -> list[JsonObject] | None:
        """Return the list of a container's delegates, None if there is none.

        Raises:
            DecodingFailure: it is damaged.
        """
        path = self.folder / container_id
        data = durable.read(path)
        if data is None:
            return None
        entries = gojson.loads(data, f"the cache {path}")
        if not isinstance(entries, list) or not entries or not all(type(each) is dict for each in entries):
            raise DecodingFailure(f"the cache {path} is damaged", why="It does not hold a list of delegates.")
        return entries

    def called(self, container_id: str, ifname: str, cni_args: str) -> list[Called] | None:
        """Return the delegates of a container as the cache has them, None if it has none.

        `cni_args` is for those whose own libcni did not keep.

        Raises:
            CniError: the cache is damaged.
        """
        entries = self.read(container_id)
        if entries is None:
            return None
        return [
            self._called(entry, container_id, position, ifname, cni_args)
            for position, entry in enumerate(entries)
        ]

    def remove(self, container_id: str) -> None:
        durable.remove(self.folder / container_id, self.folder)

    def containers(self) -> list[str]:
        """The containers that the cache knows."""
        try:
            found = sorted(self.folder.iterdir())
        except OSError:
            return []
        return [path.name for path in found if path.is_file() and NAME.fullmatch(path.name)]

    def _called(
        self, entry: JsonObject, container_id: str, position: int, ifname: str, cni_args: str
    ) -> Called:
        fields = gojson.fold(entry, ("Bytes", "Name", "ifnameRequest", "macRequest", "ipRequest"))
        try:
            raw = gojson.loads_object(b64decode(str(fields.get("Bytes") or "")), "a delegate in the cache")
        except (binascii.Error, ValueError) as error:
            raise DecodingFailure("a delegate in the cache is not base64", why=f"{error}.") from error
        chain = Chain.parse(raw, "a delegate in the cache", name=str(fields.get("Name") or "").split("/")[-1])
        requested = str(fields.get("ifnameRequest") or "")
        name = interface_name(requested, position, ifname)
        users_name = str(fields.get("Name") or chain.name)
        known = self.result(chain.name, container_id, name)
        if known:
            return known.model_copy(update={"name": users_name, "config": chain.raw})
        args = [cni_args, *([f"MAC={fields['macRequest']}"] if fields.get("macRequest") else [])]
        if fields.get("ipRequest"):
            args.append(f"IP={','.join(map(str, fields['ipRequest']))}")
        return Called(
            name=users_name,
            ifname=name,
            is_default=position == 0,
            config=chain.raw,
            cni_args=";".join(filter(None, args)),
        )

    # -- libcni's results ------------------------------------------------------------------------

    def write_result(self, container_id: str, netns: str, called: Called) -> None:
        """Keep what a delegate got and answered, as libcni does; the journal has it too in the end."""
        pairs = [pair.split("=", 1) for pair in called.cni_args.split(";") if "=" in pair]
        kept = {
            "kind": _KIND,
            "containerId": container_id,
            "config": b64encode(json.dumps(called.config).encode()).decode(),
            "ifName": called.ifname,
            "networkName": called.chain.name,
            "netns": netns,
            "cniArgs": pairs,
            "capabilityArgs": called.capability_args,
            "result": called.result,
        }
        path = self._result_path(called.chain.name, container_id, called.ifname)
        durable.replace(path, json.dumps(kept).encode(), self.folder)

    def result(self, network: str, container_id: str, ifname: str) -> Called | None:
        """Return a delegate's call as libcni kept it; None if it did not, or it cannot be read."""
        path = self._result_path(network, container_id, ifname)
        data = durable.read(path)
        return _kept(path, data) if data is not None else None

    def remove_result(self, container_id: str, called: Called) -> None:
        """Remove what was kept of a call, among those of all containers: a thousand on a large node."""
        path = self._result_path(called.chain.name, container_id, called.ifname)
        if called.result:  # who wrote it came to an end, so nothing of a killed writer is to be looked for
            path.unlink(missing_ok=True)
            durable.prune(path.parent, self.folder)
        else:
            durable.remove(path, self.folder)

    def results(self) -> list[tuple[AttachmentKey, Called]]:
        """Return all calls that libcni kept, with the container and interface of each."""
        found = []
        for path in sorted((self.folder / "results").glob("[!.]*")):
            data = durable.read(path) if path.is_file() else None
            called = _kept(path, data) if data is not None else None
            if called and data is not None:
                container = str(gojson.get(json.loads(data), "containerId") or "")
                found.append(((container, called.ifname), called))
        return found

    def _result_path(self, network: str, container_id: str, ifname: str) -> Path:
        return self.folder / "results" / f"{network}-{container_id}-{ifname}"


def entry_of(chain: Chain, name: str, selection: Selection | None, resource: str, device: str) -> JsonObject:
    """Return a delegate as Multus lists it."""
    asked: dict[str, Any] = {}
    if selection:
        asked = {
            "ifnameRequest": selection.interface,
            "macRequest": selection.mac,
            "infinibandGUIDRequest": selection.infiniband_guid,
            "ipRequest": list(selection.ips),
        }
    asked |= {"deviceID": device, "resourceName": resource}
    gateways = selection.default_route if selection else None
    return {
        "Conf": _shared(chain.raw) if not chain.is_list else {"ipam": {}, "dns": {}},
        "ConfList": {**_named(chain), "plugins": [_shared(plugin) for plugin in chain.plugins]}
        if chain.is_list
        else {},
        "Name": name,
        **{key: value for key, value in asked.items() if value},
        **({} if gateways is None else {"default-route": list(gateways)}),
        "IsFilterV4Gateway": False,
        "IsFilterV6Gateway": False,
        "Bytes": b64encode(json.dumps(chain.raw).encode()).decode(),
    }


def _named(chain: Chain) -> JsonObject:
    return {"cniVersion": chain.version, "name": chain.name}


def _shared(plugin: JsonObject) -> JsonObject:
    """Return what Go's library knows of every plugin's configuration."""
    known = gojson.fold(plugin, ("cniVersion", "name", "type", "capabilities"))
    ipam = gojson.get(plugin, "ipam")
    kind = gojson.get(ipam, "type") if isinstance(ipam, dict) else None
    return {**known, "ipam": {"type": kind} if kind else {}, "dns": gojson.get(plugin, "dns") or {}}


def _kept(path: Path, data: bytes) -> Called | None:
    names = ("kind", "containerId", "config", "ifName", "networkName", "cniArgs", "capabilityArgs", "result")
    try:
        fields = gojson.fold(gojson.loads_object(data, f"the result {path}"), names)
        raw = gojson.loads_object(b64decode(str(fields.get("config") or "")), "its configuration")
        chain = Chain.parse(raw, f"the configuration in {path}", name=str(fields.get("networkName") or ""))
        pairs, args = fields.get("cniArgs") or [], fields.get("capabilityArgs") or {}
        return Called(
            name=chain.name,
            ifname=str(fields["ifName"]),
            config=chain.raw,
            cni_args=";".join(f"{key}={value}" for key, value in pairs),
            capability_args=args,
            result=fields.get("result"),
            device_info=args.get("CNIDeviceInfoFile") or "",
        )
    except (CniError, KeyError, TypeError, ValueError) as error:
        note("", f"the result {path} cannot be read and is passed over: {error}")
        return None
