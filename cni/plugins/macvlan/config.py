"""What macvlan is told, and what it remembers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from cni.attachment import AttachmentConf, requested_mac
from cni.protocol.config import Count, Flag, Mtu, OptionalMac, Section, Text, parse_section
from cni.protocol.request import Request
from cni.state import Record

Mode = Literal["bridge", "vepa", "private", "passthru"]


class RuntimeConfig(Section):
    is_open = True
    mac: OptionalMac = None


class MacvlanConf(AttachmentConf):
    master: Text = None  # None follows the default route
    mode: Annotated[Mode, BeforeValidator(lambda mode: "bridge" if mode == "" else mode)] = "bridge"
    mtu: Mtu = None  # None takes the master's
    mac: OptionalMac = None  # None takes one at random
    link_in_container: Flag = Field(default=False, alias="linkInContainer")
    bcqueuelen: Count = None  # frames; None takes the kernel's
    # Ours: the same address has the same MAC in every pod that gets it, so no peer's entry goes stale.
    mac_from_address: Flag = Field(default=False, alias="macFromAddress")

    def requested_mac(self, request: Request) -> str | None:
        """Return the MAC to use: runtimeConfig's before CNI_ARGS' before the configuration's."""
        runtime = parse_section(RuntimeConfig, self.runtime_config, "runtimeConfig", under="runtimeConfig")
        return requested_mac(request, runtime.mac, self.mac)


class MacvlanRecord(Record):
    """What ADD made: known before it is made by its MAC, afterwards by its index too."""

    mac: str
    index: int | None = None
    master: str
    master_index: int
    lower_index: int  # of the link that the kernel puts it on, which is not a master that is a macvlan itself
    mode: str
    in_container: bool
