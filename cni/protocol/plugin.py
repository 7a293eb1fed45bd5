"""Plugin: a config model and its operations; `run` drives one through a call.

The order of checks is that of the Go library: environment, stdin, version, then the plugin.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cni.protocol import gojson, registry, versions
from cni.protocol.errors import CniError, Code, Terminated
from cni.protocol.notes import note
from cni.protocol.request import AttachmentKey, Request

if TYPE_CHECKING:  # pydantic's 100 ms are not spent on VERSION or on a refused environment
    from cni.protocol.config import PluginConf
    from cni.protocol.result import Result

C = TypeVar("C", bound="PluginConf")
T = TypeVar("T")


@dataclass(frozen=True)
class Plugin(Generic[C]):
    """The operations of one plugin type.

    `delete` and `gc` get no parsed configuration: they must work when it is wrong or missing.
    """

    conf: type[C]
    add: Callable[[Request, C], Result]
    delete: Callable[[Request], None]
    check: Callable[[Request, C], None]
    status: Callable[[Request, C], None]
    gc: Callable[[Request, frozenset[AttachmentKey]], None]


@dataclass(frozen=True)
class Reply:
    """What a call answers: one JSON document or nothing, and the exit status."""

    stdout: bytes
    exit_status: int


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """How a call ended: an ADD with what it answers, any with its failure, the others with neither."""

    answer: T | None = None
    failure: Reply | None = None


def run(plugin_type: str, request: Request, precondition: Callable[[Request], None] | None = None) -> Reply:
    """Carry out one call of one of our plugins; whatever happens becomes a reply."""
    if request.command == "VERSION":
        return Reply(versions.answer(), 0)
    outcome = carry_out(plugin_type, request, _printed, precondition)
    return outcome.failure or Reply(outcome.answer or b"", 0)


def carry_out(
    plugin_type: str,
    request: Request,
    tell: Callable[[Result, str], T],
    precondition: Callable[[Request], None] | None = None,
) -> Outcome[T]:
    """Carry out one call, and tell an ADD's result in the configuration's version.

    `precondition` may refuse an ADD or DEL before the plugin is loaded. When an ADD is done, the signals
    that stop a call wait until the caller lets them (`signals.too_late`).
    """
    version = versions.NEWEST
    try:
        request.check_environment()
        network = request.network
        version = network.version if network.version in versions.SUPPORTED else version
        request.check_command()
        versions.check(network.version, request.command)
        if precondition and request.command in ("ADD", "DEL"):
            precondition(request)
        result = _act(registry.load(plugin_type), request)
        return Outcome(tell(result, version) if result else None)
    except CniError as error:
        failure = error
    except Terminated as error:
        return Outcome(failure=stopped(request, error))
    except MemoryError as error:
        failure = CniError(
            f"{request.command} ran out of memory", fix="Raise the memory limit.", code=Code.IO_FAILURE
        )
        _copy_notes(error, failure)
    except OSError as error:
        failure = _from_os_error(request, error)
    except Exception as error:  # the one place that answers for what nobody foresaw
        _note_traceback(request)
        failure = CniError(
            f"{request.command} failed in podrail itself: {type(error).__name__}: {error}"[:500],
            fix="Please report it with what is on stderr.",
        )
        _copy_notes(error, failure)
    return Outcome(failure=failed(failure, request, version))


def _printed(result: Result, version: str) -> bytes:
    return _document(result.render(version))


def _note_traceback(request: Request) -> None:
    with suppress(Exception):  # such as too many open files: the answer is owed all the same
        from traceback import format_exc  # 5 ms, for what should never happen

        note(request.attachment, format_exc())


def stopped(request: Request, error: Terminated) -> Reply:
    """Answer a call that a signal ended."""
    failure = CniError(
        f"{request.command} was stopped by {error}",
        why="What it had done was undone."
        if request.command == "ADD" and not getattr(error, "__notes__", ())
        else "What was not done yet is done by the next call.",
        fix="Call it again.",
        code=Code.TRY_AGAIN_LATER,
    )
    _copy_notes(error, failure)
    return failed(failure, request, stated_version(request))


def stated_version(request: Request) -> str:
    """Return the version for an error of a call that no plugin has: the caller's, if it is one of ours."""
    with suppress(CniError):
        told = gojson.get(gojson.loads_object(request.stdin, "stdin"), "cniVersion") or versions.UNSTATED
        return told if told in versions.SUPPORTED else versions.NEWEST
    return versions.NEWEST


def failed(failure: CniError, request: Request, version: str) -> Reply:
    return Reply(_document(_named(failure, request).to_json(version)), 1)


def _act(plugin: Plugin[Any], request: Request) -> Result | None:
    if request.command == "DEL":
        plugin.delete(request)
        return None
    if request.command == "GC":
        keep = request.network.valid_attachments()
        if keep is None:
            note(request.network.name, "GC without a list of valid attachments keeps all")
        else:
            plugin.gc(request, keep)
        return None
    return _act_on_conf(plugin, request)


def _act_on_conf(plugin: Plugin[Any], request: Request) -> Result | None:
    from cni.protocol.config import unknown_keys

    network = request.network
    conf = plugin.conf.of(network)
    for sentence in unknown_keys(conf, network.raw).values():
        note(request.attachment or network.name, sentence)
    if request.command == "ADD":
        return plugin.add(request, conf)
    operation = plugin.check if request.command == "CHECK" else plugin.status
    operation(request, conf)
    return None


def _document(value: object) -> bytes:
    # A name with bytes that are no UTF-8 arrives as surrogates: escaped, it is still JSON.
    text = json.dumps(value, indent=4, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")


def _from_os_error(request: Request, error: OSError) -> CniError:
    what = f" {os.fsdecode(error.filename)}" if isinstance(error.filename, str | bytes) else ""
    failure = CniError(
        f"{request.command} failed on{what}: {error.strerror or error}"
        if what
        else f"{request.command} failed: {error.strerror or error}",
        why=f"The system answered {errno.errorcode.get(error.errno or 0, 'an error')}.",
        fix="Look at the disk, the limits and the permissions that this names, then call again.",
        code=Code.IO_FAILURE,
    )
    _copy_notes(error, failure)
    return failure


def _copy_notes(source: BaseException, target: CniError) -> None:
    for text in getattr(source, "__notes__", ()):
        target.add_note(text)


def _named(failure: CniError, request: Request) -> CniError:
    """Add which attachment this is about, unless a delegate's error tells already."""
    told = f"{request.command} of {request.attachment}"
    if request.container_id and told not in failure.details:
        failure.add_note(f"({told}, container {request.container_id}.)")
    return failure
