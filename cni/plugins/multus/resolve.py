"""From a configuration and a pod to the networks that are to be attached, before anything is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cni.plugins.multus import annotation, definition
from cni.plugins.multus.config import MultusConf
from cni.plugins.multus.plan import Planned, auxiliary, from_file, inline, numbered
from cni.plugins.multus.selection import Selection
from cni.protocol.chain import Chain
from cni.protocol.errors import CniError, InvalidConfig
from cni.protocol.notes import note

if TYPE_CHECKING:  # the client's imports are for those with a cluster
    from cni.kube.client import Client
    from cni.plugins.multus.cluster import Reference
    from cni.protocol.gojson import JsonObject

Wanted = Selection | Planned  # a network that the cluster has, and one that is known in full


class NetworkNotFound(InvalidConfig):
    """A network that somebody names does not exist."""


def plan(
    conf: MultusConf, ifname: str, api: Client | None = None, pod: JsonObject | None = None
) -> tuple[Planned, ...]:
    """Return the networks of a pod, in the order of their attachment.

    Raises:
        CniError: one of them is not to be had, or the pod's annotation is wrong.
    """
    wanted = [*_of_every_pod(conf, api, pod), *_of_annotation(conf, api, pod)]
    selections = [each for each in wanted if isinstance(each, Selection)]
    created = str(pod["metadata"].get("creationTimestamp") or "") if pod else ""
    networks = _read(api, selections, created) if api and selections else {}
    planned = [_planned(each, networks, conf) for each in wanted]
    return numbered([*planned, *auxiliary(conf)], ifname)


def _of_every_pod(conf: MultusConf, api: Client | None, pod: JsonObject | None) -> list[Wanted]:
    """Return the default network, which the pod may replace, and what else every pod has."""
    if conf.ignored:
        note(conf.name, conf.ignored)
    wanted: list[Wanted] = [*inline(conf)]
    if conf.cluster_network:
        names = {'"clusterNetwork"': conf.cluster_network}
        if pod is None or pod["metadata"]["namespace"] not in conf.system_namespaces:
            names |= {f'"defaultNetworks[{n}]"': name for n, name in enumerate(conf.default_networks)}
        wanted = [_referred(conf, name, where, api) for where, name in names.items()]
    if api and pod:
        override = annotation.default_network(annotation.of_pod(pod), conf.multus_namespace)
        if override:
            own = pod["metadata"]["namespace"]
            _check_isolation(conf, override, own, {own, conf.multus_namespace})
            wanted[0] = override
    return wanted


def _of_annotation(conf: MultusConf, api: Client | None, pod: JsonObject | None) -> list[Wanted]:
    if not (api and pod):
        return []
    namespace = pod["metadata"]["namespace"]
    selections = annotation.networks(annotation.of_pod(pod), namespace)
    for selection in selections:
        _check_isolation(conf, selection, namespace, {namespace})
    return list(selections)


def _referred(conf: MultusConf, reference: str, where: str, api: Client | None) -> Wanted:
    """A name is looked for in the cluster, if there is one, and then among the files; a path is a path."""
    if "/" in reference or api is None:
        return from_file(conf, reference)
    return Selection(reference, conf.multus_namespace, where, may_be_a_file=True)


def _check_isolation(conf: MultusConf, selection: Selection, namespace: str, allowed: set[str]) -> None:
    if conf.namespace_isolation and selection.namespace not in allowed | conf.globals:
        raise InvalidConfig(
            f'a pod of namespace "{namespace}" may not use a network of namespace "{selection.namespace}"',
            why=f'{selection.where} names "{selection.network}", and "namespaceIsolation" is on; '
            f"networks of {', '.join(sorted(allowed | conf.globals))} are allowed.",
            fix=f'Put the network into "{namespace}", or add its namespace to "globalNamespaces".',
        )


def _read(
    api: Client, selections: Sequence[Selection], created: str
) -> dict[Reference, JsonObject | Exception]:
    from cni.plugins.multus.cluster import read_networks

    return read_networks(api, [(each.namespace, each.name) for each in selections], created)


def _planned(wanted: Wanted, networks: dict[Reference, JsonObject | Exception], conf: MultusConf) -> Planned:
    if isinstance(wanted, Planned):
        return wanted
    found = networks[wanted.namespace, wanted.name]
    if isinstance(found, Exception):
        return _instead(wanted, found, conf)
    chain = definition.chain_of(found, wanted, conf)
    _check_heard(wanted, chain)
    return Planned(wanted.network, chain, wanted, resource=definition.resource_of(found))


def _check_heard(selection: Selection, chain: Chain) -> None:
    """Refuse what no plugin would hear of. (A MAC and addresses reach those without capability too.)"""
    deaf = sorted({"portMappings", "bandwidth", "infinibandGUID"} & selection.capability_args.keys())
    deaf = [capability for capability in deaf if capability not in chain.capabilities]
    if deaf:
        raise InvalidConfig(
            f'network "{selection.network}" cannot do what the pod asks for: {", ".join(deaf)}',
            why=f"{selection.where} asks for it, and no plugin of the network declares the capability.",
            fix='Add "capabilities" to the plugin that shall do it, or leave it out of the annotation.',
        )


def _instead(selection: Selection, failure: Exception, conf: MultusConf) -> Planned:
    """Return a network that the cluster does not give from a file, where that is allowed."""
    from cni.kube.errors import NotFound
    from cni.kube.paths import InvalidName

    is_missing = isinstance(failure, NotFound | InvalidName)
    if selection.may_be_a_file:
        try:
            return from_file(conf, selection.name)
        except InvalidConfig:
            if is_missing:
                raise
    if not is_missing:
        raise failure
    why = failure.why if isinstance(failure, CniError) else ""
    raise NetworkNotFound(
        f"cannot find a network-attachment-definition ({selection.name}) "
        f"in namespace ({selection.namespace})",
        why=f"{selection.where} names it. {why}",
        fix="Create it there, or correct the name.",
    ) from failure
