"""What tests stand on: real network namespaces, looked at with `ip`, and the installed executables."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cni.host import netns
from cni.protocol.plugin import run as run_plugin
from cni.protocol.request import Request
from cni.protocol.signals import again_in_time

BIN = Path(sys.executable).parent  # where pip put the executables
GO_BIN = Path("/usr/lib/cni")  # Debian's containernetworking-plugins

_numbers = itertools.count(1)
_KERNELS_TRAFFIC_CLASS = 32


def run(*command: str | Path, stdin: bytes | None = None, check: bool = True) -> str:
    """Run a command and return its stdout; its stderr is in the error if it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"{command} failed: {done.stderr.decode()} {done.stdout.decode()}")
    return done.stdout.decode()


def rail(**keys: Any) -> dict[str, Any]:
    """A macvlan configuration on eth0 with one address, with `keys` added or replaced."""
    conf = {"cniVersion": "1.0.0", "name": "rail", "type": "macvlan", "master": "eth0"}
    return conf | {"ipam": static("10.1.0.5/24")} | keys


def static(*addresses: str, **keys: Any) -> dict[str, Any]:
    """An `ipam` section; an address may bring its gateway, as in `10.1.0.5/24 via 10.1.0.1`."""
    split = [address.partition(" via ") for address in addresses]
    listed = [
        {"address": address, "gateway": gateway} if gateway else {"address": address}
        for address, _, gateway in split
    ]
    return {"type": "static", "addresses": listed} | keys


class Namespace:
    """A named network namespace."""

    def __init__(self, role: str) -> None:
        self.name = f"{role}{os.getpid()}x{next(_numbers)}"
        self.create()

    def create(self) -> None:
        run("ip", "netns", "add", self.name)

    @property
    def path(self) -> str:
        return f"/run/netns/{self.name}"

    def delete(self) -> None:
        run("ip", "netns", "del", self.name, check=False)

    def ip(self, *arguments: str) -> str:
        return run("ip", "-n", self.name, *arguments)

    def sh(self, *command: str, check: bool = True) -> str:
        """Run a command inside, with /sys showing this namespace."""
        return run("ip", "netns", "exec", self.name, *command, check=check)

    def ip_json(self, *arguments: str) -> list[dict[str, Any]]:
        return json.loads(run("ip", "-n", self.name, "-j", "-d", *arguments) or "[]")

    def links(self) -> dict[str, dict[str, Any]]:
        return {link["ifname"]: link for link in self.ip_json("link", "show")}

    def link(self, name: str) -> dict[str, Any]:
        return self.links()[name]

    def addresses(self, name: str) -> list[str]:
        """The addresses of a link without IPv6 link-local ones, as `10.0.0.2/24`."""
        (link,) = self.ip_json("address", "show", "dev", name)
        infos = [info for info in link["addr_info"] if info.get("scope") != "link"]
        return [f"{info['local']}/{info['prefixlen']}" for info in infos]

    def routes(self, *arguments: str) -> list[dict[str, Any]]:
        return self.ip_json("route", "show", *arguments)

    def sysctl(self, name: str) -> str:
        return self.sh("cat", f"/proc/sys/{name.replace('.', '/')}").strip()

    def snapshot(self) -> str:
        """Links, addresses and routes as text, without what changes by itself: counters, times, states."""
        self.wait_until_settled()
        shown = [
            self.ip("-d", "link", "show"),
            self.ip("addr", "show"),
            self.ip("route", "show", "table", "all"),
            self.ip("-6", "route", "show", "table", "all"),
        ]
        return re.sub(r" state \w+", "", "\n".join(shown))

    def wait_until_settled(self) -> None:
        """Wait until the kernel has done what follows from a change some time later, a second at most.

        It tells of a carrier that came or went, and makes the routes to IPv6 addresses.
        """
        deadline = time.monotonic() + 10
        while not self._is_settled():
            assert time.monotonic() < deadline, f"{self.name} does not come to rest"

    def _is_settled(self) -> bool:
        up = [link for link in self.ip_json("address", "show") if "UP" in link["flags"]]
        infos = [info for link in up for info in link["addr_info"] if info["family"] == "inet6"]
        local = self.ip("-6", "route", "show", "table", "local")
        return all(
            ("LOWER_UP" in link["flags"]) == (link["operstate"] in ("UP", "UNKNOWN")) for link in up
        ) and all(f"local {info['local']} " in local for info in infos if not info.get("tentative"))

    def without_link_local(self) -> None:
        """From now on give no new link an IPv6 link-local address, whose detection takes a second."""
        self.sh("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode")

    def mark_advertisements(self) -> None:
        """From now on the kernel marks what it says by itself of IPv6 addresses of new links."""
        path = "/proc/sys/net/ipv6/conf/default/ndisc_tclass"
        self.sh("sh", "-c", f"echo {_KERNELS_TRAFFIC_CLASS} >{path}")

    def add_veth(self, name: str, peer: Namespace | None = None, peer_name: str | None = None) -> None:
        """Make a veth pair, up at both ends; the other end is in `peer` or here.

        Without link-local addresses, whose detection would end while a test looks on.
        """
        other = peer_name or f"{name}-peer"[:15]
        where = ("netns", peer.name) if peer else ()
        self.ip("link", "add", name, "type", "veth", "peer", "name", other, *where)
        self.ip("link", "set", name, "addrgenmode", "none", "up")
        (peer or self).ip("link", "set", other, "addrgenmode", "none", "up")
        self._wait_until_ready(name)
        (peer or self)._wait_until_ready(other)

    def _wait_until_ready(self, name: str) -> None:
        """Wait for what the kernel does of its own some time after a link was set up.

        It notices the carrier; the route for IPv6 multicast is the last that comes of this.
        """
        deadline = time.monotonic() + 10
        while f"dev {name} " not in self.ip("-6", "route", "show", "table", "local", "type", "multicast"):
            assert time.monotonic() < deadline, f"{name} got no carrier"


@dataclass(frozen=True)
class Answer:
    """What an executable answered."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.stdout)

    @property
    def code(self) -> int:
        return self.json["code"]


@dataclass
class World:
    """A host, a sandbox, a state directory, and the executables called as a runtime would."""

    host: Namespace
    sandbox: Namespace
    state: Path
    bin: Path = BIN
    path: str = f"{BIN}:{GO_BIN}"  # CNI_PATH
    container_id: str = "pod-1"
    ifname: str = "net1"

    def environment(self, command: str, **variables: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PODRAIL_STATE_DIR": str(self.state),
            "PODRAIL_RUN_DIR": str(self.state.parent / "run"),
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.sandbox.path,
            "CNI_IFNAME": self.ifname,
            "CNI_PATH": self.path,
            **variables,
        }

    def call(
        self, command: str, conf: Mapping[str, Any] | bytes, plugin: str | None = None, **variables: str
    ) -> Answer:
        """Call an executable inside the host namespace; the plugin is the configuration's type.

        Keyword arguments replace or add environment variables; an empty one counts as missing.
        """
        stdin = conf if isinstance(conf, bytes) else json.dumps(conf).encode()
        plugin = plugin or str(conf["type"])  # type: ignore[index]  # bytes come with a plugin
        done = subprocess.run(
            ["ip", "netns", "exec", self.host.name, self.bin / plugin],
            input=stdin,
            env=self.environment(command, **variables),
            capture_output=True,
            check=False,
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    def add(self, conf: Mapping[str, Any], **variables: str) -> dict[str, Any]:
        """ADD that must succeed; return its result."""
        answer = self.call("ADD", conf, **variables)
        assert answer.status == 0, answer
        return answer.json

    def delete(self, conf: Mapping[str, Any], **variables: str) -> None:
        """DEL that must succeed, silently."""
        answer = self.call("DEL", conf, **variables)
        assert (answer.status, answer.stdout) == (0, ""), answer

    def refused(self, command: str, conf: Mapping[str, Any] | bytes, **variables: str) -> dict[str, Any]:
        """A call that must fail with one error object, which is returned."""
        answer = self.call(command, conf, **variables)
        assert answer.status == 1, answer
        assert "Traceback" not in answer.stderr, answer
        error = answer.json
        assert {"code", "msg", "cniVersion"} <= set(error)
        return error

    def records(self) -> list[Path]:
        return [path for path in self.state.rglob("*") if path.is_file()] if self.state.exists() else []


class WarmWorld(World):
    """As `World`, but calls run in this process, which spares them Python's start and imports.

    Our delegates run here too, others in processes of their own. That executables and calls in a
    process answer the same is a test of its own.
    """

    def call(
        self, command: str, conf: Mapping[str, Any] | bytes, plugin: str | None = None, **variables: str
    ) -> Answer:
        with again_in_time():  # or the next programs that are started could not be stopped
            return self.answer(command, conf, plugin, **variables)

    def answer(
        self, command: str, conf: Mapping[str, Any] | bytes, plugin: str | None = None, **variables: str
    ) -> Answer:
        """As `call`, but once all is done signals wait on, as they do until an executable has answered."""
        stdin = conf if isinstance(conf, bytes) else json.dumps(conf).encode()
        plugin = plugin or str(conf["type"])  # type: ignore[index]  # bytes come with a plugin
        environment = self.environment(command, **variables)
        request = Request(command, environment, stdin, executable=str(self.bin / plugin))
        stderr = io.StringIO()
        with redirect_stderr(stderr), netns.opened(self.host.path) as host:
            reply = host.run(lambda: run_plugin(plugin, request, precondition=netns.refuse_own_namespace))
        return Answer(reply.exit_status, reply.stdout.decode(), stderr.getvalue())


class StubIpam:
    """An IPAM plugin of another make: a shell script that logs its calls and answers what it is told to."""

    def __init__(self, folder: Path, plugin_type: str = "stub-ipam") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.type = plugin_type
        self.folder = folder
        script = folder / plugin_type
        script.write_text(
            "#!/bin/sh\n"
            f"cd '{folder}'\n"
            "echo $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME >>calls\n"
            "cat >stdin.$CNI_COMMAND\n"
            "[ ! -f line.$CNI_COMMAND ] || . ./line.$CNI_COMMAND\n"
            "[ ! -f answer.$CNI_COMMAND ] || cat answer.$CNI_COMMAND\n"
            "[ ! -f failing.$CNI_COMMAND ]\n"
        )
        script.chmod(0o755)
        versions = {"cniVersion": "1.1.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}
        self.answers("VERSION", versions)

    def answers(self, command: str, answer: Mapping[str, Any]) -> None:
        """From now on answer `command` so, with success."""
        (self.folder / f"answer.{command}").write_text(json.dumps(answer))
        (self.folder / f"failing.{command}").unlink(missing_ok=True)

    def fails(self, command: str, error: Mapping[str, Any]) -> None:
        """From now on answer `command` so, with exit status 1."""
        self.answers(command, error)
        (self.folder / f"failing.{command}").touch()

    def does(self, command: str, line: str) -> None:
        """From now on run a line of shell for `command`, before the answer if that is still reached."""
        (self.folder / f"line.{command}").write_text(f"{line}\n")

    def works(self, command: str) -> None:
        """From now on answer `command` with nothing, and success."""
        for kind in ("answer", "failing", "line"):
            (self.folder / f"{kind}.{command}").unlink(missing_ok=True)

    def calls(self) -> list[str]:
        """What was called so far, such as `ADD pod-1 net1`; VERSION is no act and left out."""
        log = self.folder / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.strip() for line in lines if not line.startswith("VERSION")]

    def stdin(self, command: str) -> dict[str, Any]:
        """What the last call of `command` got on stdin."""
        return json.loads((self.folder / f"stdin.{command}").read_text())


_MARKER = b"\xff" * 6 + bytes.fromhex("020000000001") + b"\x88\xb5" + b"end of the test" * 4


class Wire:
    """What arrives on a link, from now on."""

    def __init__(self, namespace: Namespace, ifname: str) -> None:
        with netns.opened(namespace.path) as inside:
            self._socket = inside.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        self._socket.bind((ifname, 0x0003))
        self._socket.settimeout(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._socket.close()

    def heard(self, sender: Namespace, ifname: str) -> list[str]:
        """Send a last frame from the far end, and return what ARP and neighbour messages came before it.

        As `arp reply 10.1.0.5 from 02:…`, where the address is the one that the sender claims. The
        kernel's own advertisements are told apart where `mark_advertisements` was called.
        """
        with (
            netns.opened(sender.path) as inside,
            inside.socket(socket.AF_PACKET, socket.SOCK_RAW) as endpoint,
        ):
            endpoint.bind((ifname, 0))
            endpoint.send(_MARKER)
        told = []
        while (frame := self._socket.recv(1 << 16)) != _MARKER:
            message = _message(frame)
            if message:
                told.append(message)
        return told


def _message(frame: bytes) -> str:
    kind, body = frame[12:14], frame[14:]
    if kind == b"\x08\x06":
        operation = {1: "request", 2: "reply"}[int.from_bytes(body[6:8], "big")]
        return f"arp {operation} {IPv4Address(body[14:18])} from {body[8:14].hex(':')}"
    # An IPv6 header of 40 bytes, then ICMPv6: 136 is a neighbour advertisement.
    if kind == b"\x86\xdd" and body[6] == 58 and body[40] == 136:
        traffic_class = (body[0] & 0xF) << 4 | body[1] >> 4
        whose = "kernel's " if traffic_class == _KERNELS_TRAFFIC_CLASS else ""
        return f"{whose}advertisement {IPv6Address(body[48:64])} from {frame[6:12].hex(':')}"
    return ""
