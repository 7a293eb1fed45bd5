"""Which networks a pod gets: resolved in full before anything is attached.

The order is that of the attachments: the default network, then `defaultNetworks` or the further
`delegates`, then those of the pod's annotation, then the auxiliary chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cni.plugins.multus import confdir
from cni.plugins.multus.args import PodArgs
from cni.plugins.multus.cache import entry_of
from cni.plugins.multus.config import MultusConf
from cni.plugins.multus.naming import check_names, interface_name
from cni.plugins.multus.record import Called
from cni.plugins.multus.selection import Selection
from cni.protocol import gojson
from cni.protocol.chain import Chain
from cni.protocol.errors import InvalidConfig
from cni.protocol.gojson import JsonObject
from cni.protocol.request import Request

_META_PLUGINS = ("multus", "multus-shim", "podrail-multus")


@dataclass(frozen=True)
class Planned:
    """A delegate that is to be called."""

    name: str  # as users look for it: `namespace/name`, or the configuration's name
    chain: Chain
    selection: Selection | None = None
    ifname: str = ""
    is_default: bool = False
    resource: str = ""  # of which a device is wanted
    device: str = ""

    @property
    def cache_entry(self) -> JsonObject:
        return entry_of(self.chain, self.name, self.selection, self.resource, self.device)

    def called(self, request: Request, pod: PodArgs, device_info: str = "") -> Called:
        """Return the call: the runtime's arguments are for the default network alone."""
        args = dict(request_runtime(request)) if self.is_default else {}
        if self.selection:
            args |= self.selection.capability_args
        if self.device:
            args |= {"deviceID": self.device, "CNIDeviceInfoFile": device_info}
        return Called(
            name=self.name,
            ifname=self.ifname,
            is_default=self.is_default,
            config=self.chain.raw,
            cni_args=pod.for_delegate(request, self.selection),
            capability_args=args,
            device_info=device_info,
        )


def has_cluster(conf: MultusConf, request: Request) -> bool:
    """Tell whether there is an API server to ask: by a kubeconfig, or by what a pod is given."""
    inside = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
    if conf.kubeconfig or not all(map(request.variable, inside)):
        return bool(conf.kubeconfig)
    from cni.kube.config import SERVICE_ACCOUNT  # 10 ms that those outside a pod save

    return (SERVICE_ACCOUNT / "token").exists()


def request_runtime(request: Request) -> JsonObject:
    """Return the runtimeConfig of a call: all that the runtime sends."""
    found = gojson.get(request.network.raw, "runtimeConfig")
    return found if isinstance(found, dict) else {}


def of_configuration(conf: MultusConf) -> list[Planned]:
    """Return the networks that the configuration itself holds, or names by path or in `confDir`.

    Raises:
        InvalidConfig: code 7, one of them cannot be found or is malformed.
    """
    if conf.attached_delegates:
        return inline(conf)
    names = [conf.cluster_network or "", *conf.default_networks]
    return [from_file(conf, name) for name in names]


def from_file(conf: MultusConf, reference: str) -> Planned:
    """Return a network by its path, or by its name in `confDir`.

    Raises:
        InvalidConfig: code 7, there is none of that name.
    """
    if "/" in reference:
        raw: JsonObject | None = confdir.load(Path(reference))
    else:
        raw = confdir.find(Path(conf.conf_dir), reference)
    if raw is None:
        raise InvalidConfig(
            f'cannot find the network "{reference}"',
            why=f'No file in {conf.conf_dir} has that "name".',
            fix="Put its configuration there, or correct the reference.",
        )
    chain = Chain.parse(raw, f'the network "{reference}"', name=conf.name)
    return Planned(chain.name, chain)


def auxiliary(conf: MultusConf) -> list[Planned]:
    """Return the auxiliary chain: the plugins in the directory of its name beside the cluster network."""
    if not conf.auxiliary_chain or "/" not in (conf.cluster_network or ""):
        return []
    cluster_network = Path(conf.cluster_network or "")
    directory = cluster_network if cluster_network.is_dir() else cluster_network.parent
    if "/" in conf.auxiliary_chain or not (more := confdir.plugins_beside(directory, conf.auxiliary_chain)):
        return []
    raw = {"cniVersion": conf.cni_version or "", "name": conf.auxiliary_chain, "plugins": more}
    return [Planned(conf.auxiliary_chain, Chain.parse(raw, f'the chain "{conf.auxiliary_chain}"'))]


def numbered(planned: Sequence[Planned], ifname: str) -> tuple[Planned, ...]:
    """Give the first network the place of the default one, and each its interface.

    Raises:
        CniError: a name is invalid (7), or two networks want it (101).
    """
    names = [
        interface_name(each.selection.interface if each.selection else "", position, ifname)
        for position, each in enumerate(planned)
    ]
    check_names(names, [f'network "{each.name}"' for each in planned])
    for each in planned:
        _refuse_meta_plugin(each)
    return tuple(
        replace(each, ifname=name, is_default=not position)
        for position, (each, name) in enumerate(zip(planned, names, strict=True))
    )


def inline(conf: MultusConf) -> list[Planned]:
    """Return the networks of `delegates`.

    Raises:
        InvalidConfig: code 7, one is malformed.
    """
    return [Planned(chain.name, chain) for chain in conf.chains]


def _refuse_meta_plugin(planned: Planned) -> None:
    for plugin_type in planned.chain.types:
        if plugin_type in _META_PLUGINS:
            raise InvalidConfig(
                f'the network "{planned.name}" is of type "{plugin_type}"',
                why="multus would call itself without end.",
                fix="Name the network that pods shall get.",
            )
