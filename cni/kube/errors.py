"""ApiError: what the API server answered, or that it did not, as an administrator can act on it.

One class for each answer that a caller treats differently. Each says which verb on which object failed
and from which file the credential came, and never holds a token or key.

A write whose answer is lost is `OutcomeUnknown`: it may have happened, and must be looked up before it is
made again. Answers of 500 and above say no more: etcd's own time-outs come as 500, a proxy's as 502 or
504. Only 429, and 503 with Retry-After, promise that nothing was done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cni.kube.paths import Target
from cni.protocol.errors import CniError, Code

_MAX_TEXT = 500  # characters of a server's own words


@dataclass(frozen=True)
class Call:
    """One call of the API, as messages name it."""

    verb: str  # get, list, create, update, patch, delete: the words of RBAC
    path: str
    server: str  # its URL
    source: str  # where its address and the credential were found

    @property
    def target(self) -> Target:
        return Target.of(self.path)

    @property
    def is_read(self) -> bool:
        return self.verb in ("get", "list")

    def __str__(self) -> str:
        return f"{self.verb} {self.target}"


@dataclass(frozen=True)
class Answer:
    """A failure as the API server reported it: the fields of its Status object that matter."""

    status: int
    message: str = ""
    reason: str = ""
    causes: tuple[str, ...] = ()  # `spec.range: Invalid value …`
    retry_after: float | None = None  # seconds
    is_kubernetes: bool = True  # whether it is a Status at all

    @classmethod
    def of(cls, status: int, body: object, retry_after: float | None) -> Answer:
        """Read a Status; anything else that was answered is cut to its first words."""
        if not isinstance(body, dict) or body.get("kind") != "Status":
            text = _shortened(body if isinstance(body, str) else "")
            return cls(status, text, retry_after=retry_after, is_kubernetes=False)
        details = body.get("details")
        causes = details.get("causes") if isinstance(details, dict) else None
        told = tuple(
            f"{cause.get('field', '')}: {cause.get('message', '')}"
            for cause in (causes if isinstance(causes, list) else [])
            if isinstance(cause, dict)
        )
        message = _shortened(str(body.get("message", "")))
        return cls(status, message, str(body.get("reason", "")), told, retry_after)


def _shortened(text: str) -> str:
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _MAX_TEXT else line[:_MAX_TEXT] + "…"


class ApiError(CniError):
    """A call of the Kubernetes API failed.

    `answer.status` is 0 if there was no answer.
    """

    code = Code.TRY_AGAIN_LATER
    did_nothing = True  # whether it is certain that the server changed nothing

    def __init__(self, call: Call, answer: Answer, *, msg: str = "", why: str = "", fix: str = "") -> None:
        super().__init__(
            msg or f"Kubernetes: {call} failed ({answer.status} {answer.reason})".replace(" )", ")"),
            why=why or _said(call, answer),
            fix=fix,
        )
        self.call = call
        self.answer = answer

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def reason(self) -> str:
        return self.answer.reason


def _said(call: Call, answer: Answer) -> str:
    return f"The API server {call.server} says: {answer.message or 'nothing more'}."


class Unauthorized(ApiError):
    """401: the credential is not accepted."""

    code = Code.INVALID_NETWORK_CONFIG

    def __init__(self, call: Call, answer: Answer, credential: str = "the credential") -> None:
        super().__init__(
            call,
            answer,
            msg=f"Kubernetes: {call}: the API server does not accept the credential (401 Unauthorized)",
            why=f"{credential} of {call.source} was sent to {call.server}.",
            fix="Renew it; a tokenFile is read again at every call.",
        )


class Forbidden(ApiError):
    """403: the credential lacks the verb."""

    code = Code.INVALID_NETWORK_CONFIG

    def __init__(self, call: Call, answer: Answer) -> None:
        target = call.target
        role = (
            f'Role of namespace "{target.namespace}" or a ClusterRole' if target.namespace else "ClusterRole"
        )
        super().__init__(
            call,
            answer,
            msg=f"Kubernetes: the credential may not {call} (403 Forbidden)",
            why=f"It is that of {call.source}. {_said(call, answer)}",
            fix=f'Grant it in a {role}: apiGroups ["{target.group}"], resources ["{target.resource}"], '
            f'verbs ["{call.verb}"].',
        )


class NotFound(ApiError):
    """404: the object, its namespace, or the resource's definition does not exist."""

    def __init__(self, call: Call, answer: Answer) -> None:
        target = call.target
        definition = f"{target.plural}.{target.group}"
        is_defined = _NO_RESOURCE not in answer.message or not target.group
        super().__init__(
            call, answer, fix="" if is_defined else f'Install the CustomResourceDefinition "{definition}".'
        )

    @property
    def is_proof(self) -> bool:
        """Whether Kubernetes says so, of this very object; a proxy's error page proves nothing."""
        return self.answer.is_kubernetes and _NO_RESOURCE not in self.answer.message


class AlreadyExists(ApiError):
    """409 on creating: an object of that name is there. No Conflict: reading it helps, repeating does not."""


class Conflict(ApiError):
    """409: the object is not as the write expected; read it again."""


class Gone(ApiError):
    """410: the list or resourceVersion asked for is too old; begin anew."""


class TooLarge(ApiError):
    """413, or etcd's own limit: the object would outgrow what can be stored."""

    code = Code.INVALID_NETWORK_CONFIG


class Invalid(ApiError):
    """422: the object breaks its schema, or a `test` of a JSON patch failed; `causes` names the fields."""

    code = Code.INVALID_NETWORK_CONFIG

    @property
    def causes(self) -> tuple[str, ...]:
        return self.answer.causes


class TooManyRequests(ApiError):
    """429, or 503 with Retry-After: nothing was done; ask again after `retry_after` seconds."""

    @property
    def retry_after(self) -> float | None:
        return self.answer.retry_after


class ServerError(ApiError):
    """500 and above, on a read."""


class OutcomeUnknown(ApiError):
    """A write was sent and may have happened: look before it is made again."""

    did_nothing = False

    def __init__(self, call: Call, answer: Answer, cause: str = "") -> None:
        super().__init__(
            call,
            answer,
            msg=f"Kubernetes: {call}: it is unknown whether it happened",
            why=f"{cause} after the request was sent to {call.server}." if cause else _said(call, answer),
            fix="Try again.",
        )


class Unreachable(ApiError):
    """No connection, or no whole answer; nothing was written."""

    def __init__(self, call: Call, cause: str) -> None:
        super().__init__(
            call,
            Answer(0),
            msg=f"Kubernetes: {call}: the API server does not answer",
            why=f"{call.server} of {call.source}: {cause}.",
            fix="Look whether the address is right and the API server is up and reachable from this node.",
        )


class Untrusted(ApiError):
    """TLS could not be agreed on: a certificate of either side is not accepted, or the peer speaks no TLS."""

    code = Code.INVALID_NETWORK_CONFIG

    def __init__(self, call: Call, cause: str) -> None:
        super().__init__(
            call,
            Answer(0),
            msg=f"Kubernetes: {call}: no trusted connection to the API server",
            why=f"{call.server}: {cause}.",
            fix=f"Correct server, certificate authority, tls-server-name or client key in {call.source}.",
        )


class NotAnApiServer(ApiError):
    """Something answers, but not as an API server does: a redirect, a page, a protocol other than HTTP."""

    code = Code.INVALID_NETWORK_CONFIG
    did_nothing = False

    def __init__(self, call: Call, cause: str, status: int = 0) -> None:
        super().__init__(
            call,
            Answer(status),
            msg=f"Kubernetes: {call}: {call.server} does not answer as an API server",
            why=f"{cause}.",
            fix=f'Correct "server" in {call.source}.',
        )


_BY_STATUS: Mapping[int, type[ApiError]] = {
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    422: Invalid,
    429: TooManyRequests,
}
# etcd's refusal of a request beyond its limit comes as a 500, and so does that of the API server's own
# client of etcd, which does not even send what is beyond 2 MB.
_ETCD_LIMITS = ("request is too large", "trying to send message larger than max")
_NO_RESOURCE = "could not find the requested resource"


def failure(call: Call, answer: Answer, credential: str) -> ApiError:
    """Return the error for an answer of 400 and above; `credential` says in words what was sent."""
    if answer.status == 401:
        return Unauthorized(call, answer, credential)
    if answer.status == 409 and answer.reason == "AlreadyExists":
        return AlreadyExists(call, answer)
    if answer.status == 503 and answer.retry_after is not None:
        return TooManyRequests(call, answer)
    if answer.status >= 500 and any(text in answer.message for text in _ETCD_LIMITS):
        return TooLarge(call, answer)
    if answer.status >= 500:
        return ServerError(call, answer) if call.is_read else OutcomeUnknown(call, answer)
    return _BY_STATUS.get(answer.status, ApiError)(call, answer)
