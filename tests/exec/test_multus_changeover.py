"""Changing over between Multus and multus under running pods: libcni, which Multus calls, shares a cache."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.support.cnitool import Cnitool
from tests.support.pods import Multus
from tests.support.world import Namespace, StubIpam, World, rail, static

IN_THE_POD = {"CNI_IFNAME": "net1", "CNI_ARGS": "IgnoreUnknown=true;K8S_POD_NAME=web"}


@pytest.fixture
def multus(host: Namespace, sandbox: Namespace, tmp_path: Path) -> Multus:
    host.add_veth("eth0")
    sandbox.without_link_local()
    return Multus(World(host, sandbox, tmp_path / "state"), tmp_path / "multus")


@pytest.fixture
def libcni(multus: Multus, tmp_path: Path) -> Cnitool:
    """libcni as Multus calls it for the network `rail`."""
    tool = Cnitool(multus.world, tmp_path)
    tool.configure(rail(ipam=static("10.2.0.5/24")))
    return tool


def test_what_multus_left_of_an_attachment_serves_libcni(multus: Multus, libcni: Cnitool) -> None:
    """CHECK and DEL of a network that was attached here: libcni finds the result and passes it on."""
    conf = {"cniVersion": "1.0.0", "name": "rail", "plugins": [rail(ipam=static("10.2.0.5/24"))]}
    multus.world.add(multus.conf(rail(name="first"), conf), CNI_IFNAME="eth0")
    shared = {"CNI_CACHE_DIR": str(multus.cache), **IN_THE_POD}
    libcni.check(**shared)
    multus.world.sandbox.ip("addr", "del", "10.2.0.5/24", "dev", "net1")
    assert "10.2.0.5/24 is not on it" in libcni.fails("check", **shared)
    libcni.delete(**shared)
    assert set(multus.world.sandbox.links()) == {"lo", "eth0"}
    assert not (multus.cache / "results" / "rail-pod-1-net1").exists()
    multus.world.delete(multus.conf(rail(name="first"), conf), CNI_IFNAME="eth0")
    assert multus.files() == []


def test_what_libcni_left_of_an_attachment_serves_multus(
    multus: Multus, libcni: Cnitool, tmp_path: Path
) -> None:
    """DEL gives each plugin what Multus gave it, although the network has changed since."""
    stub = StubIpam(tmp_path / "stub", "meta")
    stub.answers("ADD", {"cniVersion": "1.0.0", "ips": [{"address": "10.2.0.5/24"}]})
    multus.world.path = f"{stub.folder}:{multus.world.path}"
    plugin: dict[str, Any] = {"type": "meta", "big": 2**60, "capabilities": {"mac": True}}
    libcni.configure(plugin)
    asked = {"CAP_ARGS": json.dumps({"mac": "02:00:00:00:00:09"})}
    libcni.add(CNI_CACHE_DIR=str(multus.cache), **IN_THE_POD, **asked)
    listed = {"cniVersion": "1.0.0", "name": "rail", "plugins": [plugin]}
    entry = {"Conf": {}, "ConfList": {"plugins": [{"type": "meta"}]}, "Name": "default/a"}
    entry |= {"ifnameRequest": "net1", "Bytes": b64encode(json.dumps(listed).encode()).decode()}
    (multus.cache / "pod-1").write_text(json.dumps([entry]))
    multus.world.delete(multus.conf(rail()), CNI_IFNAME="eth0")
    told = stub.stdin("DEL")
    assert told["prevResult"]["ips"] == [{"address": "10.2.0.5/24"}]
    assert (told["runtimeConfig"], told["big"]) == ({"mac": "02:00:00:00:00:09"}, 2**60)
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]
    assert multus.files() == []
