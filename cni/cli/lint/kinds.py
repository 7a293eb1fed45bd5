"""What a document is: a configuration, a list, or a Kubernetes object with networks in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cni.cli.lint.finding import Finding
from cni.cli.lint.network import Network
from cni.cli.lint.source import Document, Unreadable
from cni.cli.selected import NETWORKS
from cni.protocol import gojson
from cni.protocol.errors import CniError

RESOURCE = "k8s.v1.cni.cncf.io/resourceName"


@dataclass(frozen=True)
class Pod:
    """What asks for networks: a pod, or the template of one; `path` is where its annotation stands."""

    document: Document
    namespace: str
    path: str
    networks: str


@dataclass
class Inputs:
    """Everything that was read, sorted by what it is."""

    networks: list[Network] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)
    resources: set[str] = field(default_factory=set)  # that some device plugin's configuration defines
    findings: list[Finding] = field(default_factory=list)

    def add(self, document: Document) -> None:
        """Take a document in, or say why it is none that is known."""
        value = document.value
        if value is None:
            return  # nothing between two marks of YAML
        if isinstance(value, dict) and isinstance(value.get("kind"), str):
            self._add_object(document, value, "")
        elif isinstance(value, dict) and ("plugins" in _folded(value) or "type" in _folded(value)):
            name = gojson.get(value, "name")
            self.networks.append(Network(document, name if isinstance(name, str) else "", value))
        else:
            self.findings.append(
                Finding(
                    document.place(""),
                    "shape",
                    "this is no network configuration, list or Kubernetes object",
                    why='It has neither "type" nor "plugins" nor "kind".',
                )
            )

    def _add_object(self, document: Document, value: dict[str, Any], path: str) -> None:
        kind = value.get("kind")
        if kind == "List":
            for index, item in enumerate(value.get("items") or []):
                if isinstance(item, dict):
                    self._add_object(document, item, f"items[{index}].")
        elif kind == "NetworkAttachmentDefinition":
            self._add_attachment(document, value, path)
        elif kind == "ConfigMap":
            self.resources |= set(_resources(value.get("data")))
        else:
            self.pods += _pods(document, value, path)

    def _add_attachment(self, document: Document, value: dict[str, Any], path: str) -> None:
        metadata, spec = _object(value, "metadata"), _object(value, "spec")
        name, config = str(metadata.get("name", "")), spec.get("config")
        namespace = str(metadata.get("namespace") or "default")
        resource = str(_object(metadata, "annotations").get(RESOURCE, ""))
        if not config:
            return  # multus takes the file of that name
        try:
            inner = document.within(f"{path}spec.config", str(config))
        except Unreadable as error:
            self.findings.append(error.finding)
            return
        if not isinstance(inner.value, dict):
            self.findings.append(Finding(inner.place(""), "shape", "spec.config is no JSON object"))
            return
        told = gojson.get(inner.value, "name")
        network = Network(inner, name, inner.value, namespace, resource)
        self.networks.append(network)
        if told and told != name:
            self.findings.append(
                network.finding(
                    "name-mismatch",
                    "name",
                    f'the configuration is named "{told}", its NetworkAttachmentDefinition "{name}"',
                    why="Records and pools are kept under the one, pods ask for the other.",
                    fix="Leave the name in the configuration out, or make them equal.",
                    severity="warning",
                )
            )


def _pods(document: Document, value: dict[str, Any], path: str) -> Iterator[Pod]:
    """Yield the annotation of an object, and of the pods that it is a template for."""
    namespace = str(_object(value, "metadata").get("namespace") or "default")
    spec = _object(value, "spec")
    job = _object(_object(spec, "jobTemplate"), "spec")
    places = {
        "": value,
        "spec.template.": _object(spec, "template"),
        "spec.jobTemplate.spec.template.": _object(job, "template"),
    }
    for at, holder in places.items():
        annotations = _object(_object(holder, "metadata"), "annotations")
        if NETWORKS in annotations:
            where = f"{path}{at}metadata.annotations.{NETWORKS}"
            yield Pod(document, namespace, where, str(annotations[NETWORKS]))


def _object(value: Any, key: str) -> dict[str, Any]:
    """Return the object under a key, an empty one if there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _resources(data: Any) -> Iterator[str]:
    """Yield the resources that the configuration of an RDMA or SR-IOV device plugin defines."""
    for text in data.values() if isinstance(data, dict) else ():
        try:
            raw = gojson.loads(str(text).encode(), "a device plugin's configuration")
        except (CniError, ValueError):  # a ConfigMap may hold anything
            continue
        listed = (
            [gojson.get(raw, key) for key in ("resourceList", "configList")] if isinstance(raw, dict) else []
        )
        for entry in (entry for entries in listed for entry in entries or [] if isinstance(entry, dict)):
            prefix = gojson.get(entry, "resourcePrefix")
            for default in [prefix] if prefix else ["intel.com", "rdma", "nvidia.com"]:
                yield f"{default}/{gojson.get(entry, 'resourceName')}"


def _folded(value: dict[str, Any]) -> set[str]:
    return {key.casefold() for key in value}
