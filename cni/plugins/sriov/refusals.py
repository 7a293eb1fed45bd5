"""What cannot be done with a VF, refused before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator

from cni.host.links import Link
from cni.host.vf import VfSettings
from cni.plugins.sriov.config import NO_GUIDS, SriovConf
from cni.plugins.sriov.discovery import Vf
from cni.protocol.errors import InvalidConfig
from cni.protocol.request import Request

_INFINIBAND_OCTETS = 20  # of an address: queue pair and flags, subnet, and the port's GUID

# What a VF without its PF can still be given, from its own side.
_OF_ITS_OWN = ("mac",)


def check_possible(conf: SriovConf, wanted: VfSettings, vf: Vf, request: Request) -> None:
    """Refuse a configuration that this VF cannot have.

    Raises:
        InvalidConfig: code 7.
    """
    _check_pf(conf, wanted, vf)
    _check_kind(conf, wanted, vf)
    _check_rates(conf, vf)
    if conf.vfio_pci_mode and not vf.is_userspace:
        raise InvalidConfig(
            f'"vfioPciMode" is set, and VF {vf.address} is no program\'s',
            why=f"It has the driver {vf.driver}.",
            fix='Bind it to vfio-pci, or remove "vfioPciMode": it is found out.',
        )
    if vf.is_infiniband and request.network.ipam_type == "dhcp":
        raise InvalidConfig(
            f'"ipam" cannot be dhcp: VF {vf.address} is an InfiniBand one',
            why="The dhcp plugin speaks Ethernet.",
            fix='Use another IPAM plugin, such as "whereabouts".',
        )
    if vf.is_userspace:
        _check_program(conf, vf, request)
    elif conf.mtu and vf.pf and 0 < vf.pf.port.mtu < conf.mtu:
        raise InvalidConfig(
            f'"mtu" {conf.mtu} is above that of the PF, {vf.pf.port.mtu}',
            why=f"VF {vf.address} sends through {vf.pf}.",
            fix=f'Set "mtu" to at most {vf.pf.port.mtu}, or raise the PF\'s first.',
        )


def _check_pf(conf: SriovConf, wanted: VfSettings, vf: Vf) -> None:
    needing = [key for name in wanted.names if name not in _OF_ITS_OWN for key in _keys(conf, name)]
    if vf.pf is None and needing:
        named = ", ".join(f'"{key}"' for key in needing)
        raise InvalidConfig(
            f"VF {vf.address} has no PF on this host, so {named} cannot be set",
            why="Only the PF can set that; this looks like a virtual machine that was given the VF.",
            fix=f"Remove {named}, and let the host of the virtual machine set it.",
        )


def _keys(conf: SriovConf, name: str) -> Iterator[str]:
    """Yield the keys of a configuration that make a setting."""
    if name == "vlan":
        told = {"vlan": conf.vlan, "vlanQoS": conf.vlan_qos, "vlanProto": conf.vlan_proto}
    elif name == "rates":
        told = {"min_tx_rate": conf.min_tx_rate, "max_tx_rate": conf.max_tx_rate}
    else:
        told = {name: True}
    yield from (key for key, value in told.items() if value is not None)


def _check_kind(conf: SriovConf, wanted: VfSettings, vf: Vf) -> None:
    if not vf.is_infiniband:
        if wanted.guid or conf.pkey:
            key = "guid" if wanted.guid else "pkey"
            raise InvalidConfig(
                f'"{key}" is for InfiniBand, and VF {vf.address} is an Ethernet one',
                why="Its link has a MAC.",
                fix=f'Remove "{key}", or use an InfiniBand VF.',
            )
        return
    for name in ("vlan", "mac", "spoofchk"):
        if name in wanted.names:
            keys = ", ".join(f'"{key}"' for key in _keys(conf, name))
            raise InvalidConfig(
                f"{keys} cannot be set: VF {vf.address} is an InfiniBand one",
                why="InfiniBand has partitions and GUIDs where Ethernet has VLANs and MACs.",
                fix=f'Remove {keys}; use "guid", and let the fabric\'s manager set the partition ("pkey").',
            )


def _check_rates(conf: SriovConf, vf: Vf) -> None:
    speed = vf.pf.port.speed if vf.pf else 0
    for key, rate in {"min_tx_rate": conf.min_tx_rate, "max_tx_rate": conf.max_tx_rate}.items():
        if speed and rate and rate > speed:
            raise InvalidConfig(
                f'"{key}" {rate} is above what the link has, {speed} Mbit/s',
                why=f"That is the speed of {vf.pf} now.",
                fix=f'Set "{key}" to at most {speed}, or to 0 for no limit.',
            )


def check_guid(link: Link, wanted: VfSettings, vf: Vf) -> None:
    """Refuse an InfiniBand VF that has no GUID and gets none: the fabric would not know it.

    Raises:
        InvalidConfig: code 7.
    """
    octets = link.mac.split(":")
    guid = "".join(octets[-8:])
    if len(octets) != _INFINIBAND_OCTETS or wanted.guid or guid not in NO_GUIDS:
        return
    raise InvalidConfig(
        f"InfiniBand VF {vf.address} has no GUID",
        why=f"Its address ends with {guid}, and the configuration gives it none.",
        fix='Set "guid", or let ib-kubernetes or the subnet manager give it one.',
    )


def _check_program(conf: SriovConf, vf: Vf, request: Request) -> None:
    driver = f"VF {vf.address} has the driver {vf.driver}, and a program has it instead of the kernel."
    if conf.mtu:
        raise InvalidConfig(
            f'"mtu" cannot be set: VF {vf.address} has no interface', why=driver, fix='Remove "mtu".'
        )
    if request.network.ipam_type == "dhcp":
        raise InvalidConfig(
            f'"ipam" cannot be dhcp: VF {vf.address} has no interface to ask by',
            why=driver,
            fix='Use an IPAM plugin that needs no interface, such as "whereabouts".',
        )
