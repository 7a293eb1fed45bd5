"""CNI_ARGS: which pod the runtime names in them, and what delegates get.

Source: the original's `pkg/types` (K8sArgs) and `pkg/netutils` for order and repetitions, which
delegates' parsers rely on: of several pairs with one key the last counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from cni.plugins.multus.selection import Selection
from cni.protocol.request import Request, parse_cni_args

_POD_KEYS = ("K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID")
# The same CNI_ARGS reach interface and IPAM plugins, so their keys are no mistake here.
_KNOWN = frozenset({*_POD_KEYS, "IP", "MAC", "GATEWAY"})


@dataclass(frozen=True)
class PodArgs:
    """The pod of a call; its name is empty where the runtime names none."""

    namespace: str
    name: str
    uid: str
    infra_container: str

    @classmethod
    def of(cls, request: Request) -> PodArgs:
        """Raises InvalidEnvironment, code 4, for what is no pair and for keys that nobody knows."""
        told = parse_cni_args(request.variable("CNI_ARGS"), _KNOWN)
        namespace, name, infra_container, uid = (told.get(key, "") for key in _POD_KEYS)
        return cls(namespace, name, uid, infra_container)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    def for_delegate(self, request: Request, selection: Selection | None) -> str:
        """Return a delegate's CNI_ARGS, the MAC and addresses that are asked of it at the end.

        Plugins that do not declare the capabilities `mac` and `ips` learn of them only so.
        """
        pod = (self.namespace, self.name, self.infra_container, self.uid)
        pairs = ["IgnoreUnknown=true", *map("=".join, zip(_POD_KEYS, pod, strict=True))]
        if request.variable("CNI_ARGS"):
            pairs.append(request.variable("CNI_ARGS"))
        if selection and selection.mac:
            pairs.append(f"MAC={selection.mac}")
        if selection and selection.ips:
            pairs.append(f"IP={','.join(selection.ips)}")
        return ";".join(pairs)
