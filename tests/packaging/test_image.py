"""The image's content: a root file system made by the script that the Containerfile runs, without an engine.

Installer and daemon run in it as the DaemonSet says: its commands, directories of the host, a root file
system that cannot be written to, and no capabilities where it says so. Not exercised: the Containerfile's own
lines and the base image that they name.
"""

from __future__ import annotations

import json
import re
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cni.protocol.registry import TYPES
from tests.support import manifests
from tests.support.machine import Machine
from tests.support.packages import PACKAGING, image, uncompiled
from tests.support.world import Namespace, rail

# Become what a container is that is unprivileged, and go on.
_UNPRIVILEGED = """
import ctypes, os, sys
for capability in range(64):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
_NOBODY = 65534
_CLUSTER = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}

Containers = Mapping[str, dict[str, Any]]


@pytest.fixture
def containers() -> Containers:
    (daemonset,) = manifests.read("daemonset.yaml")
    spec = daemonset["spec"]["template"]["spec"]
    return {each["name"]: each for each in (*spec["initContainers"], *spec["containers"])}


@pytest.fixture
def node(tmp_path: Path) -> Mapping[str, Path]:
    """The directories of the host that the DaemonSet mounts, by where it mounts them, and the pod's own."""
    (daemonset,) = manifests.read("daemonset.yaml")
    volumes = daemonset["spec"]["template"]["spec"]["volumes"]
    places = [each["hostPath"]["path"] for each in volumes if "hostPath" in each]
    found = {place: tmp_path / place.replace("/", "_") for place in places}
    found |= {name: tmp_path / name.replace("/", "_") for name in ("/etc/podrail/networks", _ACCOUNT)}
    for folder in found.values():
        folder.mkdir()
    for name in ("token", "ca.crt", "namespace"):
        (found[_ACCOUNT] / name).write_text("x")
    return found


_ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture
def pod(host: Namespace, sandbox: Namespace, node: Mapping[str, Path]) -> Iterator[Machine]:
    """A pod of the DaemonSet: its mounts, and a root that cannot be written to."""
    root = image()
    for place in node:
        if not place.startswith("/run/"):
            (root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)  # a container engine does that
    with Machine(root, host, {"PATH": "/usr/bin", **_CLUSTER}, node, read_only=True) as machine:
        yield machine


@dataclass(frozen=True)
class Client:
    """Calls of an installed client for one attachment."""

    machine: Machine
    conf: bytes
    variables: Mapping[str, str]

    def call(self, command: str) -> Any:
        path = "/opt/cni/bin/podrail-macvlan"
        answer = self.machine.run(path, stdin=self.conf, **self.variables, CNI_COMMAND=command)
        assert answer.status == 0, answer
        return json.loads(answer.stdout or "null")


def as_said(container: dict[str, Any], *more: str) -> list[str]:
    """The command of a container, or another one, with the rights that it has."""
    command = list(more) or container["command"]
    if container["securityContext"].get("capabilities") == {"drop": ["ALL"]}:
        return ["/usr/bin/python3", "-c", _UNPRIVILEGED, *command]
    assert container["securityContext"]["privileged"]
    return command


def helm_test() -> list[str]:
    """What the chart's test runs, with the chart's own values."""
    text = (PACKAGING / "helm/podrail/templates/test.yaml").read_text()
    text = text.replace("{{ .Values.binDir }}", "/opt/cni/bin")
    (container,) = yaml.safe_load(re.sub(r"\{\{.*?\}\}", "", text))["spec"]["containers"]
    return as_said(container)


def test_nothing_is_in_it_that_could_be_done_without() -> None:
    root = image()
    found = [path for path in root.rglob("*") if not path.is_symlink()]
    assert not [
        path for path in found if path.is_file() and path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)
    ]
    assert not [path for path in found if path.name in ("pip", "gcc", "apt", "dpkg", "bash")]
    assert sum(path.stat().st_size for path in found if path.is_file()) < 80 << 20
    assert uncompiled(root) == []
    assert {path.name for path in (root / "usr/share/doc").iterdir()} >= {
        "python3.11",
        "libc6",
        "busybox-static",
    }


def test_whoever_runs_it_needs_no_rights(host: Namespace) -> None:
    """lint, and whatever else is called without a node, as the image's own user."""
    if int(Path("/proc/self/uid_map").read_text().split()[2]) <= _NOBODY:
        pytest.skip("needs root: there is no other user in this user namespace")
    with Machine(image(), host, {"PATH": "/usr/bin"}, read_only=True) as machine:
        as_nobody = machine.command("podrail", "lint", "-")
        as_nobody[1:1] = [f"--setuid={_NOBODY}", f"--setgid={_NOBODY}"]
        conf = json.dumps(rail(mtuu=1500)).encode()
        done = subprocess.run(
            as_nobody, input=conf, capture_output=True, env=machine.environment, check=False
        )
    assert (done.returncode, b'did you mean "mtu"' in done.stdout) == (0, True), done


def test_every_module_finds_its_libraries(host: Namespace) -> None:
    script = (
        "import glob, importlib, pkgutil, cni, ipam\n"
        "for package in (cni, ipam):\n"
        "    for each in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(each.name)\n"
        "for path in glob.glob('/usr/lib/python3*/lib-dynload/*.so'):\n"
        "    importlib.import_module(path.rpartition('/')[2].partition('.')[0])\n"
    )
    with Machine(image(), host, {"PATH": "/usr/bin"}) as machine:
        machine.told("/usr/lib/podrail/bin/python", "-c", script)


def test_installer_daemon_and_client_work_as_the_daemonset_says(
    pod: Machine, containers: Containers, node: Mapping[str, Path], host: Namespace, sandbox: Namespace
) -> None:
    host.add_veth("eth0")
    told = pod.told(*as_said(containers["install"]))
    assert told.count(": installed") == len(TYPES) + 1
    kubeconfig = json.loads((node["/etc/cni/net.d"] / "podrail.d" / "podrail.kubeconfig").read_text())
    assert kubeconfig["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"
    assert pod.told(*as_said(containers["install"])).count("in place already") == len(TYPES) + 1

    conf = rail(type="podrail-macvlan", ipam={"type": "podrail-whereabouts", "range": "10.1.0.0/24"})
    (node["/etc/podrail/networks"] / "10-rail.conf").write_text(json.dumps(conf))
    pod.start(*as_said(containers["daemon"]))  # it ends with the pod
    networks = pod.start(*as_said(containers["networks"]), stdout=subprocess.PIPE)
    assert networks.stdout
    for line in networks.stdout:
        if b"10-rail.conf: installed" in line:
            break
    else:
        raise AssertionError("the network was not installed")

    # The client is called in the pod, for its path is what the daemon sees; it needs nothing from there.
    bin_dir = node["/opt/cni/bin"]
    assert b"ld-linux" not in (bin_dir / "podrail-macvlan").read_bytes()
    call = {"CNI_CONTAINERID": "pod-1", "CNI_IFNAME": "net1", "CNI_NETNS": sandbox.path}
    client = Client(pod, json.dumps(conf).encode(), call | {"CNI_PATH": "/opt/cni/bin"})
    assert client.call("ADD")["ips"][0]["address"] == "10.1.0.1/24"
    assert "net1" in pod.told("podrail", "show")
    assert "is ready" in pod.told(*helm_test())
    uninstall = as_said(containers["networks"], "podrail", "uninstall")
    assert pod.run(*uninstall).status == 1
    client.call("DEL")
    pod.told(*uninstall)
    assert list(bin_dir.iterdir()) == []
    assert not (node["/etc/cni/net.d"] / "10-rail.conf").exists()
    networks.kill()
    networks.wait(60)
    networks.stdout.close()


def test_the_containerfile_runs_the_script_on_a_pinned_base_and_ends_without_rights() -> None:
    text = (PACKAGING / "image" / "Containerfile").read_text()
    assert re.search(r"^ARG DEBIAN=\d+\.\d+-slim$", text, re.MULTILINE)
    assert "RUN packaging/image/root /image\n" in text
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == [f"{_NOBODY}:{_NOBODY}"]
    copied = re.findall(r"^COPY ([^-].*) \S+$", text, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (PACKAGING.parent / name).exists()
