"""DEL and GC of macvlan: what was taken is given back whatever happened since, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.world import Namespace, StubIpam, WarmWorld, World, rail


@pytest.fixture
def world(host: Namespace, sandbox: Namespace, tmp_path: Path) -> World:
    host.add_veth("eth0")
    sandbox.without_link_local()  # snapshots must not change by themselves
    return WarmWorld(host, sandbox, tmp_path / "state")


@pytest.fixture
def stub(world: World, tmp_path: Path) -> StubIpam:
    """An IPAM plugin of another make, along CNI_PATH."""
    stub = StubIpam(tmp_path / "stub")
    stub.answers("ADD", {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}]})
    world.path = f"{stub.folder}:{world.path}"
    return stub


def test_delete_without_an_add_is_content(world: World, stub: StubIpam) -> None:
    world.delete(rail(ipam={"type": stub.type}))
    assert stub.calls() == ["DEL pod-1 net1"]


def test_delete_twice_is_content(world: World, stub: StubIpam) -> None:
    conf = rail(ipam={"type": stub.type})
    world.add(conf)
    world.delete(conf)
    world.delete(conf)
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1", "DEL pod-1 net1"]
    assert world.records() == []


# -- when the sandbox is not what it was ----------------------------------------------------------


def leave_mount_point(world: World, tmp_path: Path) -> str:
    """A deleted namespace may leave the file it was mounted on."""
    world.sandbox.delete()
    leftover = tmp_path / "leftover"
    leftover.touch()
    return str(leftover)


def delete_sandbox(world: World, _tmp_path: Path) -> str:
    world.sandbox.delete()
    return world.sandbox.path


def give_no_path(_world: World, _tmp_path: Path) -> str:
    return ""


def give_no_path_and_delete_sandbox(world: World, _tmp_path: Path) -> str:
    world.sandbox.delete()
    return ""


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(delete_sandbox, id="it-is-gone"),
        pytest.param(leave_mount_point, id="its-path-is-a-plain-file"),
        pytest.param(give_no_path, id="no-path-is-given"),
        pytest.param(give_no_path_and_delete_sandbox, id="it-is-gone-and-no-path-is-given"),
    ],
)
def test_delete_calls_ipam_and_succeeds_though_of_the_sandbox(
    world: World, stub: StubIpam, tmp_path: Path, prepare: Callable[[World, Path], str]
) -> None:
    conf = rail(ipam={"type": stub.type})
    world.add(conf)
    path = prepare(world, tmp_path)
    world.delete(conf, CNI_NETNS=path)
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]
    assert world.records() == []


def test_delete_without_a_path_deletes_the_link_where_the_record_says_it_is(world: World) -> None:
    world.add(rail())
    world.delete(rail(), CNI_NETNS="")
    assert "net1" not in world.sandbox.links()


def test_delete_leaves_a_later_sandbox_of_the_same_path_alone(world: World) -> None:
    world.add(rail())
    world.sandbox.delete()
    world.sandbox.create()
    world.host.ip(
        "link", "add", "link", "eth0", "name", "net1", "netns", world.sandbox.name, "type", "macvlan"
    )
    before = world.sandbox.snapshot()
    world.delete(rail())
    assert world.sandbox.snapshot() == before
    assert world.records() == []


# -- when the configuration is not what it was ----------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"mtu": "large"}, id="mtu-a-string"),
        pytest.param({"mode": "source"}, id="mode-unknown"),
        pytest.param({"master": "eth7"}, id="master-gone"),
        pytest.param({"master": ["eth0"]}, id="master-a-list"),
        pytest.param({"mac": "nonsense"}, id="mac-nonsense"),
        pytest.param({"prevResult": "nonsense"}, id="previous-result-a-string"),
        pytest.param({"prevResult": {"cniVersion": "7.0.0"}}, id="previous-result-of-an-unknown-version"),
        pytest.param({"runtimeConfig": []}, id="runtime-config-a-list"),
        pytest.param({"ipam": {}}, id="ipam-without-its-type"),
        pytest.param({"ipam": None}, id="ipam-missing"),
        pytest.param({"ipam": ["stub-ipam"]}, id="ipam-a-list"),
    ],
)
def test_delete_gives_back_everything_though_the_plugins_section_is_wrong(
    world: World, stub: StubIpam, keys: dict[str, Any]
) -> None:
    world.add(rail(ipam={"type": stub.type, "pool": "a"}))
    world.delete(rail(ipam={"type": stub.type, "pool": "a"}) | keys)
    assert "net1" not in world.sandbox.links()
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1"]
    assert stub.stdin("DEL")["ipam"] == {"type": stub.type, "pool": "a"}
    assert world.records() == []


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"mtu": "large"}, id="mtu-a-string"),
        pytest.param({"mode": 7}, id="mode-a-number"),
        pytest.param({"ipam": {}}, id="ipam-without-its-type"),
    ],
)
def test_delete_without_a_record_succeeds_though_the_plugins_section_is_wrong(
    world: World, keys: dict[str, Any]
) -> None:
    world.delete(rail(**keys))


@pytest.mark.parametrize(
    ("stdin", "code"),
    [
        pytest.param(b"{", 6, id="it-is-no-json"),
        pytest.param(b'{"cniVersion": "1.0.0", "type": "macvlan"}', 7, id="it-has-no-name"),
        pytest.param(
            b'{"cniVersion": "9.0.0", "name": "rail", "type": "macvlan"}', 1, id="its-version-is-unknown"
        ),
    ],
)
def test_delete_is_refused_and_touches_nothing_where_of_the_configuration(
    world: World, stdin: bytes, code: int
) -> None:
    world.add(rail())
    before = world.sandbox.snapshot(), world.records()
    answer = world.call("DEL", stdin, plugin="macvlan")
    assert (answer.status, answer.code) == (1, code)
    assert (world.sandbox.snapshot(), world.records()) == before


def test_delete_after_the_master_is_gone_is_content(world: World, stub: StubIpam) -> None:
    conf = rail(ipam={"type": stub.type})
    world.add(conf)
    world.host.ip("link", "del", "eth0")
    world.delete(conf)
    assert stub.calls()[-1] == "DEL pod-1 net1"
    assert world.records() == []


# -- which link is ours ---------------------------------------------------------------------------


def test_delete_finds_the_link_under_another_name(world: World) -> None:
    world.add(rail())
    world.sandbox.ip("link", "set", "net1", "down", "name", "renamed")
    world.delete(rail())
    assert world.sandbox.links().keys() == {"lo"}


def test_delete_finds_the_link_with_another_mac(world: World) -> None:
    world.add(rail())
    world.sandbox.ip("link", "set", "net1", "address", "02:00:00:00:00:99")
    world.delete(rail())
    assert world.sandbox.links().keys() == {"lo"}


def test_delete_leaves_what_took_the_name_after_our_link_was_renamed(world: World) -> None:
    world.add(rail())
    world.sandbox.ip("link", "set", "net1", "down", "name", "renamed")
    world.sandbox.add_veth("net1")
    world.delete(rail())
    assert world.sandbox.links().keys() == {"lo", "net1", "net1-peer"}


def test_delete_leaves_what_took_the_name_after_our_link_was_deleted(world: World) -> None:
    world.add(rail())
    world.sandbox.ip("link", "del", "net1")
    world.host.ip(
        "link", "add", "link", "eth0", "name", "net1", "netns", world.sandbox.name, "type", "macvlan"
    )
    before = world.sandbox.snapshot()
    world.delete(rail())
    assert world.sandbox.snapshot() == before
    assert world.records() == []


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(["type", "veth"], id="of-another-kind"),
        pytest.param(["link", "eth9", "type", "macvlan"], id="that-rides-on-another-master"),
    ],
)
def test_delete_leaves_a_link_with_the_index_of_ours(world: World, kind: list[str]) -> None:
    world.add(rail())
    index = str(world.sandbox.link("net1")["ifindex"])
    world.sandbox.ip("link", "del", "net1")
    world.sandbox.add_veth("eth9")
    world.sandbox.ip("link", "add", "net1", "index", index, *kind)
    world.delete(rail())
    assert "net1" in world.sandbox.links()


def test_delete_leaves_the_same_sandboxes_other_attachments(world: World) -> None:
    world.add(rail(ipam={}))
    world.add(rail(ipam={}, name="other"), CNI_IFNAME="net2")
    world.delete(rail(ipam={}))
    assert world.sandbox.links().keys() == {"lo", "net2"}


def previous_result(world: World, mac: str) -> dict[str, Any]:
    return {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net1", "mac": mac, "sandbox": world.sandbox.path}],
    }


def test_delete_takes_a_link_of_the_go_plugin_that_the_result_proves(world: World) -> None:
    """A node may change over to podrail with pods on it."""
    world.host.ip(
        "link", "add", "link", "eth0", "name", "net1", "netns", world.sandbox.name, "type", "macvlan"
    )
    mac = world.sandbox.link("net1")["address"]
    world.delete(rail(prevResult=previous_result(world, mac)))
    assert "net1" not in world.sandbox.links()


@pytest.mark.parametrize(
    ("kind", "is_told"),
    [
        pytest.param("macvlan", False, id="a-macvlan-with-another-mac-than-the-result-tells"),
        pytest.param("macvlan", None, id="a-macvlan-without-a-result"),
        pytest.param("veth", True, id="a-veth-though-its-mac-is-that-of-the-result"),
        pytest.param("veth", None, id="a-veth-without-a-result"),
    ],
)
def test_delete_leaves_a_link_that_nothing_proves_ours(world: World, kind: str, is_told: bool | None) -> None:
    rides = ("link", "eth0") if kind == "macvlan" else ()
    world.host.ip("link", "add", *rides, "name", "net1", "netns", world.sandbox.name, "type", kind)
    before = world.sandbox.snapshot()
    conf = rail()
    if is_told is not None:
        mac = world.sandbox.link("net1")["address"] if is_told else "02:00:00:00:00:99"
        conf["prevResult"] = previous_result(world, mac)
    answer = world.call("DEL", conf)
    assert answer.status == 0
    assert "net1 is left alone" in answer.stderr
    assert world.sandbox.snapshot() == before


# -- when IPAM fails ------------------------------------------------------------------------------


def test_delete_deletes_the_link_though_ipam_fails_and_the_next_one_finishes(
    world: World, stub: StubIpam
) -> None:
    conf = rail(ipam={"type": stub.type})
    world.add(conf)
    stub.fails("DEL", {"code": 11, "msg": "the store does not answer"})
    error = world.refused("DEL", conf)
    assert (error["code"], error["msg"]) == (11, "the store does not answer")
    assert "net1" not in world.sandbox.links()
    stub.works("DEL")
    world.delete(conf)
    assert stub.calls() == ["ADD pod-1 net1", "DEL pod-1 net1", "DEL pod-1 net1"]
    assert world.records() == []


def test_delete_deletes_the_link_though_the_ipam_plugin_is_no_longer_installed(
    world: World, stub: StubIpam
) -> None:
    conf = rail(ipam={"type": stub.type})
    world.add(conf)
    (stub.folder / stub.type).unlink()
    error = world.refused("DEL", conf)
    assert stub.type in error["msg"]
    assert "net1" not in world.sandbox.links()


# -- GC -------------------------------------------------------------------------------------------

VALID, OLDER = "cni.dev/valid-attachments", "cni.dev/attachments"
STALE = {"containerID": "stale", "ifname": "net1"}
KEPT = {"containerID": "kept", "ifname": "net1"}


@pytest.fixture
def attached(world: World, stub: StubIpam, peer: Namespace) -> dict[str, Any]:
    """The configuration of two attachments: of the container `stale` in `peer`, of `kept` in the sandbox."""
    stub.answers("ADD", {"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.9/24"}]})
    conf = rail(cniVersion="1.1.0", ipam={"type": stub.type})
    world.add(conf, CNI_CONTAINERID="stale", CNI_NETNS=peer.path)
    world.add(conf, CNI_CONTAINERID="kept")
    return conf


def collect(world: World, conf: dict[str, Any]) -> None:
    """GC as libcni calls it: the other variables are there, and empty."""
    answer = world.call("GC", conf, CNI_CONTAINERID="", CNI_IFNAME="", CNI_NETNS="")
    assert (answer.status, answer.stdout) == (0, ""), answer


@pytest.mark.parametrize(
    "lists",
    [
        pytest.param({VALID: [KEPT]}, id="under-the-specs-key"),
        pytest.param({OLDER: [KEPT]}, id="under-the-older-key"),
        pytest.param({VALID: [KEPT], OLDER: []}, id="the-specs-key-before-the-older"),
    ],
)
def test_gc_gives_back_what_is_not_listed(
    world: World, attached: dict[str, Any], stub: StubIpam, peer: Namespace, lists: dict[str, Any]
) -> None:
    collect(world, attached | lists)
    assert "net1" not in peer.links()
    assert "net1" in world.sandbox.links()
    assert stub.calls()[2:] == ["DEL stale net1", "GC"]
    assert stub.stdin("GC") == attached | lists
    assert [path.name for path in world.records()] == ["kept@net1.json"]


def test_gc_with_an_empty_list_gives_back_everything(
    world: World, attached: dict[str, Any], stub: StubIpam, peer: Namespace
) -> None:
    collect(world, attached | {VALID: []})
    assert "net1" not in peer.links()
    assert "net1" not in world.sandbox.links()
    assert sorted(stub.calls()[2:4]) == ["DEL kept net1", "DEL stale net1"]
    assert world.records() == []


@pytest.mark.parametrize("lists", [pytest.param({}, id="absent"), pytest.param({VALID: None}, id="null")])
def test_gc_without_a_list_does_nothing(
    world: World, attached: dict[str, Any], stub: StubIpam, peer: Namespace, lists: dict[str, Any]
) -> None:
    collect(world, attached | lists)
    assert "net1" in peer.links()
    assert "net1" in world.sandbox.links()
    assert len(stub.calls()) == 2


@pytest.mark.parametrize(
    "listed",
    [
        pytest.param("kept", id="a-string"),
        pytest.param([{"containerID": "kept"}], id="an-entry-without-interface"),
        pytest.param([{"containerID": 7, "ifname": "net1"}], id="an-id-that-is-a-number"),
        pytest.param(["kept"], id="an-entry-that-is-no-object"),
    ],
)
def test_gc_with_a_list_that_cannot_be_read_does_nothing_and_says_so(
    world: World, attached: dict[str, Any], stub: StubIpam, peer: Namespace, listed: object
) -> None:
    error = world.refused("GC", attached | {VALID: listed}, CNI_CONTAINERID="", CNI_IFNAME="")
    assert error["code"] == 7
    assert VALID in error["msg"]
    assert "net1" in peer.links()
    assert len(stub.calls()) == 2


def test_gc_leaves_other_networks_alone(world: World, attached: dict[str, Any], peer: Namespace) -> None:
    collect(world, attached | {"name": "other", VALID: []})
    assert "net1" in peer.links()
    assert "net1" in world.sandbox.links()


def test_gc_works_though_the_configuration_is_wrong(
    world: World, attached: dict[str, Any], peer: Namespace
) -> None:
    collect(world, attached | {"master": "eth7", "mtu": "large", VALID: [KEPT]})
    assert "net1" not in peer.links()


def test_gc_gives_back_an_attachment_whose_sandbox_is_gone(
    world: World, attached: dict[str, Any], stub: StubIpam, peer: Namespace
) -> None:
    peer.delete()
    collect(world, attached | {VALID: [KEPT]})
    assert stub.calls()[2:] == ["DEL stale net1", "GC"]
    assert [path.name for path in world.records()] == ["kept@net1.json"]


def test_gc_does_not_ask_an_ipam_plugin_that_does_not_know_it(
    world: World, attached: dict[str, Any], stub: StubIpam
) -> None:
    stub.answers("VERSION", {"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]})
    collect(world, attached | {VALID: [KEPT]})
    assert stub.calls()[2:] == ["DEL stale net1"]


def test_gc_goes_on_after_a_failure_and_reports_it(
    world: World, attached: dict[str, Any], stub: StubIpam, peer: Namespace
) -> None:
    stub.fails("DEL", {"code": 11, "msg": "the store does not answer"})
    error = world.refused("GC", attached | {VALID: []}, CNI_CONTAINERID="", CNI_IFNAME="")
    assert (error["code"], error["msg"]) == (11, "the store does not answer")
    assert "net1" not in peer.links()
    assert "net1" not in world.sandbox.links()
    assert stub.calls()[-1] == "GC"
    assert len(world.records()) == 2  # IPAM's part is owed
