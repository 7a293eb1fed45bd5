"""Devices for the networks that want one: the n-th network of a resource gets the pod's n-th device of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cni.plugins.multus.args import PodArgs
from cni.plugins.multus.config import MultusConf
from cni.plugins.multus.definition import with_device
from cni.plugins.multus.plan import Planned
from cni.protocol.errors import InvalidConfig
from cni.protocol.gojson import JsonObject

if TYPE_CHECKING:  # their imports are for those with a cluster, and with devices
    from cni.kube.client import Client
    from cni.plugins.multus.kubelet import Devices


def assigned(
    plan: Sequence[Planned], conf: MultusConf, args: PodArgs, pod: JsonObject, api: Client
) -> tuple[Planned, ...]:
    """Return the plan with a device in each network that wants one; the pod itself may name it.

    Raises:
        CniError: code 7, the pod has not that many; code 11, the kubelet or a claim does not tell.
    """
    wanted = Counter(each.resource for each in plan if each.resource)
    if not wanted:
        return tuple(map(_with_own_device, plan))
    devices = _of_kubelet(conf, args, pod)
    if any(len(devices.get(resource, ())) < count for resource, count in wanted.items()):
        devices = _with_claimed(devices, api, pod)
    used: Counter[str] = Counter()
    found = []
    for each in plan:
        if not each.resource:
            found.append(_with_own_device(each))
            continue
        ids = devices.get(each.resource, [])
        if used[each.resource] >= len(ids):
            raise _too_few(each, ids, wanted[each.resource])
        found.append(_with(each, ids[used[each.resource]]))
        used[each.resource] += 1
    return tuple(found)


def _of_kubelet(conf: MultusConf, args: PodArgs, pod: JsonObject) -> Devices:
    from cni.plugins.multus.kubelet import Kubelet
    from cni.plugins.multus.kubelet import Pod as KubeletPod

    metadata = pod["metadata"]
    # Of a static pod the kubelet's UID is not the API server's; the runtime tells the kubelet's.
    uid = args.uid or str(metadata.get("uid", ""))
    return Kubelet(Path(conf.kubelet_dir)).devices(KubeletPod(metadata["namespace"], metadata["name"], uid))


def _with_claimed(devices: Devices, api: Client, pod: JsonObject) -> Devices:
    """Add what the pod has by claims, behind what the kubelet's device plugins gave."""
    from cni.plugins.multus import claims

    if not claims.has_claims(pod):
        return devices
    claimed = claims.devices(api, pod)
    return {
        name: list(dict.fromkeys([*devices.get(name, ()), *claimed.get(name, ())]))
        for name in {*devices, *claimed}
    }


def _with_own_device(planned: Planned) -> Planned:
    device = planned.selection.device_id if planned.selection else ""
    return _with(planned, device) if device else planned


def _with(planned: Planned, device: str) -> Planned:
    return replace(planned, device=device, chain=with_device(planned.chain, device))


def _too_few(planned: Planned, ids: Sequence[str], wanted: int) -> InvalidConfig:
    has = ", ".join(ids) or "none"
    return InvalidConfig(
        f'no device of "{planned.resource}" is left for network "{planned.name}" ({planned.ifname})',
        why=f"The pod's networks want {wanted}, and its containers have: {has}.",
        fix=f"Request {wanted} of it in the pod's resources, or name fewer such networks.",
    )
