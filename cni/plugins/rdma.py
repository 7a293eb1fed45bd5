"""rdma: the RDMA device of an interface that an earlier plugin of the chain gave goes to the sandbox too.

Its result is the one that it got. The RDMA system must be in exclusive mode.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from cni import durable
from cni.attachment import Attachments, differs, previous
from cni.device import rdma
from cni.device.rdma import RdmaDevice
from cni.host import netns
from cni.host.links import Links
from cni.host.netns import Netns
from cni.host.rdma import RdmaDevices
from cni.protocol.config import PluginConf, Section, Text, parse_section
from cni.protocol.errors import CniError, Code, InvalidConfig
from cni.protocol.notes import note
from cni.protocol.plugin import Plugin
from cni.protocol.request import Request
from cni.protocol.result import Result
from cni.state import Record

if TYPE_CHECKING:
    from cni.protocol.planning import Plan, Planning

RDMA_CNI_STATE = Path("/var/lib/cni/rdma")


class RdmaConf(PluginConf):
    device_id: Text = Field(default=None, alias="deviceID")  # PCI address, or auxiliary: mlx5_core.sf.4


class RdmaRecord(Record):
    device: RdmaDevice


class _RuntimeConfig(Section):
    is_open = True
    device_id: Text = Field(default=None, alias="deviceID")


class _RdmaCniState(Section):
    """What rdma-cni remembers."""

    is_open = True
    name: Text = Field(default=None, alias="containerRdmaDevName")


def add(request: Request, conf: RdmaConf) -> Result:
    result = _chained(request, conf)
    with ExitStack() as stack:
        into = stack.enter_context(netns.opened(request.netns))
        device = rdma.movable(_address(request, conf, result, into))
        attaching = stack.enter_context(ATTACHMENTS.attaching(request, into, device=device))
        rdma.move_in(device, into)
        return attaching.done(result)


def plan(request: Request, conf: RdmaConf, _planning: Planning) -> Plan:
    """Return what ADD would do; without a sandbox the device of the chain's interface is not known."""
    from cni.protocol.planning import Plan  # calls have no use for it

    result = _chained(request, conf)
    named = Plan("rdma", request.network.name, request.ifname, result=result)
    address = _told_address(conf) or _address_of_result(request, result)
    if not address:
        return replace(named, open=("which RDMA device goes along is known when the interface is there",))
    device = rdma.movable(address)
    return replace(named, facts={"RDMA device": device.name, "bus address": address})


def check(request: Request, conf: RdmaConf) -> None:
    previous(request, conf)
    record = ATTACHMENTS.journal(request).find(request.network.name, *request.key)
    with netns.opened(request.netns) as sandbox:
        if record and not rdma.is_in(record.device, sandbox):
            raise differs(request, [f'the RDMA device "{record.device.name}" is not in the sandbox'])


def status(request: Request, conf: RdmaConf) -> None:
    try:
        with netns.own() as home, RdmaDevices(home, "on the host") as host:
            host.require_exclusive()
    except CniError as error:
        error.code = Code.NOT_AVAILABLE
        raise


def _chained(request: Request, conf: RdmaConf) -> Result:
    """Return the result of the plugins before this one.

    Raises:
        InvalidConfig: code 7, there are none.
    """
    if conf.prev_result is None:
        raise InvalidConfig(
            "rdma must be chained",
            why='There is no "prevResult": it follows the plugin that gives the interface.',
            fix='Put it after that plugin in "plugins".',
        )
    return previous(request, conf)


def _told_address(conf: RdmaConf) -> str:
    runtime = parse_section(_RuntimeConfig, conf.runtime_config, "runtimeConfig", under="runtimeConfig")
    return conf.device_id or runtime.device_id or ""


def _address_of_result(request: Request, result: Result) -> str:
    index = result.interface_index(request.ifname, request.netns)
    return (result.interfaces[index].pci_id or "") if index is not None else ""


def _address(request: Request, conf: RdmaConf, result: Result, into: Netns) -> str:
    """Return which function is meant: the configured one, else that of the chain's interface."""
    told = _told_address(conf)
    if told:
        return told
    with Links(into, "in the sandbox") as inside:
        link = inside.find(request.ifname)
    address = _address_of_result(request, result) or (link.parent if link else "")
    if not address:
        raise InvalidConfig(
            '"deviceID" is missing',
            why=f'The interface "{request.ifname}" of the chain does not tell its device.',
            fix='Set "deviceID", or let a device plugin\'s resource give it.',
        )
    return address


def _release(record: RdmaRecord, sandbox: Netns | None) -> None:
    rdma.bring_home(record.device, sandbox)


def _adopt(request: Request) -> None:
    """Bring home what rdma-cni moved, by its state; from a dead sandbox the kernel has."""
    path = RDMA_CNI_STATE / f"{request.network.name}-{request.container_id}-{request.ifname}"
    data = durable.read(path)
    if data is None:
        return
    try:
        state = parse_section(_RdmaCniState, json.loads(data), f"rdma-cni's state {path}")
    except (CniError, ValueError):
        note(request.attachment, f"rdma-cni's state {path} cannot be read")
        return
    with netns.opened_if_present(request.netns) as sandbox:
        if sandbox and state.name:
            with RdmaDevices(sandbox, "in the sandbox") as inside:
                index = inside.all().get(state.name)
            if index is not None:
                rdma.bring_home(RdmaDevice(name=state.name, index=index), sandbox)
    path.unlink(missing_ok=True)


ATTACHMENTS = Attachments("rdma", RdmaRecord, release=_release, adopt=_adopt)

PLUGIN = Plugin(
    conf=RdmaConf,
    add=add,
    delete=ATTACHMENTS.delete,
    check=check,
    status=status,
    gc=ATTACHMENTS.gc,
)
