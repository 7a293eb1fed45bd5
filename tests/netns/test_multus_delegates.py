"""multus without a cluster: which delegates are called, how, in which order, and how that is undone."""

from __future__ import annotations

import json
import os
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni.locks import locked
from tests.support.pods import NETWORK, Multus, StubPlugin
from tests.support.world import BIN, GO_BIN, rail, static

AS_LIBCNI = {"CNI_CONTAINERID": "", "CNI_NETNS": "", "CNI_IFNAME": ""}  # for GC and STATUS


def everything(multus: Multus) -> tuple[str, str, list[Path]]:
    return multus.world.host.snapshot(), multus.world.sandbox.snapshot(), multus.files()


def rails(count: int) -> list[dict[str, Any]]:
    return [rail(name=f"rail{n}", ipam=static(f"10.{n}.0.5/24")) for n in range(count)]


# -- what is attached ------------------------------------------------------------------------------


def test_every_delegate_is_attached_and_the_first_ones_result_is_the_answer(multus: Multus) -> None:
    result = multus.world.add(multus.conf(*rails(3)), CNI_IFNAME="eth0")
    sandbox = multus.world.sandbox
    assert [sandbox.addresses(name) for name in ("eth0", "net1", "net2")] == [
        ["10.0.0.5/24"],
        ["10.1.0.5/24"],
        ["10.2.0.5/24"],
    ]
    assert [(link["name"], link["mac"]) for link in result["interfaces"]] == [
        ("eth0", sandbox.link("eth0")["address"])
    ]
    assert [ip["address"] for ip in result["ips"]] == ["10.0.0.5/24"]


@pytest.mark.parametrize("version", ["0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_the_answer_has_the_callers_version_whatever_the_delegates_is(multus: Multus, version: str) -> None:
    result = multus.world.add(multus.conf(rail(cniVersion="0.4.0"), cniVersion=version), CNI_IFNAME="eth0")
    assert result["cniVersion"] == version
    assert "10.1.0.5/24" in json.dumps(result)


def test_delete_leaves_everything_as_add_found_it(multus: Multus) -> None:
    before = everything(multus)
    conf = multus.conf(*rails(3))
    multus.world.add(conf, CNI_IFNAME="eth0")
    multus.world.delete(conf, CNI_IFNAME="eth0")
    assert everything(multus) == before


@pytest.mark.parametrize("variables", [{}, {"CNI_NETNS": ""}, {"CNI_NETNS": "/run/netns/gone"}])
def test_delete_twice_and_delete_before_add_succeed(multus: Multus, variables: dict[str, str]) -> None:
    before = everything(multus)
    for _ in range(2):
        multus.world.delete(multus.conf(*rails(2)), CNI_IFNAME="eth0", **variables)
    assert everything(multus) == before


def test_delete_after_the_sandbox_died_gives_back_what_is_on_the_host(multus: Multus, tmp_path: Path) -> None:
    ipam = {
        "type": "host-local",
        "dataDir": str(tmp_path / "leases"),
        "ranges": [[{"subnet": "10.1.0.0/24"}]],
    }
    conf = multus.conf(rail(ipam=ipam), rail(name="other", ipam=ipam))
    multus.world.add(conf, CNI_IFNAME="eth0")
    assert len(list((tmp_path / "leases").glob("*/10.*"))) == 2
    multus.world.sandbox.delete()
    multus.world.delete(conf, CNI_IFNAME="eth0")
    assert list((tmp_path / "leases").glob("*/10.*")) == []
    assert multus.files() == []


def test_a_pod_without_a_second_network_has_its_default_one(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    stub = stubs("flannel")
    result = multus.world.add(multus.conf(stub.network("cbr0")), CNI_IFNAME="eth0")
    assert [ip["address"] for ip in result["ips"]] == ["10.7.0.5/24"]
    assert stub.calls() == ["ADD pod-1 eth0"]


# -- where networks are found ----------------------------------------------------------------------


def test_cluster_network_and_default_networks_are_found_by_name(multus: Multus) -> None:
    multus.network_file("10-b.conf", rail(name="b", ipam=static("10.2.0.5/24")))
    multus.network_file("20-a.conflist", {"cniVersion": "1.0.0", "name": "a", "plugins": [rail()]})
    conf = multus.conf(clusterNetwork="a", defaultNetworks=["b"])
    multus.world.add(conf, CNI_IFNAME="eth0")
    assert multus.world.sandbox.addresses("eth0") == ["10.1.0.5/24"]
    assert multus.world.sandbox.addresses("net1") == ["10.2.0.5/24"]
    multus.world.delete(conf, CNI_IFNAME="eth0")
    assert multus.files() == []


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param("10-net.conf", id="a-file-with-one-plugin"),
        pytest.param("20-net.conflist", id="a-file-with-a-list"),
        pytest.param("", id="a-directory-whose-first-file-counts"),
    ],
)
def test_cluster_network_is_found_by_path(multus: Multus, reference: str) -> None:
    multus.network_file("10-net.conf", rail())
    multus.network_file("20-net.conflist", {"cniVersion": "1.0.0", "name": "a", "plugins": [rail()]})
    multus.world.add(multus.conf(clusterNetwork=f"{multus.conf_dir}/{reference}"), CNI_IFNAME="eth0")
    assert multus.world.sandbox.addresses("eth0") == ["10.1.0.5/24"]


def test_a_file_that_cannot_be_read_does_not_hide_the_next_one(multus: Multus) -> None:
    multus.network_file("00-broken.conf", "{")
    multus.network_file("10-net.conf", rail(name="net"))
    answer = multus.world.call("ADD", multus.conf(clusterNetwork="net"), CNI_IFNAME="eth0")
    assert answer.status == 0, answer
    assert "00-broken.conf is not valid JSON" in answer.stderr


def test_of_two_files_with_one_name_the_list_counts(multus: Multus) -> None:
    multus.network_file("10-net.conf", rail(name="net"))
    listed = {"cniVersion": "1.0.0", "name": "net", "plugins": [rail(ipam=static("10.3.0.5/24"))]}
    multus.network_file("20-net.conflist", listed)
    multus.world.add(multus.conf(clusterNetwork="net"), CNI_IFNAME="eth0")
    assert multus.world.sandbox.addresses("eth0") == ["10.3.0.5/24"]


def test_plugins_beside_a_list_are_appended_to_it(multus: Multus, stubs: Callable[..., StubPlugin]) -> None:
    first, second = stubs("first"), stubs("second")
    listed = {"cniVersion": "1.0.0", "name": "net", "plugins": [first.network("x")]}
    path = multus.network_file("net.conflist", listed)
    (path.parent / "net").mkdir()
    (path.parent / "net" / "10-more.conf").write_text(json.dumps({"type": "second"}))
    multus.world.add(multus.conf(clusterNetwork=str(path)), CNI_IFNAME="eth0")
    assert second.calls() == ["ADD pod-1 eth0"]
    assert second.stdin("ADD")["prevResult"]["ips"][0]["address"] == "10.7.0.5/24"


def test_an_auxiliary_chain_beside_the_cluster_network_is_attached_last(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    first, last = stubs("first"), stubs("last")
    path = multus.network_file("net.conf", first.network("net"))
    (path.parent / "more").mkdir()
    (path.parent / "more" / "10.conf").write_text(json.dumps({"type": "last"}))
    conf = multus.conf(clusterNetwork=str(path), auxiliaryCNIChainName="more")
    multus.world.add(conf, CNI_IFNAME="eth0")
    assert (first.calls(), last.calls()) == (["ADD pod-1 eth0"], ["ADD pod-1 net1"])


# -- how a delegate is called ----------------------------------------------------------------------


def test_a_delegate_gets_its_own_configuration_and_the_callers_environment(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    default, second = stubs("flannel"), stubs("second")
    given = second.network("second", unknown={"big": 2**70, "nested": [None, 1.5]}, Upper="case")
    conf = multus.conf(default.network("cbr0"), given)
    multus.world.add(conf, CNI_IFNAME="eth0", CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=web;A=B", OTHER="kept")
    assert second.stdin("ADD") == given
    told = second.environment("ADD")
    assert (told["CNI_IFNAME"], told["CNI_NETNS"], told["OTHER"]) == (
        "net1",
        multus.world.sandbox.path,
        "kept",
    )
    assert told["CNI_PATH"] == f"{BIN}:{multus.world.path}"
    assert told["CNI_ARGS"] == (
        "IgnoreUnknown=true;K8S_POD_NAMESPACE=;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=;K8S_POD_UID=;"
        "IgnoreUnknown=1;K8S_POD_NAME=web;A=B"
    )


def test_delete_gives_every_plugin_what_add_gave_it_and_the_result(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    """Although the administrator has changed the configuration since."""
    first, second = stubs("first"), stubs("second")
    plugins = [first.network("x", mine={"deep": [1]}), {"type": "second", "theirs": 2**65}]
    listed = {"cniVersion": "0.4.0", "name": "net", "plugins": plugins, "extra": True}
    result = multus.world.add(multus.conf(listed), CNI_IFNAME="eth0")
    multus.world.delete(multus.conf(first.network("other")), CNI_IFNAME="eth0")
    for stub, plugin in zip((first, second), plugins, strict=True):
        told = stub.stdin("DEL")
        assert told["prevResult"]["ips"][0]["address"] == result["ips"][0]["address"]
        assert {**plugin, "name": "net", "cniVersion": "0.4.0"} == {
            key: value for key, value in told.items() if key != "prevResult"
        }


def test_in_a_chain_each_plugin_gets_the_result_of_the_one_before(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    """Debian's tuning, another make's plugin and macvlan of our own process together."""
    last = stubs("last", "10.9.0.9/24")
    plugins = [rail(), {"type": "tuning", "sysctl": {}}, {"type": "last"}]
    listed = {"cniVersion": "1.0.0", "name": "net", "plugins": plugins}
    result = multus.world.add(multus.conf(listed), CNI_IFNAME="eth0")
    told = last.stdin("ADD")
    assert told["prevResult"]["ips"] == [{"interface": 0, "address": "10.1.0.5/24"}]
    assert (told["name"], told["cniVersion"]) == ("net", "1.0.0")
    assert result["ips"] == [{"interface": 0, "address": "10.9.0.9/24"}]


def test_the_runtimes_arguments_reach_the_default_network_alone(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    default, second = stubs("flannel"), stubs("second")
    able = {"capabilities": {"portMappings": True, "dns": True, "mac": False}}
    runtime = {
        "portMappings": [{"hostPort": 80}],
        "dns": {"servers": ["10.0.0.1"]},
        "mac": "02:00:00:00:00:01",
    }
    conf = multus.conf(default.network("a", **able), second.network("b", **able), runtimeConfig=runtime)
    multus.world.add(conf, CNI_IFNAME="eth0")
    assert default.stdin("ADD")["runtimeConfig"] == {
        "portMappings": [{"hostPort": 80}],
        "dns": runtime["dns"],
    }
    assert "runtimeConfig" not in second.stdin("ADD")
    multus.world.delete(multus.conf(default.network("a")), CNI_IFNAME="eth0")
    assert default.stdin("DEL")["runtimeConfig"] == {
        "portMappings": [{"hostPort": 80}],
        "dns": runtime["dns"],
    }


def test_a_delegate_without_a_name_has_the_networks(multus: Multus, stubs: Callable[..., StubPlugin]) -> None:
    stub = stubs("flannel")
    multus.world.add(multus.conf({"type": "flannel"}), CNI_IFNAME="eth0")
    assert stub.stdin("ADD") == {"type": "flannel", "name": NETWORK, "cniVersion": ""}


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_delegate_that_fails_undoes_those_before_it_in_reverse(
    multus: Multus, stubs: Callable[..., StubPlugin], failing: int
) -> None:
    """And is called with DEL itself, as the spec wants; those after it never heard of the pod."""
    made = [stubs(name) for name in ("one", "two", "three")]
    made[failing].does("ADD", """echo '{"code":11,"msg":"no luck","details":"at all"}'; exit 1""")
    log = multus.folder / "log"
    multus.folder.mkdir()
    for stub in made:
        stub.does("DEL", f"echo {stub.type} >>{log}")
    before = everything(multus)
    error = multus.world.refused(
        "ADD", multus.conf(*(stub.network(stub.type) for stub in made)), CNI_IFNAME="eth0"
    )
    ifname = ("eth0", "net1", "net2")[failing]
    assert error["code"] == 11
    assert error["msg"] == f'{ifname} on network "{made[failing].type}": no luck'
    assert "at all" in error["details"]
    assert log.read_text().split() == [stub.type for stub in reversed(made[: failing + 1])]
    assert everything(multus) == before


def test_what_cannot_be_undone_stays_on_record_until_a_delete_can(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    first, second = stubs("first"), stubs("second")
    conf = multus.conf(first.network("a"), second.network("b"))
    second.does("ADD", "exit 3")
    first.fails("DEL", {"code": 11, "msg": "busy"})
    error = multus.world.refused("ADD", conf, CNI_IFNAME="eth0")
    assert "busy" in error["details"]
    assert multus.files()
    assert multus.world.refused("DEL", conf, CNI_IFNAME="eth0")["code"] == 11
    first.works("DEL")
    multus.world.delete(conf, CNI_IFNAME="eth0")
    assert multus.files() == []


def test_delete_tries_all_and_owes_only_what_failed(multus: Multus, stubs: Callable[..., StubPlugin]) -> None:
    made = [stubs(name) for name in ("one", "two", "three")]
    conf = multus.conf(*(stub.network(stub.type) for stub in made))
    multus.world.add(conf, CNI_IFNAME="eth0")
    made[1].fails("DEL", {"code": 11, "msg": "busy"})
    error = multus.world.refused("DEL", conf, CNI_IFNAME="eth0")
    assert (error["code"], error["msg"]) == (11, 'net1 on network "two": busy')
    names = ("eth0", "net1", "net2")
    assert [stub.calls()[-1] for stub in made] == [f"DEL pod-1 {name}" for name in names]
    made[1].works("DEL")
    multus.world.delete(conf, CNI_IFNAME="eth0", CNI_NETNS="")
    assert [stub.calls().count(f"DEL pod-1 {name}") for stub, name in zip(made, names, strict=True)] == [
        1,
        2,
        1,
    ]
    assert multus.files() == []


def test_an_interface_that_was_there_before_is_left_alone(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    multus.world.sandbox.ip("link", "add", "net1", "type", "bridge")
    second = stubs("second")
    before = everything(multus)
    error = multus.world.refused("ADD", multus.conf(rail(), second.network("b")), CNI_IFNAME="eth0")
    assert (error["code"], second.calls()) == (101, [])
    assert everything(multus) == before


def test_a_plugin_that_is_not_installed_is_missed_before_anything_is_attached(multus: Multus) -> None:
    before = everything(multus)
    conf = multus.conf(rail(), {"cniVersion": "1.0.0", "name": "b", "type": "nowhere"})
    error = multus.world.refused("ADD", conf, CNI_IFNAME="eth0")
    assert (error["code"], 'failed to find plugin "nowhere"' in error["msg"]) == (7, True), error
    assert everything(multus) == before
    multus.world.delete(conf, CNI_IFNAME="eth0")


def test_a_repeated_add_is_refused_and_changes_nothing(multus: Multus) -> None:
    conf = multus.conf(*rails(2))
    multus.world.add(conf, CNI_IFNAME="eth0")
    before = everything(multus)
    assert multus.world.refused("ADD", conf, CNI_IFNAME="eth0")["code"] == 101
    assert everything(multus) == before


def test_add_in_a_new_sandbox_gives_back_what_the_old_one_left(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    stub = stubs("flannel")
    conf = multus.conf(stub.network("a"))
    multus.world.add(conf, CNI_IFNAME="eth0")
    multus.world.sandbox.delete()
    multus.world.sandbox.create()
    multus.world.add(conf, CNI_IFNAME="eth0")
    assert stub.calls() == ["ADD pod-1 eth0", "DEL pod-1 eth0", "ADD pod-1 eth0"]


def test_a_cluster_network_wins_over_delegates_as_in_multus(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    stub, other = stubs("flannel"), stubs("second")
    multus.network_file("10.conf", stub.network("a"))
    conf = multus.conf(other.network("b"), clusterNetwork="a", defaultNetworks=[])
    answer = multus.world.call("ADD", conf, CNI_IFNAME="eth0")
    assert answer.status == 0
    assert '"delegates" are not attached beside "clusterNetwork"' in answer.stderr
    multus.world.delete(conf, CNI_IFNAME="eth0")
    assert (stub.calls(), other.calls()) == (["ADD pod-1 eth0", "DEL pod-1 eth0"], [])


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        pytest.param({}, "at least one delegate/clusterNetwork must be specified", id="no-network-at-all"),
        pytest.param({"delegates": []}, "at least one delegate/clusterNetwork", id="an-empty-list"),
        pytest.param({"delegates": [None]}, "delegates[0]", id="a-delegate-that-is-null"),
        pytest.param(
            {"delegates": [{"name": "a"}]}, "delegates[0] names no plugin", id="a-delegate-without-a-type"
        ),
        pytest.param(
            {"delegates": [{"name": "a", "plugins": []}]}, "names no plugin", id="a-list-of-no-plugins"
        ),
        pytest.param(
            {"delegates": [{"name": "a", "plugins": [None]}]}, "plugins[0]", id="a-plugin-that-is-null"
        ),
        pytest.param({"delegates": [rail(name="a/b")]}, "cannot be one", id="a-name-that-is-a-path"),
        pytest.param(
            {"delegates": [rail(), {"name": "b", "type": "multus"}]}, 'type "multus"', id="multus-itself"
        ),
        pytest.param(
            {"clusterNetwork": "nowhere"}, 'cannot find the network "nowhere"', id="a-name-nobody-has"
        ),
        pytest.param({"clusterNetwork": "/nowhere/a.conf"}, "cannot read", id="a-path-that-leads-nowhere"),
        pytest.param({"delegates": "a"}, "must be a list", id="delegates-of-another-type"),
        pytest.param(
            {"delegates": [rail()], "binDir": 5}, "binDir: must be a string", id="a-directory-of-another-type"
        ),
    ],
)
def test_a_wrong_configuration_is_refused_and_does_not_keep_delete_from_its_work(
    multus: Multus, keys: dict[str, Any], told: str
) -> None:
    before = everything(multus)
    error = multus.world.refused("ADD", multus.conf(**keys), CNI_IFNAME="eth0")
    assert error["code"] == 7
    assert told in f"{error['msg']} {error['details']}"
    multus.world.delete(multus.conf(**keys), CNI_IFNAME="eth0")
    assert everything(multus) == before
    multus.world.add(multus.conf(rail()), CNI_IFNAME="eth0")
    multus.world.delete(multus.conf(**keys), CNI_IFNAME="eth0")
    assert everything(multus) == before


def test_keys_may_have_any_case_and_unknown_ones_are_noted(multus: Multus) -> None:
    conf = multus.conf(Delegates=[rail()], READINESSINDICATORFILE="/", clusternetwrk="x")
    answer = multus.world.call("ADD", conf, CNI_IFNAME="eth0")
    assert answer.status == 0, answer
    assert 'unknown key "clusternetwrk" is ignored; did you mean "clusterNetwork"?' in answer.stderr


def test_add_waits_for_the_readiness_file(multus: Multus, tmp_path: Path) -> None:
    """It is made by the delegate of another pod, while this one waits for a FIFO's reader: see the order."""
    ready = tmp_path / "ready"
    conf = multus.conf(rail(), readinessindicatorfile=str(ready))
    status = multus.world.refused("STATUS", conf | {"cniVersion": "1.1.0"}, **AS_LIBCNI)
    assert (status["code"], str(ready) in status["msg"]) == (50, True)
    ready.touch()
    multus.world.add(conf, CNI_IFNAME="eth0")
    ready.unlink()
    multus.world.delete(conf, CNI_IFNAME="eth0")
    assert multus.files() == []


# -- Multus' cache ---------------------------------------------------------------------------------


def test_add_writes_what_multus_itself_would_read(multus: Multus) -> None:
    listed = {"cniVersion": "1.0.0", "name": "b", "plugins": [rail(ipam=static("10.2.0.5/24"))]}
    multus.world.add(multus.conf(rail(name="a"), listed), CNI_IFNAME="eth0")
    single, chain = multus.entries()
    assert (single["Conf"]["type"], single["ConfList"].get("plugins")) == ("macvlan", None)
    assert [plugin["type"] for plugin in chain["ConfList"]["plugins"]] == ["macvlan"]
    assert [json.loads(b64decode(entry["Bytes"]))["name"] for entry in (single, chain)] == ["a", "b"]
    kept = json.loads((multus.cache / "results" / "b-pod-1-net1").read_text())
    assert (kept["kind"], kept["ifName"], kept["networkName"]) == ("cniCacheV1", "net1", "b")
    assert kept["result"]["ips"] == [{"interface": 0, "address": "10.2.0.5/24"}]


def as_multus_left_it(multus: Multus, *networks: dict[str, Any]) -> None:
    """Attach, then forget all but what Multus would have kept."""
    multus.world.add(multus.conf(*networks), CNI_IFNAME="eth0")
    for record in (multus.world.state / "attachments" / "multus").rglob("*.json"):
        record.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(None, id="whole"),
        pytest.param("", id="empty"),
        pytest.param('[{"Conf":{"na', id="cut-off"),
        pytest.param("[]", id="an-empty-list"),
        pytest.param("null", id="null"),
        pytest.param("[null]", id="a-list-of-null"),
        pytest.param('[{"Bytes":"!"}]', id="no-base64"),
    ],
)
def test_what_multus_attached_is_detached_although_its_cache_is(
    multus: Multus, stubs: Callable[..., StubPlugin], damage: str | None
) -> None:
    first, second = stubs("first"), stubs("second")
    as_multus_left_it(multus, first.network("a", keep={"me": 1}), second.network("b"))
    if damage is not None:
        (multus.cache / "pod-1").write_text(damage)
    multus.world.delete(multus.conf(rail()), CNI_IFNAME="eth0")
    assert (first.calls()[-1], second.calls()[-1]) == ("DEL pod-1 eth0", "DEL pod-1 net1")
    told = first.stdin("DEL")
    assert (told["keep"], told["prevResult"]["ips"][0]["address"]) == ({"me": 1}, "10.7.0.5/24")
    assert [path for path in multus.files() if "macvlan" not in str(path)] == []


def test_a_cache_as_go_writes_it_is_read(multus: Multus, stubs: Callable[..., StubPlugin]) -> None:
    """Without libcni's results: the requests stand in the cache itself."""
    first, second = stubs("first"), stubs("second")
    entries = [
        {"Conf": {}, "ConfList": {}, "Name": "a", "Bytes": bytes_of(first.network("a"))},
        {
            "Conf": {},
            "ConfList": {"name": "b", "plugins": [{"type": "second"}]},
            "Name": "default/nad-b",
            "ifnameRequest": "rail0",
            "macRequest": "02:00:00:00:00:09",
            "ipRequest": ["10.1.1.1/24"],
            "Bytes": bytes_of({"cniVersion": "0.3.1", "plugins": [{"type": "second"}]}),
        },
    ]
    multus.cache.mkdir(parents=True)
    (multus.cache / "pod-1").write_text(json.dumps(entries))
    multus.world.delete(multus.conf(rail()), CNI_IFNAME="eth0", CNI_ARGS="K8S_POD_NAME=web")
    assert (first.calls(), second.calls()) == (["DEL pod-1 eth0"], ["DEL pod-1 rail0"])
    assert second.stdin("DEL") == {"type": "second", "name": "nad-b", "cniVersion": "0.3.1"}
    told = second.environment("DEL")["CNI_ARGS"]
    assert told.endswith(";K8S_POD_NAME=web;MAC=02:00:00:00:00:09;IP=10.1.1.1/24")
    assert multus.files() == []


def bytes_of(conf: dict[str, Any]) -> str:
    return b64encode(json.dumps(conf).encode()).decode()


def test_the_journal_is_enough_without_the_cache(multus: Multus, stubs: Callable[..., StubPlugin]) -> None:
    stub = stubs("flannel")
    multus.world.add(multus.conf(stub.network("a")), CNI_IFNAME="eth0")
    for path in [path for path in multus.cache.rglob("*") if path.is_file()]:
        path.unlink()
    multus.world.delete(multus.conf(stub.network("a")), CNI_IFNAME="eth0")
    assert stub.stdin("DEL")["prevResult"]["ips"][0]["address"] == "10.7.0.5/24"
    assert multus.files() == []


# -- CHECK, STATUS, GC -----------------------------------------------------------------------------


def test_check_looks_at_every_attachment(multus: Multus) -> None:
    conf = multus.conf(*rails(2))
    result = multus.world.add(conf, CNI_IFNAME="eth0")
    assert multus.world.call("CHECK", {**conf, "prevResult": result}, CNI_IFNAME="eth0").status == 0
    multus.world.sandbox.ip("addr", "del", "10.1.0.5/24", "dev", "net1")
    error = multus.world.refused("CHECK", {**conf, "prevResult": result}, CNI_IFNAME="eth0")
    assert error["code"] == 102
    assert error["msg"].startswith('net1 on network "rail1": ')
    assert "10.1.0.5/24" in error["msg"]


def test_check_of_an_unknown_container_says_so(multus: Multus) -> None:
    error = multus.world.refused("CHECK", multus.conf(rail()), CNI_IFNAME="eth0")
    assert (error["code"], 'nothing is known of container "pod-1"' in error["msg"]) == (7, True)


def test_status_asks_the_delegates_of_a_version_that_has_it(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    old, new = stubs("old"), stubs("new")
    conf = multus.conf(old.network("a"), new.network("b", cniVersion="1.1.0"), cniVersion="1.1.0")
    assert multus.world.call("STATUS", conf, **AS_LIBCNI).status == 0
    assert (old.calls(), new.calls()) == ([], ["STATUS"])
    new.fails("STATUS", {"code": 51, "msg": "half dead"})
    error = multus.world.refused("STATUS", conf, **AS_LIBCNI)
    assert (error["code"], "half dead" in error["msg"]) == (51, True)


def test_garbage_collection_undoes_what_is_no_longer_valid(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    """Whatever the version of the stale attachment's configuration is."""
    stub = stubs("flannel")
    conf = multus.conf(stub.network("a", cniVersion="0.3.1"), cniVersion="1.1.0")
    for container in ("pod-1", "pod-2"):
        multus.world.add(conf, CNI_IFNAME="eth0", CNI_CONTAINERID=container)
    valid = {"cni.dev/valid-attachments": [{"containerID": "pod-2", "ifname": "eth0"}]}
    answer = multus.world.call("GC", conf | valid, **AS_LIBCNI)
    assert (answer.status, answer.stdout) == (0, ""), answer
    assert stub.calls()[2:] == ["DEL pod-1 eth0"]
    assert {path.name for path in multus.files()} == {"pod-2", "a-pod-2-eth0", "pod-2@eth0.json"}


def test_garbage_collection_reaches_what_multus_cache_alone_knows(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    stub = stubs("flannel")
    as_multus_left_it(multus, stub.network("a"))
    conf = multus.conf(rail(), cniVersion="1.1.0") | {"cni.dev/valid-attachments": []}
    assert multus.world.call("GC", conf, **AS_LIBCNI).status == 0
    assert stub.calls()[-1] == "DEL pod-1 eth0"
    assert multus.files() == []


def test_garbage_collection_goes_on_to_the_delegates_with_their_own_attachments(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    old, new = stubs("old"), stubs("new")
    conf = multus.conf(old.network("a"), new.network("b", cniVersion="1.1.0"), cniVersion="1.1.0")
    for container in ("pod-1", "pod-2"):
        multus.world.add(conf, CNI_IFNAME="eth0", CNI_CONTAINERID=container)
    valid = {"cni.dev/valid-attachments": [{"containerID": "pod-2", "ifname": "eth0"}]}
    assert multus.world.call("GC", conf | valid, **AS_LIBCNI).status == 0
    assert "GC" not in old.calls()
    assert new.stdin("GC")["cni.dev/valid-attachments"] == [{"containerID": "pod-2", "ifname": "net1"}]


def test_pods_from_before_multus_keep_what_they_have_of_the_default_network(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    """The runtime attached them to that network itself, so that it alone lists them."""
    default, second = stubs("default"), stubs("second")
    new = {"cniVersion": "1.1.0"}
    conf = multus.conf(default.network("a", **new), second.network("b", **new), **new)
    older = {"containerID": "older", "ifname": "eth0"}
    assert multus.world.call("GC", conf | {"cni.dev/valid-attachments": [older]}, **AS_LIBCNI).status == 0
    assert default.stdin("GC")["cni.dev/valid-attachments"] == [older]
    assert second.stdin("GC")["cni.dev/valid-attachments"] == []


def test_a_delegate_that_does_not_know_garbage_collection_is_a_note(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    stub = stubs("flannel")
    stub.answers("VERSION", {"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]})
    conf = multus.conf(stub.network("b", cniVersion="1.1.0"), cniVersion="1.1.0")
    answer = multus.world.call("GC", conf | {"cni.dev/valid-attachments": []}, **AS_LIBCNI)
    assert (answer.status, stub.calls()) == (0, [])
    assert "does not know GC" in answer.stderr


def test_debians_plugins_serve_as_default_network(multus: Multus, tmp_path: Path) -> None:
    """`bridge`, executed, stands in for flannel and the like."""
    ipam = {
        "type": "host-local",
        "dataDir": str(tmp_path / "leases"),
        "ranges": [[{"subnet": "10.5.0.0/24"}]],
    }
    bridge = {"cniVersion": "0.4.0", "name": "cbr0", "type": "bridge", "bridge": "cni0", "ipam": ipam}
    conf = multus.conf(bridge, rail(), binDir=str(GO_BIN), cniVersion="0.4.0")
    result = multus.world.add(conf, CNI_IFNAME="eth0")
    assert result["interfaces"][0]["name"] == "cni0"
    assert set(multus.world.sandbox.links()) == {"lo", "eth0", "net1"}
    assert multus.world.call("CHECK", {**conf, "prevResult": result}, CNI_IFNAME="eth0").status == 0
    multus.world.delete(conf, CNI_IFNAME="eth0")
    assert set(multus.world.sandbox.links()) == {"lo"}
    assert multus.files() == []


def lock_of(multus: Multus) -> Path:
    return multus.world.state.parent / "run" / "locks" / "multus" / f"{NETWORK}@pod-1"


def test_a_call_has_its_container_alone(multus: Multus, stubs: Callable[..., StubPlugin]) -> None:
    stub = stubs("flannel")
    log = stub.folder / "told"
    for command in ("ADD", "DEL"):
        stub.does(command, f"flock -n {lock_of(multus)} echo free >>{log} || echo {command} >>{log}; exit 3")
    multus.world.refused("ADD", multus.conf(stub.network("a")), CNI_IFNAME="eth0")
    assert log.read_text().split() == ["ADD", "DEL"]


def test_delete_waits_for_a_call_that_has_the_container(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    """A runtime that lost patience calls DEL while ADD is still at a delegate; strace tells of the wait."""
    stub = stubs("flannel")
    log = stub.folder / "log"
    os.mkfifo(log)
    tracer = ("strace", "-e", "trace=flock", "-o", log)
    with (
        locked(lock_of(multus)),
        subprocess.Popen(
            ["ip", "netns", "exec", multus.world.host.name, *tracer, BIN / "multus"],
            env=multus.world.environment("DEL", CNI_IFNAME="eth0"),
            stdin=subprocess.PIPE,
        ) as deleting,
        log.open() as told,
    ):
        assert deleting.stdin
        deleting.stdin.write(json.dumps(multus.conf(stub.network("a"))).encode())
        deleting.stdin.close()
        assert "EAGAIN" in told.readline()
        assert stub.calls() == []
        lock_of(multus).unlink()
        for _ in told:  # strace must not wait for a reader
            pass
        assert deleting.wait() == 0
    assert stub.calls() == ["DEL pod-1 eth0"]


def test_a_clusters_variables_alone_make_no_cluster(multus: Multus, stubs: Callable[..., StubPlugin]) -> None:
    """Without a service account's token, as in a container of a node's own programs."""
    stub = stubs("flannel")
    inside = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    args = {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=default"}
    multus.world.add(multus.conf(stub.network("a")), CNI_IFNAME="eth0", **inside, **args)
    assert stub.calls() == ["ADD pod-1 eth0"]


@pytest.mark.parametrize(
    "args", ["K8S_POD_NAME=web;Else=1", "K8S_POD_NAME", "K8S_POD_NAME=a=b", "IgnoreUnknown=maybe"]
)
def test_arguments_that_nobody_knows_are_refused_by_add_alone(
    multus: Multus, stubs: Callable[..., StubPlugin], args: str
) -> None:
    stub = stubs("flannel")
    conf = multus.conf(stub.network("a"))
    assert multus.world.refused("ADD", conf, CNI_IFNAME="eth0", CNI_ARGS=args)["code"] == 4
    assert stub.calls() == []
    multus.world.delete(conf, CNI_IFNAME="eth0", CNI_ARGS=args)


def test_default_networks_beside_delegates_are_noted(
    multus: Multus, stubs: Callable[..., StubPlugin]
) -> None:
    stub = stubs("flannel")
    conf = multus.conf(stub.network("a"), defaultNetworks=["b"])
    answer = multus.world.call("ADD", conf, CNI_IFNAME="eth0")
    assert (answer.status, stub.calls()) == (0, ["ADD pod-1 eth0"])
    assert '"defaultNetworks" are for "clusterNetwork"' in answer.stderr
