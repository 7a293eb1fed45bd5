"""macvlan: a link in the sandbox with its own MAC address, riding on a host link.

ADD creates the link and, when an IPAM plugin is configured, gives it addresses. DEL gives back what
ADD took, never a link that it did not make, and is content if some of it is already gone.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import ExitStack
from dataclasses import replace

from cni.activation import activate
from cni.attachment import (
    Attachments,
    attached,
    check_expressible,
    differs,
    interface_in,
    previous,
    refuse_taken_name,
    told_mac,
)
from cni.host import addressing, netns
from cni.host.links import KernelRefused, Link, Links
from cni.host.netns import Netns
from cni.plugins.macvlan.config import MacvlanConf, MacvlanRecord
from cni.plugins.macvlan.master import check_mtu, find_master, is_macvlan, lower_index
from cni.plugins.macvlan.refusals import explained
from cni.protocol.errors import CniError, Code, InvalidConfig
from cni.protocol.notes import note
from cni.protocol.plugin import Plugin
from cni.protocol.request import Request
from cni.protocol.result import Interface, Result, prev_result


class _Opened:
    """The two namespaces of a call, and which of them holds the master."""

    def __init__(self, stack: ExitStack, request: Request, conf: MacvlanConf) -> None:
        self.netns = stack.enter_context(netns.opened(request.netns))
        self.sandbox = stack.enter_context(Links(self.netns, "in the sandbox"))
        self.parents = self.sandbox
        if not conf.link_in_container:
            self.parents = stack.enter_context(Links(stack.enter_context(netns.own()), "on the host"))


def add(request: Request, conf: MacvlanConf) -> Result:
    requested_mac = conf.requested_mac(request)
    prev_result(conf.prev_result, request.network.version)
    check_expressible(request, conf)
    with ExitStack() as stack:
        opened = _Opened(stack, request, conf)
        master = find_master(opened.parents, conf)
        check_mtu(conf, master)
        refuse_taken_name(opened.sandbox, request.ifname)
        mac = _mac_to_use(request, conf, master, requested_mac)
        attaching = stack.enter_context(
            ATTACHMENTS.attaching(
                request,
                opened.netns,
                mac=mac,
                master=master.name,
                master_index=master.index,
                lower_index=lower_index(master),
                mode=conf.mode,
                in_container=conf.link_in_container,
            )
        )
        _make(opened, request, conf, master, mac)
        link = opened.sandbox.find(request.ifname)
        if link is None:
            raise CniError(f'"{request.ifname}" vanished from the sandbox', code=Code.TRY_AGAIN_LATER)
        attaching.made(index=link.index)
        ipam = attaching.addresses()
        if ipam and conf.mac_from_address and requested_mac is None:
            link = _with_mac_of(opened.sandbox, link, conf, ipam)
        _set_up(opened, request, conf, link, master, ipam)
        described = Interface(name=link.name, mac=link.mac, sandbox=request.netns)
        return attaching.done(attached(request, conf, described, ipam))


def check(request: Request, conf: MacvlanConf) -> None:
    result = previous(request, conf)
    index = interface_in(result, request)
    with ExitStack() as stack:
        opened = _Opened(stack, request, conf)
        link = opened.sandbox.find(request.ifname)
        if link is None:
            raise differs(request, ["it does not exist in the sandbox"])
        record = ATTACHMENTS.journal(request).find(request.network.name, *request.key)
        master = find_master(opened.parents, conf, record)
        check_mtu(conf, master)
        differences = _link_differences(link, conf, master, record, result.interfaces[index])
        differences += addressing.missing(opened.sandbox, link, result.ips_on(index), result.routes)
        if differences:
            raise differs(request, differences)
        if link.mtu not in (conf.mtu or master.mtu, result.interfaces[index].mtu):
            note(request.attachment, f"the MTU of {link.name} is {link.mtu}, not {conf.mtu or master.mtu}")
    ATTACHMENTS.check_ipam(request)


def status(request: Request, conf: MacvlanConf) -> None:
    if not conf.link_in_container:
        with netns.own() as own, Links(own, "on the host") as host:
            try:
                master = find_master(host, conf)
                check_mtu(conf, master)
            except CniError as error:
                error.code = Code.NOT_AVAILABLE
                raise
    ATTACHMENTS.status_ipam(request)


def _mac_to_use(request: Request, conf: MacvlanConf, master: Link, requested: str | None) -> str:
    """Return the link's MAC, chosen before it is made so that a killed ADD's link is recognised."""
    if conf.mode == "passthru":
        if requested not in (None, master.mac):
            note(request.attachment, f'passthru takes the MAC of "{master.name}"; {requested} is not used')
        return master.mac
    return requested or _random_mac()


def _random_mac() -> str:
    return _locally_administered(os.urandom(6))


def _locally_administered(octets: bytes) -> str:
    return bytes([octets[0] & 0xFC | 0x02, *octets[1:]]).hex(":")  # and unicast


def _with_mac_of(sandbox: Links, link: Link, conf: MacvlanConf, ipam: Result) -> Link:
    """Give a link the MAC that its first address has on this network, and return it with that."""
    if conf.mode == "passthru":
        return link  # its MAC is the master's
    mac = mac_of_address(conf, ipam)
    sandbox.set_mac(link, mac)
    return replace(link, mac=mac)


def mac_of_address(conf: MacvlanConf, ipam: Result) -> str:
    """Return the MAC that goes with the first address on this network."""
    digest = hashlib.sha256(f"{conf.name}/{ipam.ips[0].address.ip}".encode()).digest()
    return _locally_administered(digest[:6])


def _make(opened: _Opened, request: Request, conf: MacvlanConf, master: Link, mac: str) -> None:
    def make(name: str) -> None:
        opened.parents.add_macvlan(
            name,
            master,
            conf.mode,
            mac=mac,
            mtu=conf.mtu or (master.mtu if is_macvlan(master) else None),  # else the kernel takes it so
            queue_length=conf.bcqueuelen,
            into=opened.netns,
        )

    try:
        try:
            make(request.ifname)
        except KernelRefused as error:
            if error.errno != errno.EEXIST or opened.sandbox.find(request.ifname):
                raise
            # Before Linux 6.15 the name must be free on the host too, where "eth0" never is.
            make(_interim_name(mac))
            link = opened.sandbox.find(_interim_name(mac))
            if link:
                opened.sandbox.rename(link, request.ifname)
    except KernelRefused as error:
        riders = [
            record
            for record in ATTACHMENTS.journal(request).all()
            if record.lower_index == lower_index(master) and record.key != request.key
        ]
        raise explained(error, request.ifname, conf, master, opened.parents, riders) from error


def _interim_name(mac: str) -> str:
    """Return a name that no other link has, and by which a killed ADD's link is recognised."""
    return f"mv{mac.replace(':', '')}"


def _set_up(
    opened: _Opened, request: Request, conf: MacvlanConf, link: Link, master: Link, ipam: Result | None
) -> None:
    try:
        activate(opened.sandbox, link, request, conf, ipam)
    except KernelRefused as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise InvalidConfig(
            error.msg,
            why=f'"{master.name}" or another macvlan on it has the MAC {link.mac}.',
            fix="Ask for another MAC, or for none to get one at random.",
        ) from error


def _link_differences(
    link: Link, conf: MacvlanConf, master: Link, record: MacvlanRecord | None, told: Interface
) -> list[str]:
    """Return a sentence for each way in which a link is not the one that ADD made."""
    if link.kind != "macvlan":
        return [f"it is a {link.kind or 'physical'} link, not a macvlan"]
    differences = []
    if link.mode != conf.mode:
        differences.append(f"its mode is {link.mode}, the configuration's is {conf.mode}")
    if record and link.mode != record.mode:
        differences.append(f"its mode is {link.mode}, ADD made it {record.mode}")
    rides_inside = conf.link_in_container and not (is_macvlan(master) and master.parent_netns is not None)
    if link.parent_index != lower_index(master) or (link.parent_netns is None) != rides_inside:
        differences.append(f'it does not ride on the master "{master.name}"')
    if told.mac and told.mac.lower() != link.mac:
        differences.append(f"its MAC is {link.mac}, ADD answered {told.mac}")
    if not link.is_up:
        differences.append("it is administratively down")
    if link.mtu > master.mtu:
        differences.append(f"its MTU {link.mtu} is above the master's {master.mtu}")
    return differences


def _release(record: MacvlanRecord, sandbox: Netns | None) -> None:
    """Delete the link that a record names; it went with its sandbox if that is gone."""
    if sandbox is None:
        return
    with Links(sandbox, "in the sandbox") as links:
        link = _made_link(links, record)
        if link:
            links.delete(link)


def _made_link(links: Links, record: MacvlanRecord) -> Link | None:
    """Find the link that ADD made, under whatever name and MAC it has by now."""
    if record.index is not None:
        link = links.by_index(record.index)
        is_it = link and link.kind == "macvlan" and link.parent_index == record.lower_index
        return link if is_it else None
    # Killed before its index was known. The MAC alone proves nothing: it may be another's too, such as
    # that of the master, which every passthru link has.
    made = ("macvlan", record.mac, record.lower_index)
    found = (links.find(name) for name in (record.ifname, _interim_name(record.mac)))
    return next((link for link in found if link and (link.kind, link.mac, link.parent_index) == made), None)


def _adopt(request: Request) -> None:
    """Delete a link without a record, as of the Go plugin, only if the result of ADD proves whose it is."""
    with netns.opened_if_present(request.netns) as sandbox:
        if sandbox is None:
            return
        with Links(sandbox, "in the sandbox") as links:
            link = links.find(request.ifname)
            if link is None:
                return
            told = told_mac(request)
            if link.kind == "macvlan" and told and told == link.mac:
                links.delete(link)
            else:
                note(request.attachment, f"{request.ifname} is left alone: no record says that ADD made it")


ATTACHMENTS = Attachments("macvlan", MacvlanRecord, release=_release, adopt=_adopt)

PLUGIN = Plugin(
    conf=MacvlanConf,
    add=add,
    delete=ATTACHMENTS.delete,
    check=check,
    status=status,
    gc=ATTACHMENTS.gc,
)
