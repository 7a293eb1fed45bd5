"""A call that the kernel or the disk refuses: one error that names what it was about, and nothing left.

Default: each netlink call, each call that opens or enters a namespace or makes a socket, each file
operation on the journal and on sysctls fails once. With --exhaustive: file operations fail in two ways
each, setsockopt fails too, host-local is the IPAM plugin too, and SIGTERM arrives at each call whatsoever.
Not failed are calls that delegates make alike, those with which the interpreter starts, and the way back
from a namespace, where the thread was a moment ago.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.scenes import SCENES, Scene, assert_each, assert_same, scene
from tests.support.strace import Call, calls_of, failed_at, interrupted_at
from tests.support.world import GO_BIN, Answer, run

_REFUSALS = {
    "sendto": "ENOBUFS",
    "recvfrom": "ENOBUFS",
    "socket": "EMFILE",
    "bind": "ENOMEM",
    "setsockopt": "ENOMEM",
    "setns": "EPERM",
}
_FILE_OPERATIONS = (
    "openat",
    "read",
    "write",
    "fsync",
    "mkdir",
    "linkat",
    "symlink",
    "readlink",
    "rename",
    "unlink",
    "rmdir",
)
_OBJECT = re.compile(
    r'"(net1|eth0|dev0|an-alternative-name|link \d+)"'
    r"|/run/netns/pod|/state/(attachments|reservations|ipam)\b"
    r"|(links|addresses|routes|netlink socket) (on the host|in the sandbox)"
)
_WHEREABOUTS = re.compile(r"/state/(ipam|attachments/whereabouts)(/|$)")
_IN_DEFAULT = ("macvlan-with-static-reserved", "host-device-veth-with-static", "macvlan-with-whereabouts")


@dataclass(frozen=True)
class Fault:
    """One call that fails; `is_minor` says that the attachment does not depend on it."""

    call: Call
    error: str
    is_minor: bool

    def __str__(self) -> str:
        return f"{self.call} {self.error}"


@pytest.fixture(params=SCENES)
def kind(request: pytest.FixtureRequest, exhaustive: bool) -> str:
    if not (exhaustive or request.param in _IN_DEFAULT):
        pytest.skip("differs from the others by its delegate; --exhaustive runs it")
    return str(request.param)


def _is_worth_failing(it: Scene, call: Call, *, exhaustive: bool) -> bool:
    if call.name == "mkdir" and "EEXIST" in call.arguments:
        return False  # no kernel has another word for a directory that is there already
    if exhaustive:
        return True
    if it.conf["ipam"].get("type") == "whereabouts" and not _WHEREABOUTS.search(call.path):
        return False  # the calls of others are the same as with static
    return call.name != "setsockopt"  # the same place reports it as socket's and bind's failure


def _faults(it: Scene, calls: Sequence[Call], *, exhaustive: bool) -> Iterator[Fault]:
    configured = max(index for index, call in enumerate(calls) if call.is_of_netlink)
    looked_at: set[Path] = set()
    for index, call in enumerate(calls):
        is_on_state = call.path.startswith(str(it.world.state))
        if not _is_worth_failing(it, call, exhaustive=exhaustive):
            continue
        if call.path.startswith("/proc/sys/net/") and "O_RDONLY" in call.arguments:
            folder = Path(call.path).parent
            if folder in looked_at:
                continue  # all settings of a device are read alike
            looked_at.add(folder)
        if call.name in _REFUSALS and not (call.name == "setns" and call.path.startswith("net:")):
            # What comes after the last netlink call tells the neighbours, which is a courtesy.
            yield Fault(call, _REFUSALS[call.name], is_minor=index > configured)
        elif call.name == "openat" and call.path == it.world.sandbox.path:
            yield Fault(call, "EMFILE", is_minor=False)
        elif call.name in ("openat", "write") and call.path.startswith("/proc/sys/net/"):
            yield Fault(call, "EACCES", is_minor=not call.path.endswith("/keep_addr_on_down"))
        elif call.name in _FILE_OPERATIONS and is_on_state:
            # A directory that is not there or not empty stays as it is, whatever the refusal is called.
            is_minor = call.name == "rmdir" and ") = -1 " in call.arguments
            # A store that does not know that it was looked through is only looked through again.
            is_minor |= call.path.endswith("/ipam/lock") and (
                "O_TRUNC" in call.arguments or call.name == "write"
            )
            for error in ("ENOSPC", "EIO") if exhaustive else ("ENOSPC",):
                yield Fault(call, error, is_minor=is_minor)


def _assert_names_its_object(answer: Answer) -> None:
    assert answer.status == 1, answer
    assert "Traceback" not in answer.stderr, answer
    error = answer.json
    assert {"cniVersion", "code", "msg"} <= set(error)
    assert error["code"] != 999, error
    assert _OBJECT.search(error["msg"]), error


def test_add_that_is_refused_a_call_says_of_what_and_leaves_nothing(kind: str, exhaustive: bool) -> None:
    with scene(kind) as it:
        faults = list(_faults(it, calls_of(it.world, "ADD", it.conf), exhaustive=exhaustive))

    def trial(it: Scene, before: Mapping[str, str], fault: Fault) -> None:
        answer = failed_at(it.world, "ADD", it.conf, fault.call, fault.error)
        if fault.is_minor:
            assert answer.status == 0, answer
            checked = it.world.call("CHECK", it.conf | {"prevResult": answer.json})
            assert (checked.status, checked.stdout) == (0, ""), checked
            it.world.delete(it.conf)
        else:
            _assert_names_its_object(answer)
        assert_same(before, it.everything())

    assert_each(trial, faults, kind)


def test_delete_that_is_refused_a_call_is_completed_by_the_next(kind: str, exhaustive: bool) -> None:
    with scene(kind) as it:
        it.world.add(it.conf)
        faults = list(_faults(it, calls_of(it.world, "DEL", it.conf), exhaustive=exhaustive))

    def trial(it: Scene, before: Mapping[str, str], fault: Fault) -> None:
        it.world.add(it.conf)
        answer = failed_at(it.world, "DEL", it.conf, fault.call, fault.error)
        if answer.status:
            _assert_names_its_object(answer)
        elif fault.call.name != "rmdir":  # an empty directory may stay; it is removed another time
            assert_same(before, it.everything())
        it.world.delete(it.conf)
        assert_same(before, it.everything())

    assert_each(trial, faults, kind)


@pytest.mark.parametrize("kind", SCENES[:1])
def test_add_that_is_told_to_stop_leaves_nothing_or_gives_its_result(kind: str, exhaustive: bool) -> None:
    with scene(kind) as it:
        calls = calls_of(it.world, "ADD", it.conf)
    done = max(index for index, call in enumerate(calls) if call.name == "sendto")
    steps = [*(call for call in calls[:done] if exhaustive or call.changes_something), *calls[done + 1 :]]

    def trial(it: Scene, before: Mapping[str, str], call: Call) -> None:
        answer = interrupted_at(it.world, "ADD", it.conf, call, "TERM")
        if answer.status:
            assert answer.json["code"] == 11, answer
        else:  # all was done when it came
            assert call in calls[done:], answer
            assert answer.json["interfaces"][0]["name"] == it.world.ifname
            it.world.delete(it.conf)
        assert_same(before, it.everything())

    assert_each(trial, steps, kind)


@pytest.mark.parametrize("kind", SCENES)
def test_add_that_cannot_give_its_answer_is_undone(kind: str) -> None:
    with scene(kind) as it:
        answering = [call for call in calls_of(it.world, "ADD", it.conf) if call.is_the_answer]

    def trial(it: Scene, before: Mapping[str, str], call: Call) -> None:
        answer = failed_at(it.world, "ADD", it.conf, call, "EPIPE")
        assert (answer.status, answer.stdout) == (1, ""), answer
        assert_same(before, it.everything())

    assert_each(trial, answering, kind)


@pytest.mark.parametrize("kind", SCENES[:1])
def test_file_systems_that_know_no_nameless_files_will_do(kind: str) -> None:
    with scene(kind) as it:
        nameless = [call for call in calls_of(it.world, "ADD", it.conf) if "O_TMPFILE" in call.arguments]

    def trial(it: Scene, before: Mapping[str, str], call: Call) -> None:
        assert failed_at(it.world, "ADD", it.conf, call, "EOPNOTSUPP").status == 0
        it.world.delete(it.conf)
        assert_same(before, it.everything())

    assert_each(trial, nameless, kind)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("kill -9 $$", id="before-it-does-anything"),
        pytest.param(f"{GO_BIN}/host-local >/dev/null; kill -9 $$", id="after-it-has-taken-an-address"),
    ],
)
@pytest.mark.parametrize("kind", [kind for kind in SCENES if kind.endswith("host-local")])
def test_nothing_is_left_when_the_ipam_plugin_is_killed(kind: str, script: str) -> None:
    with scene(kind) as it:
        dying = it.leases.with_name("bin") / "host-local"
        dying.parent.mkdir()
        dying.write_text(f'#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] || exec {GO_BIN}/host-local\n{script}\n')
        dying.chmod(0o755)
        it.world.path = f"{dying.parent}:{it.world.path}"
        before = it.everything()
        assert it.world.refused("ADD", it.conf)["code"] == 103
        assert_same(before, it.everything())


# -- the disk as it is ----------------------------------------------------------------------------


@pytest.fixture
def on_a_small_disk() -> Iterator[Scene]:
    """A scene whose state directory is a file system of its own, of a few pages."""
    with scene(SCENES[0]) as it:
        run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", it.world.state)
        yield it
        run("umount", it.world.state)


def _fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_add_on_a_full_disk_is_refused_before_anything_is_made(on_a_small_disk: Scene) -> None:
    it = on_a_small_disk
    filler = _fill(it.world.state)
    before = it.everything()
    error = it.world.refused("ADD", it.conf)
    assert error["code"] == 5
    assert str(it.world.state) in error["msg"]
    assert_same(before, it.everything())
    filler.unlink()
    it.world.add(it.conf)


def test_delete_on_a_full_disk_gives_everything_back(on_a_small_disk: Scene) -> None:
    it = on_a_small_disk
    before = it.everything()
    it.world.add(it.conf)
    filler = _fill(it.world.state)
    it.world.delete(it.conf)
    filler.unlink()
    assert_same(before, it.everything())


def test_delete_on_a_read_only_disk_is_completed_when_that_can_be_written(on_a_small_disk: Scene) -> None:
    it = on_a_small_disk
    before = it.everything()
    it.world.add(it.conf)
    run("mount", "-o", "remount,ro", it.world.state)
    error = it.world.refused("DEL", it.conf)
    assert str(it.world.state) in json.dumps(error)
    run("mount", "-o", "remount,rw", it.world.state)
    it.world.delete(it.conf)
    assert_same(before, it.everything())
