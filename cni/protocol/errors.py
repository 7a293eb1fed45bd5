"""CniError and the codes: what a caller learns when a call fails.

The spec's codes are in its section 2, "Error"; ours start at 100. Choose by what should happen
next: 7, change the configuration; 11, call again; 50 and 51, the answer of STATUS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum


class Code(IntEnum):
    """Error codes: the spec's, then podrail's own, a line of meaning each."""

    INCOMPATIBLE_VERSION = 1  # cniVersion is none we speak, or does not know the verb
    UNSUPPORTED_FIELD = 2  # a key or value we know and do not support
    UNKNOWN_CONTAINER = 3  # the container does not exist
    INVALID_ENVIRONMENT = 4  # a CNI_ variable is missing or malformed
    IO_FAILURE = 5  # reading or writing failed
    DECODING_FAILURE = 6  # stdin, or what a delegate printed, is not what it should be
    INVALID_NETWORK_CONFIG = 7  # the configuration must be changed
    INVALID_NETNS = 8  # the sandbox is gone, is no network namespace, or is the host's
    TRY_AGAIN_LATER = 11  # the same call may succeed later
    NOT_AVAILABLE = 50  # STATUS: an ADD would fail
    NOT_AVAILABLE_DEGRADED = 51  # STATUS: an ADD would fail, and attached pods suffer too

    POOL_EXHAUSTED = 100  # no address left in a range
    NAME_TAKEN = 101  # the sandbox already has an interface of that name
    DIFFERS = 102  # CHECK: the sandbox is not as ADD left it
    DELEGATE_FAILED = 103  # another plugin died or printed no answer
    DEVICE_IN_USE = 104  # another attachment holds the device
    ADDRESS_IN_USE = 105  # somebody else answers for the address, or holds it
    KERNEL_REFUSED = 106  # the kernel refused a change for a reason of its own

    INTERNAL = 999  # a fault in podrail itself


class CniError(Exception):
    """A failure as the caller will read it.

    Args:
        msg: what failed, on which object.
        why: what was found; whole sentences.
        fix: what to do about it; whole sentences.
        code: overrides the class's; any unsigned number, because a delegate's is passed on.
        faults: of a configuration, a sentence for each bad key's path.
    """

    code: int = Code.INTERNAL

    def __init__(
        self,
        msg: str,
        *,
        why: str = "",
        fix: str = "",
        code: int | None = None,
        faults: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(msg)
        self.msg = msg
        self.why = why
        self.fix = fix
        self.faults = faults or {}
        if code is not None:
            self.code = code

    @property
    def details(self) -> str:
        """Why, what to do, and what went wrong while undoing, in this order."""
        notes: Iterable[str] = getattr(self, "__notes__", ())
        return " ".join(filter(None, (self.why, self.fix, *notes)))

    def to_json(self, version: str) -> dict[str, object]:
        """Return the spec's error object; `details` is left out when there are none."""
        error: dict[str, object] = {"cniVersion": version, "code": int(self.code), "msg": self.msg}
        if self.details:
            error["details"] = self.details
        return error


class InvalidEnvironment(CniError):
    code = Code.INVALID_ENVIRONMENT


class InvalidConfig(CniError):
    code = Code.INVALID_NETWORK_CONFIG


class DecodingFailure(CniError):
    code = Code.DECODING_FAILURE


class IncompatibleVersion(CniError):
    code = Code.INCOMPATIBLE_VERSION


class InvalidNetns(CniError):
    code = Code.INVALID_NETNS


class Terminated(BaseException):
    """A signal asked this process to end; not an Exception, so that only undoing sees it."""


def all_of(failures: list[CniError]) -> CniError:
    """Return one error that tells of several: the first one's code, the others as notes."""
    first, *others = failures
    for other in others:
        first.add_note(f"Also: {other.msg}. {other.details}".rstrip())
    return first
