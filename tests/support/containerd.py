"""A containerd of a test's own: its files, mounts and processes end with it.

It stands on the host's namespace of the test, in mount and process namespaces of its own, where the
places that containerd cannot be told to look elsewhere for, such as /etc/cni, are its own too.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pytest

from tests.support.world import BIN, GO_BIN, Answer, Namespace

_BUSYBOX = Path("/bin/busybox")
_COMMANDS = {"busybox-static": "busybox", "containerd": "ctr", "runc": "runc"}  # and their Debian packages
_SECONDS = 60  # longer than anything here takes
_CREDENTIALS = struct.Struct("3i")  # SCM_CREDENTIALS: process, user and group ID

# The directories that get a layer of our own: libcni's configuration, its executables, its cache.
_SET_UP = """
mkdir -p "$0" && mount -t tmpfs tmpfs "$0" && cd "$0"
for place in etc opt var/lib; do
    mkdir -p "upper/$place" "work/$place"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=upper/$place,workdir=work/$place" "/$place"
done
mount -t tmpfs tmpfs /run
rm -rf /etc/cni /opt/cni /var/lib/cni
mkdir -p /etc/cni/net.d /opt/cni/bin rootfs/bin rootfs/proc rootfs/sys rootfs/dev
cp "$BUSYBOX" rootfs/bin/busybox && ln -s busybox rootfs/bin/sh && ln -s busybox rootfs/bin/ip
cat >config.toml
exec containerd --config config.toml
"""
_CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "/run/containerd.sock"
[ttrpc]
address = "/run/containerd.sock.ttrpc"
"""
_numbers = itertools.count(1)


def _skip_if_something_is_missing() -> None:
    # The whole range of users is mapped only where nothing is mapped: in no user namespace.
    if os.geteuid() or "4294967295" not in Path("/proc/self/uid_map").read_text():
        pytest.skip("runc makes cgroups, which takes the machine's root")
    missing = [package for package, command in _COMMANDS.items() if not shutil.which(command)]
    if missing:
        pytest.skip(f"not installed: Debian's {', '.join(missing)}; ./dev test installs them")


class Containerd:
    """Runs containers with `ctr`; containerd is there for as long as the `with` block."""

    def __init__(self, host: Namespace, folder: Path) -> None:
        _skip_if_something_is_missing()
        self._host = host
        self._folder = folder / "containerd"
        # Also the name of the containers' parent among the cgroups.
        self._namespace = f"podrail-test-{os.getpid()}-{next(_numbers)}"

    def __enter__(self) -> Self:
        notices, log = self._folder.with_suffix(".notify"), self._folder.with_suffix(".log")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as endpoint:
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            endpoint.bind(str(notices))
            with log.open("wb") as stderr:
                self._start(stderr, NOTIFY_SOCKET=str(notices), BUSYBOX=str(_BUSYBOX))
            ended = os.pidfd_open(self._process.pid)
            is_ready = endpoint.fileno() in select.select([endpoint.fileno(), ended], [], [], _SECONDS)[0]
            os.close(ended)
            if not is_ready:
                self._process.kill()
                self._process.wait()
                raise AssertionError(f"containerd did not start: {log.read_text()}")
            told, control, _, _ = endpoint.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
        assert told.startswith(b"READY=1"), told
        self._pid: int = _CREDENTIALS.unpack(control[0][2])[0]
        self._install()
        return self

    def _start(self, stderr: IO[bytes], **variables: str) -> None:
        # If this process is killed, so is unshare, and with it the namespace of all the others.
        command = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={self._host.path}"]
        command += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._process = subprocess.Popen(
            [*command, "sh", "-euc", _SET_UP, str(self._folder)],
            env={"PATH": os.environ["PATH"], **variables},
            stdin=subprocess.PIPE,
            stderr=stderr,
        )
        assert self._process.stdin
        with self._process.stdin as stdin:
            stdin.write(_CONFIG.format(folder=self._folder).encode())

    def _install(self) -> None:
        """Put executables where containerd looks for them: copies of ours, links to Debian's."""
        for plugin in ("macvlan", "static"):
            shutil.copy(BIN / plugin, self.path(f"/opt/cni/bin/{plugin}"))
        for plugin in ("host-local", "tuning"):
            self.path(f"/opt/cni/bin/{plugin}").symlink_to(GO_BIN / plugin)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        # containerd is the first process of its namespace: the kernel ends all others before it.
        os.kill(self._pid, signal.SIGTERM)
        try:
            self._process.wait(_SECONDS)
        finally:
            self._process.kill()
        for parent in self.cgroups():
            for folder in sorted(parent.rglob("*/"), reverse=True):
                folder.rmdir()
            parent.rmdir()

    def path(self, path: str) -> Path:
        """A file as containerd sees it."""
        return Path(f"/proc/{self._pid}/root{path}")

    def configure(self, *plugins: Mapping[str, Any], name: str = "rail", version: str = "1.0.0") -> None:
        """Write the one network that containers get."""
        conf = {"cniVersion": version, "name": name, "plugins": plugins}
        self.path("/etc/cni/net.d/10-test.conflist").write_text(json.dumps(conf))

    def ctr(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `ctr` beside containerd; plugins that it calls run there too."""
        entered = ("nsenter", "--target", str(self._pid), "--mount", "--net", "--pid")
        client = ("ctr", "--address", "/run/containerd.sock", "--namespace", self._namespace)
        return subprocess.Popen(
            [*entered, *client, *arguments],
            env={"PATH": os.environ["PATH"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def container(self, name: str, script: str) -> Container:
        """Start a container on the network; its shell runs `script`."""
        rootfs = f"{self._folder}/rootfs"
        return Container(
            self, name, self.ctr("run", "--rm", "--cni", "--rootfs", rootfs, name, "/bin/sh", "-c", script)
        )

    def attachments(self) -> list[dict[str, Any]]:
        """What our journal holds, at the place where it lies on a real machine."""
        return [json.loads(path.read_text()) for path in self.path("/var/lib/cni/podrail").rglob("*.json")]

    def files(self) -> list[str]:
        """The files that CNI plugins and libraries keep."""
        places = ("/var/lib/cni", "/run/cni", "/run/podrail")
        kept = (path for place in places for path in self.path(place).rglob("*"))
        return sorted(str(path) for path in kept if path.is_file())

    def cgroups(self) -> list[Path]:
        """The parents of our containers' cgroups, in each hierarchy of version 1 or in the one of 2."""
        root = Path("/sys/fs/cgroup")
        return [*root.glob(self._namespace), *root.glob(f"*/{self._namespace}")]


class Container:
    """A container that was started and the `ctr` that waits for it."""

    def __init__(self, containerd: Containerd, name: str, client: subprocess.Popen[str]) -> None:
        self.name = name
        self._containerd = containerd
        self._client = client

    def says(self) -> str:
        """Return the next line that the container prints; it is waited for."""
        assert self._client.stdout
        line = self._client.stdout.readline()
        assert line, self.ends()
        return line.rstrip("\n")

    def ends(self, told: str = "") -> Answer:
        """Tell the container something, wait until it is detached, and return what is left to read."""
        stdout, stderr = self._client.communicate(told, timeout=_SECONDS)
        return Answer(self._client.returncode, stdout, stderr)

    def kill(self) -> None:
        """End the container from outside, as a runtime out of memory does."""
        client = self._containerd.ctr("task", "kill", "--signal", "SIGKILL", self.name)
        stderr = client.communicate(timeout=_SECONDS)[1]
        assert client.returncode == 0, stderr
