"""Devices by dynamic resource allocation: what the pod's ResourceClaims were given, by resource name.

A driver publishes each device with two attributes in its ResourceSlices: its ID, as plugins know it, and
the resource that networks ask for by. Devices without them are none for networks.

Source: the API group `resource.k8s.io/v1`; the original's `pkg/draclient` for the attributes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cni.kube.client import Client
from cni.kube.errors import NotFound
from cni.kube.paths import resource
from cni.protocol.errors import CniError, Code
from cni.protocol.gojson import JsonObject

_API = "resource.k8s.io/v1"
_DEVICE_ID, _RESOURCE = "k8s.cni.cncf.io/deviceID", "k8s.cni.cncf.io/resourceName"


def has_claims(pod: JsonObject) -> bool:
    """Tell whether a pod has any device by a claim."""
    return any(_names(pod)) or bool(_extended(pod))


def devices(api: Client, pod: JsonObject) -> dict[str, list[str]]:
    """Return the devices of a pod's claims by resource, in the order of the claims and their results.

    Raises:
        CniError: code 11, a claim is gone or not allocated; or as the API server answers.
    """
    reading = _Reading(api, pod)
    found: dict[str, list[str]] = defaultdict(list)
    for name in _names(pod):
        for result in reading.results(name):
            device, resource_name = reading.attributes(result)
            if device and resource_name:
                found[resource_name].append(device)
    extended = _extended(pod)
    for mapping in extended.get("requestMappings") or ():
        for result in reading.results(str(extended["resourceClaimName"])):
            device, _ = reading.attributes(result)
            if device and result.get("request") == mapping.get("requestName"):
                found[str(mapping.get("resourceName"))].append(device)
    return found


def _names(pod: JsonObject) -> Iterator[str]:
    """Yield the names of a pod's claims: those of templates are in its status alone."""
    generated = {
        each.get("name"): each.get("resourceClaimName")
        for each in pod.get("status", {}).get("resourceClaimStatuses") or ()
    }
    wanted = pod.get("spec", {}).get("resourceClaims") or ()
    named = {each.get("name"): each.get("resourceClaimName") for each in wanted}
    for name, claim in (named | {key: claim for key, claim in generated.items() if claim}).items():
        if name and claim:
            yield str(claim)


def _extended(pod: JsonObject) -> JsonObject:
    """Return the claim that was made for resources which the pod's containers ask for as such."""
    found = pod.get("status", {}).get("extendedResourceClaimStatus")
    return found if isinstance(found, dict) and found.get("resourceClaimName") else {}


@dataclass
class _Reading:
    """Claims and slices as far as they were read, each once."""

    api: Client
    pod: JsonObject
    _claims: dict[str, list[JsonObject]] = field(default_factory=dict)
    _published: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = field(default_factory=dict)

    def results(self, name: str) -> list[JsonObject]:
        """Return what a claim was given."""
        if name not in self._claims:
            self._claims[name] = self._results(name)
        return self._claims[name]

    def _results(self, name: str) -> list[JsonObject]:
        namespace = self.pod["metadata"]["namespace"]
        path = resource(_API, "resourceclaims", namespace=namespace, name=name)
        try:
            claim = self.api.get(path)
        except NotFound as error:
            raise _pending(name, "it does not exist") from error
        allocation = claim.get("status", {}).get("allocation") or {}
        results = allocation.get("devices", {}).get("results")
        if not results:
            raise _pending(name, "it has no device allocated")
        return list(results)

    def attributes(self, result: JsonObject) -> tuple[str, str]:
        """Return the ID and resource name of a device, empty where its driver does not publish them."""
        driver, pool, name = (str(result.get(key, "")) for key in ("driver", "pool", "device"))
        node = str(self.pod.get("spec", {}).get("nodeName") or "")
        # Most drivers publish the devices of a node as the node's; others for all or for some nodes.
        for of in dict.fromkeys((node, "")):
            device = self._devices(driver, pool, of).get(name)
            if device is not None:
                return _text(device, _DEVICE_ID), _text(device, _RESOURCE)
        return "", ""

    def _devices(self, driver: str, pool: str, node: str) -> dict[str, Mapping[str, Any]]:
        """Return the attributes of the devices of a pool, by name, as its latest generation has them."""
        key = driver, pool, node
        if key not in self._published:
            selector = f"spec.driver={driver}" + (f",spec.nodeName={node}" if node else "")
            listed = self.api.list(resource(_API, "resourceslices"), fieldSelector=selector)
            specs = [each["spec"] for each in listed]
            pools = [spec for spec in specs if spec.get("pool", {}).get("name") == pool]
            latest = max((spec["pool"].get("generation", 0) for spec in pools), default=0)
            self._published[key] = {
                device["name"]: device.get("attributes") or {}
                for spec in pools
                if spec["pool"].get("generation", 0) == latest
                for device in spec.get("devices") or ()
            }
        return self._published[key]


def _text(attributes: Mapping[str, Any], name: str) -> str:
    value = attributes.get(name)
    return str(value.get("string") or "") if isinstance(value, dict) else ""


def _pending(name: str, reason: str) -> CniError:
    return CniError(
        f'the ResourceClaim "{name}" of the pod tells no devices',
        why=f"{reason[0].upper()}{reason[1:]}, and a network of the pod wants a device.",
        fix="Wait until it is allocated; look at its events and its driver.",
        code=Code.TRY_AGAIN_LATER,
    )
