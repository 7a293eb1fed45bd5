"""Files that are whole or absent: seen by readers meanwhile, by rivals, and after a failure."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni import durable

SMALL, LARGE = b"a" * 10, b"b" * 100_000
_fork = multiprocessing.get_context("fork")

Write = Callable[[Path, bytes, Path], None]
both = pytest.mark.parametrize("write", [durable.create, durable.replace])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


# -- one writer ------------------------------------------------------------------------------------


@both
def test_what_was_written_is_read(root: Path, write: Write) -> None:
    path = root / "a" / "b" / "file"
    write(path, LARGE, root)
    assert (durable.read(path), files(root)) == (LARGE, ["a/b/file"])


@both
def test_only_the_owner_may_read_and_look(root: Path, write: Write) -> None:
    write(root / "a" / "file", SMALL, root)
    modes = [(root / name).stat().st_mode & 0o777 for name in (".", "a", "a/file")]
    assert modes == [0o700, 0o700, 0o600]


def test_a_file_that_exists_is_not_created_anew(root: Path) -> None:
    path = root / "a" / "file"
    durable.create(path, SMALL, root)
    with pytest.raises(FileExistsError) as refusal:
        durable.create(path, LARGE, root)
    assert refusal.value.filename == str(path)
    assert (durable.read(path), files(root)) == (SMALL, ["a/file"])


def test_what_is_not_there_is_read_as_none_and_removed_with_success(root: Path) -> None:
    assert durable.read(root / "a" / "file") is None
    durable.remove(root / "a" / "file", root)
    assert not root.exists()


def test_removing_leaves_no_empty_directory_below_the_root(root: Path) -> None:
    durable.create(root / "a" / "b" / "one", SMALL, root)
    durable.create(root / "a" / "two", SMALL, root)
    durable.remove(root / "a" / "b" / "one", root)
    assert sorted(path.name for path in root.rglob("*")) == ["a", "two"]
    durable.remove(root / "a" / "two", root)
    assert list(root.iterdir()) == []


def test_what_a_killed_writer_left_is_removed_with_its_file_and_no_other(root: Path) -> None:
    folder = root / "a"
    durable.create(folder / "file*", SMALL, root)
    for draft in (".file*.17", ".file*.18", ".file-of-another.17", ".file.17"):
        (folder / draft).touch()
    durable.remove(folder / "file*", root)
    assert files(root) == ["a/.file-of-another.17", "a/.file.17"]
    durable.tidy(folder, root)
    assert list(root.iterdir()) == []


def test_tidying_leaves_what_has_a_name(root: Path) -> None:
    durable.create(root / "a" / "file", SMALL, root)
    (root / "a" / ".file.17").touch()
    durable.tidy(root / "a", root)
    assert files(root) == ["a/file"]


# -- failures --------------------------------------------------------------------------------------


@both
def test_a_file_in_the_place_of_a_directory_is_an_error_that_names_the_file(root: Path, write: Write) -> None:
    root.mkdir()
    (root / "a").touch()
    with pytest.raises(OSError, match="a/file") as refusal:
        write(root / "a" / "file", SMALL, root)
    assert refusal.value.errno in (errno.ENOTDIR, errno.EEXIST)
    assert files(root) == ["a"]


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for names but not for much content."""
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@both
def test_a_full_disk_leaves_nothing_and_names_the_file(full: Path, write: Write) -> None:
    with pytest.raises(OSError, match="a/b/file") as refusal:
        write(full / "a" / "b" / "file", LARGE, full)
    assert refusal.value.errno == errno.ENOSPC
    assert list(full.iterdir()) == []


def test_a_full_disk_leaves_the_file_that_was_to_be_replaced(full: Path) -> None:
    path = full / "a" / "file"
    durable.replace(path, SMALL, full)
    with pytest.raises(OSError, match="a/file"):
        durable.replace(path, LARGE, full)
    assert (durable.read(path), files(full)) == (SMALL, ["a/file"])


# -- several at once -------------------------------------------------------------------------------


def _replace_again_and_again(path: Path, root: Path) -> None:
    for data in (SMALL, LARGE) * 100:
        durable.replace(path, data, root)


def test_a_reader_never_sees_a_part_of_what_replaces_a_file(root: Path) -> None:
    path = root / "a" / "file"
    durable.create(path, SMALL, root)
    writer = _fork.Process(target=_replace_again_and_again, args=(path, root))
    writer.start()
    seen = set()
    while writer.is_alive():
        seen.add(durable.read(path))
    writer.join()
    assert writer.exitcode == 0
    assert seen == {SMALL, LARGE}
    assert files(root) == ["a/file"]


def _create_and_remove(path: Path, root: Path, enough: Event) -> None:
    while not enough.is_set():
        durable.create(path, LARGE, root)
        durable.remove(path, root)


def test_a_reader_sees_a_new_file_whole_or_not_at_all(root: Path) -> None:
    path = root / "a" / "file"
    enough = _fork.Event()
    writer = _fork.Process(target=_create_and_remove, args=(path, root, enough))
    writer.start()
    seen = set()
    reads, deadline = 0, time.monotonic() + 60
    while (reads < 5000 or len(seen) < 2) and time.monotonic() < deadline:
        seen.add(durable.read(path))
        reads += 1
    enough.set()
    writer.join()
    assert writer.exitcode == 0
    assert seen == {None, LARGE}
    assert list(root.iterdir()) == []


def _claim(path: Path, root: Path, number: int, start: int) -> None:
    os.read(start, 1)  # returns when the test has closed its end
    with suppress(FileExistsError):
        durable.create(path, str(number).encode(), root)
        os._exit(10)


def test_of_many_that_create_one_file_one_succeeds(root: Path) -> None:
    path = root / "a" / "file"
    reading, writing = os.pipe()
    rivals = []
    for number in range(8):
        rival = _fork.Process(target=_claim, args=(path, root, number, reading))
        rival.start()
        rivals.append(rival)
    for _ in rivals:
        os.write(writing, b".")
    for rival in rivals:
        rival.join()
    os.close(reading)
    os.close(writing)
    winners = [number for number, rival in enumerate(rivals) if rival.exitcode == 10]
    assert [rival.exitcode for rival in rivals if rival.exitcode != 10] == [0] * 7
    assert durable.read(path) == str(winners[0]).encode()


def _come_and_go(folder: Path, root: Path, number: int) -> None:
    for _ in range(50):
        durable.create(folder / str(number), SMALL, root)
        durable.remove(folder / str(number), root)


def test_directories_that_others_remove_when_empty_are_made_again(root: Path) -> None:
    rivals = [
        _fork.Process(target=_come_and_go, args=(root / "a" / "b", root, number)) for number in range(4)
    ]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    assert [rival.exitcode for rival in rivals] == [0] * 4
    assert list(root.iterdir()) == []


# -- names -----------------------------------------------------------------------------------------

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=300)


@given(names)
def test_any_name_becomes_one_that_a_file_system_has_room_for(name: str) -> None:
    component = durable.component(name)
    assert len(os.fsencode(component)) <= 200
    assert "/" not in component
    if len(os.fsencode(name)) <= 200:
        assert component == name


@given(names, names)
def test_two_names_never_become_one(one: str, other: str) -> None:
    assert (durable.component(one) == durable.component(other)) is (one == other)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({}, "/var/lib/cni/podrail", id="unset"),
        pytest.param({"PODRAIL_STATE_DIR": ""}, "/var/lib/cni/podrail", id="empty"),
        pytest.param({"PODRAIL_STATE_DIR": "/data/podrail"}, "/data/podrail", id="set"),
    ],
)
def test_where_state_is_kept(environment: dict[str, str], expected: str) -> None:
    assert durable.state_directory(environment) == Path(expected)
