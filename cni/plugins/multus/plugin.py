"""multus: several networks for one pod; each is attached by plugins of its own, the delegates.

ADD finds out which networks the pod gets, then calls their plugins one after another; the default
network's result is the answer. What is about to be called stands on disk first, with every byte that a
delegate gets: DEL calls in reverse what was called, with the same, and asks nobody.

Source: the NPWG's multi-network specification; Multus for all that it leaves open.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from cni.attachment import refuse_taken_name
from cni.host import netns
from cni.host.links import Links
from cni.plugins.multus import device_info, resolve, routes, stale
from cni.plugins.multus.args import PodArgs
from cni.plugins.multus.config import READINESS_SECONDS, MultusConf
from cni.plugins.multus.plan import Planned
from cni.plugins.multus.pod import Pod, answering, of_add
from cni.plugins.multus.record import call_of
from cni.plugins.multus.settings import salvaged, with_bin_dir
from cni.plugins.multus.status import Attached
from cni.plugins.multus.store import Attaching, Store, named, sandbox_path
from cni.protocol.errors import CniError, Code, InvalidConfig
from cni.protocol.plugin import Plugin
from cni.protocol.request import AttachmentKey, Request
from cni.protocol.result import Result, prev_result
from cni.undo import too_late

_POLL_SECONDS = 0.1


def add(request: Request, conf: MultusConf) -> Result:
    request = with_bin_dir(request, conf)
    store = Store(request, conf)
    with store.log.failures():
        conf.check_networks()
        prev_result(conf.prev_result, request.network.version)
        PodArgs.of(request)
        _wait_until_ready(conf)
        with of_add(conf, request) as pod:
            plan = pod.plan(conf, request.ifname)
            routes.check(plan)
            for planned in plan:
                planned.chain.find(request)
            return _attached(store, pod, plan)


def delete(request: Request) -> None:
    conf = salvaged(request)
    store = Store(with_bin_dir(request, conf), conf)
    with store.log.failures(), store.alone():
        record = store.find() or stale.known(store)
        if record:
            store.give_back(record)
        else:
            stale.delete(store)


def check(request: Request, conf: MultusConf) -> None:
    prev_result(conf.prev_result, request.network.version)
    request = with_bin_dir(request, conf)
    record = Store(request, conf).find() or stale.known(Store(request, conf))
    if record is None:
        raise InvalidConfig(
            f'nothing is known of container "{request.container_id}" on network "{request.network.name}"',
            why="Neither the journal nor Multus' cache has it.",
            fix="Recreate the pod, if it is one of multus' at all.",
        )
    for called in record.owed:
        try:
            call = call_of(request, record, called, sandbox_path(record, request))
            called.chain.check(call, called.capability_args, called.result)
        except CniError as error:
            raise named(error, called) from error


def status(request: Request, conf: MultusConf) -> None:
    try:
        conf.check_networks()
        request = with_bin_dir(request, conf)
        if conf.readiness_file and not Path(conf.readiness_file).exists():
            raise _not_ready(conf.readiness_file)
        with answering(conf, request) as api:
            networks = resolve.plan(conf, request.ifname or "eth0", api)
        for planned in networks:
            planned.chain.find(request)
    except CniError as error:
        error.code = Code.NOT_AVAILABLE
        raise
    for planned in networks:
        planned.chain.status(request)


def gc(request: Request, keep: frozenset[AttachmentKey]) -> None:
    conf = salvaged(request)
    stale.collect(Store(with_bin_dir(request, conf), conf), keep)


def _attached(store: Store, pod: Pod, plan: Sequence[Planned]) -> Result:
    """Attach what is planned, all or nothing, and return the default network's result."""
    request = store.request
    with netns.opened(request.netns) as sandbox, Links(sandbox, "in the sandbox") as links:
        for planned in plan:
            refuse_taken_name(links, planned.ifname)
        with store.attaching(sandbox, plan, pod.args) as attaching:
            results = [_attach(request, attaching, links, number) for number in range(len(plan))]
            settled = routes.settle(links, plan, results)
            attaching.done(results, settled)
            settled[0].check_expressible(request.network.version)
            attached = zip(attaching.record.attachments, settled, strict=True)
            pod.publish(
                [
                    Attached(each.name, each.ifname, each.is_default, result, device_info.read(each))
                    for each, result in attached
                ]
            )
            too_late()
            return settled[0]


def _attach(request: Request, attaching: Attaching, links: Links, position: int) -> Result:
    """Call one delegate and return its result."""
    called, planned = attaching.record.attachments[position], attaching.plan[position]
    try:
        if position:
            # Again, for a delegate before may have taken it; and before a DEL is owed that would delete it.
            refuse_taken_name(links, called.ifname)
        attaching.begins(position)
        device_info.copy(planned, called.device_info)
        call = call_of(request, attaching.record, called, request.netns)
        result = called.chain.add(call, called.capability_args)
    except CniError as error:
        raise named(error, called) from error
    attaching.answered(position, result)
    return result


def _wait_until_ready(conf: MultusConf) -> None:
    """Wait for the file by which the default network's daemon says that it is ready."""
    if not conf.readiness_file:
        return
    deadline = time.monotonic() + READINESS_SECONDS
    while not Path(conf.readiness_file).exists():
        if time.monotonic() >= deadline:
            raise _not_ready(conf.readiness_file)
        time.sleep(_POLL_SECONDS)


def _not_ready(path: str) -> CniError:
    return CniError(
        f"the default network is not ready: {path} does not exist",
        why='"readinessindicatorfile" names it; the network\'s daemon writes it when it is ready.',
        fix="Look at that daemon on this node.",
        code=Code.TRY_AGAIN_LATER,
    )


PLUGIN = Plugin(conf=MultusConf, add=add, delete=delete, check=check, status=status, gc=gc)
