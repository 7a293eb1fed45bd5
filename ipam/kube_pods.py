"""Pods as IPAM sees them: whether one is over, and which addresses its network-status tells (pure)."""

from __future__ import annotations

import json
from typing import Any

from cni.protocol.addresses import parse_ip
from ipam.ranges import Ip

NETWORK_STATUS = ("k8s.v1.cni.cncf.io/network-status", "k8s.v1.cni.cncf.io/networks-status")


def podref(pod: dict[str, Any]) -> str:
    return f"{pod['metadata'].get('namespace', '')}/{pod['metadata']['name']}"


def is_over(pod: dict[str, Any]) -> bool:
    """Whether a pod has ended and will not run again."""
    return phase(pod) in ("Succeeded", "Failed")


def phase(pod: dict[str, Any]) -> str:
    return str((pod.get("status") or {}).get("phase") or "")


def is_being_deleted(pod: dict[str, Any]) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def addresses(pod: dict[str, Any]) -> frozenset[Ip] | None:
    """Return every address of a pod's network-status, default networks' too; None if it tells none.

    A status that is missing or cannot be read proves nothing.
    """
    annotations = pod["metadata"].get("annotations") or {}
    text = next((annotations[name] for name in NETWORK_STATUS if name in annotations), None)
    try:
        statuses = json.loads(text or "")
        found = [parse_ip(each) for status in statuses for each in status.get("ips") or ()]
    except (ValueError, TypeError, AttributeError):
        return None
    return frozenset(found) if isinstance(statuses, list) and statuses else None
