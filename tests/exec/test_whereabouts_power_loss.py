"""Power that fails during a call: what the disk has by then becomes the state before or after.

The state lies on an ext4 file system in an image. Before each change that a call makes, and after its last,
the image is copied as the disk has it: without what the kernel has not written yet, or with the names that
it has written before the contents, or with all. Then each copy is mounted in its place, under another
boot ID, as after a restart, and is looked at.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from cni import durable
from cni.boot import boot_id
from cni.protocol.plugin import run
from cni.protocol.request import Request
from cni.protocol.signals import again_in_time
from tests.support.apiserver import ApiServer
from tests.support.disk import Disk, mounted
from tests.support.node import Node
from tests.support.processes import forked, status_of
from tests.support.stores import Cluster
from tests.support.world import BIN

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CHANGES = {"os.link", "os.symlink", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
_POD = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}"
_IPAM = {"type": "whereabouts", "datastore": "file", "range": "10.1.0.0/24"}
_CONF = {"cniVersion": "1.1.0", "name": "rail", "type": "macvlan", "ipam": _IPAM}


def copies(
    disk: Disk, work: Callable[[], object], folder: Path, written: Callable[[Path], None]
) -> list[Path]:
    """Do something; return the images of the disk before each change of it and after the last.

    `written` lets the kernel write so much before each.
    """
    folder.mkdir()

    def watched() -> int:
        taken = 0

        def copy() -> None:
            nonlocal taken
            taken += 1
            written(disk.place)
            shutil.copyfile(disk.image, folder / f"{taken:03}")

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in _CHANGES:
                copy()

        sys.addaudithook(hook)
        work()
        copy()
        return 0

    assert status_of(forked(watched)) == 0
    return sorted(folder.iterdir())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path, 4 << 20) as disk:
        yield disk


def call(disk: Disk, command: str, pod: str) -> tuple[int, dict[str, Any]]:
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": f"container-{pod}",
        "CNI_IFNAME": "net1",
        "CNI_NETNS": "/run/netns/none",
        "CNI_PATH": str(BIN),
        "CNI_ARGS": _POD.format(pod),
        "PODRAIL_STATE_DIR": str(disk.place / "podrail"),
        "PODRAIL_RUN_DIR": str(disk.place.parent / "run"),
    }
    with again_in_time():
        reply = run("whereabouts", Request(command, environment, json.dumps(_CONF).encode()))
    return reply.exit_status, json.loads(reply.stdout or b"{}")


def given(disk: Disk, pod: str) -> str:
    status, answer = call(disk, "ADD", pod)
    assert status == 0, answer
    return str(answer["ips"][0]["address"])


def entries(disk: Disk) -> list[Path]:
    return list((disk.place / "podrail" / "ipam").glob("pools/*/addresses/*/[!.]*"))


def held(disk: Disk) -> dict[str, str]:
    """Return the entries that are on the disk, all whole, with the pods that hold them."""
    return {path.name: json.loads(path.read_text())["podref"] for path in entries(disk)}


def held_after_a_restart(disk: Disk) -> dict[str, str]:
    """Return what is held once any call has looked at the store, which STATUS finds sound before."""
    status, answer = call(disk, "STATUS", "none")
    assert status == 0, answer
    assert call(disk, "DEL", "none") == (0, {})
    return held(disk)


def assert_sound(disk: Disk) -> None:
    """No address is given twice, and when all pods are gone nothing is left."""
    assert given(disk, "next") not in {f"{address}/24" for address in held(disk)} - {given(disk, "next")}
    for pod in ("web", "first", "next"):
        assert call(disk, "DEL", pod) == (0, {})
    left = [path for path in (disk.place / "podrail").rglob("*") if path.is_file()]
    assert left == []


@contextmanager
def another_boot(folder: Path) -> Iterator[None]:
    """Within the block, the machine has another boot ID."""
    told = folder / "boot_id"
    told.write_text(f"{uuid4()}\n")
    subprocess.run(["mount", "--bind", str(told), str(BOOT_ID)], check=True)
    boot_id.cache_clear()
    try:
        yield
    finally:
        subprocess.run(["umount", str(BOOT_ID)], check=True)
        boot_id.cache_clear()


def each_restart(disk: Disk, images: list[Path], look: Callable[[bool], None]) -> None:
    """Mount each image in the disk's place and look at it; tell whether the call had answered."""
    disk.unmount()
    try:
        for image in images:
            disk.mount(image)
            try:
                with another_boot(disk.place.parent):
                    look(image == images[-1])
            finally:
                disk.unmount()
    finally:
        disk.mount()


WRITTEN = {
    "nothing": lambda _place: None,
    "names": durable.sync_directory,  # the file system's journal, and no contents of files
    "all": lambda _place: os.sync(),
}


@pytest.mark.parametrize(
    ("others", "written"), [((), "nothing"), ((), "names"), (("first",), "names"), (("first",), "all")]
)
def test_an_add_is_on_the_disk_or_not(
    disk: Disk, tmp_path: Path, others: tuple[str, ...], written: str
) -> None:
    for pod in others:
        given(disk, pod)
    before = held(disk)
    os.sync()
    images = copies(disk, lambda: given(disk, "web"), tmp_path / "images", WRITTEN[written])
    after = before | {f"10.1.0.{len(before) + 1}": "default/web"}
    assert len(images) > 5
    seen, torn = [], []

    def look(_is_answered: bool) -> None:  # no pod lives then: nothing is lost with an address of theirs
        torn.extend(path for path in entries(disk) if path.stat().st_size == 0)
        found = held_after_a_restart(disk)
        seen.append(found)
        assert found in (before, after)
        assert_sound(disk)

    each_restart(disk, images, look)
    assert seen[0] == before
    assert bool(torn) == (written == "names")
    assert (after in seen) == (written == "all")


@pytest.mark.parametrize(("others", "written"), [((), "nothing"), ((), "names"), (("first",), "all")])
def test_a_delete_is_on_the_disk_or_not_and_once_answered_it_is(
    disk: Disk, tmp_path: Path, others: tuple[str, ...], written: str
) -> None:
    for pod in (*others, "web"):
        given(disk, pod)
    before = held(disk)
    os.sync()
    images = copies(disk, lambda: call(disk, "DEL", "web"), tmp_path / "images", WRITTEN[written])
    after = {address: pod for address, pod in before.items() if pod != "default/web"}
    assert len(images) > 4

    def look(is_answered: bool) -> None:
        found = held_after_a_restart(disk)
        assert found == after if is_answered else found in (before, after)
        assert_sound(disk)

    each_restart(disk, images, look)


def test_an_add_after_a_restart_gets_what_the_lost_one_had(disk: Disk, tmp_path: Path) -> None:
    images = copies(disk, lambda: given(disk, "web"), tmp_path / "images", WRITTEN["names"])

    def look(_is_answered: bool) -> None:
        assert given(disk, "web") == "10.1.0.1/24"
        assert list(held(disk)) == ["10.1.0.1"]
        assert_sound(disk)

    each_restart(disk, images, look)


@pytest.mark.parametrize("written", ["nothing", "names"])
def test_what_an_add_holds_in_a_cluster_is_on_record_after_a_restart(
    disk: Disk, tmp_path: Path, apiserver: ApiServer, written: str
) -> None:
    node = Node(Cluster.of(apiserver), disk.place / "podrail")
    os.sync()
    images = copies(disk, node.add, tmp_path / "images", WRITTEN[written])
    assert len(images) > 3
    assert list(node.cluster.entries()) == ["1"]

    def look(_is_answered: bool) -> None:
        # The record alone: who called this plugin may have lost its own.
        node.delete({"cniVersion": "1.0.0", "name": "rail", "ipam": {"range": 7}}, CNI_ARGS="")

    each_restart(disk, images[-1:], look)
    assert (node.cluster.entries(), node.cluster.reservations()) == ({}, {})
