"""Attachments that sriov-cni made: its cache tells what the VF was, and the VF comes home by it.

Source: sriov-cni's `pkg/types`, `pkg/config` and `pkg/utils`; keys are as Go writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from cni import durable, locks
from cni.boot import boot_id
from cni.device.moving import arrived
from cni.device.record import Device
from cni.device.restore import restore
from cni.host import netns
from cni.host.links import Links
from cni.host.netns import Netns
from cni.host.sysfs import BusDevice, is_pci_address
from cni.host.vf import LinkState, VfSettings, Vlan, VlanProto
from cni.plugins.sriov import discovery, settings
from cni.plugins.sriov.claims import SRIOV_CNI_CLAIMS, Claims, is_sriov_cni_dead, lock_of, sriov_cni_holder
from cni.plugins.sriov.record import SriovRecord
from cni.protocol import gojson
from cni.protocol.config import AnyMac, Mtu, Section, Text, parse_section
from cni.protocol.errors import CniError, all_of
from cni.protocol.failures import collected
from cni.protocol.notes import note
from cni.protocol.request import AttachmentKey, Request
from cni.state import Journal

SRIOV_CNI_CACHE = Path("/var/lib/cni/sriov")

_STACKED = (0x88A8, 0xA888)  # 802.1ad, in either order of bytes
_LINK_STATES: tuple[LinkState, ...] = ("auto", "enable", "disable")  # by the kernel's numbers


def _pci_address(text: str) -> str:
    if not is_pci_address(text.lower()):
        raise ValueError(f'"{text[:80]}" is not a PCI address')
    return text.lower()


class _State(Section):
    """What the VF was; older releases tell less."""

    is_open = True
    host_ifname: Text = Field(default=None, alias="HostIFName")
    effective_mac: AnyMac = Field(default=None, alias="EffectiveMAC")
    mtu: Mtu = Field(default=None, alias="MTU")
    admin_mac: AnyMac = Field(default=None, alias="AdminMAC")
    vlan: int = Field(default=0, alias="Vlan")
    vlan_qos: int = Field(default=0, alias="VlanQoS")
    vlan_proto: int = Field(default=0, alias="VlanProto")
    min_tx_rate: int = Field(default=0, alias="MinTxRate")
    max_tx_rate: int = Field(default=0, alias="MaxTxRate")
    spoofchk: bool = Field(default=False, alias="SpoofChk")
    trust: bool = Field(default=False, alias="Trust")
    link_state: int = Field(default=0, alias="LinkState")

    @property
    def settings(self) -> VfSettings:
        proto: VlanProto = "802.1ad" if self.vlan_proto in _STACKED else "802.1q"
        return VfSettings(
            vlan=Vlan(self.vlan, self.vlan_qos, proto),
            mac=self.admin_mac,
            rates=(self.min_tx_rate, self.max_tx_rate),
            spoofchk=self.spoofchk,
            trust=self.trust,
            link_state=_LINK_STATES[self.link_state] if self.link_state in range(3) else "auto",
        )


class _Cache(Section):
    """What sriov-cni was told, and found; of its settings only matters which it changed."""

    is_open = True
    name: Text = None  # the network's
    device_id: Annotated[str, AfterValidator(_pci_address)] = Field(alias="deviceID")
    state: _State = Field(default=_State(), alias="OrigVfState")
    vlan: int | None = None
    mac: Text = None
    min_tx_rate: int | None = None
    max_tx_rate: int | None = None
    spoofchk: Text = None
    trust: Text = None
    link_state: Text = None

    @property
    def changed(self) -> VfSettings:
        has_rates = self.min_tx_rate is not None or self.max_tx_rate is not None
        return VfSettings(
            vlan=None if self.vlan is None else Vlan(self.vlan),
            mac=self.mac,
            rates=(0, 0) if has_rates else None,
            spoofchk=True if self.spoofchk else None,
            trust=True if self.trust else None,
            link_state="auto" if self.link_state else None,
        )


def adopt(request: Request) -> None:
    """Give back the VF that sriov-cni gave to this attachment, if its cache is still there."""
    path = SRIOV_CNI_CACHE / f"{request.container_id}-{request.ifname}"
    cache = _read(path, request)
    if cache:
        _give_back_locked(path, cache, request)


def collect(request: Request, keep: frozenset[AttachmentKey]) -> None:
    """Give back what sriov-cni gave to attachments of this network that are not to keep and are dead.

    Not being listed is no proof alone, where Multus hides a pod's other interfaces from the runtime:
    the VF's claim must name a sandbox that is gone. There is one claim for a VF, which is the newest
    cache's, so that comes first.

    Raises:
        CniError: what could not be given back.
    """
    kept = {f"{container_id}-{ifname}" for container_id, ifname in keep}
    failures: list[CniError] = []
    for path in _newest_first(SRIOV_CNI_CACHE):
        cache = _read(path, request) if path.name not in kept else None
        if cache is None or cache.name != request.network.name or not is_sriov_cni_dead(cache.device_id):
            continue
        note(request.network.name, f"gives back what sriov-cni gave to {path.name}, whose sandbox is gone")
        container_id, _, ifname = path.name.rpartition("-")
        named = {"CNI_CONTAINERID": container_id, "CNI_IFNAME": ifname, "CNI_NETNS": ""}
        with collected(failures):
            _give_back_locked(path, cache, request.with_variables(**named))
    if failures:
        raise all_of(failures)


def _newest_first(folder: Path) -> list[Path]:
    files = [path for path in durable.listed(folder, "*-*") if path.is_file()]
    return sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _read(path: Path, request: Request) -> _Cache | None:
    data = durable.read(path)
    if data is None:
        return None
    what = f"sriov-cni's cache {path}"
    try:
        return parse_section(_Cache, gojson.loads_object(data, what), what)
    except CniError as error:
        about = request.attachment or request.network.name
        note(about, f"{error.msg}; what the VF was cannot be known. {error.details}")
        return None


def _give_back_locked(path: Path, cache: _Cache, request: Request) -> None:
    record = _record(request, cache)
    with locks.held(lock_of(record.vf), request.environment):
        if _has_a_new_owner(record, request):
            note(request.attachment, f"VF {record.vf} is left alone: another attachment has it by now")
        else:
            with netns.opened_if_present(request.netns) as sandbox:
                _give_back(record, sandbox, request)
            (SRIOV_CNI_CLAIMS / record.vf).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _has_a_new_owner(record: SriovRecord, request: Request) -> bool:
    journal = Journal(SriovRecord, "sriov", request.environment)
    if Claims(request.environment).holder(record.vf, journal):
        return True
    return sriov_cni_holder(record.vf) not in (None, request.netns)


def _give_back(record: SriovRecord, sandbox: Netns | None, request: Request) -> None:
    failures: list[CniError] = []
    with netns.own() as home, Links(home, "on the host") as host:
        try:
            link = arrived(record, sandbox, host) if record.device.name else None
        except CniError as error:
            failures, link = [error], None
        try:
            settings.give_back(record, host, request.environment)
            if link:
                # What the cache does not tell stays as it is.
                told = record.device.model_dump(include={"name", "mac", "mtu"}, exclude_defaults=True)
                device = Device.of(link, host, record.vf).model_copy(update={"alias": "", **told})
                restore(record.model_copy(update={"device": device}), host, link)
        except CniError as error:
            failures.append(error)
    if failures:
        raise all_of(failures)


def _record(request: Request, cache: _Cache) -> SriovRecord:
    """Return the record that our ADD would have written."""
    vf, state = cache.device_id, cache.state
    device = Device(bus_address=vf)
    if state.host_ifname:
        device = Device(
            bus_address=vf,
            parent=vf,
            name=state.host_ifname,
            mac=state.effective_mac or "",
            mtu=state.mtu or 0,
        )
    return SriovRecord.of(
        request,
        "sriov",
        f"{boot_id()}/sriov-cni",
        vf=vf,
        incarnation=discovery.SYSFS.incarnation(BusDevice("pci", vf)),
        wanted=cache.changed,
        original=state.settings,
        device=device,
        index=0 if device.name else None,  # it was moved; which index it had is not told
    )
