"""What is left of containers that the journal does not know, or that are no longer valid.

Attachments that Multus made before this node changed over are in its cache alone. A cache that lost
power while it was written is rebuilt from what libcni kept of each delegate.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable

from cni.host import netns
from cni.plugins.multus import plan as planning
from cni.plugins.multus import resolve
from cni.plugins.multus.args import PodArgs
from cni.plugins.multus.config import MultusConf
from cni.plugins.multus.naming import interface_name
from cni.plugins.multus.pod import of_call
from cni.plugins.multus.record import Called, MultusRecord
from cni.plugins.multus.store import PLUGIN, Store
from cni.protocol.chain import Chain
from cni.protocol.errors import CniError, InvalidEnvironment, all_of
from cni.protocol.failures import collected
from cni.protocol.notes import note
from cni.protocol.request import AttachmentKey, Request


def delete(store: Store) -> None:
    """DEL of what neither the journal nor Multus' cache knows: by what pod and configuration name."""
    failures: list[CniError] = []
    record = _record(store.request, _of_pod(store) or _of_configuration(store.request, store.conf))
    # Nothing says that these were attached, so one that cannot be called holds nothing up.
    for called in reversed(record.owed):
        try:
            called.chain.find(store.request)
        except CniError as error:
            note(store.request.attachment, f"{called.name} is passed over: {error.msg}")
            continue
        with collected(failures):
            store.give_back(record.model_copy(update={"attachments": (called,), "begun": 1}))
    store.cache.remove(store.request.container_id)
    if failures:
        raise all_of(failures)


def known(store: Store) -> MultusRecord | None:
    """Return what Multus' cache holds of the call's container as a record, None if it has nothing."""
    request = store.request
    try:
        called = store.cache.called(request.container_id, request.ifname, _args(request))
    except CniError as error:
        note(request.attachment, f"{error.msg}: {error.why} It is rebuilt from libcni's results.")
        called = _rebuilt(store)
    if called is None:
        called = _results_of(store, request.container_id, request.ifname)
    return _record(request, called) if called else None


def collect(store: Store, keep: frozenset[AttachmentKey]) -> None:
    """GC: give back what is not to keep, then let the networks' plugins do the same.

    Raises:
        CniError: what could not be given back.
    """
    failures: list[CniError] = []
    records = store.journal.all()
    ours = [record for record in records if record.network == store.request.network.name]
    for record in ours:
        if record.key not in keep:
            note(record.network, f"gives back {record.attachment}: it is no longer valid")
            with collected(failures):
                store.give_back(record)
    store.journal.tidy(store.request.network.name)  # the spec lets no ADD or DEL run meanwhile
    _collect_cache(store, keep, {record.container_id for record in records}, failures)
    _forward(store, keep, failures)
    if failures:
        raise all_of(failures)


def _collect_cache(
    store: Store, keep: frozenset[AttachmentKey], recorded: set[str], failures: list[CniError]
) -> None:
    """Give back containers that Multus' cache alone knows."""
    valid = {container for container, _ in keep} | recorded
    left = set(store.cache.containers()) | {container for (container, _), _ in store.cache.results()}
    for container in sorted(left - valid):
        call = store.request.with_variables(CNI_CONTAINERID=container, CNI_IFNAME="eth0")
        of_container = Store(call, store.conf)
        note(store.request.network.name, f"gives back container {container} of Multus' cache")
        with collected(failures):
            record = known(of_container)
            if record:
                of_container.give_back(record)
            of_container.cache.remove(container)


def _forward(store: Store, keep: frozenset[AttachmentKey], failures: list[CniError]) -> None:
    """Ask the plugins of every network that is configured or attached to keep only what is valid."""
    valid: dict[str, set[AttachmentKey]] = defaultdict(set)
    chains: dict[str, Chain] = {}
    for (container, ifname), called in store.cache.results():
        valid[called.chain.name].add((container, ifname))
    for record in store.journal.all():
        for called in record.owed:
            valid[called.chain.name].add((record.container_id, called.ifname))
            chains[called.chain.name] = called.chain
    for called in _of_configuration(store.request, store.conf):
        chains[called.chain.name] = called.chain
        if called.is_default:
            # Pods from before multus have this network too, and nothing here knows of them.
            valid[called.chain.name] |= keep
    for name, chain in chains.items():
        with collected(failures):
            chain.gc(store.request, valid[name])


def _rebuilt(store: Store) -> list[Called]:
    """Return a container's delegates by libcni's results, and those that every pod has."""
    request = store.request
    found = _results_of(store, request.container_id, request.ifname)
    taken = {called.ifname for called in found}
    always = _of_configuration(request, store.conf)
    return sorted(
        [*found, *(each for each in always if each.ifname not in taken)], key=_place(request.ifname)
    )


def _results_of(store: Store, container_id: str, ifname: str) -> list[Called]:
    found = [called for (container, _), called in store.cache.results() if container == container_id]
    return sorted(found, key=_place(ifname))


def _place(default: str) -> Callable[[Called], tuple[bool, int, str]]:
    """Sort the default network first, then `net1`, `net2`, …, `net10`."""

    def key(called: Called) -> tuple[bool, int, str]:
        number = re.fullmatch(r"net(\d{1,9})", called.ifname)
        return called.ifname != default, int(number[1]) if number else 0, called.ifname

    return key


def _of_configuration(request: Request, conf: MultusConf) -> list[Called]:
    """Return the delegates of the configuration, as ADD would call them; none of them is owed anything."""
    try:
        planned = planning.of_configuration(conf) if conf.delegates or conf.cluster_network else []
    except CniError as error:
        note(request.network.name, f"the networks of the configuration are passed over: {error.msg}")
        return []
    args = _args(request)
    return [
        Called(
            name=each.name,
            ifname=interface_name("", position, request.ifname),
            is_default=not position,
            config=each.chain.raw,
            cni_args=args,
            capability_args=planning.request_runtime(request) if not position else {},
        )
        for position, each in enumerate(planned)
    ]


def _of_pod(store: Store) -> list[Called]:
    """Return what the pod's annotation asks for by now, if a cluster tells in time."""
    if not planning.has_cluster(store.conf, store.request):
        return []
    try:
        with of_call(store.conf, store.request, patient=False) as pod:
            plan = resolve.plan(store.conf, store.request.ifname, pod.api, pod.object)
            return [planned.called(store.request, pod.args) for planned in plan]
    except CniError as error:
        note(store.request.attachment, f"the cluster tells no networks of the pod: {error.msg}")
        return []


def _args(request: Request) -> str:
    try:
        return PodArgs.of(request).for_delegate(request, None)
    except InvalidEnvironment as error:
        note(request.attachment, f"{error.msg}; CNI_ARGS are passed on as they are")
        return request.variable("CNI_ARGS")


def _record(request: Request, called: Iterable[Called]) -> MultusRecord:
    attachments = tuple(called)
    with netns.opened_if_present(request.netns) as sandbox:
        identity = sandbox.identity() if sandbox else ""
    return MultusRecord.of(request, PLUGIN, identity, attachments=attachments, begun=len(attachments))
