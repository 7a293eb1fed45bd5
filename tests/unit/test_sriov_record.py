"""What a VF is owed when it comes home: by what ADD asked for, found, and what the PF holds now."""

from __future__ import annotations

import pytest

from cni.device.record import Device
from cni.host.vf import VfSettings, Vlan
from cni.plugins.sriov.record import SriovRecord

MAC, OTHER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
ORIGINAL = VfSettings(
    vlan=Vlan(0), mac=MAC, rates=(0, 0), spoofchk=True, trust=False, link_state="auto", guid="00" + ":00" * 7
)


def record(wanted: VfSettings, original: VfSettings = ORIGINAL) -> SriovRecord:
    return SriovRecord(
        plugin="sriov",
        network="rail",
        container_id="pod-1",
        ifname="net1",
        netns="/run/netns/pod",
        sandbox="boot/cookie-1",
        created="",
        cni_args="",
        config={},
        device=Device(),
        vf="0000:af:06.0",
        incarnation=7,
        wanted=wanted,
        original=original,
    )


@pytest.mark.parametrize(
    ("wanted", "present", "is_same", "owed"),
    [
        pytest.param(
            VfSettings(vlan=Vlan(5), trust=True),
            VfSettings(vlan=Vlan(5), trust=True).over(ORIGINAL),
            True,
            VfSettings(vlan=Vlan(0), trust=False),
            id="what-was-asked-for-goes-back",
        ),
        pytest.param(
            VfSettings(vlan=Vlan(5), link_state="enable"),
            VfSettings(vlan=Vlan(5)).over(ORIGINAL),
            True,
            VfSettings(vlan=Vlan(0)),
            id="what-was-refused-is-not-asked-for-again",
        ),
        pytest.param(
            VfSettings(vlan=Vlan(5)),
            VfSettings(vlan=Vlan(5), trust=True).over(ORIGINAL),
            True,
            VfSettings(vlan=Vlan(0)),
            id="what-an-administrator-changed-stays-his",
        ),
        pytest.param(
            VfSettings(vlan=Vlan(5)),
            VfSettings(vlan=Vlan(6)).over(ORIGINAL),
            True,
            VfSettings(vlan=Vlan(0)),
            id="what-was-asked-for-goes-back-whatever-became-of-it",
        ),
        pytest.param(
            VfSettings(vlan=Vlan(5), mac=OTHER_MAC),
            VfSettings(vlan=Vlan(9)).over(ORIGINAL),
            False,
            VfSettings(),
            id="one-made-anew-keeps-what-it-is",
        ),
        pytest.param(
            VfSettings(vlan=Vlan(5), trust=True),
            VfSettings(vlan=Vlan(5)).over(ORIGINAL),
            False,
            VfSettings(vlan=Vlan(0)),
            id="what-it-still-has-from-add-goes-back-all-the-same",
        ),
        pytest.param(
            VfSettings(guid="02:00:00:00:00:00:00:01"),
            VfSettings(guid="02:00:00:00:00:00:00:01").over(ORIGINAL),
            True,
            VfSettings(guid="ff" + ":ff" * 7),
            id="no-guid-is-told-as-ones",
        ),
    ],
)
def test_what_the_pf_is_told_at_the_end(
    wanted: VfSettings, present: VfSettings, is_same: bool, owed: VfSettings
) -> None:
    assert record(wanted).owed(present, is_same=is_same) == owed


def test_what_the_driver_does_not_tell_is_not_given_back() -> None:
    made = record(VfSettings(trust=True), VfSettings(vlan=Vlan(0)))
    assert made.owed(VfSettings(trust=True), is_same=True) == VfSettings()


def test_a_record_is_read_as_it_was_written() -> None:
    made = record(VfSettings(vlan=Vlan(5, 3, "802.1ad"), rates=(1, 2), link_state="disable"))
    assert SriovRecord.model_validate_json(made.model_dump_json()) == made
