"""Debian's Go plugins and ours side by side: same stdin and environment, same answer and kernel state.

What is meant to differ is a table of its own; everything else must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.exec.differences import DIFFERENCES, Difference
from tests.support.comparison import (
    Prepare,
    Sides,
    by_default_route,
    conf,
    device,
    set_down,
    switch_ipv6_off,
    without_known_differences,
)
from tests.support.world import Namespace, World, static

VERSIONS = ("0.3.1", "0.4.0", "1.0.0")
SHAPES_OF_STATIC = ("0.2.0", *VERSIONS)
MAC = "02:00:00:00:00:0a"


@pytest.fixture
def namespaces() -> Iterator[list[Namespace]]:
    """A host and a sandbox for each side."""
    made = [Namespace(role) for role in ("host", "pod", "host", "pod")]
    yield made
    for namespace in made:
        namespace.delete()


# -- what must be the same ------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A configuration that both accept, and in what surroundings."""

    id: str
    conf: dict[str, Any]
    plugin: str = "macvlan"
    prepare: Prepare = lambda _: None
    variables: dict[str, str] = field(default_factory=dict)


def add_altname(world: World) -> None:
    set_down(world)
    world.host.ip("link", "property", "add", "dev", "eth0", "altname", "rail-of-eth0")


MACVLAN = [
    Case("an-ipv4-address", conf()),
    Case("addresses-of-both-families", conf(ipam=static("10.1.0.5/24", "fd00::5/64", "10.2.0.5/16"))),
    Case("an-ipv6-address-with-gateway", conf(ipam=static("fd00::5/64 via fd00::1"))),
    Case("point-to-point", conf(ipam=static("10.1.0.4/31"))),
    Case(
        "routes-with-gateways-of-their-own",
        conf(
            ipam=static(
                "10.1.0.5/24",
                "fd00::5/64",
                routes=[
                    {"dst": "0.0.0.0/0", "gw": "10.1.0.1"},
                    {"dst": "10.9.0.0/16", "gw": "10.1.0.2"},
                    {"dst": "fd09::/16", "gw": "fd00::1"},
                ],
            )
        ),
    ),
    Case("twin-routes",
         conf(ipam=static("10.1.0.5/24", routes=[
             {"dst": "10.9.0.0/16", "gw": "10.1.0.1"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.2"}]))),
    Case("an-on-link-route", conf(ipam=static("10.1.0.5/24", routes=[{"dst": "10.9.0.0/16"}]))),
    Case("no-ipam", conf(ipam={})),
    Case("dns-of-its-own", conf(dns={"nameservers": ["10.1.0.53"], "search": ["rail"], "options": ["a"]})),
    *(Case(f"mode-{mode}", conf(mode=mode)) for mode in ("bridge", "vepa", "private", "passthru", "")),
    Case("mtu", conf(mtu=1300)),
    Case("mtu-of-zero", conf(mtu=0)),
    Case("mac", conf(mac=MAC)),
    Case("mac-in-another-spelling", conf(mac="0200.0000.000A")),
    Case("mac-by-cni-args", conf(), variables={"CNI_ARGS": f"IgnoreUnknown=1;MAC={MAC}"}),
    Case("mac-by-cni-args-before-configuration", conf(mac="02:00:00:00:00:0b", ipam={}),
         variables={"CNI_ARGS": f"MAC={MAC}"}),
    Case("mac-by-runtime-config-before-all",
         conf(mac="02:00:00:00:00:0b", runtimeConfig={"mac": MAC}, ipam={}),
         variables={"CNI_ARGS": "MAC=02:00:00:00:00:0c"}),
    Case("pod-names-in-cni-args", conf(), variables={"CNI_ARGS": "IgnoreUnknown=true;K8S_POD_NAME=web"}),
    Case("master-by-ipv4-default-route", conf(master=""), prepare=by_default_route("default via 10.77.0.1")),
    Case("master-by-ipv6-default-route", conf(master=""), prepare=by_default_route("default via fd77::1")),
    Case("master-that-is-down", conf(), prepare=set_down),
    Case("name-that-the-host-uses-too", conf(), variables={"CNI_IFNAME": "eth0"}),
    Case("sandbox-with-ipv6-switched-off", conf(ipam=static("fd00::5/64")), prepare=switch_ipv6_off),
    Case("keys-in-another-case",
         {"NAME": "rail", "Type": "macvlan", "MASTER": "eth0", "Mtu": 1400, "Mode": "vepa"}),
    Case("null-values", conf(mode=None, mtu=None, mac=None, dns=None, prevResult=None, args=None)),
    Case("unknown-keys", conf(unknown={"a": 1}, Another=[1])),
]  # fmt: skip

HOST_DEVICE = [
    Case("device-by-name", device(), "host-device", set_down),
    Case("device-by-mac", device(device="", hwaddr="02:00:00:00:00:e0"), "host-device", set_down),
    Case("device-by-name-before-mac", device(hwaddr="02:00:00:00:00:e1"), "host-device", set_down),
    Case("device-by-alternative-name", device(device="rail-of-eth0"), "host-device", add_altname),
    Case("device-with-addresses", device(ipam=static("10.1.0.5/24 via 10.1.0.1", "fd00::5/64")),
         "host-device", set_down),
    Case("device-under-its-own-name", device(), "host-device", set_down, {"CNI_IFNAME": "eth0"}),
    Case("device-and-foreign-cni-args", device(), "host-device", set_down, {"CNI_ARGS": "FOO=1"}),
]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in MACVLAN + HOST_DEVICE])
def test_same_answers_and_kernel_state(
    namespaces: list[Namespace], tmp_path: Path, case: Case, version: str
) -> None:
    sides = Sides.of(namespaces, tmp_path, as_executables=case in (MACVLAN[0], HOST_DEVICE[0]))
    for side in sides:
        case.prepare(side.world)
    given = case.conf | {"cniVersion": version}
    for command in ("ADD", "CHECK", "DEL", "DEL"):
        if command == "CHECK" and version == "0.3.1":
            continue
        if case.plugin == "host-device" and command == "DEL" and "eth0" in sides.ours.world.host.links():
            continue  # its second DEL is a known difference
        go, ours = (
            side.call(command, given | side.previous(version), case.plugin, **case.variables)
            for side in sides
        )
        assert go.status == 0, go.error
        assert ours.status == 0, ours.error
        assert without_known_differences(ours) == without_known_differences(go), command


ROUTES = [
    {"dst": "0.0.0.0/0"},
    {"dst": "10.9.0.0/16", "gw": "10.1.0.9"},
    {"dst": "10.9.0.0/16"},
    {"dst": "fd09::/16"},
]
DNS = {"nameservers": ["10.1.0.53"], "domain": "rail", "search": ["a", "b"], "options": ["ndots:2"]}

STATIC = [
    Case("one-address", conf()),
    Case("one-of-each-family", conf(ipam=static("fd00::5/64 via fd00::1", "10.1.0.5/24 via 10.1.0.1"))),
    Case("routes", conf(ipam=static("10.1.0.5/24 via 10.1.0.1", routes=ROUTES))),
    Case("dns", conf(ipam=static("10.1.0.5/24", dns=DNS))),
    Case("dns-of-the-network-is-not-its-matter", conf(dns=DNS)),
    Case("ipv4-mapped", conf(ipam=static("::ffff:10.1.0.5/120"))),
    Case("ipv6-written-long", conf(ipam=static("FD00:0:0::0005/64"))),
    Case("gateway-elsewhere", conf(ipam=static("10.1.0.5/32 via 10.77.0.1"))),
    Case("cni-args", conf(ipam=static()), variables={"CNI_ARGS": "IP=10.1.0.7/24;GATEWAY=10.1.0.1"}),
    Case("cni-args-of-both-families", conf(ipam=static()),
         variables={"CNI_ARGS": "IP=10.1.0.7/24,fd00::7/64;GATEWAY=10.1.0.1,fd00::1"}),
    Case("cni-args-added-to-configuration", conf(ipam=static("fd00::5/64")),
         variables={"CNI_ARGS": "IgnoreUnknown=1;IP=10.1.0.7/24;K8S_POD_NAME=web"}),
    Case("args", conf(ipam=static("10.77.0.5/24"), args={"cni": {"ips": ["10.1.0.7/24"]}})),
    Case("runtime-config",
         conf(ipam=static("10.77.0.5/24"), runtimeConfig={"ips": ["10.1.0.7/24", "fd00::7/64"]})),
    Case("runtime-config-before-args", conf(args={"cni": {"ips": ["10.77.0.7/24"]}},
                                            ipam=static(), runtimeConfig={"ips": ["10.1.0.7/24"]})),
    Case("keys-in-another-case", {"Name": "rail", "type": "macvlan",
                                  "IPAM": {"TYPE": "static", "Addresses": [{"ADDRESS": "10.1.0.5/24"}]}}),
]  # fmt: skip

SEVERAL = [
    Case("several-of-a-family", conf(ipam=static("10.1.0.5/24", "10.1.0.6/24", "fd00::5/64", "fd00::6/64"))),
    Case("no-address", conf(ipam={"type": "static"})),
]


@pytest.mark.parametrize(
    ("case", "version"),
    [
        *(
            pytest.param(case, version, id=f"{case.id}-{version}")
            for case in STATIC
            for version in SHAPES_OF_STATIC
        ),
        *(pytest.param(case, version, id=f"{case.id}-{version}") for case in SEVERAL for version in VERSIONS),
    ],
)
def test_same_addresses_of_static(
    namespaces: list[Namespace], tmp_path: Path, case: Case, version: str
) -> None:
    sides = Sides.of(namespaces, tmp_path, as_executables=case is STATIC[0])
    given = case.conf | {"cniVersion": version}
    for command in ("ADD", "CHECK", "DEL"):
        if command == "CHECK" and version < "0.4.0":
            continue
        go, ours = (
            side.call(command, given | side.previous(version), "static", **case.variables) for side in sides
        )
        assert go.status == 0, go.error
        assert ours.status == 0, ours.error
        assert without_known_differences(ours) == without_known_differences(go), command


# -- what both refuse -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Refused:
    """A call that both refuse."""

    id: str
    conf: dict[str, Any] | bytes
    plugin: str = "macvlan"
    command: str = "ADD"
    variables: dict[str, str] = field(default_factory=dict)
    prepare: Prepare = lambda _: None


def enslave(world: World) -> None:
    world.host.ip("link", "add", "br-lan", "type", "bridge")
    world.host.ip("link", "set", "eth0", "master", "br-lan")


def take_name(world: World) -> None:
    world.sandbox.ip("link", "add", "net1", "type", "veth", "peer", "name", "far")


def delete_sandbox(world: World) -> None:
    world.sandbox.delete()


LATEST = {"cniVersion": "1.0.0"}

REFUSED = [
    # The environment.
    Refused("no-container-id", conf(), variables={"CNI_CONTAINERID": ""}),
    Refused("container-id-with-slash", conf(), variables={"CNI_CONTAINERID": "a/b"}),
    Refused("container-id-with-dot-first", conf(), variables={"CNI_CONTAINERID": ".a"}),
    Refused("no-sandbox", conf(), variables={"CNI_NETNS": ""}),
    Refused("no-interface-name", conf(), variables={"CNI_IFNAME": ""}),
    Refused("no-path", conf(), variables={"CNI_PATH": ""}),
    Refused("nothing-at-all", conf(),
            variables={"CNI_CONTAINERID": "", "CNI_NETNS": "", "CNI_IFNAME": "", "CNI_PATH": ""}),
    Refused("no-container-id-on-del", conf(), command="DEL", variables={"CNI_CONTAINERID": ""}),
    Refused("interface-name-of-16-bytes", conf(), variables={"CNI_IFNAME": "sixteen-letters-"}),
    Refused("interface-name-with-slash", conf(), variables={"CNI_IFNAME": "a/b"}),
    Refused("interface-name-with-space", conf(), variables={"CNI_IFNAME": "a b"}),
    Refused("interface-name-of-two-dots", conf(), variables={"CNI_IFNAME": ".."}),
    Refused("unknown-command", conf(), command="ADDED"),
    Refused("command-in-lower-case", conf(), command="add"),
    Refused("unknown-cni-args", conf(), variables={"CNI_ARGS": "FOO=1"}),
    Refused("cni-args-without-value", conf(), variables={"CNI_ARGS": "FOO"}),
    Refused("cni-args-with-two-equals-signs", conf(), variables={"CNI_ARGS": "IgnoreUnknown=1;A=b=c"}),
    Refused("cni-args-that-end-with-semicolon", conf(), variables={"CNI_ARGS": "IgnoreUnknown=1;"}),
    Refused("mac-of-cni-args", conf(), variables={"CNI_ARGS": "MAC=nonsense"}),
    # stdin.
    Refused("empty-stdin", b""),
    Refused("half-a-document", b'{"cniVersion": "1.0.0", "name": "rail"'),
    Refused("an-array", b"[]"),
    Refused("text-after-the-document", b'{"cniVersion": "1.0.0", "name": "rail", "type": "macvlan"} x'),
    Refused("no-name", {"cniVersion": "1.0.0", "type": "macvlan", "master": "eth0"}),
    Refused("name-with-slash", conf(name="../rail")),
    Refused("name-that-is-a-number", conf(name=7)),
    Refused("unknown-version", conf(cniVersion="1.0.1")),
    Refused("version-that-is-none", conf(cniVersion="newest")),
    Refused("version-that-is-a-number", conf(cniVersion=1)),
    Refused("half-a-document-on-del", b"{", command="DEL"),
    Refused("unknown-version-on-del", conf(cniVersion="9.9.9"), command="DEL"),
    Refused("check-of-an-old-version", conf(cniVersion="0.3.1"), command="CHECK"),
    # macvlan.
    Refused("unknown-master", conf(master="eth7")),
    Refused("no-master-and-no-default-route", conf(master="")),
    Refused("unknown-mode", conf(mode="source")),
    Refused("mode-in-capitals", conf(mode="BRIDGE")),
    Refused("mtu-above-the-masters", conf(mtu=1501)),
    Refused("mtu-below-zero", conf(mtu=-1)),
    Refused("mtu-below-what-a-link-can-have", conf(mtu=50)),
    Refused("mtu-a-string", conf(mtu="1500")),
    Refused("mtu-a-fraction", conf(mtu=1500.5)),
    Refused("mtu-a-boolean", conf(mtu=True)),
    Refused("mac-that-is-none", conf(mac="nonsense")),
    Refused("mac-multicast", conf(mac="01:00:00:00:00:01")),
    Refused("mac-of-eight-bytes", conf(mac="02:00:00:00:00:01:02:03")),
    Refused("ipam-a-string", conf(ipam="static")),
    Refused("ipam-plugin-that-is-not-installed", conf(ipam={"type": "nobody"})),
    Refused("ipam-without-address", conf(ipam={"type": "static"})),
    Refused("route-to-an-unreachable-gateway",
            conf(ipam=static("10.1.0.5/24", routes=[{"dst": "10.9.0.0/16", "gw": "10.77.0.1"}]))),
    Refused("master-that-is-a-bridge-port", conf(), prepare=enslave),
    Refused("name-that-is-taken", conf(), prepare=take_name),
    Refused("sandbox-that-is-gone", conf(), prepare=delete_sandbox),
    Refused("sandbox-that-is-a-plain-file", conf(), variables={"CNI_NETNS": "/etc/hostname"}),
    Refused("check-without-previous-result", conf(), command="CHECK"),
    Refused("check-of-an-empty-previous-result", conf(prevResult=LATEST), command="CHECK"),
    Refused("previous-result-of-another-shape", conf(prevResult={"cniVersion": "0.4.0"}), command="CHECK"),
    # host-device.
    Refused("no-device", device(device="", **LATEST), "host-device"),
    Refused("unknown-device", device(device="eth7", **LATEST), "host-device"),
    Refused("unknown-hwaddr", device(device="", hwaddr="02:00:00:00:00:77", **LATEST), "host-device"),
    Refused("hwaddr-that-is-none", device(device="", hwaddr="nonsense", **LATEST), "host-device"),
    Refused("unknown-kernelpath", device(device="", kernelpath="/sys/devices/nothing", **LATEST),
            "host-device"),
    Refused("unknown-pci-bus-id", device(device="", pciBusID="0000:ff:1f.7", **LATEST), "host-device"),
    Refused("loopback", device(device="lo", **LATEST), "host-device"),
    Refused("name-that-is-taken-by-another", device(**LATEST), "host-device", prepare=take_name),
    # static.
    Refused("no-ipam", {"cniVersion": "1.0.0", "name": "rail", "type": "macvlan"}, "static"),
    Refused("address-without-prefix", conf(ipam=static("10.1.0.5")), "static"),
    Refused("address-with-netmask", conf(ipam=static("10.1.0.5/255.255.255.0")), "static"),
    Refused("address-with-leading-zero", conf(ipam=static("10.1.0.05/24")), "static"),
    Refused("address-with-zone", conf(ipam=static("fe80::1%eth0/64")), "static"),
    Refused("entry-without-address", conf(ipam={"type": "static", "addresses": [{}]}), "static"),
    Refused("gateway-with-prefix", conf(ipam=static("10.1.0.5/24 via 10.1.0.1/24")), "static"),
    Refused("addresses-a-string", conf(ipam={"type": "static", "addresses": "10.1.0.5/24"}), "static"),
    Refused("two-addresses-of-a-family-under-0.2.0",
            conf(cniVersion="0.2.0", ipam=static("10.1.0.5/24", "10.1.0.6/24")), "static"),
    Refused("no-address-under-0.2.0", conf(cniVersion="0.2.0", ipam={"type": "static"}), "static"),
    Refused("ip-of-cni-args-without-prefix", conf(), "static", variables={"CNI_ARGS": "IP=10.1.0.7"}),
    Refused("gateway-of-cni-args-with-prefix", conf(), "static",
            variables={"CNI_ARGS": "IP=10.1.0.7/24;GATEWAY=10.1.0.1/24"}),
    Refused("ip-of-args-without-prefix", conf(args={"cni": {"ips": ["10.1.0.7"]}}), "static"),
    Refused("runtime-ip-without-prefix", conf(runtimeConfig={"ips": ["10.1.0.7"]}), "static"),
    Refused("gateway-that-differs-from-previous-result",
            conf(prevResult=LATEST | {"ips": [{"address": "10.1.0.5/24", "gateway": "10.1.0.9"}]}),
            "static", "CHECK"),
]  # fmt: skip

# Where Go answers one of these, so must we; 999 and its own 100 to 103 say nothing.
CODES_OF_THE_SPEC = range(1, 12)


@pytest.mark.parametrize("call", [pytest.param(call, id=call.id) for call in REFUSED])
def test_both_refuse(namespaces: list[Namespace], tmp_path: Path, call: Refused) -> None:
    sides = Sides.of(namespaces, tmp_path, as_executables=call is REFUSED[0])
    answers = []
    for side in sides:
        call.prepare(side.world)
        answers.append(side.world.call(call.command, call.conf, plugin=call.plugin, **call.variables))
    go, ours = answers
    assert (go.status, ours.status) == (1, 1)
    assert isinstance(ours.json["msg"], str)
    if go.code in CODES_OF_THE_SPEC:
        assert ours.code == go.code, (go.json, ours.json)
    else:
        assert ours.code != 999, ours.json


# -- what is meant to differ ----------------------------------------------------------------------


@pytest.mark.parametrize("difference", [pytest.param(each, id=each.id) for each in DIFFERENCES])
def test_differs_as_told(namespaces: list[Namespace], tmp_path: Path, difference: Difference) -> None:
    sides = Sides.of(namespaces, tmp_path, as_executables=False)
    assert tuple(difference.see(side) for side in sides) == difference.seen
