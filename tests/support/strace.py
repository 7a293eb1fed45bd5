"""Drive a plugin from outside, by its system calls: list them, end it before one, let one fail.

Everything is done by strace's injection, so shipped code needs no switches and a trial depends on no
time. Calls are counted as strace counts them: by name, in one process, from 1.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.support.world import Answer, World

_FILES = (
    "openat,close,read,write,fsync,mkdir,link,linkat,symlink,readlink,rename,unlink,rmdir,newfstatat,"
    "getdents64,access"
)
_NETWORK = "socket,bind,setsockopt,getsockopt,ioctl,setns,sendto,recvfrom,sendmsg,recvmsg"
_PROCESSES = "pipe2,fork,vfork,clone,clone3,execve,poll,wait4"
_TRACED = ",".join((_FILES, _NETWORK, _PROCESSES))

_LINE = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<arguments>.*)")
_KILLED = re.compile(r"(?P<pid>\d+) +\+\+\+ killed by SIGKILL \+\+\+")
_THREAD = re.compile(r"CLONE_THREAD.* = (?P<pid>\d+)")
_PATH = re.compile(r'"(/[^"]*)"')
_FD_PATH = re.compile(r"^\d+<(?P<path>[^>]*)>")
_NETLINK_TYPE = re.compile(r"nlmsg_type=(0x[0-9a-f]+|0)\b")
_FORKS = {"fork", "vfork", "clone", "clone3"}
_CHANGING = {"mkdir", "link", "linkat", "symlink", "rename", "unlink", "rmdir", *_FORKS}
# Names of calls that delegates in Go do not make: they use the `…at` forms.
_OURS_ALONE = {"mkdir", "link", "rename", "unlink", "rmdir", "setns", "sendto", "recvfrom", "bind"}
_FEW = 10  # no thread of a delegate makes more calls of one name
_RTM = {0x10: "LINK", 0x14: "ADDR", 0x18: "ROUTE", 0x6C: "LINKPROP"}
_RTM_KINDS = ("NEW", "DEL", "GET", "SET")  # rtnetlink numbers the four of an object in this order
# What the interpreter reads for itself says nothing about a plugin.
_INTERPRETER = tuple(
    {sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), "/usr/lib", "/lib", "/etc", "/usr/share"}
)


_compiled: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class Call:
    """One system call of a plugin's own process, in the order of the run."""

    name: str
    number: int  # among the calls of this name, from 1
    arguments: str  # as strace prints them

    @property
    def path(self) -> str:
        """The file that the call is about, empty if it is about none."""
        of_descriptor = _FD_PATH.match(self.arguments)
        if of_descriptor:
            return of_descriptor["path"]
        found = _PATH.search(self.arguments)
        return found[1] if found else ""

    @property
    def messages(self) -> tuple[str, ...]:
        """The rtnetlink messages that the call sends, such as `NEWLINK`."""
        if not self.name.startswith("send"):
            return ()
        types = _NETLINK_TYPE.findall(self.arguments.split(" msg=")[0])
        return tuple(_message_name(int(number, 16)) for number in types)

    @property
    def is_of_netlink(self) -> bool:
        return "nlmsg_" in self.arguments or "AF_NETLINK" in self.arguments

    @property
    def changes_something(self) -> bool:
        """Whether others can tell afterwards that it was made: files, links, processes, answers.

        Waiting for a delegate is such a call too: meanwhile that one changes things.
        """
        if ") = -1 " in self.arguments:
            return False
        if self.name == "openat":
            return "O_CREAT" in self.arguments and not self.path.startswith("/proc/")
        if self.name == "write":  # not to stderr, nor to a file that has no name yet
            return not self.arguments.startswith("2<") and "(deleted)" not in self.arguments
        if self.name in ("sendto", "sendmsg"):
            return not self.is_of_netlink or any(not name.startswith("GET") for name in self.messages)
        return self.name in _CHANGING or self.waits_for_delegate

    @property
    def is_the_answer(self) -> bool:
        return self.name == "write" and self.arguments.startswith("1<")

    @property
    def waits_for_delegate(self) -> bool:
        return self.name == "wait4" or (self.name == "poll" and "<pipe:" in self.arguments)

    def __str__(self) -> str:
        """Say what it is about, without what differs from run to run."""
        about = "+".join(self.messages) or _without_numbers(Path(self.path).name)
        return f"{self.name} {self.number} ({about})" if about else f"{self.name} {self.number}"


def calls_of(world: World, command: str, conf: Mapping[str, Any], *, status: int = 0) -> list[Call]:
    """Run a plugin once, with the exit status that is told, and return the calls that matter.

    These are its calls from the first on that touches the state directory, the sandbox or a netlink
    socket, without what the interpreter does for itself, such as imports.
    """
    _compile(world, command, conf)
    answer, log = _traced(world, command, conf, "-e", f"trace={_TRACED}")
    assert answer.status == status, answer
    calls = _parse(log)
    marks = (str(world.state), world.sandbox.path, "AF_NETLINK")
    first = next(index for index, call in enumerate(calls) if any(mark in call.arguments for mark in marks))
    return [call for call in _told_apart(calls[first:]) if not _is_of_interpreter(call)]


def _compile(world: World, command: str, conf: Mapping[str, Any]) -> None:
    """Let the interpreter write the bytecode of what these calls import, once, so that it finds it."""
    what = (conf["type"], conf["ipam"].get("type", ""))
    if what in _compiled:
        return
    steps = (world.add, world.delete) if command == "ADD" else (world.delete, world.add)
    for step in steps:
        step(conf)
    _compiled.add(what)


def _told_apart(calls: list[Call]) -> list[Call]:
    """Leave out what strace, which counts calls in each process alike, cannot tell from a delegate's.

    That is what follows the start of one and has a low number; of the calls that wait for its
    answer, whose number depends on time, the second (it has its input) and the end remain.
    """
    started = next((index for index, call in enumerate(calls) if call.name in _FORKS), len(calls))
    kept = calls[: started + 1]
    waits = [call for call in calls[started + 1 :] if call.waits_for_delegate]
    steady = waits[1:2] + [call for call in waits if (call.name, call.number) == ("wait4", 1)]
    for call in calls[started + 1 :]:
        # By the time it answers, its delegates have ended.
        is_unlike_a_delegates = call.number > _FEW or call.name in _OURS_ALONE or call.is_the_answer
        if call in steady or (is_unlike_a_delegates and not call.waits_for_delegate):
            kept.append(call)
    return kept


def killed_before(world: World, command: str, conf: Mapping[str, Any], call: Call) -> None:
    """Run a plugin and end it, by SIGKILL, when it is about to make a call.

    A delegate that it has started goes on, and has ended when this returns.
    """
    # No --seccomp-bpf here: with it, strace 6.1 sends no signal.
    answer, log = _traced(world, command, conf, *_injection(call, "signal=KILL"))
    killed = {match["pid"] for line in log.splitlines() if (match := _KILLED.fullmatch(line))}
    killed -= {match["pid"] for match in _THREAD.finditer(log)}  # they end with their process
    assert killed == {_pid_of(log)}, f"not it, but {killed} was killed before {call}: {answer}\n{log[-2000:]}"
    assert answer.stdout == "", answer
    _assert_reached(log, call)


def interrupted_at(world: World, command: str, conf: Mapping[str, Any], call: Call, by: str) -> Answer:
    """Run a plugin that gets a signal such as `TERM` at a call, and return its answer."""
    answer, log = _traced(world, command, conf, *_injection(call, f"signal={by}"))
    _assert_reached(log, call)
    return answer


def failed_at(world: World, command: str, conf: Mapping[str, Any], call: Call, error: str) -> Answer:
    """Run a plugin in which one call fails with an error such as `ENOSPC`, and return its answer."""
    answer, log = _traced(world, command, conf, "--seccomp-bpf", *_injection(call, f"error={error}"))
    _assert_reached(log, call)
    assert "(INJECTED)" in log, log[-2000:]
    return answer


class Paused:
    """A plugin that stands still after a call, until it is told to go on."""

    def __init__(self, world: World, command: str, conf: Mapping[str, Any], call: Call) -> None:
        self._call = call
        reading, writing = os.pipe()
        self._log = os.fdopen(reading)
        self._told = ""
        self._process = subprocess.Popen(
            _command_line(world, conf, f"/proc/self/fd/{writing}", _injection(call, "signal=STOP")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=world.environment(command),
            pass_fds=[writing],
        )
        os.close(writing)
        assert self._process.stdin
        self._process.stdin.write(json.dumps(conf).encode())
        self._process.stdin.close()
        self._process.stdin = None

    def wait(self) -> Self:
        """Return when it stands still."""
        for line in self._log:
            self._told += line
            if "stopped by SIGSTOP" in line:
                _assert_reached(self._told, self._call)
                return self
        raise AssertionError(f"it ended before {self._call}: {self.answer()}")

    def go_on(self) -> None:
        os.kill(int(_pid_of(self._told)), signal.SIGCONT)

    def answer(self) -> Answer:
        stdout, stderr = self._process.communicate()
        self._log.close()
        return Answer(self._process.returncode, stdout.decode(), stderr.decode())


def _injection(call: Call, what: str) -> tuple[str, ...]:
    return (
        "-e",
        f"trace=execve,clone,clone3,{call.name}",
        "-e",
        f"inject={call.name}:{what}:when={call.number}",
    )


def _command_line(
    world: World, conf: Mapping[str, Any], log: str, options: Sequence[str]
) -> list[str | Path]:
    strace = ("strace", "-f", "-y", "-X", "verbose", "-s", "64", "-o", log, *options)
    # Bytecode that is written in one run and read in the next would make their calls differ.
    plugin = ("-E", "PYTHONDONTWRITEBYTECODE=1", "--", world.bin / conf["type"])
    return ["ip", "netns", "exec", world.host.name, *strace, *plugin]


def _traced(world: World, command: str, conf: Mapping[str, Any], *options: str) -> tuple[Answer, str]:
    with tempfile.NamedTemporaryFile(prefix="strace-", mode="r") as log:
        done = subprocess.run(
            _command_line(world, conf, log.name, options),
            input=json.dumps(conf).encode(),
            env=world.environment(command),
            capture_output=True,
            check=False,
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode()), log.read()


def _parse(log: str) -> list[Call]:
    """Return the calls of the plugin's own process, without those of its delegates.

    The log must begin with its execve.
    """
    own, counts, calls = _pid_of(log), Counter[str](), []
    for line in log.splitlines():
        match = _LINE.fullmatch(line)
        if match and match["pid"] == own:
            counts[match["name"]] += 1
            calls.append(Call(match["name"], counts[match["name"]], match["arguments"]))
    return calls


def _pid_of(log: str) -> str:
    return log.partition(" ")[0]


def _assert_reached(log: str, call: Call) -> None:
    """A run that differs from the recorded one would be a trial of something else."""
    reached = [each for each in _parse(log) if (each.name, each.number) == (call.name, call.number)]
    assert [str(each) for each in reached] == [str(call)], f"the run came to {reached} instead of {call}"


def _without_numbers(text: str) -> str:
    return re.sub(r"[0-9a-f]{32,}|\d{2,}(x\d+)?", "#", text)


def _message_name(kind: int) -> str:
    known = _RTM.get(kind & ~3)
    return f"{_RTM_KINDS[kind & 3]}{known}" if known else hex(kind)


def _is_of_interpreter(call: Call) -> bool:
    is_above = bool(call.path) and any(place.startswith(call.path) for place in _INTERPRETER)
    return is_above or call.path.startswith(_INTERPRETER)
