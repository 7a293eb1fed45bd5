"""The last step of ADD: a link gets its addresses and is set up, and the neighbours are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

from cni.attachment import AttachmentConf
from cni.host import addressing
from cni.host.announce import announce
from cni.host.links import Link, Links
from cni.protocol import gojson
from cni.protocol.addresses import parse_cidr
from cni.protocol.request import Request
from cni.protocol.result import Result


def activate(sandbox: Links, link: Link, request: Request, conf: AttachmentConf, ipam: Result | None) -> None:
    """Give a link in the sandbox what the IPAM plugin answered, if there is one, and set it up.

    Without one, the pod gives itself the addresses that were asked for, and where those are now is
    told all the same.

    Raises:
        CniError: the kernel refused something, or an address is in use (105).
    """
    if ipam:
        addressing.apply(sandbox, link, ipam, dad=conf.dad, announces=conf.announce, probes=conf.probe)
        return
    sandbox.set_up(link)
    if conf.announce:
        announce(sandbox.netns, link, _asked_for(request, conf))


def _asked_for(request: Request, conf: AttachmentConf) -> Iterator[IPv4Interface | IPv6Interface]:
    """Yield the addresses of runtimeConfig, else of `args`, else of CNI_ARGS.

    As nobody hands them out, one that is no address is nobody's mistake.
    """
    args = dict(piece.split("=", 1) for piece in request.variable("CNI_ARGS").split(";") if "=" in piece)
    asked = (
        gojson.get(conf.runtime_config, "ips")
        or gojson.get(_mapping(gojson.get(conf.args, "cni")), "ips")
        or args.get("IP", "").split(",")
    )
    for text in asked if isinstance(asked, list) else ():
        with suppress(ValueError):
            yield parse_cidr(text)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
