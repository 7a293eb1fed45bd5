"""By what host-device knows a device again; where cards are needed for it, made up ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cni.device.record import Device
from cni.host.links import Link
from cni.plugins.host_device.record import HostDeviceRecord

ADDRESS, OTHER_ADDRESS = "0000:af:00.0", "0000:af:00.1"
MAC, OTHER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
CARD = Link(
    index=3, name="eth1", mac=MAC, mtu=1500, is_up=True, has_carrier=True, hardware_type=1,
    permanent_mac=MAC, parent=ADDRESS,
)  # fmt: skip
VETH = replace(CARD, kind="veth", permanent_mac="", parent="")
OLD = replace(CARD, permanent_mac="")  # as Linux before 5.6 tells of it
OLDER = replace(OLD, parent="")  # and before 5.14


def recorded(link: Link | None) -> HostDeviceRecord:
    """The record of an attachment whose device was that link, or one without an interface."""
    device = Device(bus_address=ADDRESS)
    if link:
        known = ("name", "mac", "index", "kind", "permanent_mac", "parent")
        device = Device(**{name: getattr(link, name) for name in known})
    attachment = {"plugin": "host-device", "network": "nic", "container_id": "pod-1", "ifname": "net1"}
    place = {"netns": "/run/netns/pod", "sandbox": "…", "created": "…", "cni_args": "", "config": {}}
    return HostDeviceRecord(**attachment, **place, device=device)


CHANGED = {"index": 9, "name": "net1", "mac": OTHER_MAC}


@pytest.mark.parametrize(
    ("was", "now", "is_it"),
    [
        pytest.param(CARD, CHANGED, True, id="card-under-another-name-mac-and-index"),
        pytest.param(CARD, CHANGED | {"permanent_mac": OTHER_MAC}, False, id="other-port-of-the-card"),
        pytest.param(CARD, CHANGED | {"parent": OTHER_ADDRESS}, False, id="card-in-another-slot"),
        pytest.param(CARD, CHANGED | {"kind": "vlan"}, False, id="vlan-that-tells-of-the-cards-device"),
        pytest.param(OLD, CHANGED, True, id="card-told-by-its-slot-alone"),
        pytest.param(OLD, CHANGED | {"parent": OTHER_ADDRESS}, False, id="card-told-by-another-slot"),
        pytest.param(OLDER, {"index": 9, "name": "net1"}, True, id="card-told-by-its-mac-alone"),
        pytest.param(OLDER, CHANGED, False, id="card-told-by-another-mac"),
        pytest.param(VETH, {}, True, id="veth-that-was-not-touched"),
        pytest.param(VETH, {"index": 9}, False, id="veth-of-another-index"),
        pytest.param(VETH, {"mac": OTHER_MAC}, False, id="veth-of-another-mac"),
        pytest.param(VETH, CHANGED | {"alias": "eth1"}, True, id="veth-that-add-marked"),
        pytest.param(VETH, CHANGED | {"alias": "eth1", "kind": "dummy"}, False, id="dummy-of-the-same-alias"),
    ],
)
def test_device_is_known_again_on_the_host(was: Link, now: dict[str, Any], is_it: bool) -> None:
    link = replace(was, **now)
    assert recorded(was).on_host([link]) == (link if is_it else None)


@pytest.mark.parametrize(
    "link", [pytest.param(CARD, id="card"), pytest.param(VETH, id="veth"), pytest.param(OLDER, id="old")]
)
def test_device_without_an_interface_is_no_interface_on_the_host(link: Link) -> None:
    assert recorded(None).on_host([link]) is None
