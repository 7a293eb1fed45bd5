"""What the interfaces of a pod are called."""

from __future__ import annotations

from collections.abc import Sequence

from cni.protocol.errors import CniError, Code, InvalidConfig
from cni.protocol.request import new_ifname_fault


def interface_name(requested: str, position: int, default: str) -> str:
    """Return a delegate's interface: the requested one, else the default network's, else `net1`, `net2`, …

    A delegate with a name of its own uses up its number all the same.
    """
    if requested:
        return requested
    return f"net{position}" if position else default


def check_names(names: Sequence[str], owners: Sequence[str]) -> None:
    """Refuse names that an interface cannot have, or that two networks of a pod would share.

    Raises:
        InvalidConfig: code 7, it cannot be a name.
        CniError: code 101, two networks want it.
    """
    taken: dict[str, str] = {}
    for name, owner in zip(names, owners, strict=True):
        fault = new_ifname_fault(name)
        if fault:
            raise InvalidConfig(
                f'the interface of {owner} cannot be called "{name}"',
                why=f"It is invalid because {fault}.",
                fix='Use 1 to 15 bytes without "/", ":" and white space, such as "net1".',
            )
        if name in taken:
            raise CniError(
                f'two networks of the pod want the interface "{name}"',
                why=f"They are {taken[name]} and {owner}.",
                fix="Ask for another interface name for one of them.",
                code=Code.NAME_TAKEN,
            )
        taken[name] = owner
