"""Devices for the networks that want one: the n-th network of a resource gets the pod's n-th device of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cni.plugins.multus.args import PodArgs
from cni.plugins.multus.config import MultusConf
from cni.plugins.multus.definition import with_device
from cni.plugins.multus.plan import Planned
from cni.protocol.errors import InvalidConfig
from cni.protocol.gojson import JsonObject


def assigned(
    plan: Sequence[Planned], conf: MultusConf, args: PodArgs, pod: JsonObject
) -> tuple[Planned, ...]:
    """Return the plan with a device in each network that wants one; the pod itself may name it.

    Raises:
        CniError: code 7, the pod has not that many; code 11, the kubelet does not tell.
    """
    if not any(each.resource for each in plan):
        return tuple(map(_with_own_device, plan))
    from cni.plugins.multus.kubelet import Kubelet
    from cni.plugins.multus.kubelet import Pod as KubeletPod

    metadata = pod["metadata"]
    # Of a static pod the kubelet's UID is not the API server's; the runtime tells the kubelet's.
    uid = args.uid or str(metadata.get("uid", ""))
    devices = Kubelet(Path(conf.kubelet_dir)).devices(
        KubeletPod(metadata["namespace"], metadata["name"], uid)
    )
    used: Counter[str] = Counter()
    found = []
    for each in plan:
        if not each.resource:
            found.append(_with_own_device(each))
            continue
        ids = devices.get(each.resource, [])
        if used[each.resource] >= len(ids):
            wanted = sum(other.resource == each.resource for other in plan)
            raise _too_few(each, ids, wanted)
        found.append(_with(each, ids[used[each.resource]]))
        used[each.resource] += 1
    return tuple(found)


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
