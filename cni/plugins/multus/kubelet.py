"""Which devices the kubelet has given to a pod: from its pod-resources API, else from its checkpoint.

Source: `k8s.io/kubelet/pkg/apis/podresources/v1/api.proto`; the kubelet's
`pkg/kubelet/cm/devicemanager/checkpoint`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni.plugins.multus import grpc
from cni.plugins.multus.grpc import GrpcError, Status
from cni.protocol.errors import CniError, Code
from cni.protocol.notes import note

_METHOD = "/v1.PodResourcesLister/List"
_SECONDS = 10.0  # for all tries together
_RESTART_SECONDS = 5.0  # a kubelet that restarts leaves its socket behind for a while
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 1.0  # seconds
# What may be over at the next try: its limit of calls, or a restart.
_PASSING = (Status.RESOURCE_EXHAUSTED, Status.UNAVAILABLE)

Devices = dict[str, list[str]]  # by resource, in the kubelet's order


@dataclass(frozen=True)
class Pod:
    """A pod as the kubelet knows it."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class Kubelet:
    """The kubelet of this node, by the directory where it keeps its state."""

    directory: Path

    def devices(self, pod: Pod) -> Devices:
        """Return a pod's devices, those of all its containers together, each once.

        Raises:
            CniError: code 11, the kubelet does not tell, and neither does its checkpoint.
        """
        socket = self.directory / "pod-resources" / "kubelet.sock"
        try:
            return _of_pod(self._listed(socket), pod)
        except (OSError, GrpcError) as error:
            devices = self._checkpoint(pod)
            if devices is not None:
                if not isinstance(error, FileNotFoundError):
                    note(str(socket), f"{error}; the kubelet's checkpoint is taken instead")
                return devices
            raise CniError(
                "the kubelet does not tell which devices the pod has",
                why=f"{socket}: {error}. {self._checkpoint_path} is not there either.",
                fix="Look at the kubelet; the feature KubeletPodResources must be on.",
                code=Code.TRY_AGAIN_LATER,
            ) from error

    def _listed(self, socket: Path) -> bytes:
        began = time.monotonic()
        wait = _FIRST_WAIT
        while True:
            try:
                return grpc.call(socket, _METHOD, b"", began + _SECONDS)
            except FileNotFoundError:
                raise
            except (OSError, GrpcError) as error:
                is_busy = isinstance(error, GrpcError) and error.status == Status.RESOURCE_EXHAUSTED
                limit = began + (_SECONDS if is_busy else _RESTART_SECONDS)
                is_passing = not isinstance(error, GrpcError) or error.status in _PASSING
                if not is_passing or time.monotonic() + wait >= limit:
                    raise
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    @property
    def _checkpoint_path(self) -> Path:
        return self.directory / "device-plugins" / "kubelet_internal_checkpoint"

    def _checkpoint(self, pod: Pod) -> Devices | None:
        """Return what the checkpoint has of the pod; None if there is none that can be read."""
        try:
            entries = json.loads(self._checkpoint_path.read_bytes())["Data"]["PodDeviceEntries"] or []
            found = [entry for entry in entries if entry["PodUID"] == pod.uid]
            return _collected((entry["ResourceName"], _ids(entry["DeviceIDs"])) for entry in found)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            note(str(self._checkpoint_path), f"it cannot be read: {error!r:.200}")
            return None


def _ids(listed: Any) -> list[str]:
    """Return the devices of an entry: by NUMA node, or, before Kubernetes 1.20, in a plain list."""
    if isinstance(listed, dict):
        return [str(each) for node in sorted(listed, key=int) for each in listed[node]]
    return [str(each) for each in listed or ()]


def _collected(found: Iterable[tuple[str, Iterable[str]]]) -> Devices:
    """Bring devices together by resource; an init container's may be an app container's again."""
    devices: Devices = {}
    for resource, ids in found:
        known = devices.setdefault(resource, [])
        known += [each for each in dict.fromkeys(ids) if each not in known]
    return devices


# -- the messages of the API -----------------------------------------------------------------------


def _of_pod(answer: bytes, pod: Pod) -> Devices:
    """Read a ListPodResourcesResponse: its field 1 are the pods."""
    return _collected(
        device
        for listed in _messages(answer, 1)
        if (_text(listed, 1), _text(listed, 2)) == (pod.name, pod.namespace)
        for container in _messages(listed, 3)
        for device in map(_device, _messages(container, 2))
    )


def _device(message: bytes) -> tuple[str, list[str]]:
    """Read a ContainerDevices: the resource, and the devices of it."""
    return _text(message, 1), [each.decode("utf-8", "replace") for each in _messages(message, 2)]


def _text(message: bytes, number: int) -> str:
    return next((each.decode("utf-8", "replace") for each in _messages(message, number)), "")


def _messages(message: bytes, number: int) -> Iterator[bytes]:
    """Yield the strings and messages of one field; all else is passed over."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise GrpcError(Status.UNKNOWN, "the answer is cut off")
            if key >> 3 == number:
                yield message[at : at + length]
            at += length
        else:
            raise GrpcError(Status.UNKNOWN, f"the answer has a field of the unknown kind {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
    raise GrpcError(Status.UNKNOWN, "the answer is cut off")
