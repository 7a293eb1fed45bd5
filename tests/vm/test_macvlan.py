"""macvlan on masters that need a card, or a kernel with more kinds of link than others have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.devices import told, words_missing
from tests.support.world import Namespace, Wire, World, rail
from tests.vm.conftest import Machine


@contextmanager
def made(host: Machine, name: str, *commands: str) -> Iterator[None]:
    """Have a link for as long as a test needs it."""
    host.ip_all(*commands)
    try:
        yield
    finally:
        host.ip("link", "del", name)


@pytest.mark.parametrize(
    ("master", "commands"),
    [
        pytest.param("eth1", (), id="card"),
        pytest.param("eth4", (), id="virtual-function"),
        pytest.param("eth1.5", ("link add link eth1 name eth1.5 up type vlan id 5",), id="vlan"),
        pytest.param(
            "bond7",
            (
                "link add bond7 type bond mode active-backup",
                "link set eth1 down master bond7",
                "link set bond7 up",
            ),
            id="bond",
        ),
        pytest.param("tap7", ("link add link eth1 name tap7 up type macvtap mode bridge",), id="macvtap"),
    ],
)
def test_master_may_be_a(world: World, host: Machine, master: str, commands: tuple[str, ...]) -> None:
    with made(host, master, *commands) if commands else made(host, "spare7", "link add spare7 type dummy"):
        conf = rail(master=master)
        before = told(host, "dev", master), told(world.sandbox)
        result = world.add(conf)
        checked = world.call("CHECK", conf | {"prevResult": result})
        assert (checked.status, checked.stderr) == (0, "")
        world.delete(conf)
        assert (told(host, "dev", master), told(world.sandbox)) == before


def test_port_of_a_bond_cannot_be_the_master_and_the_bond_is_named(world: World, host: Machine) -> None:
    commands = "link add bond7 type bond mode active-backup", "link set eth1 down master bond7"
    with made(host, "bond7", *commands):
        error = world.refused("ADD", rail(master="eth1"))
    assert error["code"] == 7
    assert words_missing(error, ['"eth1" is a port of the bond "bond7"', 'Set "master" to "bond7"']) == []


def test_ipvlan_that_has_the_master_is_named(world: World, host: Machine) -> None:
    with made(host, "ipv7", "link add link eth1 name ipv7 type ipvlan mode l2"):
        error = world.refused("ADD", rail(master="eth1"))
    assert error["code"] == 7
    assert words_missing(error, ['The ipvlan "ipv7" receives all frames of "eth1"']) == []
    assert world.records() == []


def test_ipvlan_in_another_namespace_is_thought_of(world: World, host: Machine, peer: Namespace) -> None:
    host.ip("link", "add", "link", "eth1", "name", "ipv7", "netns", peer.name, "type", "ipvlan", "mode", "l2")
    try:
        error = world.refused("ADD", rail(master="eth1"))
    finally:
        peer.ip("link", "del", "ipv7")
    assert error["code"] == 7
    assert words_missing(error, ["ipvlan in another namespace", '"eth1"']) == []


def test_peers_on_the_wire_hear_where_the_address_is(world: World, host: Machine) -> None:
    host.until_carrier("eth0", "eth1")
    with Wire(host, "eth0") as wire:
        mac = world.add(rail(master="eth1"))["interfaces"][0]["mac"]
        assert f"arp reply 10.1.0.5 from {mac}" in wire.heard(world.sandbox, "net1")
