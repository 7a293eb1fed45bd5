"""GET /metrics, /healthz and /readyz over a unix socket or loopback; nothing else is understood."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

_SECONDS = 10  # for a request to come
_MAX_REQUEST = 8192  # bytes
_MOST_AT_ONCE = 16  # who asks must leave files to calls; over loopback anybody may
_LAST_PORT = 65535


class CannotServe(Exception):
    """Why nobody can ask; a sentence for the administrator."""


@dataclass(frozen=True)
class Page:
    """What a path answers."""

    status: str
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Pages = Mapping[str, Callable[[], Page]]
_Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def check_address(address: str) -> None:
    """Refuse a place where others than this machine could ask.

    Raises:
        ValueError: it is no unix socket and no port of a loopback address.
    """
    if address.startswith("unix:/"):
        return
    host, _, port = address.rpartition(":")
    if not port.isdigit() or int(port) > _LAST_PORT or not ip_address(host.strip("[]")).is_loopback:
        raise ValueError(f'"{address}" is neither unix:PATH nor a loopback address with a port')


async def serve(address: str, pages: Pages) -> asyncio.Server:
    """Listen at an address that `check_address` lets pass.

    Raises:
        CannotServe: nobody can listen there.
    """
    places = asyncio.Semaphore(_MOST_AT_ONCE)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if places.locked():
            writer.transport.abort()
            return
        async with places:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(_SECONDS):
                    request = await reader.readuntil(b"\r\n\r\n")
                    writer.write(_response(request, pages))
                    await writer.drain()
        writer.close()

    try:
        return await _listening(address, answer)
    except OSError as error:
        raise CannotServe(f"metrics cannot be served at {address}: {error}") from error


async def _listening(address: str, answer: _Answer) -> asyncio.Server:
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix:"))
        server = await asyncio.start_unix_server(answer, str(path), limit=_MAX_REQUEST, backlog=_MOST_AT_ONCE)
        path.chmod(0o600)
        return server
    host, _, port = address.rpartition(":")
    return await asyncio.start_server(
        answer, host.strip("[]"), int(port), limit=_MAX_REQUEST, backlog=_MOST_AT_ONCE
    )


def _response(request: bytes, pages: Pages) -> bytes:
    method, _, rest = request.partition(b" ")
    path = rest.split(b" ")[0].split(b"?")[0].decode("latin-1")
    if method != b"GET":
        page = Page("405 Method Not Allowed", b"only GET\n")
    elif path in pages:
        page = pages[path]()
    else:
        page = Page("404 Not Found", b"there are " + ", ".join(pages).encode() + b"\n")
    head = (
        f"HTTP/1.1 {page.status}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + page.body
