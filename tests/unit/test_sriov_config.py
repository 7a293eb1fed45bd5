"""What sriov takes as a configuration, and what it refuses before it looks at any device."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni.host.links import Link
from cni.host.sysfs import BusDevice
from cni.host.vf import VfSettings, Vlan
from cni.plugins.sriov.config import SriovConf
from cni.plugins.sriov.discovery import Vf
from cni.plugins.sriov.refusals import check_guid
from cni.protocol.errors import CniError
from cni.protocol.request import Request

VF = "0000:af:06.1"
MACS = ["02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03", "02:00:00:00:00:04"]


def parsed(**keys: Any) -> SriovConf:
    return SriovConf.parse({"name": "rail", "type": "sriov", "deviceID": VF, **keys})


def settings(**keys: Any) -> VfSettings:
    return parsed(**keys).settings(None)


def read_all(keys: dict[str, Any]) -> None:
    """Read all that ADD reads of a configuration."""
    conf = parsed(**keys)
    assert conf.device
    conf.settings(conf.requested_mac(request()))


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        pytest.param({}, VfSettings(), id="nothing-is-touched-unless-asked-for"),
        pytest.param({"vlan": None, "trust": None}, VfSettings(), id="null-is-absent"),
        pytest.param(
            {"trust": "", "spoofchk": "", "link_state": "", "mac": ""}, VfSettings(), id="empty-too"
        ),
        pytest.param({"vlan": 0}, VfSettings(vlan=Vlan(0)), id="vlan-0-takes-the-tag-away"),
        pytest.param({"vlan": 0, "vlanQoS": 0}, VfSettings(vlan=Vlan(0)), id="vlan-0-with-its-priority"),
        pytest.param(
            {"vlan": 0, "vlanProto": "802.1Q"}, VfSettings(vlan=Vlan(0)), id="vlan-0-with-its-protocol"
        ),
        pytest.param({"vlan": 1}, VfSettings(vlan=Vlan(1)), id="least-vlan"),
        pytest.param(
            {"vlan": 4094, "vlanQoS": 7}, VfSettings(vlan=Vlan(4094, 7)), id="greatest-vlan-and-priority"
        ),
        pytest.param(
            {"vlan": 5, "vlanProto": "802.1AD"},
            VfSettings(vlan=Vlan(5, 0, "802.1ad")),
            id="protocol-in-any-case",
        ),
        pytest.param(
            {"VLAN": 5, "VlanQos": 3}, VfSettings(vlan=Vlan(5, 3)), id="keys-in-any-case-as-go-reads-them"
        ),
        pytest.param({"max_tx_rate": 100}, VfSettings(rates=(0, 100)), id="one-rate-makes-the-other-0"),
        pytest.param({"min_tx_rate": 50}, VfSettings(rates=(50, 0)), id="least-rate-below-no-limit"),
        pytest.param({"max_tx_rate": 0}, VfSettings(rates=(0, 0)), id="rate-0-takes-the-limit-away"),
        pytest.param(
            {"min_tx_rate": 50, "max_tx_rate": 50}, VfSettings(rates=(50, 50)), id="rates-may-be-equal"
        ),
        pytest.param(
            {"spoofchk": "on", "trust": "off"}, VfSettings(spoofchk=True, trust=False), id="switches"
        ),
        pytest.param(
            {"spoofchk": "OFF", "trust": "On"}, VfSettings(spoofchk=False, trust=True), id="in-any-case"
        ),
        pytest.param(
            {"spoofchk": "true", "trust": "False"}, VfSettings(spoofchk=True, trust=False), id="true-false"
        ),
        pytest.param({"link_state": "enable"}, VfSettings(link_state="enable"), id="link-state"),
        pytest.param(
            {"guid": "02:00:00:00:00:00:00:0A"},
            VfSettings(guid="02:00:00:00:00:00:00:0a"),
            id="guid-in-any-case",
        ),
    ],
)
def test_what_the_pf_is_to_set(keys: dict[str, Any], wanted: VfSettings) -> None:
    assert settings(**keys) == wanted


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        pytest.param({"vlan": -1}, ["vlan", "-1"], id="vlan-below-0"),
        pytest.param({"vlan": 4095}, ["vlan", "4094", "4095"], id="vlan-that-the-kernel-would-take"),
        pytest.param({"vlan": "100"}, ["vlan", "integer", "100"], id="vlan-as-a-string"),
        pytest.param({"vlan": 100.0}, ["vlan", "integer"], id="vlan-as-a-fraction"),
        pytest.param({"vlan": True}, ["vlan", "integer", "true"], id="vlan-as-a-boolean"),
        pytest.param({"vlan": 5, "vlanQoS": 8}, ["vlanQoS", "7"], id="priority-above-7"),
        pytest.param({"vlan": 5, "vlanQoS": -1}, ["vlanQoS", "-1"], id="priority-below-0"),
        pytest.param({"vlanQoS": 0}, ["vlanQoS", "without", "vlan"], id="priority-without-a-vlan-even-0"),
        pytest.param({"vlan": 0, "vlanQoS": 3}, ["vlanQoS", "3", "1 to 4094"], id="priority-with-vlan-0"),
        pytest.param({"vlanProto": "802.1q"}, ["vlanProto", "without"], id="protocol-without-a-vlan"),
        pytest.param({"vlan": 0, "vlanProto": "802.1ad"}, ["vlanProto", "802.1ad"], id="802.1ad-with-vlan-0"),
        pytest.param(
            {"vlan": 5, "vlanProto": "802.1x"}, ["vlanProto", "802.1q", "802.1x"], id="unknown-protocol"
        ),
        pytest.param({"mac": "02:00"}, ["mac", "02:00"], id="mac-too-short"),
        pytest.param({"mac": "01:00:00:00:00:01"}, ["mac", "multicast"], id="multicast-mac"),
        pytest.param({"mac": "00:00:00:00:00:00"}, ["mac", "zero"], id="mac-of-zeros"),
        pytest.param({"mac": f"{MACS[0]}\n"}, ["mac"], id="mac-with-a-line-end"),
        pytest.param({"min_tx_rate": -1}, ["min_tx_rate", "-1"], id="rate-below-0"),
        pytest.param({"max_tx_rate": 2**32}, ["max_tx_rate"], id="rate-that-the-kernel-cannot-hold"),
        pytest.param({"max_tx_rate": True}, ["max_tx_rate", "true"], id="rate-as-a-boolean"),
        pytest.param(
            {"min_tx_rate": 9, "max_tx_rate": 8}, ["min_tx_rate", "9", "max_tx_rate", "8"], id="min-above-max"
        ),
        pytest.param({"spoofchk": True}, ["spoofchk", "boolean", '"on"'], id="spoofchk-as-a-boolean"),
        pytest.param({"trust": False}, ["trust", "boolean", '"off"'], id="trust-as-a-boolean"),
        pytest.param(
            {"spoofchk": "yes"}, ["spoofchk", "yes", '"on" or "off"'], id="spoofchk-as-another-word"
        ),
        pytest.param({"trust": 1}, ["trust", "1", '"on" or "off"'], id="trust-as-a-number"),
        pytest.param(
            {"link_state": "up"}, ["link_state", "auto", "enable", "disable", "up"], id="link-state"
        ),
        pytest.param({"link_state": "Enable"}, ["link_state", "Enable"], id="link-state-in-another-case"),
        pytest.param({"mtu": 67}, ["mtu", "68"], id="mtu-too-small-for-ip"),
        pytest.param({"guid": "02:00"}, ["guid", "8 bytes"], id="guid-too-short"),
        pytest.param({"guid": "00:00:00:00:00:00:00:00"}, ["guid", "none"], id="guid-of-zeros"),
        pytest.param({"guid": "ff:ff:ff:ff:ff:ff:ff:ff"}, ["guid", "none"], id="guid-of-ones"),
        pytest.param({"runtimeConfig": {"mac": "x"}}, ["runtimeConfig.mac", "x"], id="runtimes-mac"),
        pytest.param({"args": {"cni": {"mac": "x"}}}, ["args.cni.mac", "x"], id="annotations-mac"),
        pytest.param(
            {"runtimeConfig": {"infinibandGUID": "x"}}, ["runtimeConfig.infinibandGUID"], id="runtimes-guid"
        ),
        pytest.param({"args": {"cni": {"guid": "x"}}}, ["args.cni.guid"], id="annotations-guid"),
        pytest.param({"deviceID": None}, ["deviceID", "Multus"], id="no-device"),
        pytest.param({"deviceID": 7}, ["deviceID", "string"], id="device-as-a-number"),
        pytest.param({"vlan": 5000, "trust": "x"}, ["vlan", "trust"], id="all-that-is-wrong-at-once"),
    ],
)
def test_refusal_names_the_key_and_says_what_to_write(keys: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(CniError) as error:
        read_all(keys)
    assert error.value.code == 7
    text = f"{error.value.msg} {error.value.details}"
    assert [word for word in words if word not in text] == []


def request(cni_args: str = "") -> Request:
    return Request("ADD", {"CNI_ARGS": cni_args}, json.dumps({"name": "rail"}).encode())


@pytest.mark.parametrize(
    ("keys", "cni_args", "mac"),
    [
        pytest.param({}, "", None, id="none"),
        pytest.param({"mac": "AA-BB-CC-00-00-01"}, "", "aa:bb:cc:00:00:01", id="in-any-spelling"),
        pytest.param(
            {"mac": MACS[3], "args": {"cni": {"mac": MACS[2]}}}, "", MACS[2], id="annotations-first"
        ),
        pytest.param(
            {"mac": MACS[3], "args": {"cni": {"mac": MACS[2]}}},
            f"MAC={MACS[1]}",
            MACS[1],
            id="environments-first",
        ),
        pytest.param(
            {"mac": MACS[3], "runtimeConfig": {"mac": MACS[0]}},
            f"MAC={MACS[1]}",
            MACS[0],
            id="runtimes-first",
        ),
    ],
)
def test_mac_to_use(keys: dict[str, Any], cni_args: str, mac: str | None) -> None:
    assert parsed(**keys).requested_mac(request(cni_args)) == mac


@pytest.mark.parametrize(
    ("keys", "guid"),
    [
        pytest.param({"guid": "02:00:00:00:00:00:00:03"}, "02:00:00:00:00:00:00:03", id="the-configurations"),
        pytest.param(
            {"guid": "02:00:00:00:00:00:00:03", "args": {"cni": {"guid": "02:00:00:00:00:00:00:02"}}},
            "02:00:00:00:00:00:00:02",
            id="annotations-first",
        ),
        pytest.param(
            {
                "args": {"cni": {"guid": "02:00:00:00:00:00:00:02"}},
                "runtimeConfig": {"infinibandGUID": "02:00:00:00:00:00:00:01"},
            },
            "02:00:00:00:00:00:00:01",
            id="runtimes-first",
        ),
    ],
)
def test_guid_to_use(keys: dict[str, Any], guid: str) -> None:
    assert settings(**keys).guid == guid


@pytest.mark.parametrize(
    ("keys", "address"),
    [
        pytest.param({"deviceID": "0000:AF:06.1"}, VF, id="in-capitals"),
        pytest.param({"deviceID": None, "runtimeConfig": {"deviceID": VF}}, VF, id="the-runtimes"),
        pytest.param({"runtimeConfig": {"deviceID": "0000:af:06.2"}}, VF, id="the-configurations-first"),
    ],
)
def test_device_to_take(keys: dict[str, Any], address: str) -> None:
    assert parsed(**keys).device == address


@pytest.mark.parametrize("key", ["master", "vfid", "OrigVfState", "DPDKMode"])
def test_what_the_plugin_finds_out_itself_cannot_be_told(key: str) -> None:
    assert parsed(**{key: 7}) == parsed()


@pytest.mark.parametrize(
    ("keys", "moves"), [({}, False), ({"rdma": True}, True), ({"rdmaIsolation": True}, True)]
)
def test_rdma_device_is_asked_for_in_ib_sriovs_words_too(keys: dict[str, Any], moves: bool) -> None:
    assert parsed(**keys).moves_rdma == moves


def infiniband(guid: str) -> Link:
    mac = f"00:00:10:29:fe:80:00:00:00:00:00:00:{guid}"
    return Link(index=7, name="ib0", mac=mac, mtu=2044, is_up=False, has_carrier=False, hardware_type=32)


IB_VF = Vf(BusDevice("pci", VF), pf=None, index=0, driver="mlx5_core", is_userspace=False, ports=())


@pytest.mark.parametrize("guid", [":".join(["00"] * 8), ":".join(["ff"] * 8)])
def test_infiniband_vf_without_a_guid_needs_one(guid: str) -> None:
    with pytest.raises(CniError, match="has no GUID") as caught:
        check_guid(infiniband(guid), settings(), IB_VF)
    assert caught.value.code == 7
    check_guid(infiniband(guid), settings(guid="02:00:00:00:00:00:00:01"), IB_VF)


def test_infiniband_vf_with_a_guid_may_keep_it() -> None:
    check_guid(infiniband("02:00:00:00:00:00:00:01"), settings(), IB_VF)


def test_ethernet_vf_needs_no_guid() -> None:
    ethernet = Link(
        index=7, name="vf0", mac="00:" * 5 + "00", mtu=1, is_up=True, has_carrier=True, hardware_type=1
    )
    check_guid(ethernet, settings(), IB_VF)
