"""A kubelet as multus sees it: the pod-resources API by grpcio and protobuf, and the checkpoint file."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = descriptor_pb2.FieldDescriptorProto
# The kubelet's `podresources/v1/api.proto`, what it has beside devices included: all of it is sent.
_MESSAGES: dict[str, list[tuple[str, int, str, bool]]] = {
    "NUMANode": [("ID", 1, "int64", False)],
    "TopologyInfo": [("nodes", 1, "NUMANode", True)],
    "ContainerDevices": [
        ("resource_name", 1, "string", False),
        ("device_ids", 2, "string", True),
        ("topology", 3, "TopologyInfo", False),
    ],
    "ContainerMemory": [("memory_type", 1, "string", False), ("size", 2, "uint64", False)],
    "ContainerResources": [
        ("name", 1, "string", False),
        ("devices", 2, "ContainerDevices", True),
        ("cpu_ids", 3, "int64", True),
        ("memory", 4, "ContainerMemory", True),
    ],
    "PodResources": [
        ("name", 1, "string", False),
        ("namespace", 2, "string", False),
        ("containers", 3, "ContainerResources", True),
    ],
    "ListPodResourcesResponse": [("pod_resources", 1, "PodResources", True)],
}
_SCALARS = {"string": _TYPES.TYPE_STRING, "int64": _TYPES.TYPE_INT64, "uint64": _TYPES.TYPE_UINT64}

Devices = dict[str, list[str]]  # by resource


def _response_type() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="api.proto", package="v1", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, is_repeated in fields:
            added = message.field.add(name=field, number=number)
            added.label = _TYPES.LABEL_REPEATED if is_repeated else _TYPES.LABEL_OPTIONAL
            added.type = _SCALARS.get(kind, _TYPES.TYPE_MESSAGE)
            if kind not in _SCALARS:
                added.type_name = f".v1.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("v1.ListPodResourcesResponse")
    return message_factory.GetMessageClass(descriptor)


_Response = _response_type()


class Kubelet:
    """A kubelet that keeps its state below `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.calls = 0
        self._response = _Response()
        self._refusals: list[tuple[grpc.StatusCode, str, Callable[[], object]]] = []
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def socket(self) -> Path:
        return self.directory / "pod-resources" / "kubelet.sock"

    @property
    def checkpoint(self) -> Path:
        return self.directory / "device-plugins" / "kubelet_internal_checkpoint"

    def start(self) -> None:
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        limit = ("grpc.max_send_message_length", 64 * 1024 * 1024)
        self._server = grpc.server(ThreadPoolExecutor(4), options=[limit])
        handler = grpc.unary_unary_rpc_method_handler(
            self._list, response_serializer=lambda response: response.SerializeToString()
        )
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": handler})]
        )
        self._server.add_insecure_port(f"unix:{self.socket}")
        self._server.start()

    def stop(self) -> None:
        """End the API; grpcio takes its socket away."""
        self._server.stop(None).wait()

    def has(self, name: str, *containers: Devices, namespace: str = "default") -> None:
        """From now on a pod has these containers with devices."""
        pod = self._response.pod_resources.add(name=name, namespace=namespace)
        for number, devices in enumerate(containers):
            container = pod.containers.add(name=f"c{number}", cpu_ids=[1, 2**40])
            container.memory.add(memory_type="hugepages-2Mi", size=2**40)
            for resource, ids in devices.items():
                added = container.devices.add(resource_name=resource, device_ids=ids)
                added.topology.nodes.add(ID=1)

    def refuses(
        self, status: grpc.StatusCode, told: str, times: int = 1, then: Callable[[], object] = lambda: None
    ) -> None:
        """Refuse the next calls so; after each, something may happen."""
        self._refusals += [(status, told, then)] * times

    def writes_checkpoint(self, *entries: tuple[str, str, Any]) -> None:
        """Write the checkpoint: pod UID, resource and devices of each entry."""
        listed = [
            {
                "PodUID": uid,
                "ContainerName": "c0",
                "ResourceName": resource,
                "DeviceIDs": devices,
                "AllocResp": "",
            }
            for uid, resource, devices in entries
        ]
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        document = {"Data": {"PodDeviceEntries": listed, "RegisteredDevices": {}}, "Checksum": 1}
        self.checkpoint.write_text(json.dumps(document))

    def _list(self, _request: bytes, context: grpc.ServicerContext) -> Any:
        self.calls += 1
        if self._refusals:
            status, told, then = self._refusals.pop(0)
            then()
            context.abort(status, told)
        return self._response
