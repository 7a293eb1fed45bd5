"""What etcd is to the API server: objects under keys, one revision for all, a history to watch.

An object is never changed once it is stored, so that who has got it needs no copy.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.support.apiserver.refusals import Resource, etcd_limit

Object = dict[str, Any]
Key = tuple[str, str]  # namespace, name


class Stored(dict[str, Any]):
    """An object as it is stored, and its JSON, which is made once."""

    def __init__(self, item: Object) -> None:
        super().__init__(item)
        self.encoded = json.dumps(item, separators=(",", ":")).encode()


MAX_OBJECT = 1_572_864  # bytes: etcd's default limit of a request


@dataclass(frozen=True)
class Change:
    """One write."""

    revision: int
    resource: str
    key: Key
    before: Object | None
    after: Object | None  # None is a deletion
    last: Object  # the object as an event shows it


class Store:
    """All objects. Take `lock` for what must be one step."""

    def __init__(self) -> None:
        self.lock = threading.Condition(threading.RLock())
        self.revision = 1000
        self.compacted = 0  # what happened up to here is forgotten
        self._tables: dict[str, dict[Key, Object]] = {}
        self._history: list[Change] = []
        self._snapshots: dict[int, dict[str, dict[Key, Object]]] = {}
        self._cache: dict[str, dict[Key, Object]] | None = None  # a stale one, else None

    def find(self, resource: Resource, key: Key, *, from_cache: bool = False) -> Object | None:
        with self.lock:
            return self._table(resource, from_cache=from_cache).get(key)

    def all(
        self, resource: Resource, revision: int | None = None, *, from_cache: bool = False
    ) -> list[Object]:
        """Return all objects of a resource by namespace and name; `revision` is of an earlier snapshot."""
        with self.lock:
            if revision is not None:
                table = self._snapshots[revision].get(resource.qualified, {})
            else:
                table = self._table(resource, from_cache=from_cache)
            return [table[key] for key in sorted(table)]

    def put(self, resource: Resource, key: Key, new: Object) -> Object:
        """Store an object under its next resourceVersion and return it."""
        with self.lock:
            version = {"resourceVersion": str(self.revision + 1)}
            stored = Stored({**new, "metadata": {**new["metadata"], **version}})
            if len(stored.encoded) > MAX_OBJECT:
                raise etcd_limit()
            before = self._tables.setdefault(resource.qualified, {}).get(key)
            self._tables[resource.qualified][key] = stored
            self._record(resource, key, before, stored, stored)
            return stored

    def remove(self, resource: Resource, key: Key) -> Object:
        with self.lock:
            gone = self._tables[resource.qualified].pop(key)
            version = {"resourceVersion": str(self.revision + 1)}
            last = {**gone, "metadata": {**gone["metadata"], **version}}
            self._record(resource, key, gone, None, last)
            return gone

    def _record(
        self, resource: Resource, key: Key, before: Object | None, after: Object | None, last: Object
    ) -> None:
        self.revision += 1
        self._history.append(Change(self.revision, resource.qualified, key, before, after, last))
        self.lock.notify_all()

    def snapshot(self) -> int:
        """Keep what there is now, for the further pages of a list; return its revision."""
        with self.lock:
            if self.revision not in self._snapshots:
                self._snapshots[self.revision] = {name: dict(table) for name, table in self._tables.items()}
            return self.revision

    def has_snapshot(self, revision: int) -> bool:
        return revision in self._snapshots

    def compact(self) -> None:
        """Forget the past: pages of lists that were begun, and watches from earlier revisions, are gone."""
        with self.lock:
            self.compacted = self.revision
            self._snapshots.clear()
            self._history.clear()

    def changes(self, resource: Resource, since: int) -> list[Change]:
        with self.lock:
            return [
                change
                for change in self._history
                if change.revision > since and change.resource == resource.qualified
            ]

    def freeze_cache(self) -> None:
        """From now on reads that allow it are answered from what there is now, as by a cache that lags."""
        with self.lock:
            self._cache = {name: dict(table) for name, table in self._tables.items()}

    def thaw_cache(self) -> None:
        with self.lock:
            self._cache = None

    def _table(self, resource: Resource, *, from_cache: bool) -> dict[Key, Object]:
        tables = self._cache if from_cache and self._cache is not None else self._tables
        return tables.get(resource.qualified, {})

    def __iter__(self) -> Iterator[Object]:
        with self.lock:
            return iter([item for table in self._tables.values() for item in table.values()])
