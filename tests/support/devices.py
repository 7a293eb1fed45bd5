"""host-device in tests: its configuration, and what a namespace tells of its devices."""

from __future__ import annotations

import re
from typing import Any

from tests.support.world import Namespace, static


def nic(**keys: Any) -> dict[str, Any]:
    """A configuration that names no device, with `keys` added or replaced."""
    conf = {"cniVersion": "1.0.0", "name": "nic", "type": "host-device"}
    return conf | {"ipam": static("10.2.0.5/24")} | keys


def told(namespace: Namespace, *arguments: str) -> str:
    """What `ip -d addr` tells, to the letter but for what changes by itself: the state of the wire."""
    text = namespace.ip("-d", "addr", "show", *arguments)
    return re.sub(r" state \w+|,LOWER_UP|NO-CARRIER,| qdisc \w+", "", text)


def words_missing(error: dict[str, Any], words: list[str]) -> list[str]:
    """Those words that an error object does not have."""
    return [word for word in words if word not in error["msg"] + " " + error.get("details", "")]
