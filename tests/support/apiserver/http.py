"""The HTTP and TLS of the server: a thread for each connection, which is the Exchange of its requests."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from threading import Event
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.apiserver import rbac, refusals, views
from tests.support.apiserver.faults import Answer, Fault, Seen
from tests.support.apiserver.objects import Objects
from tests.support.apiserver.rbac import ANONYMOUS, User
from tests.support.apiserver.refusals import Place, Refusal
from tests.support.apiserver.store import Stored

_RULES_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
_MAX_BODY = 3 << 20  # bytes, the API server's own limit
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NO_LINGER = struct.pack("ii", 1, 0)  # closing then sends a reset


class Api(Protocol):
    """What is behind the front."""

    objects: Objects
    users: dict[str, User]
    latency: float
    ended: Event

    def noted(self, **fields: Any) -> tuple[Seen, Fault | None]: ...


class HttpServer(ThreadingMixIn, TCPServer):
    """Threads that end with the server: it closes the connections under them."""

    daemon_threads = True
    block_on_close = True

    def __init__(self, api: Api, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        super().__init__(sock.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        self.server_address = sock.getsockname()
        self.api = api
        self._context = context
        self._open: set[socket.socket] = set()
        self.connections = 0

    def get_request(self) -> tuple[socket.socket, Any]:
        sock, address = self.socket.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context:
            # The handshake belongs to the connection's own thread.
            sock = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self._open.add(sock)
        self.connections += 1
        return sock, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for sock in list(self._open):
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def end(self) -> None:
        self.close_connections()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients come and go as tests want it; a fault of ours shows in what they get."""


class _Handler(BaseHTTPRequestHandler):
    """One connection. It is the Exchange of its present request."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for headers and body
    seen: Seen
    _user: User

    def setup(self) -> None:
        super().setup()
        self.api = cast(HttpServer, self.server).api
        self._number = cast(HttpServer, self.server).connections

    def log_message(self, *arguments: object) -> None: ...

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        user = self._authenticated()
        self.seen, fault = self.api.noted(
            method=self.command,
            path=unquote(url.path),
            query=dict(parse_qsl(url.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            user=user.name if user else "",
            connection=self._number,
        )
        self._user = user or ANONYMOUS
        self._is_known = user is not None
        if self.api.latency:
            self.wait(self.api.latency)
        if fault:
            fault(self)
        elif self.seen.query.get("watch") in ("true", "1"):
            self._watch()
        else:
            self.send(self.apply())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 -- http.server's names

    def _authenticated(self) -> User | None:
        """Return who asks; None is somebody with a token that is not known."""
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if kind == "Bearer":
            return self.api.users.get(token)
        if isinstance(self.connection, ssl.SSLSocket) and (certificate := self.connection.getpeercert()):
            names: list[tuple[str, str]] = [pair for part in certificate["subject"] for pair in part]  # type: ignore[misc]
            groups = tuple(value for key, value in names if key == "organizationName")
            return User(next(value for key, value in names if key == "commonName"), groups)
        return ANONYMOUS

    def apply(self) -> Answer:
        try:
            return self._done()
        except Refusal as refusal:
            headers = {"Retry-After": "1"} if refusal.code == 504 else {}
            return Answer(refusal.code, _encoded(refusal.status), headers)

    def _done(self) -> Answer:
        if not self._is_known:
            raise refusals.unauthorized()
        if self.seen.path == "/version":
            return Answer(200, _encoded({"major": "1", "minor": "20", "gitVersion": "v1.20.2"}))
        if self.seen.path in ("/readyz", "/livez", "/healthz"):
            return Answer(200, b"ok", {"Content-Type": "text/plain"})
        if self.seen.path == _RULES_REVIEW and self.command == "POST":
            return Answer(201, _encoded(rbac.reviewed(self.api.objects, self._user, self._body())))
        place = self._authorized(_VERBS.get(self.command) or "get")
        if len(self.seen.body) > _MAX_BODY:
            raise refusals.too_large(_MAX_BODY)
        return self._acted(place)

    def _authorized(self, verb: str) -> Place:
        place = self.api.objects.place(self.seen.path)
        if verb == "get" and not place.name:
            verb = "list"
        rbac.authorize(self.api.objects, self._user, verb, place)
        return place

    def _acted(self, place: Place) -> Answer:
        objects, query = self.api.objects, self.seen.query
        if self.command == "GET":
            if not place.name:
                return Answer(200, _encoded(self._viewed(views.listed(objects.store, place, query))))
            return Answer(200, _encoded(self._viewed(objects.get(place, query.get("resourceVersion", "")))))
        body = self._body()
        if self.command == "POST":
            return Answer(201, _encoded(objects.create(place, body)))
        if self.command == "PUT":
            return Answer(200, _encoded(objects.replace(place, body)))
        if self.command == "PATCH":
            return Answer(200, _encoded(self._viewed(objects.patch(place, self._content_type(), body))))
        return Answer(200, _encoded(objects.delete(place, body)))

    def _content_type(self) -> str:
        return self.seen.headers.get("content-type", "").partition(";")[0]

    def _body(self) -> Any:
        if not self.seen.body:
            return None
        if self.command != "PATCH" and self._content_type() != "application/json":
            raise refusals.unsupported_media_type(["application/json"])
        try:
            return json.loads(self.seen.body)
        except ValueError as error:
            raise refusals.bad_request(f"couldn't parse the body: {error}") from error

    def _viewed(self, found: dict[str, Any]) -> dict[str, Any]:
        """Reduce objects to their metadata for who asks for that alone."""
        if "as=PartialObjectMetadata" not in self.seen.headers.get("accept", ""):
            return found
        if "items" in found:
            return {**_partial(found, "List"), "items": [_partial(item) for item in found["items"]]}
        return _partial(found)

    def _watch(self) -> None:
        try:
            if not self._is_known:
                raise refusals.unauthorized()
            place = self._authorized("watch")
            events = views.watched(self.api.objects.store, place, self.seen.query, self._is_over)
        except Refusal as refusal:
            self.send(Answer(refusal.code, _encoded(refusal.status)))
            return
        self._head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
        self.wfile.flush()
        for event in events:
            data = _encoded(event) + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _is_over(self) -> bool:
        if self.api.ended.is_set():
            return True
        # Whether the client has gone; TLS has its own bytes on the way, so it is asked at the next event.
        if isinstance(self.connection, ssl.SSLSocket):
            return False
        with suppress(BlockingIOError):
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return False

    def send(self, answer: Answer) -> None:
        headers = {"Content-Type": "application/json", "Content-Length": str(len(answer.body))}
        self._head(answer.status, headers | answer.headers)
        self.wfile.write(answer.body)
        self.wfile.flush()

    def drip(self, answer: Answer, seconds: float) -> None:
        self._head(answer.status, {"Content-Length": str(len(answer.body))})
        self.wfile.flush()
        for byte in answer.body:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.api.ended.wait(seconds):
                return

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response_only(status)
        self.send_header("Date", self.date_time_string())
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def close(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)

    def reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        # The files that read and write the connection keep it open otherwise.
        socket.close(self.connection.detach())

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()

    def wait(self, seconds: float | None) -> None:
        self.api.ended.wait(seconds)


def _encoded(document: object) -> bytes:
    if isinstance(document, Stored):
        return document.encoded
    return json.dumps(document, separators=(",", ":")).encode()


def _partial(item: dict[str, Any], suffix: str = "") -> dict[str, Any]:
    typed = {"kind": f"PartialObjectMetadata{suffix}", "apiVersion": "meta.k8s.io/v1"}
    return {**typed, "metadata": item["metadata"]}
