"""Our netlink messages against those of an independent library, and against damaged input."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from cni.host import link_messages, netlink, vf
from cni.host.links import Address, Link, Links, NewRoute
from cni.host.netlink import Message, attribute, attributes, nested
from cni.host.netns import Netns
from cni.host.vf import VfSettings, Vlan

HEADER = struct.Struct("=IHHII")


class Recorder(Links):
    """Links whose messages are kept instead of sent: what is encoded is all that is looked at."""

    def __init__(self) -> None:
        self.where = "nowhere"
        self.sent: list[Message] = []

    def _change_all(self, batch: Any) -> None:
        self.sent += batch.messages


ETH0 = Link(index=7, name="eth0", mac="", mtu=1500, is_up=True, has_carrier=True, hardware_type=1)


def decoded(message: Message, kind: Any) -> Any:
    """Return a message as the library reads it."""
    read = kind(message.encoded(sequence=1))
    read.decode()
    return read


def sent_by(act: Callable[[Recorder], None]) -> list[Message]:
    recorder = Recorder()
    act(recorder)
    return recorder.sent


def test_a_new_macvlan_is_read_as_meant() -> None:
    (message,) = sent_by(
        lambda links_: links_.add_macvlan(
            "net1",
            ETH0,
            "vepa",
            mac="02:00:00:00:00:07",
            mtu=1400,
            queue_length=None,
            into=Netns("/run/netns/pod", 9),
        )
    )
    read = decoded(message, ifinfmsg)
    assert message.type == 16
    assert message.flags == netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
    assert read.get("ifname") == "net1"
    assert read.get("link") == 7
    assert read.get("address") == "02:00:00:00:00:07"
    assert read.get("mtu") == 1400
    assert read.get("net_ns_fd") == 9
    assert read.get(("linkinfo", "kind")) == "macvlan"
    assert read.get(("linkinfo", "data", "macvlan_mode")) == "vepa"


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        pytest.param(lambda host: host.rename(ETH0, "net1"), {"ifname": "net1"}, id="rename"),
        pytest.param(
            lambda host: host.set_mac(ETH0, "02:00:00:00:00:01"), {"address": "02:00:00:00:00:01"}, id="mac"
        ),
        pytest.param(lambda host: host.set_mtu(ETH0, 9000), {"mtu": 9000}, id="mtu"),
        pytest.param(lambda host: host.set_alias(ETH0, "uplink"), {"ifalias": "uplink"}, id="alias"),
        pytest.param(
            lambda host: host.move(ETH0, Netns("/run/netns/pod", 9), "net1", alias="eth0"),
            {"net_ns_fd": 9, "ifname": "net1", "ifalias": "eth0"},
            id="move-with-name-and-alias",
        ),
    ],
)
def test_a_change_of_a_link_is_read_as_meant(
    act: Callable[[Recorder], None], expected: dict[str, object]
) -> None:
    (message,) = sent_by(act)
    read = decoded(message, ifinfmsg)
    assert message.type == link_messages.RTM_SETLINK
    assert read["index"] == 7
    assert {name: read.get(name) for name in expected} == expected


@pytest.mark.parametrize("is_up", [True, False])
def test_up_and_down_touch_no_other_flag(is_up: bool) -> None:
    (message,) = sent_by(lambda host: host.set_up(ETH0) if is_up else host.set_down(ETH0))
    read = decoded(message, ifinfmsg)
    assert (read["index"], read["flags"], read["change"]) == (7, int(is_up), 1)


@pytest.mark.parametrize(
    ("cidr", "broadcast"),
    [
        pytest.param("10.0.0.5/24", "10.0.0.255", id="a-subnet-has-a-broadcast-address"),
        pytest.param("10.0.0.4/31", None, id="a-point-to-point-link-has-none"),
        pytest.param("10.0.0.4/32", None, id="a-host-has-none"),
        pytest.param("fd00::5/64", None, id="ipv6-has-none"),
    ],
)
def test_a_new_address_is_read_as_meant(cidr: str, broadcast: str | None) -> None:
    (message,) = sent_by(lambda host: host.add_addresses(ETH0, [Address.new(ip_interface(cidr))]))
    read = decoded(message, ifaddrmsg)
    interface = ip_interface(cidr)
    assert (read["index"], read["prefixlen"]) == (7, interface.network.prefixlen)
    assert read["family"] == (socket.AF_INET if interface.version == 4 else socket.AF_INET6)
    assert read.get("local") == read.get("address") == str(interface.ip)
    assert read.get("broadcast") == broadcast


def test_a_new_route_is_read_as_meant() -> None:
    route = NewRoute(
        ip_network("10.9.0.0/16"), gateway="10.0.0.1", scope=0, table=1000, priority=50, mtu=1400, advmss=1360
    )
    messages = sent_by(lambda host: host.configure(ETH0, [], [route]))
    read = decoded(messages[-1], rtmsg)
    assert (read["dst_len"], read["type"], read["proto"]) == (16, 1, 3)
    assert read.get("dst") == "10.9.0.0"
    assert read.get("gateway") == "10.0.0.1"
    assert (read.get("oif"), read.get("priority"), read.get("table")) == (7, 50, 1000)
    assert read.get(("metrics", "mtu")) == 1400
    assert read.get(("metrics", "advmss")) == 1360


def test_a_link_that_the_library_encodes_is_read_as_meant() -> None:
    message = ifinfmsg()
    message["index"], message["flags"], message["ifi_type"] = 4, 0x10043, 1
    message["attrs"] = [
        ("IFLA_IFNAME", "net1"),
        ("IFLA_ADDRESS", "02:00:00:00:00:07"),
        ("IFLA_PERM_ADDRESS", bytes.fromhex("020000000008")),
        ("IFLA_MTU", 1400),
        ("IFLA_LINK", 2),
        ("IFLA_LINK_NETNSID", 0),
        ("IFLA_MASTER", 9),
        ("IFLA_IFALIAS", "eth0"),
        (
            "IFLA_PROP_LIST",
            {"attrs": [("IFLA_ALT_IFNAME", "rail0"), ("IFLA_ALT_IFNAME", "rail-zero-long-name")]},
        ),
        (
            "IFLA_LINKINFO",
            {
                "attrs": [
                    ("IFLA_INFO_KIND", "macvlan"),
                    ("IFLA_INFO_DATA", {"attrs": [("IFLA_MACVLAN_MODE", "passthru")]}),
                ]
            },
        ),
    ]
    message.encode()
    link = link_messages.parse_link(bytes(message.data[HEADER.size :]))
    assert link == Link(
        index=4,
        name="net1",
        mac="02:00:00:00:00:07",
        permanent_mac="02:00:00:00:00:08",
        mtu=1400,
        is_up=True,
        has_carrier=True,
        hardware_type=1,
        kind="macvlan",
        parent_index=2,
        parent_netns=0,
        mode="passthru",
        alias="eth0",
        altnames=("rail0", "rail-zero-long-name"),
        upper_index=9,
    )


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=40)), max_size=8))
def test_attributes_are_read_as_they_were_written(pairs: list[tuple[int, bytes]]) -> None:
    assert list(attributes(b"".join(attribute(kind, value) for kind, value in pairs))) == pairs


@given(
    st.integers(1, 0x3FFF), st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=20)), max_size=4)
)
def test_nested_attributes_are_read_as_they_were_written(kind: int, inner: list[tuple[int, bytes]]) -> None:
    ((read_kind, value),) = attributes(nested(kind, *(attribute(*pair) for pair in inner)))
    assert (read_kind, list(attributes(value))) == (kind, inner)


@given(st.binary(max_size=64))
def test_damaged_attributes_end_the_reading(data: bytes) -> None:
    assert all(0 <= kind <= 0x3FFF for kind, _ in attributes(data))


# -- what a card holds of its VFs ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "attribute_name", "expected"),
    [
        pytest.param(
            VfSettings(mac="02:00:00:00:00:07"),
            "IFLA_VF_MAC",
            {"vf": 3, "mac": "02:00:00:00:00:07"},
            id="mac",
        ),
        pytest.param(
            VfSettings(vlan=Vlan(100, 5)), "IFLA_VF_VLAN", {"vf": 3, "vlan": 100, "qos": 5}, id="vlan"
        ),
        pytest.param(
            VfSettings(rates=(10, 500)),
            "IFLA_VF_RATE",
            {"vf": 3, "min_tx_rate": 10, "max_tx_rate": 500},
            id="rates",
        ),
        pytest.param(VfSettings(spoofchk=False), "IFLA_VF_SPOOFCHK", {"vf": 3, "spoofchk": 0}, id="spoofchk"),
        pytest.param(VfSettings(trust=True), "IFLA_VF_TRUST", {"vf": 3, "trust": 1}, id="trust"),
        pytest.param(
            VfSettings(link_state="disable"),
            "IFLA_VF_LINK_STATE",
            {"vf": 3, "link_state": 2},
            id="link-state",
        ),
    ],
)
def test_a_setting_of_a_vf_is_read_as_meant(
    settings: VfSettings, attribute_name: str, expected: dict[str, object]
) -> None:
    (message,) = sent_by(lambda host: host.set_vf(ETH0, 3, settings))
    read = decoded(message, ifinfmsg)
    assert (message.type, read["index"]) == (link_messages.RTM_SETLINK, 7)
    (info,) = read.get("IFLA_VFINFO_LIST").get_attrs("IFLA_VF_INFO")
    told = info.get_attr(attribute_name)
    assert {name: told[name] for name in expected} == expected


def test_a_stacked_vlan_names_its_protocol() -> None:
    (message,) = sent_by(lambda host: host.set_vf(ETH0, 3, VfSettings(vlan=Vlan(100, 5, "802.1ad"))))
    (info,) = decoded(message, ifinfmsg).get("IFLA_VFINFO_LIST").get_attrs("IFLA_VF_INFO")
    (vlan,) = info.get_attr("IFLA_VF_VLAN_LIST").get_attrs("IFLA_VF_VLAN_INFO")
    assert (vlan["vf"], vlan["vlan"], vlan["qos"], vlan["proto"]) == (3, 100, 5, 0x88A8)


def test_settings_travel_one_by_one_so_that_a_refusal_tells_which_it_was() -> None:
    wanted = VfSettings(vlan=Vlan(1), mac="02:00:00:00:00:07", trust=True)
    assert len(sent_by(lambda host: host.set_vf(ETH0, 3, wanted))) == len(wanted.names) == 3


VF_SETTINGS = st.builds(
    VfSettings,
    vlan=st.builds(Vlan, st.integers(0, 4094), st.integers(0, 7), st.sampled_from(["802.1q", "802.1ad"])),
    mac=st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":")),
    rates=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    spoofchk=st.booleans(),
    trust=st.booleans(),
    link_state=st.sampled_from(["auto", "enable", "disable"]),
    guid=st.binary(min_size=8, max_size=8).map(lambda octets: octets.hex(":")),
)


@given(st.dictionaries(st.integers(0, 300), VF_SETTINGS, max_size=4))
def test_what_is_set_is_what_is_read(vfs: dict[int, VfSettings]) -> None:
    """The kernel tells settings in the attributes that set them."""
    listed = []
    for index, settings in vfs.items():
        inner = b""
        for name in settings.names:
            ((_, infos),) = attributes(vf.encode(index, name, settings))
            ((_, told),) = attributes(infos)
            inner += told
        listed.append(nested(1, inner))
    assert vf.decode(b"".join(listed), 6) == vfs
