"""Power that fails during a call: what the disk has by then is the state before or after, nothing between.

The state lies on an ext4 file system in an image. Before each change that a call makes, and after its last,
the image is copied as the disk has it, without what the kernel has not written yet; then each copy is mounted
in its place, as after a restart, and is looked at.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cni.protocol.plugin import run
from cni.protocol.request import Request
from cni.protocol.signals import again_in_time
from tests.support.processes import forked, status_of
from tests.support.world import BIN

_CHANGES = {"os.link", "os.symlink", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
_POD = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}"
_IPAM = {"type": "whereabouts", "datastore": "file", "range": "10.1.0.0/24"}
_CONF = {"cniVersion": "1.1.0", "name": "rail", "type": "macvlan", "ipam": _IPAM}


@dataclass
class Disk:
    """An image with a file system, and where that is mounted."""

    image: Path
    place: Path

    def mount(self, image: Path | None = None) -> None:
        command = ["mount", "-o", "loop,noatime", str(image or self.image), str(self.place)]
        subprocess.run(command, check=True, capture_output=True)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.place)], check=True, capture_output=True)

    def copies(self, work: Callable[[], object], folder: Path) -> list[Path]:
        """Do something; return the images of the disk before each change of it and after the last."""
        folder.mkdir()

        def watched() -> int:
            taken = 0

            def copy() -> None:
                nonlocal taken
                taken += 1
                shutil.copyfile(self.image, folder / f"{taken:03}")

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
    if os.geteuid() or not Path("/dev/loop-control").exists() or not shutil.which("mkfs.ext4"):
        pytest.skip("needs root, loop devices and mkfs.ext4")
    disk = Disk(tmp_path / "image", tmp_path / "disk")
    disk.place.mkdir()
    with disk.image.open("wb") as image:
        image.truncate(4 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk.image)], check=True, capture_output=True)
    disk.mount()
    yield disk
    disk.unmount()


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


def held(disk: Disk) -> dict[str, str]:
    """Return the entries that are on the disk, whole, with the pods that hold them."""
    entries = (disk.place / "podrail" / "ipam").glob("pools/*/addresses/*/[!.]*")
    return {path.name: json.loads(path.read_text())["podref"] for path in entries}


def assert_sound(disk: Disk) -> None:
    """Nothing is torn, and when all pods are gone nothing is left."""
    status, answer = call(disk, "STATUS", "none")
    assert status == 0, answer
    assert given(disk, "next") not in {f"{address}/24" for address in held(disk)} - {given(disk, "next")}
    for pod in ("web", "first", "next"):
        assert call(disk, "DEL", pod) == (0, {})
    left = [path for path in (disk.place / "podrail").rglob("*") if path.is_file()]
    assert left == []


def each_restart(disk: Disk, images: list[Path], look: Callable[[bool], None]) -> None:
    """Mount each image in the disk's place and look at it; tell whether the call had answered."""
    disk.unmount()
    try:
        for image in images:
            disk.mount(image)
            try:
                look(image == images[-1])
            finally:
                disk.unmount()
    finally:
        disk.mount()


@pytest.mark.parametrize("others", [(), ("first",)], ids=["in-an-empty-store", "beside-another-pod"])
def test_an_add_is_on_the_disk_or_not(disk: Disk, tmp_path: Path, others: tuple[str, ...]) -> None:
    for pod in others:
        given(disk, pod)
    before = held(disk)
    os.sync()
    images = disk.copies(lambda: given(disk, "web"), tmp_path / "images")
    after = before | {f"10.1.0.{len(before) + 1}": "default/web"}
    assert len(images) > 5
    seen = []

    def look(_is_answered: bool) -> None:  # no pod lives then: nothing is lost with an address of theirs
        found = held(disk)
        seen.append(found)
        assert found in (before, after)
        assert_sound(disk)

    each_restart(disk, images, look)
    assert seen[0] == before


@pytest.mark.parametrize("others", [(), ("first",)], ids=["of-the-last-pod", "beside-another-pod"])
def test_a_delete_is_on_the_disk_or_not_and_once_answered_it_is(
    disk: Disk, tmp_path: Path, others: tuple[str, ...]
) -> None:
    for pod in (*others, "web"):
        given(disk, pod)
    before = held(disk)
    os.sync()
    images = disk.copies(lambda: call(disk, "DEL", "web"), tmp_path / "images")
    after = {address: pod for address, pod in before.items() if pod != "default/web"}
    assert len(images) > 4

    def look(is_answered: bool) -> None:
        found = held(disk)
        assert found == after if is_answered else found in (before, after)
        assert_sound(disk)

    each_restart(disk, images, look)


def test_an_add_after_a_restart_gets_what_the_lost_one_had(disk: Disk, tmp_path: Path) -> None:
    images = disk.copies(lambda: given(disk, "web"), tmp_path / "images")

    def look(_is_answered: bool) -> None:
        assert given(disk, "web") == "10.1.0.1/24"
        assert list(held(disk)) == ["10.1.0.1"]
        assert_sound(disk)

    each_restart(disk, images, look)
