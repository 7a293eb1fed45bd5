"""What sriov is told of a VF, and what of it is for the PF to set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, Strict

from cni.attachment import AttachmentConf, requested_mac
from cni.host.vf import LinkState, VfSettings, Vlan
from cni.protocol.config import Flag, Mtu, OptionalMac, Section, Text, parse_section
from cni.protocol.errors import CniError, Code, InvalidConfig
from cni.protocol.request import Request

NO_GUIDS = ("00" * 8, "ff" * 8)


def _switch(value: Any) -> bool | None:
    """Read "on" and "off" in any case; anything else is refused, for it once meant "off"."""
    if value == "" and isinstance(value, str):
        return None
    words = {"on": True, "true": True, "off": False, "false": False}
    if isinstance(value, bool):
        raise ValueError(f'is a boolean; write the string "{"on" if value else "off"}"')
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError(f'must be the string "on" or "off", but it is {value!r:.80}')
    return words[value.lower()]


def _guid(value: Any) -> str | None:
    if value == "" and isinstance(value, str):
        return None
    digits = value.replace(":", "").lower() if isinstance(value, str) else ""
    is_spelled = isinstance(value, str) and all(len(pair) == 2 for pair in value.split(":"))
    if len(digits) != 16 or set(digits) - set("0123456789abcdef") or not is_spelled:
        raise ValueError(f'{value!r:.80} is not a GUID of 8 bytes such as "02:00:00:00:00:00:00:01"')
    if digits in NO_GUIDS:
        raise ValueError(f'"{value}" is no GUID: the fabric knows it as none')
    return bytes.fromhex(digits).hex(":")


def _proto(value: Any) -> Any:
    return (value.lower() or None) if isinstance(value, str) else value


def _absent_if_empty(value: Any) -> Any:
    return None if isinstance(value, str) and not value else value


Switch = Annotated[bool | None, PlainValidator(_switch)]
Guid = Annotated[str | None, PlainValidator(_guid)]
VlanId = Annotated[int | None, Strict(), Field(ge=0, le=4094)]
Rate = Annotated[int | None, Strict(), Field(ge=0, le=2**32 - 1)]  # Mbit/s; 0 is no limit


class RuntimeConfig(Section):
    is_open = True
    mac: OptionalMac = None
    device_id: Text = Field(default=None, alias="deviceID")
    infiniband_guid: Guid = Field(default=None, alias="infinibandGUID")


class CniArgs(Section):
    is_open = True
    mac: OptionalMac = None
    guid: Guid = None
    ib_kubernetes: Text = Field(default=None, alias="mellanox.infiniband.app")


class Args(Section):
    is_open = True
    cni: CniArgs = CniArgs()


class SriovConf(AttachmentConf):
    """Of the settings that a VF can have, None leaves it the one that it has."""

    device_id: Text = Field(default=None, alias="deviceID")  # the VF's PCI address
    vlan: VlanId = None  # 0 takes the tag away
    vlan_qos: Annotated[int | None, Strict(), Field(ge=0, le=7)] = Field(default=None, alias="vlanQoS")
    vlan_proto: Annotated[Literal["802.1q", "802.1ad"] | None, BeforeValidator(_proto)] = Field(
        default=None, alias="vlanProto"
    )
    mac: OptionalMac = None
    min_tx_rate: Rate = None
    max_tx_rate: Rate = None
    spoofchk: Switch = None
    trust: Switch = None
    link_state: Annotated[LinkState | None, BeforeValidator(_absent_if_empty)] = None
    mtu: Mtu = None
    guid: Guid = None  # of an InfiniBand VF
    pkey: Text = None  # for the fabric's manager, which reads it in the network's definition
    rdma: Flag = False  # move the VF's RDMA device too
    rdma_isolation: Flag = Field(default=False, alias="rdmaIsolation")  # likewise: ib-sriov-cni's
    ib_kubernetes_enabled: Flag = Field(default=False, alias="ibKubernetesEnabled")
    vfio_pci_mode: Flag = Field(default=False, alias="vfioPciMode")  # refuse a VF that is none of a program's
    log_level: Text = Field(default=None, alias="logLevel")
    log_file: Text = Field(default=None, alias="logFile")

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        conf = super().parse(raw)
        conf.check_vlan()
        conf.check_rates()
        return conf

    def check_vlan(self) -> None:
        """Refuse what only makes sense with a VLAN.

        Raises:
            InvalidConfig: code 7.
        """
        told = {"vlanQoS": self.vlan_qos, "vlanProto": self.vlan_proto}
        for key, value in told.items():
            if value is not None and self.vlan is None:
                raise InvalidConfig(
                    f'"{key}" is set without "vlan"',
                    why=f'"{key}" is {value}, and there is no VLAN that it could be about.',
                    fix=f'Set "vlan" to the VLAN\'s number, or remove "{key}".',
                )
            if value not in (None, 0, "802.1q") and self.vlan == 0:
                raise InvalidConfig(
                    f'"{key}" is {value} with "vlan" 0',
                    why="VLAN 0 takes the tag away, and with it priority and protocol.",
                    fix=f'Set "vlan" to 1 to 4094, or remove "{key}".',
                )

    def check_rates(self) -> None:
        """Refuse a least rate above the most.

        Raises:
            InvalidConfig: code 7.
        """
        least, most = self.min_tx_rate or 0, self.max_tx_rate or 0
        if most and least > most:
            raise InvalidConfig(
                f'"min_tx_rate" {least} is above "max_tx_rate" {most}',
                why="Both are Mbit/s; the first is guaranteed, the second is the limit.",
                fix='Lower "min_tx_rate", or raise "max_tx_rate" (0 is no limit).',
            )

    @property
    def moves_rdma(self) -> bool:
        return self.rdma or self.rdma_isolation

    def check_fabric(self) -> None:
        """Wait, by refusing, until ib-kubernetes has told the fabric of this pod.

        Raises:
            CniError: code 11, it has not yet, as its word in the pod's annotation tells.
        """
        if not self.ib_kubernetes_enabled:
            return
        if self._cni_args.ib_kubernetes == "configured" and self.requested_guid:
            return
        raise CniError(
            "ib-kubernetes has not configured the fabric for this pod yet",
            why='"ibKubernetesEnabled" is set, and "cni-args" of the network in the pod\'s annotation lack '
            '"mellanox.infiniband.app": "configured" and a GUID.',
            fix="Call again; if it stays so, look at ib-kubernetes' log.",
            code=Code.TRY_AGAIN_LATER,
        )

    @property
    def device(self) -> str:
        """The VF's PCI address, in lower case: of the configuration, else of the runtime.

        Raises:
            InvalidConfig: code 7, neither tells.
        """
        address = self.device_id or self._runtime.device_id
        if not address:
            raise InvalidConfig(
                '"deviceID" is missing',
                why="It is the PCI address of the VF, which a device plugin chooses and Multus passes on.",
                fix='Set "deviceID", or name the resource in the network\'s annotation '
                '"k8s.v1.cni.cncf.io/resourceName" and request it in the pod.',
            )
        return address.lower()

    def requested_mac(self, request: Request) -> str | None:
        """Return the MAC to use: runtimeConfig's, else CNI_ARGS', `args.cni.mac`, the configuration's."""
        return requested_mac(request, self._runtime.mac, self._cni_args.mac, self.mac)

    @property
    def requested_guid(self) -> str | None:
        return self._runtime.infiniband_guid or self._cni_args.guid or self.guid

    def settings(self, mac: str | None) -> VfSettings:
        """Return what the PF is to set."""
        vlan = None
        if self.vlan is not None:
            vlan = Vlan(self.vlan, self.vlan_qos or 0, self.vlan_proto or "802.1q")
        has_rates = self.min_tx_rate is not None or self.max_tx_rate is not None
        return VfSettings(
            vlan=vlan,
            mac=mac,
            rates=(self.min_tx_rate or 0, self.max_tx_rate or 0) if has_rates else None,
            spoofchk=self.spoofchk,
            trust=self.trust,
            link_state=self.link_state,
            guid=self.requested_guid,
        )

    @property
    def _runtime(self) -> RuntimeConfig:
        return parse_section(RuntimeConfig, self.runtime_config, "runtimeConfig", under="runtimeConfig")

    @property
    def _cni_args(self) -> CniArgs:
        return parse_section(Args, self.args, "args", under="args").cni
