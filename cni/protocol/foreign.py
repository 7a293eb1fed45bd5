"""Plugins of another make: executed in processes of their own, bounded in time and in what they print.

A plugin has answered when its output ends, or when it has exited: a child that it left behind may hold
its output open for ever, and is not waited for.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from cni.protocol.errors import CniError, Code
from cni.protocol.gojson import MAX_BYTES
from cni.protocol.notes import note
from cni.protocol.plugin import Reply
from cni.protocol.request import Request

TIMEOUT = 120.0  # seconds; kubelet gives a sandbox four minutes
_BUSY_SECONDS = 5.0  # how long an executable that is being written is waited for
_GRACE = 0.5  # seconds that output may stay open when the plugin has exited
_LOOK = 0.05  # seconds between looks at whether it has; one that leaves no child ends its output then
_CHUNK = 1 << 16  # bytes; what a pipe holds
# What the system lacks for a while, through no fault of the plugin.
_PASSING = (errno.ETXTBSY, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


def execute(plugin_type: str, executable: Path, request: Request) -> Reply:
    """Run a plugin with a request's environment and stdin, and return what it answered.

    Raises:
        CniError: it cannot be started, does not end in time, prints too much, or dies in silence.
    """
    name = f'plugin "{plugin_type}"'
    deadline = time.monotonic() + _timeout(request)
    with _started(name, executable, request, deadline) as process:
        dialogue = _Dialogue(name, request, process)
        dialogue.hold(deadline)
        try:
            status = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise _too_slow(name, request) from error
    told = dialogue.stderr.decode("utf-8", "replace").strip()
    if told:
        note(f"{request.attachment}: {plugin_type}", told[-4000:])
    if status and not dialogue.stdout.strip():
        raise _silent_death(name, request, status, told)
    return Reply(bytes(dialogue.stdout), status)


@contextmanager
def _started(
    name: str, executable: Path, request: Request, deadline: float
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a plugin; if the block fails, end it with all that it started."""
    process = _start(name, executable, request, min(deadline, time.monotonic() + _BUSY_SECONDS))
    try:
        yield process
    except BaseException:
        _end_group(process)  # lest it goes on while its DEL undoes the rest
        raise
    finally:
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                pipe.close()
        process.wait()


def _start(name: str, executable: Path, request: Request, until: float) -> subprocess.Popen[bytes]:
    while True:
        try:
            return subprocess.Popen(  # noqa: S603  # found along CNI_PATH, as the spec says; no shell
                [executable],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=dict(request.environment),
                process_group=0,
                # The node daemon has mounts of its own, and one thread.
                preexec_fn=request.files.enter if request.files else None,
            )
        except OSError as error:
            if error.errno != errno.ETXTBSY or time.monotonic() >= until:
                raise _not_started(name, executable, error) from error
        time.sleep(_LOOK)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a plugin's process group; not yet waited for, the plugin keeps the group's number its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


class _Dialogue:
    """A plugin's stdin, stdout and stderr, served as they come."""

    def __init__(self, name: str, request: Request, process: subprocess.Popen[bytes]) -> None:
        self._name = name
        self._request = request
        self._process = process
        self._unsent = memoryview(request.stdin)
        self.stdout, self.stderr = bytearray(), bytearray()

    def hold(self, deadline: float) -> None:
        """Go on until all is said, until the plugin has exited and its grace is over, or to `deadline`.

        Raises:
            CniError: it prints too much.
        """
        process, has_exited = self._process, False
        with selectors.PollSelector() as selector:
            selector.register(_nonblocking(process.stdin), selectors.EVENT_WRITE, self._give)
            selector.register(_nonblocking(process.stdout), selectors.EVENT_READ, self._take_answer)
            selector.register(_nonblocking(process.stderr), selectors.EVENT_READ, self._take_words)
            while selector.get_map() and time.monotonic() < deadline:
                for key, _ in selector.select(_LOOK):
                    if not key.data(key.fd):
                        selector.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]  # what was registered above
                if not has_exited and _has_exited(process):
                    has_exited, deadline = True, min(deadline, time.monotonic() + _GRACE)
            if selector.get_map() and has_exited:
                _end_group(process)  # what it left behind holds our pipes

    def _give(self, pipe: int) -> bool:
        """Write what the pipe takes of stdin; tell if there is more."""
        try:
            self._unsent = self._unsent[os.write(pipe, self._unsent[:_CHUNK]) :]
        except BrokenPipeError:
            return False  # it needs no more
        return bool(self._unsent)

    def _take_answer(self, pipe: int) -> bool:
        return self._take(pipe, self.stdout, "stdout", Code.DECODING_FAILURE)

    def _take_words(self, pipe: int) -> bool:
        return self._take(pipe, self.stderr, "stderr", Code.DELEGATE_FAILED)

    def _take(self, pipe: int, said: bytearray, where: str, code: Code) -> bool:
        """Read what there is; tell if more may come."""
        chunk = os.read(pipe, _CHUNK)
        said += chunk
        if len(said) > MAX_BYTES:
            raise CniError(
                f"{self._name} printed more than {MAX_BYTES} bytes on {where} for {self._request.command}",
                why="It was ended; what it did meanwhile is undone by its own DEL.",
                fix="Look for what makes it so talkative; an answer has a few kilobytes.",
                code=code,
            )
        return bool(chunk)


def _nonblocking(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101  # for mypy: all three were asked for
    os.set_blocking(pipe.fileno(), False)
    return pipe


def _has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process has ended, and leave it to be waited for."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _timeout(request: Request) -> float:
    """PODRAIL_DELEGATE_TIMEOUT, seconds, for those whose delegates are slower or must be faster."""
    try:
        seconds = float(request.variable("PODRAIL_DELEGATE_TIMEOUT") or TIMEOUT)
    except ValueError:
        return TIMEOUT
    return seconds if 0 < seconds < float("inf") else TIMEOUT


def _not_started(name: str, executable: Path, error: OSError) -> CniError:
    passes = error.errno in _PASSING
    return CniError(
        f"{name} cannot be executed: {error.strerror}",
        why=f"It was found at {executable}.",
        fix="Call again; if that does not help, see who writes to it, and what limits processes here."
        if passes
        else "Install it anew; it must be executable and made for this machine.",
        code=Code.TRY_AGAIN_LATER if passes else Code.DELEGATE_FAILED,
    )


def _too_slow(name: str, request: Request) -> CniError:
    return CniError(
        f"{name} did not answer {request.command} within {_timeout(request):g} s",
        why="It was ended; what it did meanwhile is undone by its own DEL.",
        fix="Look at what it waits for, then call again.",
        code=Code.TRY_AGAIN_LATER,
    )


def _silent_death(name: str, request: Request, status: int, told: str) -> CniError:
    how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
    return CniError(
        f"{name} {how} on {request.command} without an answer",
        why=f"It said: {told[-500:]}" if told else "It said nothing on stderr either.",
        fix="Look at the node's log for it.",
        code=Code.DELEGATE_FAILED,
    )
