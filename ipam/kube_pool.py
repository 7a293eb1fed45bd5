"""KubePool: an IPPool object as it was read, and the JSON patches that change one key of it (pure).

A key is the decimal text of an address less the one written in `spec.range`, host bits and all. What old
versions of Whereabouts wrote is read too: entries without `ifname` or `podref`, and negative keys, which
for IPv6 stand for that number plus 2^64. Keys that mean nothing here are left alone.

A patch tests the keys that it changes and nothing else, so that writers of different keys never collide.
In Kubernetes a test for null passes if there is no such key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from cni.protocol.errors import InvalidConfig
from ipam.kube_index import Index
from ipam.pool import Owner, PoolKey
from ipam.ranges import Ip, Range, parse_ip_leniently

GROUP_VERSION = "whereabouts.cni.cncf.io/v1alpha1"
_KEY = re.compile(r"-?[0-9]{1,45}")
_SIGNED = 1 << 63
_LARGE = 200  # entries: 25 kB, half a millisecond of parsing
_WRAP = 1 << 64

# A key's rest is noted beside the entries, whose schema lets nothing else in.
RESTING = "podrail.whereabouts/resting-"
_NOTED = "podrail.whereabouts/rest-time"  # keeps the annotations there when the last key is awake
_MOST_RESTING = 1000  # 80 bytes each, of the 256 KiB that annotations may have

Entry = dict[str, Any]
Operation = dict[str, Any]


def entry_of(owner: Owner) -> Entry:
    return {"id": owner.container_id, "podref": owner.podref, "ifname": owner.ifname}


def owner_of_entry(entry: object) -> Owner | None:
    """Return who an entry names, None if it cannot be read."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        return None
    return Owner(entry["id"], _text(entry, "ifname"), _text(entry, "podref"))


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class KubePool:
    """One IPPool."""

    key: PoolKey
    raw: dict[str, Any]

    @classmethod
    def new(cls, key: PoolKey) -> KubePool:
        """Return the object of a pool that nobody has made yet."""
        spec = {"range": str(key.network), "allocations": {}}
        metadata = {"name": key.name}
        return cls(key, {"apiVersion": GROUP_VERSION, "kind": "IPPool", "metadata": metadata, "spec": spec})

    @property
    def allocations(self) -> dict[str, Any]:
        found = self.raw.get("spec", {}).get("allocations")
        return found if isinstance(found, dict) else {}

    @cached_property
    def base(self) -> int:
        """The address that keys count from.

        Raises:
            InvalidConfig: code 7, `spec.range` of the object is no network of this family.
        """
        written = self.raw.get("spec", {}).get("range")
        try:
            address = parse_ip_leniently(str(written).partition("/")[0])
        except ValueError:
            address = None
        if address is None or address.version != self.key.network.version:
            raise InvalidConfig(
                f'the IPPool "{self.key.name}" cannot be used: its spec.range is "{written}"',
                why=f"Its keys count from an address of {self.key.network}.",
                fix="Correct spec.range, or delete the object if nobody holds an address of it.",
            )
        return int(address)

    def address(self, number: int) -> Ip:
        return type(self.key.network.network_address)(number)

    def number_of(self, key: str) -> int | None:
        """Return the address that a key means; None if it means none of this network."""
        if not _KEY.fullmatch(key):
            return None
        offset = int(key)
        if offset < 0 and self.key.network.version == 6:
            offset += _WRAP
        number = self.base + offset
        network = self.key.network
        return number if int(network[0]) <= number <= int(network[-1]) else None

    def key_of(self, number: int) -> str:
        """Return the key that an address has, or would have."""
        return self._index.odd.get(number, str(number - self.base))

    def holds(self, number: int) -> bool:
        return str(number - self.base) in self.allocations or number in self._index.odd

    def owner_at(self, number: int) -> Owner | None:
        return self.owner_of(self.key_of(number))

    def owner_of(self, key: str) -> Owner | None:
        return owner_of_entry(self.allocations.get(key))

    @cached_property
    def _index(self) -> Index:
        network = self.key.network
        return Index.of(self.allocations, self.base, (int(network[0]), int(network[-1])), self.number_of)

    def entries(self) -> Iterator[tuple[str, Owner | None]]:
        for key, entry in self.allocations.items():
            yield key, owner_of_entry(entry)

    def numbers(self) -> list[int]:
        """Return the addresses that are held, lowest first."""
        return sorted(number for key in self.allocations if (number := self.number_of(key)) is not None)

    def held_by(self, owner: Owner) -> list[int]:
        """Return the addresses of an attachment, with whatever sandbox, lowest first."""
        found = (
            self.number_of(key)
            for key in self._keys_naming(owner)
            if (holder := self.owner_of(key)) and holder.is_same_holder(owner)
        )
        return sorted(number for number in found if number is not None)

    def keys_of_sandbox(self, owner: Owner) -> list[str]:
        """Return the keys that one sandbox of an attachment holds, those too that mean nothing."""
        return [
            key
            for key in self._keys_naming(owner)
            if (holder := self.owner_of(key)) and holder.has_sandbox(owner.container_id, owner.ifname)
        ]

    def _keys_naming(self, owner: Owner) -> list[str]:
        """Return the keys whose entries have a pod or a container of an owner's name."""
        keys = self._index.keys
        return list(dict.fromkeys([*keys.get(owner.podref, ()), *keys.get(owner.container_id, ())]))

    def candidates(self, range_: Range) -> Iterator[int]:
        """Yield what nobody holds of a range and a key can be written for, lowest first.

        Raises:
            InvalidConfig: an exclusion of the range cannot be read.
        """
        network = self.key.network
        lowest, highest = max(self.base, int(network[0])), int(network[-1])
        for first, last in range_.spans:
            yield from self._index.free(max(first, lowest), min(last, highest))

    @property
    def is_large(self) -> bool:
        """Whether it costs more to be sent the whole of it than to ask once more."""
        return len(self.allocations) >= _LARGE

    @property
    def version(self) -> tuple[str, int]:
        """Which object it is, and how often what it records has changed."""
        metadata = self.raw.get("metadata", {})
        return str(metadata.get("uid", "")), int(metadata.get("generation") or 0)

    def unchanged(self) -> list[Operation]:
        """Return the tests that it records what this copy does."""
        uid, generation = self.version
        return [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": "/metadata/generation", "value": generation},
        ]

    def after(self, operations: list[Operation], metadata: dict[str, Any]) -> KubePool | None:
        """Return the pool that a patch has made of this one, given its metadata then.

        None if somebody else has changed it too since it was read: then more is different. Otherwise this
        copy is given up: its entries are the new one's, since copying 10,000 would take longer than the rest.
        """
        changes = {
            _unescaped(each["path"].removeprefix(_path(""))): each.get("value")
            for each in operations
            if each["op"] != "test" and each["path"].startswith(_path(""))
        }
        old = {key: self.allocations.get(key) for key in changes}
        uid, generation = self.version
        new = KubePool(self.key, {**self.raw, "metadata": metadata})
        if not generation or new.version != (uid, generation + int(old != changes)):
            return None
        if not changes.keys().isdisjoint(self._index.odd.values()):
            return None
        for key, entry in changes.items():
            self._index.put(key, self.number_of(key), entry, self.allocations.pop(key, None))
            if entry is not None:
                self.allocations[key] = entry
        new.__dict__["_index"] = self._index  # it goes with the entries, and takes long to make
        return new

    def resting(self, seconds: float) -> set[int]:
        """Return the addresses that were given back less than so many seconds ago."""
        if not seconds:
            return set()
        awake_since = datetime.now(UTC) - timedelta(seconds=seconds)
        return {
            number
            for key, since in self._rests().items()
            if since > awake_since and (number := self.number_of(key)) is not None
        }

    def _rests(self) -> dict[str, datetime]:
        """Return since when keys rest; a time that cannot be read is long ago."""
        annotations = self.raw.get("metadata", {}).get("annotations") or {}
        rests = {}
        for name, text in annotations.items():
            if name.startswith(RESTING):
                try:
                    rests[name.removeprefix(RESTING)] = datetime.fromisoformat(text).astimezone(UTC)
                except ValueError:
                    rests[name.removeprefix(RESTING)] = datetime.min.replace(tzinfo=UTC)
        return rests

    def claiming(self, number: int, owner: Owner) -> list[Operation]:
        """Return the patch by which an owner takes an address that nobody holds."""
        key = str(number - self.base)
        start = [] if isinstance(self.raw.get("spec", {}).get("allocations"), dict) else _started()
        others = [_test(f"-{_WRAP - int(key)}", None)] if _SIGNED <= int(key) < _WRAP else []
        return [
            *start,
            *others,
            _test(key, None),
            {"op": "add", "path": _path(key), "value": entry_of(owner)},
        ]

    def adopting(self, number: int, owner: Owner) -> list[Operation]:
        """Return the patch by which an owner's entry gets its present sandbox."""
        key = self.key_of(number)
        new = {"op": "replace", "path": _path(key), "value": entry_of(owner)}
        return [_test(key, self.allocations[key]), new]

    def releasing(self, key: str) -> list[Operation]:
        return [_test(key, self.allocations[key]), {"op": "remove", "path": _path(key)}]

    def laying_to_rest(self, keys: list[str], seconds: float) -> list[Operation]:
        """Return the patch that notes since when keys rest, and drops the notes on those that are awake.

        At most 1000 rest at a time: beyond that the longest resting ones are woken.
        """
        now = datetime.now(UTC)
        rests = self._rests()
        awake = {key for key, since in rests.items() if since <= now - timedelta(seconds=seconds)}
        by_age = sorted(set(rests) - awake - set(keys), key=rests.__getitem__)
        awake |= set(by_age[: max(0, len(by_age) + len(keys) - _MOST_RESTING)])
        annotations = self.raw.get("metadata", {}).get("annotations")
        noted: list[Operation] = [] if annotations else _annotated(seconds)
        for key in awake - set(keys):
            path = _annotation(RESTING + key)
            noted += [
                {"op": "test", "path": path, "value": (annotations or {})[RESTING + key]},
                {"op": "remove", "path": path},
            ]
        told = now.isoformat(timespec="seconds")
        return noted + [{"op": "add", "path": _annotation(RESTING + key), "value": told} for key in keys]


def known_release(key: PoolKey, number: int, owner: Owner) -> list[Operation]:
    """Return the patch that gives an address back whose entry is known without reading the pool."""
    pool = KubePool.new(key)
    text = str(number - pool.base)
    return [_test(text, entry_of(owner)), {"op": "remove", "path": _path(text)}]


def _path(key: str) -> str:
    return f"/spec/allocations/{_escaped(key)}"


def _annotation(name: str) -> str:
    return f"/metadata/annotations/{_escaped(name)}"


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _unescaped(key: str) -> str:
    return key.replace("~1", "/").replace("~0", "~")


def _test(key: str, value: object) -> Operation:
    return {"op": "test", "path": _path(key), "value": value}


def _started() -> list[Operation]:
    """Return the operations that begin the entries of an object that has none."""
    path = "/spec/allocations"
    return [{"op": "test", "path": path, "value": None}, {"op": "add", "path": path, "value": {}}]


def _annotated(seconds: float) -> list[Operation]:
    path = "/metadata/annotations"
    value = {_NOTED: f"{seconds:g}"}
    return [{"op": "test", "path": path, "value": None}, {"op": "add", "path": path, "value": value}]
