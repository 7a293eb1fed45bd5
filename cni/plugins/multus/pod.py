"""The pod of a call, where there is a cluster to ask, and what is told to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cni.plugins.multus import devices, resolve
from cni.plugins.multus.args import PodArgs
from cni.plugins.multus.config import MultusConf
from cni.plugins.multus.plan import Planned, has_cluster
from cni.plugins.multus.status import Attached, annotation
from cni.protocol.errors import CniError, Code, InvalidConfig
from cni.protocol.gojson import JsonObject
from cni.protocol.notes import note
from cni.protocol.request import Request

if TYPE_CHECKING:  # the client takes 60 ms, which those without a cluster save
    from cni.kube.client import Client

# Together less than the 30 s in which a runtime shall hear of an API server that hangs.
_READING_SECONDS, _WRITING_SECONDS = 15.0, 12.0


@dataclass(frozen=True)
class Pod:
    """A pod as the API server has it; without a cluster, or a pod's name, there is neither."""

    args: PodArgs
    api: Client | None = None
    object: JsonObject | None = None

    def plan(self, conf: MultusConf, ifname: str) -> tuple[Planned, ...]:
        """Return the pod's networks; if they are wrong, the pod hears of it too.

        Raises:
            CniError: they are not to be had.
        """
        try:
            plan = resolve.plan(conf, ifname, self.api, self.object)
            if self.api is None or self.object is None:
                return plan
            return devices.assigned(plan, conf, self.args, self.object, self.api)
        except CniError as error:
            if error.code in (Code.INVALID_NETWORK_CONFIG, Code.NAME_TAKEN):
                is_missing = isinstance(error, resolve.NetworkNotFound)
                self._warn("NoNetworkFound" if is_missing else "InvalidNetwork", error)
            raise

    def publish(self, attached: Sequence[Attached]) -> None:
        """Write the network-status, and events beside it.

        Raises:
            CniError: the status could not be written.
        """
        if self.api is None or self.object is None:
            return
        from cni.kube.deadline import Limits
        from cni.plugins.multus.cluster import write_status
        from cni.plugins.multus.events import Event, Sending

        events = [Event("Normal", "AddedInterface", _sentence(each)) for each in attached]
        sending = Sending(self.api, self.object, events)
        try:
            limits = Limits(operation=_WRITING_SECONDS)
            write_status(self.api.operation(limits), self.object, annotation(attached))
        finally:
            sending.finish()

    def _warn(self, reason: str, error: CniError) -> None:
        if self.api is None or self.object is None:
            return
        from cni.plugins.multus.events import Event, Sending

        text = " ".join(filter(None, (f"{error.msg}.", error.why, error.fix)))
        Sending(self.api, self.object, [Event("Warning", reason, text)]).finish()


@contextmanager
def connected(conf: MultusConf, request: Request, *, patient: bool = True) -> Iterator[Client | None]:
    """Yield a client of the cluster, None where there is none; one without patience for what can do without.

    Raises:
        InvalidConfig: code 7, the kubeconfig is missing or wrong.
    """
    if not has_cluster(conf, request):
        yield None
        return
    from cni.kube.client import Client
    from cni.kube.config import in_cluster, load
    from cni.kube.deadline import Limits

    if patient:
        limits = Limits(operation=_READING_SECONDS)
    else:
        limits = Limits(connect=1.5, request=2.5, silence=3.0, operation=5.0)
    config = load(conf.kubeconfig) if conf.kubeconfig else in_cluster(request.environment)
    with Client(config, limits, request.memory) as api:
        yield api


@contextmanager
def of_call(conf: MultusConf, request: Request, *, patient: bool = True) -> Iterator[Pod]:
    """Yield the pod that the runtime names, as far as it can be known.

    Raises:
        CniError: the API server does not tell, or knows another pod of that name.
    """
    args = PodArgs.of(request)
    with connected(conf, request, patient=patient) as api:
        if api is None or not args.name:
            yield Pod(args, api)
            return
        from cni.plugins.multus.cluster import read_pod

        yield Pod(args, api, read_pod(api, args))


@contextmanager
def answering(conf: MultusConf, request: Request) -> Iterator[Client | None]:
    """Yield a client of a cluster that answers; None where there is none, or an optional one does not.

    Raises:
        CniError: the cluster would not serve an ADD.
    """
    with ExitStack() as stack:
        try:
            api = stack.enter_context(connected(conf, request, patient=False))
            if api:
                from cni.plugins.multus.cluster import check_answering  # 60 ms that few need

                check_answering(api)
        except CniError as error:
            if not (conf.cluster_is_optional and _is_out_of_reach(error)):
                raise
            note(
                request.network.name, f"{error.msg}: pods would have the networks of the configuration alone"
            )
            api = None
        yield api


@contextmanager
def of_add(conf: MultusConf, request: Request) -> Iterator[Pod]:
    """As `of_call`; where the cluster is optional and cannot be asked, the pod without it.

    A pod that the cluster does not know, or another one of its name, is an error all the same.
    """
    with ExitStack() as stack:
        try:
            pod = stack.enter_context(of_call(conf, request))
        except CniError as error:
            if not (conf.cluster_is_optional and _is_out_of_reach(error)):
                raise
            note(request.attachment, f"{error.msg}: only the networks of the configuration are attached")
            pod = Pod(PodArgs.of(request))
        yield pod


def _is_out_of_reach(error: CniError) -> bool:
    from cni.kube.errors import ApiError

    return isinstance(error, ApiError | InvalidConfig)


def _sentence(attached: Attached) -> str:
    addresses = " ".join(str(ip.address) for ip in attached.result.ips)
    return f"Add {attached.ifname} [{addresses}] from {attached.name}"
