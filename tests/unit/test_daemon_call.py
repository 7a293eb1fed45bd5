"""When a call of the daemon's ends: its time is over, or nobody waits for it."""

from __future__ import annotations

import asyncio
import time

import pytest

from cni.daemon.call import Call
from cni.daemon.job import Job


def _call(verb: str = "ADD", seconds: float = 60) -> Call:
    job = Job("macvlan", "/opt/cni/bin/macvlan", {"CNI_COMMAND": verb}, None, 0, 0)
    call = Call("trace", job, time.monotonic() + seconds)
    call.gone = asyncio.get_running_loop().create_future()
    return call


async def _ends(call: Call, *, hangs_up: bool) -> list[str]:
    """What ends the call while it waits for something that takes half a second."""
    ends: list[str] = []
    with call.ending(lambda: ends.append("given up" if call.is_given_up else "too late")):
        if hangs_up and call.gone:
            call.gone.set_result(None)
        await asyncio.sleep(0.5)
    return ends


@pytest.mark.parametrize(
    ("verb", "seconds", "hangs_up", "ends"),
    [
        pytest.param("ADD", 60, False, [], id="nothing-ends-it"),
        pytest.param("ADD", 60, True, ["given up"], id="its-caller-hangs-up"),
        pytest.param("ADD", 0.05, False, ["too late"], id="its-time-is-over"),
        pytest.param("ADD", 0.05, True, ["given up"], id="it-is-ended-once"),
        pytest.param("DEL", 60, True, [], id="a-delete-needs-nobody-who-waits"),
    ],
)
def test_a_call_is_ended(verb: str, seconds: float, hangs_up: bool, ends: list[str]) -> None:
    async def run() -> list[str]:
        return await _ends(_call(verb, seconds), hangs_up=hangs_up)

    assert asyncio.run(run()) == ends


def test_a_caller_that_hangs_up_as_its_call_is_done_ends_nothing_that_comes_after_it() -> None:
    async def run() -> list[str]:
        call, ends = _call(), []
        assert call.gone
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        with call.ending(lambda: ends.append("ended")):
            await done
            call.gone.set_result(None)  # whose callback the loop calls later
        await asyncio.sleep(0)
        return ends

    assert asyncio.run(run()) == []
