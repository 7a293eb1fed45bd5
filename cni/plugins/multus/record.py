"""What multus remembers of a container: which delegates were called, with what, and what they answered."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict

from cni.protocol.chain import Chain
from cni.protocol.gojson import JsonObject
from cni.protocol.request import Request
from cni.state import Record


class Called(BaseModel):
    """A delegate as ADD called it: its DEL and CHECK get the same again."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    name: str  # as users look for it: `namespace/name`, or the configuration's name
    ifname: str
    is_default: bool = False
    config: JsonObject
    cni_args: str
    capability_args: dict[str, Any] = {}
    result: JsonObject | None = None  # in the chain's version; None: it has not answered
    device_info: str = ""  # the file that describes its device to the pod's programs

    @cached_property
    def chain(self) -> Chain:
        return Chain(self.config)


class MultusRecord(Record):
    """The delegates of a container in the order of their ADDs; `begun` of them may hold something.

    On disk all have begun, so that nothing needs to be written before each: whoever finds the record of
    a killed ADD calls the DEL of all of them.
    """

    attachments: tuple[Called, ...] = ()
    begun: int = 0

    @property
    def owed(self) -> tuple[Called, ...]:
        """The delegates whose DEL is owed, in the order of their ADDs."""
        return self.attachments[: self.begun]

    def with_result(self, position: int, result: JsonObject) -> MultusRecord:
        called = self.attachments[position].model_copy(update={"result": result})
        attachments = (*self.attachments[:position], called, *self.attachments[position + 1 :])
        return self.model_copy(update={"attachments": attachments})


def call_of(request: Request, record: MultusRecord, called: Called, netns: str) -> Request:
    """Return the call that reaches a delegate, but for its configuration."""
    return request.with_variables(
        CNI_CONTAINERID=record.container_id,
        CNI_IFNAME=called.ifname,
        CNI_NETNS=netns,
        CNI_ARGS=called.cni_args,
    )
