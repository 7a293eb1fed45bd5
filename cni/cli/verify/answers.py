"""What plugins answered in the end, as multus and the runtime's library remember it.

An attachment's record tells what its own plugin did; one behind it in the chain, such as tuning, may have
changed MAC and MTU, and the last answer knows.

Source: `libcni/api.go` (cniCacheV1) for the files of the library.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni import durable
from cni.cli.attached import AnyRecord
from cni.protocol.errors import CniError
from cni.protocol.request import AttachmentKey
from cni.protocol.result import Interface, Result
from cni.state import Journal

CACHE = Path("/var/lib/cni")  # of containerd, CRI-O and cnitool
_OLDEST = "0.1.0"  # of a result that does not tell its version


@dataclass(frozen=True)
class Answer:
    """The result of an attachment; `is_chain` if several plugins had a part in it."""

    result: Result
    is_chain: bool

    def interface(self, name: str) -> Interface | None:
        """Return the sandbox's interface of that name, if the answer has it."""
        return next((each for each in self.result.interfaces if each.name == name and each.sandbox), None)

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(str(ip.address) for ip in self.result.ips)


def answers(environment: Mapping[str, str], cache: Path) -> dict[AttachmentKey, Answer]:
    """Return what is remembered, by attachment; what cannot be read counts as forgotten."""
    return dict(_of_library(cache)) | dict(_of_multus(environment))


def _of_library(cache: Path) -> Iterator[tuple[AttachmentKey, Answer]]:
    for path in durable.listed(cache / "results", "*"):
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, binascii.Error):
            kept = json.loads(path.read_bytes())
            config = json.loads(b64decode(kept["config"]))
            answer = _answer(kept["result"], config)
            if answer:
                yield (kept["containerId"], kept["ifName"]), answer


def _of_multus(environment: Mapping[str, str]) -> Iterator[tuple[AttachmentKey, Answer]]:
    for record in Journal(AnyRecord, "multus", environment).all():
        for called in (record.model_extra or {}).get("attachments") or ():
            answer = _answer(called.get("result"), called.get("config"))
            if answer:
                yield (record.container_id, called["ifname"]), answer


def _answer(result: Any, config: Any) -> Answer | None:
    plugins = config.get("plugins") if isinstance(config, dict) else None
    if not isinstance(result, dict):
        return None
    with suppress(CniError):
        is_chain = isinstance(plugins, list) and len(plugins) > 1
        return Answer(Result.parse(result, _OLDEST, "a result"), is_chain)
    return None
