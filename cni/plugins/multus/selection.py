"""Selection: what a pod asks of one network; one item of its annotation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cni.protocol.gojson import JsonObject


@dataclass(frozen=True)
class Selection:
    """A network by name, and what is asked of the attachment; empty means not asked."""

    name: str
    namespace: str
    where: str = ""  # which item of which annotation, for errors
    interface: str = ""
    ips: tuple[str, ...] = ()
    mac: str = ""
    infiniband_guid: str = ""
    port_mappings: tuple[JsonObject, ...] = ()
    bandwidth: JsonObject = field(default_factory=dict)
    default_route: tuple[str, ...] | None = None  # gateways; empty keeps what the plugin set
    cni_args: JsonObject = field(default_factory=dict)
    device_id: str = ""
    may_be_a_file: bool = False  # of `confDir`, if the cluster does not have it

    @property
    def network(self) -> str:
        """The network as users look for it: `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def capability_args(self) -> dict[str, Any]:
        """What is asked, by the capability that a plugin must declare to hear of it."""
        asked = {
            "portMappings": list(self.port_mappings),
            "bandwidth": self.bandwidth,
            "ips": list(self.ips),
            "mac": self.mac,
            "infinibandGUID": self.infiniband_guid,
            "deviceID": self.device_id,
        }
        return {capability: value for capability, value in asked.items() if value}
