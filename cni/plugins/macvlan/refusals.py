"""Why the kernel refuses a macvlan: name the culprit and what to do, where it can be seen."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from cni.host.link_messages import ARPHRD_ETHER, ARPHRD_INFINIBAND
from cni.host.links import KernelRefused, Link, Links
from cni.plugins.macvlan.config import MacvlanConf, MacvlanRecord
from cni.protocol.errors import CniError, Code, InvalidConfig


class MasterNotFound(CniError):
    code = Code.INVALID_NETWORK_CONFIG

    def __init__(self, master: str | None, parents: Links) -> None:
        present = sorted(link.name for link in parents.all() if not link.is_loopback)
        what = f'master "{master}" does not exist {parents.where}'
        if master is None:
            what = f"no default route interface found {parents.where}"
        super().__init__(
            what,
            why=f"Links present: {', '.join(present) or 'none'}.",
            fix='Set "master" to one of them, or leave it out to follow the default route.'
            if master
            else 'Set "master" to one of them, or add a default route.',
        )


def explained(
    error: KernelRefused,
    ifname: str,
    conf: MacvlanConf,
    master: Link,
    parents: Links,
    riders: Iterable[MacvlanRecord],
) -> CniError:
    """Name what keeps a master from having another macvlan; `riders` are its attachments of ours."""
    if error.errno == errno.EEXIST:
        return CniError(
            f'the sandbox already has an interface "{ifname}"',
            why="It came while this call was on its way.",
            fix="Use another CNI_IFNAME, or detach that interface first.",
            code=Code.NAME_TAKEN,
        )
    why, fix = _culprit(error.errno, conf, master, parents, riders)
    return InvalidConfig(error.msg, why=f"{why} {error.why}", fix=fix) if why else error


def refuse_unfit(
    ifname: str, conf: MacvlanConf, master: Link, parents: Links, riders: Iterable[MacvlanRecord]
) -> None:
    """Refuse what the kernel is known to refuse, without asking it.

    Raises:
        InvalidConfig: code 7.
    """
    in_the_way = [record for record in riders if "passthru" in (record.mode, conf.mode)]
    is_unfit = master.is_loopback or master.hardware_type != ARPHRD_ETHER or bool(master.port_kind)
    if is_unfit or in_the_way:
        why, fix = _culprit(errno.EINVAL, conf, master, parents, in_the_way)
        raise InvalidConfig(f'cannot make the macvlan "{ifname}" on master "{master.name}"', why=why, fix=fix)


def _culprit(
    number: int, conf: MacvlanConf, master: Link, parents: Links, riders: Iterable[MacvlanRecord]
) -> tuple[str, str]:
    """Return why the kernel refuses this master and what to do, both empty if it is not known."""
    if number not in (errno.EBUSY, errno.EINVAL):
        return "", ""
    if master.hardware_type == ARPHRD_INFINIBAND:
        why = f'"{master.name}" is an InfiniBand link, which cannot carry MAC addresses.'
        return why, 'Use an Ethernet link as "master", or IPoIB.'
    if master.is_loopback or master.hardware_type != ARPHRD_ETHER:
        return f'"{master.name}" is no Ethernet link.', 'Use an Ethernet link as "master".'
    if master.port_kind:
        upper = parents.by_index(master.upper_index)
        name = upper.name if upper else f"link {master.upper_index}"
        why = f'"{master.name}" is a port of the {master.port_kind} "{name}".'
        return why, f'Set "master" to "{name}", or take "{master.name}" out of it.'
    if number == errno.EBUSY:
        return _receiver(master, parents)
    return _passthru_conflict(conf, master, riders)


def _receiver(master: Link, parents: Links) -> tuple[str, str]:
    """Name what receives the master's frames, if it is in the same namespace."""
    names = ", ".join(
        f'the {link.kind} "{link.name}"'
        for link in parents.all()
        if link.kind in ("ipvlan", "ipvtap")
        and link.parent_index == master.index
        and link.parent_netns is None
    )
    what = names or "something else, such as an ipvlan in another namespace or Open vSwitch,"
    why = f'{what[0].upper()}{what[1:]} receives all frames of "{master.name}".'
    return why, f'Use another "master", or remove what rides on "{master.name}".'


def _passthru_conflict(conf: MacvlanConf, master: Link, riders: Iterable[MacvlanRecord]) -> tuple[str, str]:
    """A master has either one macvlan in passthru mode or any number in the others."""
    in_the_way = [record for record in riders if "passthru" in (record.mode, conf.mode)]
    holders = ", ".join(f"{record.attachment} ({record.mode})" for record in in_the_way[:5])
    known = f" Known on it: {holders}." if holders else ""
    if conf.mode == "passthru":
        why = f'"{master.name}" has a macvlan already, and passthru needs it alone.{known}'
        return why, 'Use another "master", or the mode "bridge".'
    why = f'"{master.name}" has a macvlan in passthru mode, which needs it alone.{known}'
    return why, 'Use another "master", or detach the passthru interface.'
