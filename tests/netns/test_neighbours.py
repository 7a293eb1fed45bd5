"""Asking a link's neighbours who answers for addresses, and which link a network's configuration names."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from cni.protocol.errors import Code
from ipam.neighbours import MOST, CannotAsk, answering, link_of
from ipam.ranges import Ip
from tests.support.world import Namespace, run


@pytest.fixture
def wire(peer: Namespace) -> Iterator[Namespace]:
    """The far end of a wire from this process's namespace: `near0` here, `far0` there."""
    run("ip", "link", "add", "near0", "type", "veth", "peer", "name", "far0", "netns", peer.name)
    peer.ip("link", "set", "far0", "up")
    run("ip", "link", "set", "near0", "up")
    yield peer
    run("ip", "link", "del", "near0")


def some(*texts: str) -> list[Ip]:
    return [ip_address(text) for text in texts]


@pytest.mark.parametrize(
    ("held", "asked", "expected"),
    [
        pytest.param("10.0.0.2/24", ("10.0.0.1", "10.0.0.2"), "10.0.0.2", id="an-ipv4-address"),
        pytest.param("10.0.0.2/24", ("10.0.0.1", "10.0.0.3"), None, id="nobody-has-these"),
        pytest.param("fd00::2/64", ("fd00::1", "fd00::2"), "fd00::2", id="an-ipv6-address"),
        pytest.param("fd00::2/64", ("fd00::1", "fd00::3"), None, id="nobody-has-these-of-ipv6"),
    ],
)
def test_who_has_an_address_answers(
    wire: Namespace, held: str, asked: tuple[str, ...], expected: str | None
) -> None:
    wire.ip("address", "add", held, "dev", "far0", *(("nodad",) if ":" in held else ()))
    found = answering("near0", some(*asked))
    assert found == (ip_address(expected) if expected else None)


def test_many_are_asked_for_and_no_more_than_can_be(wire: Namespace) -> None:
    first = ip_address("10.0.0.1")
    wire.ip("address", "add", f"{first + MOST - 1}/8", "dev", "far0")
    assert answering("near0", (first + n for n in range(2 * MOST))) == first + MOST - 1
    wire.ip("address", "flush", "dev", "far0")
    wire.ip("address", "add", f"{first + MOST}/8", "dev", "far0")
    assert answering("near0", (first + n for n in range(2 * MOST))) is None


def test_our_own_address_is_no_answer(wire: Namespace) -> None:
    run("ip", "address", "add", "10.0.0.1/24", "dev", "near0")
    assert answering("near0", some("10.0.0.1")) is None


def test_a_link_that_is_down_or_absent_is_told(wire: Namespace) -> None:
    run("ip", "link", "set", "near0", "down")
    for link in ("near0", "absent"):
        with pytest.raises(CannotAsk) as caught:
            answering(link, some("10.0.0.1"))
        assert (caught.value.code, f'"{link}"' in caught.value.msg) == (Code.TRY_AGAIN_LATER, True)


def test_a_link_that_is_no_ethernet_knows_no_such_question() -> None:
    run("ip", "tuntap", "add", "tun0", "mode", "tun")
    run("ip", "link", "set", "tun0", "up")
    assert answering("tun0", some("10.0.0.1")) is None
    run("ip", "link", "del", "tun0")


_ROUTES = "Iface\tDestination\tGateway\neth1\t0000000A\t0\neth0\t00000000\t0100000A\n"


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        pytest.param({"type": "macvlan", "master": "eth5"}, "eth5", id="a-master"),
        pytest.param({"type": "ipvlan", "Master": "eth5"}, "eth5", id="whatever-its-case"),
        pytest.param({"type": "macvlan"}, "eth0", id="the-default-route-of-a-macvlan-without"),
        pytest.param(
            {"type": "macvlan", "master": "eth5", "linkInContainer": True}, None, id="one-in-the-pod"
        ),
        pytest.param({"type": "bridge", "bridge": "br0"}, "br0", id="a-bridge"),
        pytest.param({"type": "bridge"}, None, id="a-bridge-without-a-name"),
        pytest.param({"type": "host-device", "device": "eth7"}, None, id="a-device-that-moves"),
        pytest.param({"type": "sriov", "deviceID": "0000:01:00.0"}, None, id="a-virtual-function"),
    ],
)
def test_the_link_that_a_network_names(tmp_path: Path, conf: dict[str, Any], expected: str | None) -> None:
    (tmp_path / "route").write_text(_ROUTES)
    assert link_of(conf, tmp_path / "route") == expected
    assert link_of(conf | {"type": "macvlan", "master": ""}, tmp_path / "absent") is None
