"""The Debian package, installed by dpkg itself on a machine in namespaces that begins as this one.

Not exercised: starting and stopping by systemd, which does not run there. Units are enabled, and the daemon
is started as its unit says.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni.protocol.registry import TYPES
from tests.support.machine import Machine, overlay
from tests.support.packages import PACKAGING, debian_package, uncompiled
from tests.support.world import Namespace, rail, run

ENABLED = ("sockets.target.wants/podrail.socket", "multi-user.target.wants/podrail.service")
VERSION = {"CNI_COMMAND": "VERSION"}


@pytest.fixture
def machine(host: Namespace, sandbox: Namespace, tmp_path: Path) -> Iterator[Machine]:
    """A machine with nothing of podrail's, and the package in /."""
    package = debian_package()
    with overlay(tmp_path / "machine") as root:
        (root / "podrail.deb").write_bytes(package.read_bytes())
        with Machine(root, host) as machine:
            yield machine


@pytest.fixture
def installed(machine: Machine) -> Machine:
    machine.told("dpkg", "--install", "/podrail.deb")
    return machine


def files(machine: Machine) -> set[str]:
    """What the machine has that this one has not, but for what is dpkg's own."""
    changes = machine.root.parent / "changes"
    kept = ("/var/lib/dpkg/", "/var/cache/", "/var/log/", "/podrail.deb")
    found = (f"/{path.relative_to(changes)}" for path in changes.rglob("*") if not path.is_dir())
    return {path for path in found if not path.startswith(kept)}


CONF = rail(type="podrail-macvlan", ipam={"type": "podrail-whereabouts", "range": "10.1.0.0/24"})


def attach(machine: Machine, sandbox: Namespace, command: str, **variables: str) -> str:
    """Call the installed macvlan as a runtime would."""
    call = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "pod-1",
        "CNI_IFNAME": "net1",
        "CNI_NETNS": sandbox.path,
        "CNI_PATH": "/opt/cni/bin",
    }
    answer = machine.run("/opt/cni/bin/podrail-macvlan", stdin=json.dumps(CONF).encode(), **call, **variables)
    assert answer.status == 0, answer
    return answer.stdout


def start_daemon(machine: Machine) -> subprocess.Popen[bytes]:
    """Start what the installed unit starts; clients wait for it."""
    unit = Path(machine.root, "lib/systemd/system/podrail.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    (settings,) = re.findall(r"^EnvironmentFile=-(.*)$", unit, re.MULTILINE)
    script = f"mkdir -m 700 -p /run/podrail; . {settings}; exec {line} 2>/tmp/daemon.log"
    return machine.start("sh", "-ec", script)


def test_all_that_it_brings_has_a_licence_and_is_compiled(tmp_path: Path) -> None:
    package = debian_package()
    run("dpkg-deb", "-x", package, tmp_path / "root")
    site = next((tmp_path / "root/usr/lib/podrail/lib").glob("python*/site-packages"))
    licences = (tmp_path / "root/usr/share/doc/podrail/copyright").read_text()
    for brought in site.glob("*.dist-info"):
        name = brought.name.partition("-")[0]
        assert name == "podrail" or f"/site-packages/{name}*" in licences
    assert uncompiled(tmp_path / "root") == []
    assert (
        run("sh", "-c", f"cd {tmp_path}/root && dpkg-deb -I {package} md5sums | md5sum --check --quiet") == ""
    )


def test_it_brings_the_manual_page_and_completion(tmp_path: Path) -> None:
    run("dpkg-deb", "-x", debian_package(), tmp_path)
    manual = gzip.decompress((tmp_path / "usr/share/man/man1/podrail.1.gz").read_bytes())
    assert manual.startswith(b".TH")
    run("bash", "-n", tmp_path / "usr/share/bash-completion/completions/podrail")


def test_it_brings_what_the_project_asks_for() -> None:
    """Another dependency of podrail's needs another lock file: packaging/lock writes it."""
    project = (PACKAGING.parent / "pyproject.toml").read_text()
    (listed,) = re.findall(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    asked = {name.lower().replace("_", "-") for name in re.findall(r'^    "([\w-]+)', listed, re.MULTILINE)}
    locked = re.findall(r"^([\w-]+)==", (PACKAGING / "requirements.txt").read_text(), re.MULTILINE)
    assert asked <= set(locked)


def test_the_command_and_every_plugin_work(installed: Machine) -> None:
    assert "show" in installed.told("podrail", "--help")
    assert installed.told("podrail", "install", "--bin-dir=/opt/cni/bin").count(": installed") == len(TYPES)
    for name in TYPES:
        answer = json.loads(installed.told(f"/opt/cni/bin/{name}", **VERSION))
        assert "1.1.0" in answer["supportedVersions"]
    assert all(Path(installed.root, "etc/systemd/system", name).is_symlink() for name in ENABLED)
    (first, *_) = Path(installed.root, "opt/cni/bin/macvlan").read_text().splitlines()
    assert first == "#!/usr/lib/podrail/bin/python"


def test_a_pod_is_attached_by_its_daemon_and_holds_the_package(
    installed: Machine, host: Namespace, sandbox: Namespace
) -> None:
    host.add_veth("eth0")
    (installed.root / "10-rail.conf").write_text(json.dumps(CONF))
    daemon = start_daemon(installed)
    options = ("--bin-dir=/opt/cni/bin", "--conf-dir=/etc/cni/net.d", "--conf=/10-rail.conf")
    client = ("--client=/usr/lib/podrail/client", "--prefix=podrail-")
    installed.told("podrail", "install", *options, *client)
    assert json.loads(attach(installed, sandbox, "ADD"))["ips"][0]["address"] == "10.1.0.1/24"
    assert '"event": "call"' in installed.told("cat", "/tmp/daemon.log")
    refused = installed.run("dpkg", "--remove", "podrail")
    assert refused.status != 0
    assert "1 attachment is left" in refused.stderr
    assert "podrail is not removed" in refused.stderr
    waiting = ("env", "PODRAIL_REMOVE_WAIT=60", "dpkg", "--remove", "podrail")
    removal = installed.start(*waiting, stdout=subprocess.PIPE)
    assert removal.stdout
    assert b"/etc/cni/net.d/10-rail.conf: removed\n" in iter(removal.stdout.readline, b"")
    attach(installed, sandbox, "DEL")
    removal.communicate()
    assert removal.returncode == 0
    assert sandbox.links().keys() == {"lo"}
    assert list(Path(installed.root, "opt/cni/bin").iterdir()) == []
    daemon.terminate()
    daemon.wait(60)


def test_a_removal_leaves_configuration_and_a_purge_nothing(installed: Machine) -> None:
    installed.told("podrail", "install", "--bin-dir=/opt/cni/bin")
    installed.told("dpkg", "--remove", "podrail")
    links = {f"/etc/systemd/system/{name}" for name in ENABLED}
    assert {path for path in files(installed) if "deb-systemd-helper" not in path} == {
        "/etc/default/podrail",
        *links,
    }
    installed.told("dpkg", "--purge", "podrail")
    assert files(installed) == set()


def test_systemd_finds_no_fault_with_the_units(installed: Machine) -> None:
    for unit in ("podrail.service", "podrail.socket"):
        answer = installed.run("systemd-analyze", "verify", "--man=no", f"/lib/systemd/system/{unit}")
        assert (answer.status, "podrail" in answer.stderr) == (0, False), answer


def test_an_upgrade_keeps_what_an_administrator_changed_and_brings_the_client_up_to_date(
    installed: Machine,
) -> None:
    settings = Path(installed.root, "etc/default/podrail")
    settings.write_text("PODRAIL_DAEMON_OPTIONS=--concurrency=3\n")
    installed.told("systemctl", "disable", "podrail.service")
    installed.told(
        "podrail",
        "install",
        "--bin-dir=/opt/cni/bin",
        "--client=/usr/lib/podrail/client",
    )
    client = Path(installed.root, "opt/cni/bin/macvlan")
    with client.open("ab") as older:
        older.write(b"older")
    installed.told("dpkg", "--install", "--force-confold", "/podrail.deb")
    assert settings.read_text() == "PODRAIL_DAEMON_OPTIONS=--concurrency=3\n"
    assert not Path(installed.root, "etc/systemd/system", ENABLED[1]).is_symlink()
    assert client.read_bytes() == Path(installed.root, "usr/lib/podrail/client").read_bytes()
    assert "supportedVersions" in installed.told("/opt/cni/bin/macvlan", **VERSION)
