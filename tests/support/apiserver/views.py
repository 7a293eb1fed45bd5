"""Lists in pages and watches: the API's views of the store."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.support.apiserver import refusals, selectors
from tests.support.apiserver.refusals import Place, Refusal, Resource
from tests.support.apiserver.store import Change, Object, Store


def refuse_future(store: Store, resource_version: str) -> None:
    if resource_version.isdecimal() and int(resource_version) > store.revision:
        message = f"Too large resource version: {resource_version}, current: {store.revision}"
        raise Refusal(504, "Timeout", message, retryAfterSeconds=1)


def listed(store: Store, place: Place, query: Mapping[str, str]) -> Object:
    resource = place.resource
    with store.lock:
        fits = _selector(place, query)
        start, revision = _continuation(query.get("continue", ""))
        if revision is not None and not store.has_snapshot(revision):
            raise refusals.expired(_token(start, 0))
        from_cache = query.get("resourceVersion") == "0"
        refuse_future(store, query.get("resourceVersion", ""))
        items = [
            item
            for item in store.all(resource, revision or None, from_cache=from_cache)
            if fits(item) and _text_key(item) >= start
        ]
        # The cache answers in one piece, whatever the limit.
        limit = 0 if from_cache else int(query.get("limit") or 0)
        metadata: dict[str, Any] = {"resourceVersion": str(revision or store.revision)}
        if limit and len(items) > limit:
            snapshot = revision or store.snapshot()
            metadata["continue"] = _token(_text_key(items[limit]), snapshot)
            if not (query.get("labelSelector") or query.get("fieldSelector")):
                metadata["remainingItemCount"] = len(items) - limit
            items = items[:limit]
    return {
        "kind": f"{resource.kind}List",
        "apiVersion": resource.api_version,
        "metadata": metadata,
        "items": items if resource.is_custom else [_untyped(item) for item in items],
    }


def _selector(place: Place, query: Mapping[str, str]) -> selectors.Selector:
    by_label = selectors.labels(query.get("labelSelector", ""))
    by_field = selectors.fields(place.resource, query.get("fieldSelector", ""))
    namespace = place.namespace

    def fits(item: Object) -> bool:
        inside = not namespace or item["metadata"].get("namespace") == namespace
        return inside and by_label(item) and by_field(item)

    return fits


def watched(
    store: Store, place: Place, query: Mapping[str, str], is_over: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    """Yield events until `is_over` or the time-out that the query asks for."""
    fits = _selector(place, query)
    since = int(query.get("resourceVersion") or 0)
    end = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
    with store.lock:
        if since == 0:
            now = store.revision
            present = [item for item in store.all(place.resource) if fits(item)]
        elif since < store.compacted:
            gone = Refusal(410, "Expired", f"too old resource version: {since} ({store.compacted})")
            yield {"type": "ERROR", "object": gone.status}
            return
        else:
            now, present = since, []
    for item in present:
        yield {"type": "ADDED", "object": item}
    while not is_over() and time.monotonic() < end:
        with store.lock:
            changes = store.changes(place.resource, now)
            latest = store.revision
            if not changes:
                store.lock.wait(min(0.5, max(0.0, end - time.monotonic())))
                continue
        now = latest
        yield from (event for change in changes if (event := _event(change, fits)))
    if query.get("allowWatchBookmarks") in ("true", "1"):
        yield {"type": "BOOKMARK", "object": _bookmark(place.resource, now)}


def _event(change: Change, fits: selectors.Selector) -> dict[str, Any] | None:
    """Return what a watch with a selector sees of a change: an object may enter or leave its view."""
    was = change.before is not None and fits(change.before)
    is_there = change.after is not None and fits(change.after)
    if not was and not is_there:
        return None
    kind = "MODIFIED" if was and is_there else "ADDED" if is_there else "DELETED"
    if kind == "DELETED" and change.before is not None:
        version = {"resourceVersion": str(change.revision)}
        return {
            "type": kind,
            "object": {**change.before, "metadata": {**change.before["metadata"], **version}},
        }
    return {"type": kind, "object": change.last}


def _bookmark(resource: Resource, revision: int) -> Object:
    metadata = {"resourceVersion": str(revision), "creationTimestamp": None}
    return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}


def _untyped(item: Object) -> Object:
    """The items of a list of built-in kinds do not say their kind."""
    return {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}


def _text_key(item: Object) -> str:
    return f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"


def _token(start: str, revision: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"rv": revision, "start": start}).encode()).decode()


def _continuation(token: str) -> tuple[str, int | None]:
    """Return the first key of a page and its revision; 0 is the present one."""
    if not token:
        return "", None
    try:
        read = json.loads(base64.urlsafe_b64decode(token))
        return str(read["start"]), int(read["rv"]) or None
    except (ValueError, KeyError, TypeError):
        raise refusals.bad_request("continue key is not valid") from None
