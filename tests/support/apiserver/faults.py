"""What can go wrong between a client and the API server, each a function over one exchange.

server.on(faults.lost_answer, method="PATCH", path="/ippools/")          the first PATCH of a pool
server.on(faults.answer(429, retry_after=1), nth=2, times=3)             the second to fourth request
server.on(faults.rival(lambda: other.patch(...)), method="PATCH")        a rival writes just before
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Seen:
    """A request as the server got it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: bytes
    user: str
    connection: int  # counts from 1
    number: int  # counts from 1


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class Exchange(Protocol):
    """What a fault may do with a request."""

    seen: Seen

    def apply(self) -> Answer:
        """Do what was asked for."""

    def send(self, answer: Answer) -> None: ...

    def drip(self, answer: Answer, seconds: float) -> None:
        """Send a byte at a time, with a pause after each, until the server ends."""

    def close(self) -> None:
        """End the connection in good order."""

    def reset(self) -> None:
        """End the connection with a TCP reset."""

    def wait(self, seconds: float | None) -> None:
        """Wait; None is until the server ends."""


Fault = Callable[[Exchange], None]


def delay(seconds: float) -> Fault:
    def act(exchange: Exchange) -> None:
        exchange.wait(seconds)
        exchange.send(exchange.apply())

    return act


def answer(
    status: int, reason: str = "", message: str = "", *, retry_after: float | str | None = None
) -> Fault:
    """Refuse without doing anything."""
    told = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message or "injected",
        "reason": reason,
        "code": status,
    }
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return lambda exchange: exchange.send(Answer(status, json.dumps(told).encode(), headers))


def text(status: int, body: str, **headers: str) -> Fault:
    """Answer something that is no JSON."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange: exchange.send(
        Answer(status, body.encode(), {"Content-Type": "text/plain"} | named)
    )


def applied_but(fault: Fault) -> Fault:
    """Do what was asked for, and then answer something else."""

    def act(exchange: Exchange) -> None:
        exchange.apply()
        fault(exchange)

    return act


def lost_answer(exchange: Exchange) -> None:
    """Do it, and close the connection instead of answering."""
    exchange.apply()
    exchange.close()


def closed_before(exchange: Exchange) -> None:
    exchange.close()


def reset_before(exchange: Exchange) -> None:
    exchange.reset()


def reset_after(exchange: Exchange) -> None:
    exchange.apply()
    exchange.reset()


def hang(exchange: Exchange) -> None:
    exchange.wait(None)


def hang_after(exchange: Exchange) -> None:
    exchange.apply()
    exchange.wait(None)


def drip(seconds: float) -> Fault:
    return lambda exchange: exchange.drip(exchange.apply(), seconds)


def rival(write: Callable[[], object]) -> Fault:
    """Let somebody else write between this client's last request and this one."""

    def act(exchange: Exchange) -> None:
        write()
        exchange.send(exchange.apply())

    return act
