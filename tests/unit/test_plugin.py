"""How a call of a plugin is answered."""

from __future__ import annotations

import json

from cni.protocol.errors import Terminated
from cni.protocol.plugin import _answered
from cni.protocol.result import Result


class Interrupted(Result):
    """A result during whose rendering a signal arrives, the first time."""

    def render(self, version: str) -> dict[str, object]:
        if "signal" not in arrived:
            arrived.append("signal")
            raise Terminated("SIGTERM")
        return super().render(version)


arrived: list[str] = []


def test_a_signal_that_comes_when_all_is_done_does_not_change_the_answer() -> None:
    """Else the caller would take an attachment that stands for one that failed."""
    reply = _answered(Interrupted(), "1.0.0")
    assert arrived == ["signal"]
    assert (reply.exit_status, json.loads(reply.stdout)) == (0, {"cniVersion": "1.0.0"})
