"""How a VF differs from what ADD left, for CHECK: a sentence for each difference."""

from __future__ import annotations

from cni.host import netns
from cni.host.links import Link, Links
from cni.host.vf import VfSettings
from cni.plugins.sriov import discovery, settings
from cni.plugins.sriov.discovery import NoVf
from cni.plugins.sriov.record import SriovRecord
from cni.protocol.result import Interface


def vf_differences(address: str, wanted: VfSettings) -> list[str]:
    """Return a sentence for each setting that the PF holds otherwise."""
    try:
        vf = discovery.identify(address)
    except NoVf as error:
        return [error.msg]
    if vf.pf is None or not wanted.names:
        return []
    with netns.own() as home, Links(home, "on the host") as host:
        present = settings.held(vf.pf, host).vfs.get(vf.index, VfSettings())
    told = dict(present.sentences())
    return [
        f"{name} of VF {address} is {told.get(name, 'not told')}, not {value}"
        for name, value in wanted.unlike(present).sentences()
    ]


def link_differences(inside: Links, link: Link, told: Interface, record: SriovRecord | None) -> list[str]:
    differences = []
    if record and not record.is_in_sandbox_as(link, inside):
        differences.append(f"it is not VF {record.vf}")
    if told.mac and told.mac.lower() != link.mac:
        differences.append(f"its MAC is {link.mac}, ADD answered {told.mac}")
    if told.mtu and told.mtu != link.mtu:
        differences.append(f"its MTU is {link.mtu}, ADD answered {told.mtu}")
    if not link.is_up:
        differences.append("it is administratively down")
    return differences
