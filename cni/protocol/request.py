"""Request: one call as a runtime makes it, environment and stdin, and what is valid in them.

Source: the CNI spec, section 2, and `pkg/skel` of the Go library for what is required when.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, TypeVar

from cni.protocol import gojson, versions
from cni.protocol.errors import DecodingFailure, InvalidConfig, InvalidEnvironment
from cni.protocol.memory import Memory

T = TypeVar("T")

VERBS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")

_REQUIRED = {
    "CNI_CONTAINERID": ("ADD", "DEL", "CHECK"),
    "CNI_NETNS": ("ADD", "CHECK"),
    "CNI_IFNAME": ("ADD", "DEL", "CHECK"),
    "CNI_PATH": ("ADD", "DEL", "CHECK", "GC", "STATUS"),
}
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")  # fullmatch: `$` would allow a final newline
_MAX_IFNAME = 15  # bytes; IFNAMSIZ less the final NUL
_MOST_KEPT = 1 << 14  # bytes of a configuration that is kept for calls with the same
_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO in that place must not hold us
# The kernel refuses to rename a link to these, because /proc/sys/net/*/conf/ uses them otherwise.
_RESERVED_IFNAMES = ("lo", "all", "default")

AttachmentKey = tuple[str, str]  # container ID, interface name


class Files(Protocol):
    """The files that a call's paths are of, where they are not those that this process sees."""

    def open(self, path: str, flags: int) -> int: ...

    def enter(self) -> None:
        """Make this process, which is about to execute a delegate, see them."""


@dataclass(frozen=True)
class Request:
    """One call: what to do, the CNI_ variables, the bytes of stdin.

    `executable` is the file that was called; delegates of the same make may run in this process.
    `files` is where the call's paths lead, None for what this process itself sees. `memory` is what this
    process keeps for the calls after this one, `steps` which delegates this one called: verb, type and
    seconds of each, as they ended.
    """

    command: str
    environment: Mapping[str, str]
    stdin: bytes
    executable: str | None = None
    files: Files | None = None
    memory: Memory = field(default_factory=Memory, compare=False, repr=False)
    steps: list[tuple[str, str, float]] = field(default_factory=list, compare=False, repr=False)

    def variable(self, name: str) -> str:
        """Return an environment variable; unset and empty are the same."""
        return self.environment.get(name, "")

    @property
    def container_id(self) -> str:
        return self.variable("CNI_CONTAINERID")

    @property
    def netns(self) -> str:
        """The path of the sandbox; may be empty on DEL."""
        return self.variable("CNI_NETNS")

    @property
    def ifname(self) -> str:
        return self.variable("CNI_IFNAME")

    @property
    def key(self) -> AttachmentKey:
        return self.container_id, self.ifname

    @cached_property
    def network(self) -> Network:
        """What every call must say of its network, whatever the plugin makes of the rest."""
        if len(self.stdin) > _MOST_KEPT:
            return Network.parse(self.stdin)
        networks = self.memory.kept("networks", Memory)
        return networks.kept(self.stdin, lambda: Network.parse(self.stdin))

    @property
    def pod(self) -> str:
        """`namespace/pod` where the runtime tells, else the container ID."""
        told = dict(piece.split("=", 1) for piece in self.variable("CNI_ARGS").split(";") if "=" in piece)
        if told.get("K8S_POD_NAME"):
            return f"{told.get('K8S_POD_NAMESPACE', 'default')}/{told['K8S_POD_NAME']}"
        return self.container_id

    @property
    def attachment(self) -> str:
        """How errors and logs name what this call is about: `namespace/pod net1`."""
        return " ".join(filter(None, (self.pod, self.ifname)))

    def open(self, path: str) -> int:
        """Open a file that the caller speaks of, to read it."""
        return self.files.open(path, _READING) if self.files else os.open(path, _READING)

    def with_variables(self, **variables: str) -> Request:
        environment = {**self.environment, **variables}
        return replace(self, environment=environment, command=environment.get("CNI_COMMAND", self.command))

    def with_executable(self, executable: str) -> Request:
        return replace(self, executable=executable)

    def with_stdin(self, stdin: bytes) -> Request:
        return replace(self, stdin=stdin)

    def check_environment(self) -> None:
        """Refuse missing and malformed CNI_ variables.

        A malformed value is reported at once, missing names together, empty as missing; variables
        that the verb does not need are not looked at.

        Raises:
            InvalidEnvironment: code 4.
        """
        checks = {"CNI_CONTAINERID": _check_container_id, "CNI_IFNAME": self._check_ifname}
        missing = []
        for name, verbs in _REQUIRED.items():
            if self.command not in verbs:
                continue
            value = self.variable(name)
            if not value:
                missing.append(name)
            elif name in checks:
                checks[name](value)
        if self.command in ("ADD", "DEL", "CHECK"):
            self._check_is_text("CNI_NETNS", "CNI_IFNAME", "CNI_ARGS")
        if missing:
            raise InvalidEnvironment(
                f"required env variables [{','.join(missing)}] missing",
                why=f"{self.command} needs them.",
                fix="Set them as the CNI spec's section 2 says.",
            )

    def check_command(self) -> None:
        """Refuse a verb that the spec does not have; the spec's library does so after stdin."""
        if self.command not in VERBS:
            raise InvalidEnvironment(
                f'unknown CNI_COMMAND "{self.command}"', fix=f"Use one of {', '.join(VERBS)}."
            )

    def _check_is_text(self, *names: str) -> None:
        """What results and records repeat must be UTF-8: JSON knows no other text."""
        for name in names:
            try:
                self.variable(name).encode("utf-8")
            except UnicodeEncodeError as error:
                raise InvalidEnvironment(
                    f"{name} is not UTF-8",
                    why=f"It holds the byte {ord(self.variable(name)[error.start]) - 0xDC00:#x}.",
                    fix="Use ASCII.",
                ) from error

    def _check_ifname(self, ifname: str) -> None:
        reason = new_ifname_fault(ifname) if self.command == "ADD" else ifname_fault(ifname)
        if reason:
            raise InvalidEnvironment(
                f'CNI_IFNAME "{ifname}" cannot be an interface name',
                why=f"It is invalid because {reason}.",
                fix=f'Use 1 to {_MAX_IFNAME} bytes without "/", ":" and white space, such as "net1".',
            )


def ifname_fault(ifname: str) -> str:
    """Return why an interface cannot have this name; empty if it can."""
    if len(os.fsencode(ifname)) > _MAX_IFNAME:
        return f"it is longer than {_MAX_IFNAME} bytes"
    if ifname in (".", ".."):
        return "it is a directory name"
    if any(char in "/:" or char.isspace() for char in ifname):
        return 'it holds "/", ":" or white space'
    return ""


def new_ifname_fault(ifname: str) -> str:
    """Return why no interface can be given this name; empty if one can."""
    if ifname in _RESERVED_IFNAMES:
        return "the kernel keeps that name for itself"
    if "%" in ifname:
        return 'the kernel would put a number for the "%d", and refuses any other "%"'
    return ifname_fault(ifname)


def _check_container_id(container_id: str) -> None:
    if not NAME.fullmatch(container_id):
        raise InvalidEnvironment(
            "invalid characters in CNI_CONTAINERID",
            why=f'It is "{container_id}".',
            fix="It must begin with an ASCII letter or digit; then letters, digits, _ . - may follow.",
        )


@dataclass(frozen=True)
class Network:
    """The parts of a configuration that are checked for every verb, and the raw rest.

    `memory` is for what else is made of it alone.
    """

    name: str
    version: str
    raw: gojson.JsonObject
    memory: Memory = field(default_factory=Memory, compare=False, repr=False)

    @classmethod
    def parse(cls, stdin: bytes) -> Network:
        """Read stdin as far as any verb needs it.

        Raises:
            DecodingFailure: code 6, no JSON object, or `name` or `cniVersion` is no string.
            InvalidConfig: code 7, `name` is missing or malformed; it becomes a path.
        """
        raw = gojson.loads_object(stdin, "the network configuration on stdin")
        name = _text(raw, "name")
        if not name:
            raise InvalidConfig(
                "missing network name",
                why='The network configuration has no "name".',
                fix='Set "name"; addresses and records of attachments are kept under it.',
            )
        if not NAME.fullmatch(name):
            raise InvalidConfig(
                "invalid characters found in network name",
                why=f'"name" is "{name[:100]}".',
                fix="It must begin with an ASCII letter or digit; then letters, digits, _ . - may follow.",
            )
        return cls(name, _text(raw, "cniVersion") or versions.UNSTATED, raw)

    @cached_property
    def ipam_type(self) -> str:
        """The IPAM plugin's type, or nothing: lenient, for verbs that need no valid section."""
        ipam = gojson.get(self.raw, "ipam")
        kind = gojson.get(ipam, "type") if isinstance(ipam, dict) else None
        return kind if isinstance(kind, str) else ""

    def valid_attachments(self) -> frozenset[AttachmentKey] | None:
        """Return GC's list of attachments to keep; None, which means keep all, where it is absent.

        Both of the list's names are known: libcni writes two.

        Raises:
            InvalidConfig: the list cannot be read, so nothing may be judged by it.
        """
        keys = ("cni.dev/valid-attachments", "cni.dev/attachments")
        fields = gojson.fold(self.raw, keys)
        listed = next((fields[key] for key in keys if key in fields), None)
        if listed is None:
            return None
        try:
            if not isinstance(listed, list):
                raise TypeError("not a list")
            return frozenset(_attachment_key(entry) for entry in listed)
        except (TypeError, KeyError, AttributeError) as error:
            raise InvalidConfig(
                f'"{keys[0]}" is not a list of attachments',
                why='Each entry needs the strings "containerID" and "ifname". Nothing was released.',
                fix="Let the runtime write this list.",
            ) from error


def _text(raw: gojson.JsonObject, key: str) -> str:
    value = gojson.get(raw, key)
    if not isinstance(value, str | None):
        raise DecodingFailure(
            f'"{key}" in the network configuration is a {gojson.type_name(value)}, not a string',
            fix=f'Put the value of "{key}" in quotes.',
        )
    return value or ""


def _attachment_key(entry: gojson.JsonObject) -> AttachmentKey:
    fields = gojson.fold(entry, ("containerID", "ifname"))
    container_id, ifname = fields["containerID"], fields["ifname"]
    if not (isinstance(container_id, str) and isinstance(ifname, str)):
        raise TypeError("not strings")
    return container_id, ifname


def parse_cni_args(text: str, known: frozenset[str]) -> dict[str, str]:
    """Return the pairs of CNI_ARGS.

    Keys are compared exactly. One that is not `known` is refused unless `IgnoreUnknown` is `1` or
    `true`: the Go library does the same.

    Raises:
        InvalidEnvironment: code 4.
    """
    pairs: dict[str, str] = {}
    for piece in text.split(";") if text else ():
        key, equals, value = piece.partition("=")
        if not equals or "=" in value:
            raise InvalidEnvironment(
                f'CNI_ARGS: "{piece}" is not a KEY=VALUE pair',
                why=f'CNI_ARGS is "{text}".',
                fix='Write pairs with exactly one "=", separated by single ";", none at the end.',
            )
        pairs[key] = value
    if _ignores_unknown(pairs.pop("IgnoreUnknown", "")):
        return {key: value for key, value in pairs.items() if key in known}
    unknown = sorted(set(pairs) - known)
    if unknown:
        raise InvalidEnvironment(
            f"CNI_ARGS: unknown args [{', '.join(unknown)}]",
            why=f"Known are {', '.join(sorted(known))}; keys are case-sensitive.",
            fix='Remove them or add "IgnoreUnknown=1".',
        )
    return pairs


def listed(args: Mapping[str, str], key: str, parse: Callable[[str], T]) -> list[T]:
    """Return the comma-separated list of one key of CNI_ARGS.

    Raises:
        InvalidEnvironment: code 4, `parse` refuses one with a ValueError.
    """
    try:
        return [parse(part.strip()) for part in args.get(key, "").split(",") if args.get(key)]
    except ValueError as error:
        raise InvalidEnvironment(
            f"CNI_ARGS: {key} is not valid", why=f"{error}.", fix="Separate several by commas."
        ) from error


def _ignores_unknown(text: str) -> bool:
    if text.lower() in ("1", "true"):
        return True
    if text.lower() in ("", "0", "false"):
        return False
    raise InvalidEnvironment(f'CNI_ARGS: IgnoreUnknown is "{text}"', fix="Use 1, true, 0 or false.")
