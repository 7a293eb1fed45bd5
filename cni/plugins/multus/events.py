"""Events on the pod, which `kubectl describe` shows: what was attached, and what its owner must mend.

They are sent beside other work, for a second at most, and nothing depends on them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Thread
from typing import Literal

from cni.kube.client import Client
from cni.kube.deadline import Limits
from cni.kube.paths import resource
from cni.protocol.errors import CniError
from cni.protocol.gojson import JsonObject
from cni.protocol.notes import note

SECONDS = 1.0
_LIMITS = Limits(connect=SECONDS, request=SECONDS, silence=SECONDS, operation=SECONDS)


@dataclass(frozen=True)
class Event:
    kind: Literal["Normal", "Warning"]
    reason: str
    message: str

    def to_json(self, pod: JsonObject, number: int) -> JsonObject:
        metadata = pod["metadata"]
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name'][:230].rstrip('-.')}.{time.time_ns() + number:x}",
                "namespace": metadata["namespace"],
            },
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata.get("uid", ""),
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            "type": self.kind,
            "reason": self.reason,
            "message": self.message[:1024],  # the API's own limit
            "source": {"component": "multus"},
            "reportingComponent": "multus",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }


class Sending:
    """Events on their way, from now on."""

    def __init__(self, api: Client, pod: JsonObject, events: Sequence[Event]) -> None:
        self._until = time.monotonic() + SECONDS
        self._thread = Thread(target=_send, args=(api.operation(_LIMITS), pod, events), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for them, until their second is over."""
        self._thread.join(max(0.0, self._until - time.monotonic()))


def _send(api: Client, pod: JsonObject, events: Sequence[Event]) -> None:
    path = resource("v1", "events", namespace=pod["metadata"]["namespace"])
    try:
        for number, event in enumerate(events):
            api.create(path, event.to_json(pod, number))
    except CniError as error:
        note("", f"events of the pod were not sent: {error.msg}")
