"""What ADD of multus would do: the pod's networks, and what each of their plugins would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from cni.plugins.multus import annotation, device_info, devices, resolve, routes
from cni.plugins.multus.args import PodArgs
from cni.plugins.multus.config import MultusConf
from cni.plugins.multus.plan import Planned
from cni.plugins.multus.pod import Pod, connected, of_add
from cni.plugins.multus.settings import with_bin_dir
from cni.protocol import versions
from cni.protocol.errors import CniError, InvalidConfig
from cni.protocol.planning import Plan, Planning
from cni.protocol.request import Request
from cni.protocol.result import Result, prev_result


def plan(request: Request, conf: MultusConf, planning: Planning) -> Plan:
    request = with_bin_dir(request, conf)
    conf.check_networks()
    prev_result(conf.prev_result, request.network.version)
    open_: list[str] = []
    with _pod(conf, request, planning) as pod:
        networks = _with_devices(resolve.plan(conf, request.ifname, pod.api, pod.object), conf, pod, open_)
    if pod.api is None and pod.args.name:
        open_.append("no cluster was asked, so the pod's annotation is not known")
    routes.check(networks)
    for each in networks:
        each.chain.find(request)
    steps = [_step(request, pod, each, planning) for each in networks]
    if not any(step.would_fail for step in steps):
        settled = routes.foreseen(networks, [step.result for step in steps])
        steps = [_settled(step, result) for step, result in zip(steps, settled, strict=True)]
    made = Plan("multus", request.network.name, request.ifname, open=tuple(open_), steps=tuple(steps))
    return replace(made, result=steps[0].result)


@contextmanager
def _pod(conf: MultusConf, request: Request, planning: Planning) -> Iterator[Pod]:
    """Yield the pod as ADD would find it, or one that would have the annotation that is asked about."""
    if planning.networks is None:
        with of_add(conf, request) as pod:
            yield pod
        return
    args = PodArgs.of(request)
    with connected(conf, request) as api:
        if api is None:
            raise InvalidConfig(
                "an annotation cannot be planned without a cluster",
                why="Its networks are looked for there, and nothing names a kubeconfig.",
                fix="Name a kubeconfig.",
            )
        annotations = {annotation.NETWORKS: planning.networks}
        metadata = {"namespace": args.namespace, "name": args.name, "annotations": annotations}
        yield Pod(args, api, {"metadata": metadata})


def _with_devices(
    networks: tuple[Planned, ...], conf: MultusConf, pod: Pod, open_: list[str]
) -> tuple[Planned, ...]:
    """Return the networks with their devices; the kubelet has none for a pod that it does not run yet."""
    if pod.object is None or pod.api is None:
        return networks
    try:
        return devices.assigned(networks, conf, pod.args, pod.object, pod.api)
    except CniError as error:
        open_.append(f"{error.msg}. {error.why}".rstrip(". "))
        return networks


def _step(request: Request, pod: Pod, network: Planned, planning: Planning) -> Plan:
    """Return what a network's plugins would do, and their result in the end."""
    called = network.called(request, pod.args, device_info.path_for(network, request.container_id))
    call = request.with_variables(CNI_IFNAME=called.ifname, CNI_ARGS=called.cni_args)
    chain = called.chain
    version = chain.version or versions.UNSTATED
    made = Plan(" + ".join(chain.types), network.name, called.ifname, version=version)
    if network.device:
        made = replace(made, facts={"resource": network.resource, "deviceID": network.device})
    try:
        steps = chain.plan(call, called.capability_args, planning)
    except CniError as error:
        return replace(made, error=error)
    return replace(made, steps=steps, result=steps[-1].result)


def _settled(step: Plan, result: Result) -> Plan:
    """Return a step with the default routes that it has after all networks are attached."""
    if result == step.result:
        return step
    return replace(
        step,
        result=result,
        open=(
            *step.open,
            "another network has its default routes, or it has those of another, once all are attached",
        ),
    )
