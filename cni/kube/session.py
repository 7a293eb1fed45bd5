"""Session: requests of one operation, made until they are answered or must not be made again.

Here is decided what is tried again by itself, and what a lost answer means.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from cni.kube.config import KubeConfig
from cni.kube.connect import Lost, Mistrusted, connected
from cni.kube.deadline import Deadline, Limits
from cni.kube.errors import (
    Answer,
    ApiError,
    Call,
    NotAnApiServer,
    OutcomeUnknown,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unreachable,
    Untrusted,
    failure,
)
from cni.kube.paths import Target, checked
from cni.kube.remembered import Dated
from cni.kube.retry import Backoff, retry_after
from cni.kube.transport import Connection, NotHttp, Request, Response
from cni.protocol.errors import CniError
from cni.protocol.memory import Memory

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_MOST_FAILURES = 5  # of one request, where nothing says how long it may take to get better
_BACKOFF = Backoff()
_MOST_IDLE = 30.0  # seconds: a balancer between us drops what is silent, and does not always say so
_MOST_RESTING = 2  # connections: for a call, and for its events beside it
_MOST_AGE = 300.0  # seconds: certificates rotate, ours and the server's


class Server:
    """One API server: its configuration as last read, and the connections that wait for a request."""

    def __init__(self, config: KubeConfig) -> None:
        self.config = config
        self.is_remembered = False
        self._idle: list[Connection] = []  # append and pop are atomic: threads may share it

    @classmethod
    def remembered(cls, config: KubeConfig, memory: Memory) -> Server:
        """Return the server of an earlier call of this process with the same configuration, or a new one."""
        found = memory.kept(config, lambda: cls(config))
        found.is_remembered = True
        return found

    def connection(self, deadline: Deadline) -> Connection:
        """Return a connection that waits, or else a new one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_alive() and connection.is_fresh(_MOST_IDLE, _MOST_AGE):
                return connection
            connection.close()
        return Connection(connected(self.config, deadline))

    def keep(self, connection: Connection) -> None:
        self._idle.append(connection)

    def rest(self) -> None:
        """Close the connections that the next client will not want: all, or all but a few."""
        while len(self._idle) > (_MOST_RESTING if self.is_remembered else 0):
            self._idle.pop(0).close()

    def renew_credential(self) -> None:
        with suppress(CniError):  # a kubeconfig that is being written: what we have is what counts
            self.config = self.config.renewed()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


class Session:
    """The requests of one operation; they share one deadline."""

    def __init__(self, server: Server, limits: Limits) -> None:
        self.server = server
        self.limits = limits
        self.deadline = Deadline.after(limits.operation)
        self._silence: Deadline | None = None  # set by the first request since the last answer

    def request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> dict[str, Any]:
        """Make a request until it is answered or may not be repeated, and return the answer's JSON."""
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {"Accept": accept, **({"Content-Type": content_type} if data else {})}
        target = f"{path}?{urlencode(query)}" if query else path
        return self._answered(self._call(method, path), Request(method, target, headers, data)).body

    def read(self, path: str) -> Dated:
        """Get an object, and tell when that was."""
        return self._answered(self._call("GET", path), Request("GET", path, {"Accept": "application/json"}))

    def _answered(self, call: Call, request: Request) -> Dated:
        failures = 0
        while True:
            try:
                return self._authorized(call, request)
            except (TooManyRequests, Unreachable, ServerError) as error:
                failures += 1
                self._wait(error, failures)

    def _call(self, method: str, path: str) -> Call:
        target = Target.of(checked(path))
        verb = _VERBS.get(method) or ("get" if target.name or target.is_no_resource else "list")
        return Call(verb, path, self.server.config.server, self.server.config.source)

    def _wait(self, error: ApiError, failures: int) -> None:
        """Wait before a request is repeated, or raise its error if there is no sense or time left for it."""
        wait = (error.answer.retry_after or 0.0) + _BACKOFF.wait(failures, chance())
        is_asked_to_wait = isinstance(error, TooManyRequests)
        if (failures >= _MOST_FAILURES and not is_asked_to_wait) or wait >= self._limit().left():
            raise error
        self.deadline.sleep(wait)

    def _authorized(self, call: Call, request: Request) -> Dated:
        """Make a request, and once more if the credential was exchanged for another meanwhile."""
        used = self.server.config.authorization()
        try:
            return self._once(call, self._complete(request, used))
        except Unauthorized:
            # Connections speak for the certificate with which they were made.
            self.server.close()
            self.server.renew_credential()
            renewed = self.server.config.authorization()
            tls = self.server.config.tls
            is_by_certificate = self.server.is_remembered and tls is not None and tls.certificate is not None
            if renewed == used and not is_by_certificate:
                raise
            return self._once(call, self._complete(request, renewed))

    def _complete(self, request: Request, authorization: str) -> Request:
        """Return a request with what every one of this server has."""
        config = self.server.config
        headers = {
            "Host": config.authority,
            "User-Agent": "podrail",
            **({"Authorization": authorization} if authorization else {}),
            **request.headers,
        }
        return replace(request, target=config.base + request.target, headers=headers)

    def _once(self, call: Call, request: Request) -> Dated:
        if self._silence is None:
            self._silence = Deadline.after(self.limits.silence)
        deadline = self._limit().or_after(self.limits.request)
        if not deadline.left():
            raise Unreachable(call, "the time for the whole operation is over")
        began = time.monotonic()
        try:
            response = self._exchange_fresh_or_kept(call, request, deadline)
        except Lost as lost:
            if lost.is_sent and not call.is_read:
                raise OutcomeUnknown(call, Answer(0), str(lost)) from lost
            raise Unreachable(call, str(lost)) from lost
        except Mistrusted as error:
            raise Untrusted(call, str(error)) from error
        except NotHttp as error:
            raise NotAnApiServer(call, str(error)) from error
        self._silence = None
        body = self._object(call, response)
        return Dated(body, response.headers.get("date", ""), time.monotonic() - began)

    def _exchange_fresh_or_kept(self, call: Call, request: Request, deadline: Deadline) -> Response:
        try:
            return self._exchange(request, deadline)
        except Lost as lost:
            # The server closed what was kept alive just when it was used again: no sign of trouble.
            if not (lost.is_stale and (call.is_read or not lost.is_sent)):
                raise
        self.server.close()
        return self._exchange(request, deadline)

    def _exchange(self, request: Request, deadline: Deadline) -> Response:
        connection = self.server.connection(deadline.or_after(self.limits.connect))
        try:
            response = connection.exchange(request, deadline)
        except BaseException:
            connection.close()
            raise
        self.server.keep(connection)
        return response

    def _object(self, call: Call, response: Response) -> dict[str, Any]:
        """Return an answer's object, or raise what its status means."""
        if 300 <= response.status < 400:
            place = response.headers.get("location", "nowhere")
            raise NotAnApiServer(call, f"it redirects to {place!r:.200}", response.status)
        try:
            body = json.loads(response.body)
        except (ValueError, RecursionError):
            body = response.body.decode(errors="replace")
        if response.status >= 400:
            after = retry_after(response.headers.get("retry-after", ""))
            raise failure(call, Answer.of(response.status, body, after), self.server.config.credential())
        if not isinstance(body, dict):
            cause = f"its answer of status {response.status} is no JSON object"
            raise NotAnApiServer(call, cause, response.status)
        return body

    def _limit(self) -> Deadline:
        """Return when the operation must have ended, given what has answered."""
        return self.deadline if self._silence is None else self.deadline.or_at(self._silence)


def chance() -> float:
    """Return a number drawn evenly from [0, 1)."""
    # `random` takes 6 ms to load.
    return int.from_bytes(os.urandom(6)) / 2**48
