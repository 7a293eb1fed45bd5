"""Attachments through libcni: the configurations, caches and errors of a runtime that is not ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cni.protocol import versions
from tests.support.cnitool import NEWEST, Cnitool
from tests.support.world import World, rail, static

IPS = static("10.1.0.5/24 via 10.1.0.1", routes=[{"dst": "10.9.0.0/16"}])
MAC = "02:00:00:00:00:07"


@pytest.fixture
def cnitool(world: World, tmp_path: Path) -> Cnitool:
    world.host.add_veth("eth0")
    return Cnitool(world, tmp_path)


def _everything(cnitool: Cnitool) -> tuple[str, str, list[Path], list[Path]]:
    """What is on the host and in the sandbox, in our journal and in libcni's cache."""
    cached = [path for path in cnitool.cache.rglob("*") if path.is_file()]
    world = cnitool.world
    return world.host.snapshot(), world.sandbox.snapshot(), world.records(), cached


@pytest.mark.parametrize("version", ["0.2.0", "0.3.1", "0.4.0", "1.0.0"])
def test_add_and_delete_leave_nothing_behind(cnitool: Cnitool, version: str) -> None:
    before = _everything(cnitool)
    cnitool.configure(rail(ipam=IPS), version=version)
    result = cnitool.add()
    assert result["cniVersion"] == version
    told = result["ip4"]["ip"] if version == "0.2.0" else result["ips"][0]["address"]
    assert [told] == cnitool.world.sandbox.addresses("net1") == ["10.1.0.5/24"]
    if versions.at_least(version, versions.SINCE["CHECK"]):
        cnitool.check()
    cnitool.delete()
    assert _everything(cnitool) == before


@pytest.mark.parametrize("version", versions.SUPPORTED)
def test_a_version_that_we_speak_passes_validation(cnitool: Cnitool, version: str) -> None:
    cnitool.configure(rail(ipam=IPS, capabilities={"mac": True}), version=version)
    answer = cnitool.call("validate", "rail")
    assert (answer.status, answer.stdout) == (0, "mac\n"), answer


def test_a_version_that_we_do_not_speak_fails_validation(cnitool: Cnitool) -> None:
    cnitool.configure(rail(), version="2.0.0")
    answer = cnitool.call("validate", "rail")
    assert answer.status == 1, answer
    assert 'plugin macvlan does not support config version "2.0.0"' in answer.stderr


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param("", id="all-is-as-add-left-it"),
        pytest.param("sandbox", id="the-sandbox-is-gone"),
        pytest.param("cache", id="libcni-has-lost-its-cache"),
        pytest.param("journal", id="our-journal-is-lost"),
    ],
)
def test_delete_succeeds_and_so_does_another(cnitool: Cnitool, lost: str) -> None:
    world = cnitool.world
    before = world.host.snapshot()
    cnitool.configure(rail(ipam=IPS))
    cnitool.add()
    if lost == "sandbox":
        world.sandbox.delete()
    elif lost:
        shutil.rmtree(cnitool.cache if lost == "cache" else world.state)
    for _ in range(2):
        cnitool.delete()
        assert world.host.snapshot() == before
        assert lost == "sandbox" or "net1" not in world.sandbox.links()
        assert world.records() == []


def test_repeated_add_is_refused_and_the_first_attachment_stays(cnitool: Cnitool) -> None:
    cnitool.configure(rail(ipam=IPS))
    cnitool.add()
    before = _everything(cnitool)
    assert 'the sandbox already has an interface "net1"' in cnitool.fails("add")
    assert _everything(cnitool) == before
    cnitool.check()


def test_a_refused_add_tells_what_to_change_and_leaves_nothing(cnitool: Cnitool) -> None:
    before = _everything(cnitool)
    cnitool.configure(rail(master="eth9"))
    told = cnitool.fails("add")
    assert 'master "eth9" does not exist on the host' in told
    assert "Links present: eth0, eth0-peer." in told
    assert _everything(cnitool) == before
    cnitool.delete()  # as every runtime does after a failure
    assert _everything(cnitool) == before


def test_check_tells_what_differs(cnitool: Cnitool) -> None:
    cnitool.configure(rail(ipam=IPS))
    cnitool.add()
    cnitool.world.sandbox.ip("address", "del", "10.1.0.5/24", "dev", "net1")
    told = cnitool.fails("check")
    assert "the address 10.1.0.5/24 is not on it" in told
    assert "there is no route to 10.9.0.0/16" in told


def test_check_that_the_administrator_disabled_is_not_made(cnitool: Cnitool) -> None:
    cnitool.configure(rail(ipam=IPS), disableCheck=True)
    cnitool.add()
    cnitool.world.sandbox.ip("link", "del", "net1")
    cnitool.check()


def test_capabilities_reach_those_that_declare_them(cnitool: Cnitool) -> None:
    asked = json.dumps({"mac": MAC, "ips": ["10.1.0.77/24"], "deviceID": "0000:00:00.0"})
    cnitool.configure(rail(ipam=IPS, capabilities={"mac": True, "ips": True}))
    result = cnitool.add(CAP_ARGS=asked)
    assert result["interfaces"][0]["mac"] == cnitool.world.sandbox.link("net1")["address"] == MAC
    assert result["ips"] == [{"interface": 0, "address": "10.1.0.77/24", "gateway": "10.1.0.1"}]
    cnitool.check(CAP_ARGS=asked)
    cnitool.delete(CAP_ARGS=asked)
    cnitool.configure(rail(ipam=IPS))
    assert cnitool.add(CAP_ARGS=asked)["ips"][0]["address"] == "10.1.0.5/24"


def test_delete_works_without_the_capabilities_that_add_had(cnitool: Cnitool) -> None:
    before = _everything(cnitool)
    cnitool.configure(rail(ipam={"type": "static"}, capabilities={"ips": True}))
    cnitool.add(CAP_ARGS=json.dumps({"ips": ["10.1.0.77/24"]}))
    cnitool.delete()
    assert _everything(cnitool) == before


def test_kubernetes_arguments_are_understood(cnitool: Cnitool) -> None:
    """As the CRI plugin of a runtime gives them, with an address of the user's own."""
    pod = "IgnoreUnknown=1;K8S_POD_NAMESPACE=jobs;K8S_POD_NAME=worker-0;K8S_POD_UID=42;IP=10.1.0.8/24"
    cnitool.configure(rail(master="eth9", ipam=IPS))
    assert "ADD of jobs/worker-0 net1" in cnitool.fails("add", CNI_ARGS=pod)
    cnitool.configure(rail(ipam=IPS))
    addresses = [ip["address"] for ip in cnitool.add(CNI_ARGS=pod)["ips"]]
    assert addresses == cnitool.world.sandbox.addresses("net1") == ["10.1.0.5/24", "10.1.0.8/24"]
    cnitool.check(CNI_ARGS=pod)


def test_several_networks_of_one_container_are_kept_apart(cnitool: Cnitool) -> None:
    before = _everything(cnitool)
    rails = [Cnitool(cnitool.world, cnitool.folder, network=f"rail{number}") for number in range(2)]
    for number, each in enumerate(rails):
        each.configure(rail(ipam=static(f"10.{number}.0.5/24")))
        each.add(CNI_IFNAME=f"net{number}")
    for number, each in enumerate(rails):
        each.check(CNI_IFNAME=f"net{number}")
    rails[0].delete(CNI_IFNAME="net0")
    assert set(cnitool.world.sandbox.links()) == {"lo", "net1"}
    rails[1].check(CNI_IFNAME="net1")
    rails[1].delete(CNI_IFNAME="net1")
    assert _everything(cnitool) == before


def test_result_of_add_is_kept_for_check_and_delete(cnitool: Cnitool) -> None:
    """What libcni caches it must have been able to read."""
    cnitool.configure(rail(ipam=IPS))
    result = cnitool.add()
    (cached,) = (cnitool.cache / "results").iterdir()
    assert json.loads(cached.read_text())["result"] == result
    assert result["cniVersion"] == NEWEST
