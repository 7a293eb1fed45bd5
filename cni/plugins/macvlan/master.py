"""Which link a macvlan rides on."""

from __future__ import annotations

from cni.host.links import Link, Links
from cni.plugins.macvlan.config import MacvlanConf, MacvlanRecord
from cni.plugins.macvlan.refusals import MasterNotFound
from cni.protocol.errors import InvalidConfig


def find_master(parents: Links, conf: MacvlanConf, record: MacvlanRecord | None = None) -> Link:
    """Return the master: the configured one, else the recorded one, else the default route's.

    Raises:
        MasterNotFound: code 7.
    """
    if conf.master:
        found = parents.find(conf.master)
    elif record:
        found = parents.by_index(record.master_index)
    else:
        found = parents.default_route_link()
    if found is None:
        raise MasterNotFound(conf.master, parents)
    return found


def is_macvlan(master: Link) -> bool:
    """Tell whether the master is a macvlan itself."""
    return master.kind in ("macvlan", "macvtap")


def lower_index(master: Link) -> int:
    """Return the index of the link that a macvlan on this master rides on.

    The kernel puts one on a macvlan beside it, on the link below, wherever that is.
    """
    return master.parent_index if is_macvlan(master) else master.index


def check_mtu(conf: MacvlanConf, master: Link) -> None:
    """Refuse an MTU above the master's.

    Raises:
        InvalidConfig: code 7.
    """
    if conf.mtu and conf.mtu > master.mtu:
        raise InvalidConfig(
            f"invalid MTU {conf.mtu}, must be [0, master MTU({master.mtu})]",
            why=f'"mtu" is above the MTU of the master "{master.name}".',
            fix=f'Set "mtu" to at most {master.mtu}, or leave it out to take the master\'s.',
        )
