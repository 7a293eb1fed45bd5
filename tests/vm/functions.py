"""Virtual functions in tests: what their card holds of them, and frames that they send."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cni.host import netns
from cni.host.link_messages import RTNLGRP_LINK
from cni.host.links import Links
from tests.support.devices import told
from tests.support.world import Namespace, static
from tests.vm.conftest import Machine

# The first card, with two VFs from the beginning.
CARD, VF, OTHER_VF = "0000:01:00.0", "0000:01:10.0", "0000:01:10.2"
PF, NAME, OTHER_NAME = "eth0", "eth2", "eth3"
MAC, OTHER_MAC = "02:00:00:00:aa:01", "02:00:00:00:aa:02"
EVERYTHING: dict[str, Any] = {
    "vlan": 100,
    "vlanQoS": 3,
    "mac": MAC,
    "max_tx_rate": 500,
    "spoofchk": "off",
    "trust": "on",
}


def vf(address: str = VF, **keys: Any) -> dict[str, Any]:
    """A configuration without settings, with `keys` added or replaced."""
    conf = {"cniVersion": "1.1.0", "name": "rail", "type": "sriov", "deviceID": address}
    return conf | {"ipam": static("10.1.0.5/24")} | keys


def settings(host: Namespace, index: int = 0, pf: str = PF) -> str:
    """What the card holds of a VF, as `ip` tells it."""
    lines = re.findall(rf"^ +vf {index} +(.*)$", host.ip("-d", "link", "show", pf), re.MULTILINE)
    (line,) = lines
    return line.strip()


def picture(host: Namespace) -> str:
    """All that `ip` tells of the host's links and of the cards' VFs, without what changes by itself."""
    return told(host)


def make_vfs(number: int, card: str = CARD) -> None:
    """Remove a card's VFs and make others, which takes their names from the next free on."""
    functions = Path("/sys/bus/pci/devices", card, "sriov_numvfs")
    functions.write_text("0")
    functions.write_text(str(number))


def until_made(host: Machine, number: int, card: str = CARD) -> None:
    """Wait until a card's VFs have their interfaces."""
    for link in sorted(Path("/sys/bus/pci/devices", card).glob("virtfn*"))[:number]:
        host.until_home(link.resolve().name)


_PROTOCOL = 0x88B5  # for experiments


@contextmanager
def listening(namespace: Namespace, ifname: str = "net1") -> Iterator[socket.socket]:
    """Open a socket that gets the frames that `send` sends."""
    with netns.opened(namespace.path) as inside:
        endpoint = inside.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_PROTOCOL))
    with endpoint:
        endpoint.bind((ifname, _PROTOCOL))
        endpoint.settimeout(20)
        yield endpoint


def send(namespace: Namespace, text: bytes, *, to: str, sender: str, ifname: str = "net1") -> None:
    """Send a frame."""
    frame = b"".join((_packed(to), _packed(sender), _PROTOCOL.to_bytes(2, "big"), text)).ljust(60, b"\0")
    with (
        netns.opened(namespace.path) as inside,
        Links(inside, "inside") as links,
        inside.socket(socket.AF_PACKET, socket.SOCK_RAW) as endpoint,
    ):
        _await_carrier(links, ifname)
        endpoint.bind((ifname, 0))
        endpoint.send(frame)


def _await_carrier(links: Links, ifname: str) -> None:
    with links.events(RTNLGRP_LINK) as listener:
        while not (link := links.find(ifname)) or not link.has_carrier:
            assert listener.events(20), "the kernel had nothing to say for twenty seconds"


def _packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
