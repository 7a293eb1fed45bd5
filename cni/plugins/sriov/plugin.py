"""sriov: a virtual function for a pod, with its VLAN, MAC, rates and trust, which comes home as it was.

ADD records what the VF was, for its PF and on the host, before it touches it. DEL finds the VF by its
PCI address, wherever it is and whatever it is called, and is content if some of it is already gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from cni import locks
from cni.attachment import (
    Attachments,
    attached,
    check_expressible,
    differs,
    interface_in,
    previous,
    refuse_taken_name,
)
from cni.device import rdma
from cni.device.mac import give_mac
from cni.device.moving import moved_in
from cni.host import addressing, netns
from cni.host.links import KernelRefused, Link, Links
from cni.host.netns import Netns
from cni.host.vf import VfSettings
from cni.plugins.sriov import discovery, settings
from cni.plugins.sriov.adopt import adopt, collect
from cni.plugins.sriov.claims import Claims, lock_of
from cni.plugins.sriov.config import SriovConf
from cni.plugins.sriov.differences import link_differences, vf_differences
from cni.plugins.sriov.log import Log, logged
from cni.plugins.sriov.record import SriovRecord
from cni.plugins.sriov.refusals import check_possible
from cni.plugins.sriov.release import release, release_locked
from cni.plugins.sriov.taking import Taken, take
from cni.protocol import versions
from cni.protocol.errors import CniError, Code, all_of
from cni.protocol.failures import collected
from cni.protocol.plugin import Plugin
from cni.protocol.request import AttachmentKey, Request
from cni.protocol.result import Interface, Result, prev_result

_Release = Callable[[SriovRecord, Netns | None, Mapping[str, str]], None]
_TRUSTED_SECONDS = 0.5
_NO_MAC = "00:00:00:00:00:00"


def add(request: Request, conf: SriovConf) -> Result:
    prev_result(conf.prev_result, request.network.version)
    check_expressible(request, conf)
    wanted = conf.settings(conf.requested_mac(request))
    check_possible(conf, wanted, discovery.identify(conf.device), request)
    conf.check_fabric()
    with ExitStack() as stack:
        into = stack.enter_context(netns.opened(request.netns))
        host = stack.enter_context(Links(stack.enter_context(netns.own()), "on the host"))
        sandbox = stack.enter_context(Links(into, "in the sandbox"))
        refuse_taken_name(sandbox, request.ifname)
        _give_back_namesake(request, into)
        stack.enter_context(locks.held(lock_of(conf.device), request.environment))
        taken = take(request, conf, wanted, host, _attachments(request).journal(request))
        attaching = stack.enter_context(
            _attachments(request, release).attaching(request, into, **taken.to_remember)
        )
        Claims(request.environment).take(attaching.record)
        link = _told(taken, wanted, host, request)
        if attaching.record.rdma:
            rdma.move_in(attaching.record.rdma, into)
        if link is None:
            attaching.made()
            described = description(request, taken, mac=program_mac(wanted, taken))
            return attaching.done(attached(request, conf, described, attaching.addresses()))
        moved = moved_in(link, host, sandbox, request.ifname, alias=attaching.record.device.name)
        attaching.made(index=moved.index)
        if wanted.mac and moved.mac != wanted.mac:
            _give_mac(sandbox, moved, wanted, taken, host, request)
        moved = _up(sandbox, moved, conf.mtu)
        ipam = attaching.addresses()
        if ipam:
            addressing.apply(sandbox, moved, ipam, dad=conf.dad, announces=conf.announce, probes=conf.probe)
        described = description(request, taken, mac=moved.mac, mtu=moved.mtu)
        return attaching.done(attached(request, conf, described, ipam))


def delete(request: Request) -> None:
    _attachments(request).delete(request)


def gc(request: Request, keep: frozenset[AttachmentKey]) -> None:
    attachments = _attachments(request)
    failures: list[CniError] = []
    with collected(failures):
        attachments.gc(request, keep)
    with collected(failures):
        collect(request, keep)
    Claims(request.environment).tidy(attachments.journal(request))
    if failures:
        raise all_of(failures)


def check(request: Request, conf: SriovConf) -> None:
    result = previous(request, conf)
    index = interface_in(result, request)
    record = _attachments(request).journal(request).find(request.network.name, *request.key)
    wanted = record.left if record else conf.settings(conf.requested_mac(request))
    differences = vf_differences(record.vf if record else conf.device, wanted)
    has_interface = bool(record.device.name) if record else not discovery.identify(conf.device).is_userspace
    if has_interface:
        with netns.opened(request.netns) as sandbox, Links(sandbox, "in the sandbox") as links:
            link = links.find(request.ifname)
            if link is None:
                raise differs(request, ["it does not exist in the sandbox", *differences])
            differences += link_differences(links, link, result.interfaces[index], record)
            if record and record.rdma and not rdma.is_in(record.rdma, sandbox):
                differences.append(f'the RDMA device "{record.rdma.name}" is not in the sandbox')
            differences += addressing.missing(links, link, result.ips_on(index), result.routes)
    if differences:
        raise differs(request, differences)
    _attachments(request).check_ipam(request)


def status(request: Request, conf: SriovConf) -> None:
    """The VF is there, or without a deviceID, which comes with a pod, some PF with VFs."""
    try:
        if conf.device_id:
            discovery.identify(conf.device)
        else:
            discovery.require_vfs()
    except CniError as error:
        error.code = Code.NOT_AVAILABLE
        raise
    _attachments(request).status_ipam(request)


def _attachments(request: Request, give_back: _Release = release_locked) -> Attachments[SriovRecord]:
    return Attachments(
        "sriov",
        SriovRecord,
        release=lambda record, sandbox: give_back(record, sandbox, request.environment),
        adopt=adopt,
    )


def _give_back_namesake(request: Request, into: Netns) -> None:
    """Give back what an attachment of this name in an earlier sandbox left: it may be another VF."""
    attachments = _attachments(request)
    earlier = attachments.journal(request).find(request.network.name, *request.key)
    if earlier and earlier.sandbox != into.identity():
        attachments.give_back(earlier.request(request), earlier)


def _told(taken: Taken, wanted: VfSettings, host: Links, request: Request) -> Link | None:
    """Tell the PF what differs, and return the VF's interface as it is then."""
    if taken.pf is None:
        return taken.link
    changes = wanted.unlike(taken.present)
    told = ", ".join(f"{name} {value}" for name, value in changes.sentences())
    Log.of(request).write("info", f"{taken.vf.pf} is told of VF {taken.vf.address}: {told or 'nothing'}")
    settings.apply(taken.vf, taken.pf, changes, host, request.environment)
    if changes.guid and taken.link:
        return settings.restarted(taken.vf.device, host)
    return taken.link


def _give_mac(
    sandbox: Links, link: Link, wanted: VfSettings, taken: Taken, host: Links, request: Request
) -> None:
    """Give the interface the MAC; one that is trusted may need to be untrusted for a moment.

    igbvf tells its PF the address that it has when it meets it, and a PF that trusts it takes that
    for its own.
    """
    mac = wanted.mac or ""
    if not (wanted.trust and taken.pf):
        give_mac(sandbox, link, mac)
        return
    try:
        give_mac(sandbox, link, mac, _TRUSTED_SECONDS)
    except KernelRefused:
        untrusted, trusted = VfSettings(mac=mac, trust=False), VfSettings(trust=True)
        settings.apply(taken.vf, taken.pf, untrusted, host, request.environment)
        give_mac(sandbox, link, mac)
        settings.apply(taken.vf, taken.pf, trusted, host, request.environment)


def _up(sandbox: Links, link: Link, mtu: int | None) -> Link:
    """Give the interface its MTU, set it up, and return it as it is then."""
    if mtu and link.mtu != mtu:
        sandbox.set_mtu(link, mtu)
    sandbox.set_up(link)
    return sandbox.by_index(link.index) or link


def program_mac(wanted: VfSettings, taken: Taken) -> str | None:
    """Return the MAC that a program will find on its VF, if the PF has set one."""
    mac = wanted.mac or taken.present.mac
    return None if mac == _NO_MAC else mac


def description(request: Request, taken: Taken, *, mac: str | None, mtu: int | None = None) -> Interface:
    knows_pci_id = versions.at_least(request.network.version, "1.1.0")
    return Interface(
        name=request.ifname,
        mac=mac,
        mtu=mtu,
        sandbox=request.netns,
        pciID=taken.vf.address if knows_pci_id else None,
    )


PLUGIN = Plugin(
    conf=SriovConf,
    add=logged(add),
    delete=logged(delete),
    check=logged(check),
    status=logged(status),
    gc=logged(gc),
)
