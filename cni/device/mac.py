"""Give an interface a MAC, be it that of a VF, whose card has a say in it."""

from __future__ import annotations

import time

from cni.host.link_messages import RTNLGRP_LINK
from cni.host.links import KernelRefused, Link, Links
from cni.protocol.errors import CniError, Code

# How long a driver may take to learn an address from its PF: Intel's do by a message, whose answer may
# be lost while the PF is busy.
_LEARNING_SECONDS = 5.0
_LOOK_SECONDS = 0.2


def give_mac(links: Links, link: Link, mac: str, seconds: float = _LEARNING_SECONDS) -> None:
    """Give an interface that is down a MAC, and see to it that it has it.

    A VF takes no address from its own side until its driver has met its PF, and none but the PF's
    unless it is trusted. igbvf meets it when the interface goes down, and has the PF's address then;
    if it is trusted, it first tells the PF its old one, and must be told once more.

    Raises:
        KernelRefused: it was refused, and going up and down did not help.
        CniError: code 11, it did not take it over in time.
    """
    deadline = time.monotonic() + seconds
    with links.events(RTNLGRP_LINK) as listener:
        while True:
            refusal = _refusal(links, link, mac)
            now = links.by_index(link.index)
            if refusal and now and now.mac != mac:
                links.set_up(link)
                links.set_down(link)
                now = links.by_index(link.index)
            if now and now.mac == mac:
                return
            left = deadline - time.monotonic()
            if left <= 0:
                break
            listener.events(min(left, _LOOK_SECONDS))
    if refusal:
        raise refusal
    raise CniError(
        f'"{link.name}" {links.where} did not take the MAC {mac}',
        why=f"It still has {now.mac if now else 'none'} after {seconds:g} s.",
        fix="Call again; if it stays so, look at the card's driver.",
        code=Code.TRY_AGAIN_LATER,
    )


def _refusal(links: Links, link: Link, mac: str) -> KernelRefused | None:
    try:
        links.set_mac(link, mac)
    except KernelRefused as error:
        return error
    return None
