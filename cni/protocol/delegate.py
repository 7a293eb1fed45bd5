"""Call another plugin, as the spec's section 4 says: find it along CNI_PATH and execute it.

A delegate whose executable is podrail's own runs in this process instead, with the same stdin,
environment, answer and exit status: a Python start and its imports cost more than the work.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cni.protocol import gojson, registry, versions
from cni.protocol.errors import CniError, Code, DecodingFailure, InvalidConfig
from cni.protocol.notes import note
from cni.protocol.plugin import Reply, carry_out
from cni.protocol.request import Request
from cni.protocol.result import Result
from cni.protocol.signals import again_in_time

if TYPE_CHECKING:
    from cni.protocol.planning import Plan, Planning

CLIENT_MARK = b"podrail-client: this file is podrail's own executable"  # every static client holds it
_SCRIPT_LIMIT = 4096  # bytes; our executables are short scripts
_SIZE_LIMIT = 1 << 20  # bytes; or the static client, of less than a tenth of it
# Where an installer's script names the function that it runs.
_FUNCTION = re.compile(rb"(?<=^from cni\.entry import )\w+$|(?<=\bsys\.exit\()\w+(?=\(\)\)$)", re.MULTILINE)


class VersionRefused(CniError):
    """The delegate itself says that it does not speak the configuration's version."""

    code = Code.INCOMPATIBLE_VERSION


class NotInstalled(InvalidConfig):
    """CNI_PATH leads to no plugin of that type."""


def add(plugin_type: str, request: Request) -> Result:
    """Call a delegate's ADD and return its result.

    Raises:
        CniError: the delegate's own error, or what kept it from answering.
    """
    result = _call(plugin_type, request, "ADD")
    assert result is not None, "ADD has a result"  # noqa: S101
    return result


def delete(plugin_type: str, request: Request) -> None:
    """Call a delegate's DEL; one that does not speak the version has served no ADD of it either."""
    try:
        _call(plugin_type, request, "DEL")
    except VersionRefused as error:
        note(request.attachment, f'plugin "{plugin_type}" holds nothing: {error.msg}')


def check(plugin_type: str, request: Request) -> None:
    _call(plugin_type, request, "CHECK")


def status(plugin_type: str, request: Request) -> None:
    """Ask a delegate whether its ADD would work.

    Raises:
        CniError: the delegate's own; code 50, it is not installed or dies, as it would in ADD.
    """
    try:
        if _knows(plugin_type, request, "STATUS"):
            _call(plugin_type, request, "STATUS")
    except CniError as error:
        if isinstance(error, NotInstalled) or error.code == Code.DELEGATE_FAILED:
            error.code = Code.NOT_AVAILABLE
        raise


def gc(plugin_type: str, request: Request) -> None:
    if _knows(plugin_type, request, "GC"):
        _call(plugin_type, request, "GC")


def plan(plugin_type: str, request: Request, planning: Planning) -> Plan:
    """Return what a delegate's ADD would do; of one of another make that is not known.

    Whichever installation of podrail's it is of, this one answers for it.

    Raises:
        CniError: what its ADD would answer, or it is not installed.
    """
    from cni.protocol import planning as plans

    executable = find(plugin_type, request)
    called = request.with_executable(str(executable))
    if is_ours(plugin_type, executable, called):
        return plans.plan(plugin_type, called, planning)
    return plans.Plan(
        plugin_type,
        request.network.name,
        request.ifname,
        version=request.network.version,
        open=(f"{executable} is of another make: what it does and answers is known when ADD calls it",),
        is_known=False,
    )


def find(plugin_type: str, request: Request) -> Path:
    """Return the absolute path of the first regular file named `plugin_type` along CNI_PATH.

    Raises:
        NotInstalled: code 7, there is none.
        InvalidConfig: code 7, the type is no file name.
    """
    directories = [part for part in request.variable("CNI_PATH").split(os.pathsep) if part]
    if plugin_type in ("", ".", "..") or "/" in plugin_type or "\0" in plugin_type:
        raise InvalidConfig(
            f'"{plugin_type}" is not a plugin type',
            fix='Set "type" to the name of an executable in CNI_PATH.',
        )
    for directory in directories:
        candidate = f"{directory}/{plugin_type}"
        if stat.S_ISREG(_mode(candidate, request)):
            return Path(candidate).absolute()  # "./x" loses its slash here, and would be looked for in PATH
    raise NotInstalled(
        f'failed to find plugin "{plugin_type}" in path [{", ".join(directories)}]',
        why="None of these directories holds a regular file of that name.",
        fix=f'Install "{plugin_type}" there or correct the "type" that names it.',
    )


def _call(plugin_type: str, request: Request, verb: str) -> Result | None:
    """Call a delegate and return what its ADD gives.

    Raises:
        CniError: it failed; its error object keeps its code, msg and details.
    """
    request = request.with_variables(CNI_COMMAND=verb)
    executable = find(plugin_type, request)
    began = time.monotonic()
    try:
        if is_ours(plugin_type, executable, request):
            return _carry_out(plugin_type, request.with_executable(str(executable)))
        reply = _execute(plugin_type, executable, request)
    finally:
        request.steps.append((verb, plugin_type, time.monotonic() - began))
    if reply.exit_status:
        raise _delegate_error(plugin_type, verb, reply)
    return _result(plugin_type, request, reply) if verb == "ADD" else None


def _carry_out(plugin_type: str, request: Request) -> Result | None:
    """Call a plugin of ours in this process: its result is the one that its text would tell."""
    with again_in_time():
        outcome = carry_out(plugin_type, request, Result.told_in)
    if outcome.failure:
        raise _delegate_error(plugin_type, request.command, outcome.failure)
    return outcome.answer


def _result(plugin_type: str, request: Request, reply: Reply) -> Result:
    if not reply.stdout.strip():
        raise DecodingFailure(
            f'plugin "{plugin_type}" answered ADD with nothing',
            fix="Look at its logs; it must print a result.",
        )
    raw = gojson.loads_object(reply.stdout, f'the result of plugin "{plugin_type}"')
    if {"code", "msg"} <= gojson.fold(raw, ("code", "msg")).keys():
        # No version's result has these: it failed, though its exit status does not say so.
        raise _delegate_error(plugin_type, "ADD", reply)
    return Result.parse(raw, request.network.version, f'the result of plugin "{plugin_type}"')


def _mode(path: str, request: Request) -> int:
    """Return what kind of file is at a path, 0 if none is."""
    try:
        if request.files is None:
            return os.stat(path).st_mode  # noqa: PTH116
        fd = request.open(path)
    except OSError:
        return 0
    try:
        return os.fstat(fd).st_mode
    finally:
        os.close(fd)


def is_ours(plugin_type: str, candidate: Path, request: Request) -> bool:
    """Tell whether a file is podrail's executable of that type, made like the one that was called.

    Executables differ only in the type that they name, so a copy, a link or another directory
    makes no difference, and a script of another make or another Python environment is told apart.
    The node daemon's static clients are all alike; their type is their file's name.
    """
    own_type = registry.own_type(plugin_type)
    if request.executable is None or not own_type:
        return False
    own, other = _make(request.executable, request), _make(str(candidate), request)
    return own is not None and other is not None and own[0] == other[0] and other[1] == own_type


def _make(path: str, request: Request) -> tuple[bytes, str] | None:
    """Return an executable of ours without the plugin type that it names, and that type.

    A file that is as it was when this process read it is not read again: whoever writes to it or puts
    another in its place changes what is compared.
    """
    try:
        fd = request.open(path)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        if not found.st_mode & 0o111 or found.st_size > _SIZE_LIMIT:
            return None
        as_it_is = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        made = request.memory.kept(("executable", as_it_is), lambda: _read_make(fd))
    except OSError:
        return None
    finally:
        os.close(fd)
    if made is None:
        return None
    text, named = made
    return text, named or registry.own_type(path.rpartition("/")[2])


def _read_make(fd: int) -> tuple[bytes, str] | None:
    """Return what `_make` does; a static client names no type.

    A script's type counts only where the function of `cni.entry` is imported and called: the path of a
    Python environment may hold the same word.
    """
    text = os.read(fd, _SIZE_LIMIT)
    if text.startswith(b"\x7fELF"):
        return (CLIENT_MARK, "") if CLIENT_MARK in text else None
    named = set(_FUNCTION.findall(text))
    if not text.startswith(b"#!") or len(text) > _SCRIPT_LIMIT or len(named) != 1:
        return None
    return _FUNCTION.sub(b"*", text), named.pop().decode().replace("_", "-")


def _execute(plugin_type: str, executable: Path, request: Request) -> Reply:
    from cni.protocol import foreign  # 15 ms that a chain of our own plugins does not need

    return foreign.execute(plugin_type, executable, request)


def _delegate_error(plugin_type: str, verb: str, reply: Reply) -> CniError:
    try:
        told = gojson.fold(gojson.loads_object(reply.stdout, "its answer"), ("code", "msg", "details"))
    except DecodingFailure:
        shown = reply.stdout.decode("utf-8", "replace").strip()[:500]
        return CniError(
            f'plugin "{plugin_type}" failed {verb} without an error object',
            why=f"It printed: {shown}",
            code=Code.DELEGATE_FAILED,
        )
    code = told.get("code")
    kind = VersionRefused if code == Code.INCOMPATIBLE_VERSION else CniError
    return kind(
        str(told.get("msg") or f'plugin "{plugin_type}" failed {verb}'),
        why=str(told.get("details") or ""),
        code=code if type(code) is int and code > 0 else int(Code.DELEGATE_FAILED),
    )


def _knows(plugin_type: str, request: Request, verb: str) -> bool:
    """Tell whether a delegate speaks a version that has `verb`; one that does not is noted."""
    executable = find(plugin_type, request)
    if is_ours(plugin_type, executable, request):
        return True
    supported = _supported_versions(plugin_type, executable, request)
    if any(_has(version, versions.SINCE[verb]) for version in supported):
        return True
    note(
        request.network.name, f'plugin "{plugin_type}" ({executable}) does not know {verb}; it was not asked'
    )
    return False


def _supported_versions(plugin_type: str, executable: Path, request: Request) -> list[str]:
    dummies = dict.fromkeys(("CNI_NETNS", "CNI_IFNAME", "CNI_PATH"), "dummy")  # as libcni does
    asked = request.with_variables(CNI_COMMAND="VERSION", **dummies)
    reply = _execute(plugin_type, executable, asked.with_stdin(b'{"cniVersion":"1.1.0"}'))
    if reply.exit_status:
        raise _delegate_error(plugin_type, "VERSION", reply)
    answer: Mapping[str, Any] = gojson.loads_object(reply.stdout, f'the versions of plugin "{plugin_type}"')
    listed = gojson.get(answer, "supportedVersions")
    return [version for version in listed if isinstance(version, str)] if isinstance(listed, list) else []


def _has(version: str, since: str) -> bool:
    with suppress(ValueError):
        return versions.at_least(version, since)
    return False
