"""multus with a cluster: which networks a pod gets, what is asked of the API server, and what it is told."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.apiserver import faults
from tests.support.apiserver.certificates import Authority
from tests.support.cluster import DEFAULT_NETWORK, NETWORKS, STATUS, Cluster
from tests.support.pods import StubPlugin
from tests.support.world import rail, static

Stubs = Callable[..., StubPlugin]


@pytest.fixture
def default(stubs: Stubs) -> StubPlugin:
    """The default network's plugin."""
    return stubs("flannel", "10.244.0.5/24")


@pytest.fixture
def conf(cluster: Cluster, default: StubPlugin) -> dict[str, Any]:
    return cluster.conf(default.network("cbr0"))


def left(cluster: Cluster) -> list[str]:
    return [path.name for path in cluster.multus.files()]


# -- which networks --------------------------------------------------------------------------------


def test_a_pod_gets_the_networks_of_its_annotation_behind_the_default_one(
    cluster: Cluster, conf: dict[str, Any]
) -> None:
    cluster.network("a", rail(name="a"))
    cluster.network("b", {"cniVersion": "1.0.0", "plugins": [rail(ipam=static("10.2.0.5/24"))]}, "other")
    pod = cluster.pod("a,other/b@rail0")
    result = cluster.multus.world.add(conf, **pod)
    sandbox = cluster.multus.world.sandbox
    assert (sandbox.addresses("net1"), sandbox.addresses("rail0")) == (["10.1.0.5/24"], ["10.2.0.5/24"])
    assert [ip["address"] for ip in result["ips"]] == ["10.244.0.5/24"]
    cluster.multus.world.delete(conf, **pod)
    assert set(sandbox.links()) == {"lo"}
    assert left(cluster) == []


def test_a_pod_without_annotation_gets_the_default_network(cluster: Cluster, conf: dict[str, Any]) -> None:
    pod = cluster.pod()
    cluster.multus.world.add(conf, **pod)
    assert [entry["name"] for entry in cluster.status()] == ["cbr0"]


def test_a_named_interface_uses_up_its_number(cluster: Cluster, conf: dict[str, Any], stubs: Stubs) -> None:
    stub = stubs("second")
    cluster.network("a", stub.network("a"))
    cluster.multus.world.add(conf, **cluster.pod("a,a@x0,a"))
    assert stub.calls() == ["ADD pod-1 net1", "ADD pod-1 x0", "ADD pod-1 net3"]


def test_default_networks_come_before_the_annotations_but_not_in_system_namespaces(
    cluster: Cluster, default: StubPlugin, stubs: Stubs
) -> None:
    second = stubs("second")
    cluster.network("cbr0", default.network("cbr0"), "kube-system")
    cluster.network("always", second.network("always"), "kube-system")
    cluster.network("a", second.network("a"))
    conf = cluster.conf(clusterNetwork="cbr0", defaultNetworks=["always"])
    cluster.multus.world.add(conf, **cluster.pod("a"))
    assert [entry["name"] for entry in cluster.status()] == [
        "kube-system/cbr0",
        "kube-system/always",
        "default/a",
    ]
    in_system = cluster.pod("default/a", "dns", "kube-system")
    cluster.multus.world.add(conf, **in_system, CNI_CONTAINERID="pod-2")
    assert [entry["name"] for entry in cluster.status("dns", "kube-system")] == [
        "kube-system/cbr0",
        "default/a",
    ]


def test_a_reference_that_the_cluster_lacks_is_found_among_the_files(
    cluster: Cluster, default: StubPlugin
) -> None:
    cluster.multus.network_file("10.conf", default.network("My_Net"))
    cluster.multus.world.add(cluster.conf(clusterNetwork="My_Net"), **cluster.pod())
    assert default.calls() == ["ADD pod-1 eth0"]


def test_a_network_without_configuration_is_in_a_file_of_its_name(
    cluster: Cluster, conf: dict[str, Any], stubs: Stubs
) -> None:
    stub = stubs("second")
    cluster.multus.network_file("10-a.conf", stub.network("a"))
    cluster.network("a", None)
    cluster.network("b", "")
    cluster.multus.world.add(conf, **cluster.pod("a"))
    assert stub.calls() == ["ADD pod-1 net1"]
    error = cluster.multus.world.refused("ADD", conf, **cluster.pod("b", "other"), CNI_CONTAINERID="pod-2")
    assert 'network "default/b" has no configuration' in error["msg"]


def test_a_network_has_its_objects_name_unless_it_has_one(
    cluster: Cluster, conf: dict[str, Any], stubs: Stubs
) -> None:
    stub = stubs("second")
    cluster.network("a.b", {"cniVersion": "1.0.0", "type": "second"})
    cluster.multus.world.add(conf, **cluster.pod([{"name": "a.b"}]))
    assert stub.stdin("ADD")["name"] == "a.b"
    cluster.network("c", stub.network("shared"))
    cluster.multus.world.add(conf, **cluster.pod("c", "second"), CNI_CONTAINERID="pod-2")
    assert stub.stdin("ADD")["name"] == "shared"
    assert cluster.status("second")[1]["name"] == "default/c"


@pytest.mark.parametrize(
    ("config", "told"),
    [
        pytest.param("{", "is not valid JSON", id="no-json"),
        pytest.param("[]", "is a JSON array, not an object", id="no-object"),
        pytest.param('{"name":"a"}', "names no plugin", id="no-type"),
        pytest.param('{"name":"a","plugins":[]}', "names no plugin", id="no-plugins"),
        pytest.param('{"name":"a","plugins":[null]}', "plugins[0]", id="a-plugin-that-is-null"),
        pytest.param('{"name":"a b","type":"x"}', "cannot be one", id="a-name-that-cannot-be"),
        pytest.param('{"name":"a","type":"nowhere"}', 'failed to find plugin "nowhere"', id="not-installed"),
        pytest.param('{"name":"a","type":"multus"}', "call itself", id="multus-itself"),
    ],
)
def test_a_wrong_network_is_refused_before_anything_is_attached(
    cluster: Cluster, conf: dict[str, Any], default: StubPlugin, config: str, told: str
) -> None:
    cluster.network("a", config)
    error = cluster.multus.world.refused("ADD", conf, **cluster.pod("a"))
    assert error["code"] == 7
    assert told in f"{error['msg']} {error['details']}"
    assert (default.calls(), left(cluster)) == ([], [])


def test_a_missing_network_is_told_to_the_caller_and_to_the_pod(
    cluster: Cluster, conf: dict[str, Any], default: StubPlugin
) -> None:
    error = cluster.multus.world.refused("ADD", conf, **cluster.pod("a"))
    assert error["code"] == 7
    assert error["msg"] == "cannot find a network-attachment-definition (a) in namespace (default)"
    assert f'item 1 of annotation "{NETWORKS}" names it' in error["details"]
    ((kind, reason, message),) = cluster.events()
    assert (kind, reason) == ("Warning", "NoNetworkFound")
    assert error["msg"] in message
    assert default.calls() == []


def test_a_malformed_annotation_shows_the_part_that_is_wrong(
    cluster: Cluster, conf: dict[str, Any], default: StubPlugin
) -> None:
    error = cluster.multus.world.refused(
        "ADD", conf, **cluster.pod('[{"name":"a"},{"name":"b","ips":["x"]}]')
    )
    assert error["code"] == 7
    assert "item 2" in error["msg"]
    assert '"x" is not an IP address' in error["details"]
    assert [reason for _, reason, _ in cluster.events()] == ["InvalidNetwork"]
    assert default.calls() == []


@pytest.mark.parametrize("names", ["a@net2,a", "a@eth0"])
def test_two_networks_cannot_have_one_interface(
    cluster: Cluster, conf: dict[str, Any], default: StubPlugin, names: str
) -> None:
    cluster.network("a", default.network("a"))
    error = cluster.multus.world.refused("ADD", conf, **cluster.pod(names))
    assert (error["code"], "two networks of the pod want the interface" in error["msg"]) == (101, True)
    assert default.calls() == []


# -- isolation and the default network -------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "networks", "is_allowed"),
    [
        pytest.param({}, "own", True, id="the-pods-own-namespace"),
        pytest.param({}, "other/a", False, id="another-namespace"),
        pytest.param({}, "default/a", True, id="default-is-global"),
        pytest.param({"globalNamespaces": "x, other"}, "other/a", True, id="a-global-namespace"),
        pytest.param({"globalNamespaces": "other"}, "default/a", False, id="which-replaces-default"),
        pytest.param({"namespaceIsolation": False}, "other/a", True, id="without-isolation"),
    ],
)
def test_isolation_keeps_pods_from_networks_of_other_namespaces(
    cluster: Cluster, default: StubPlugin, keys: dict[str, Any], networks: str, is_allowed: bool
) -> None:
    for name, namespace in (("own", "web"), ("a", "other"), ("a", "default")):
        cluster.network(name, default.network("a"), namespace)
    conf = cluster.conf(default.network("cbr0"), **{"namespaceIsolation": True} | keys)
    answer = cluster.multus.world.call("ADD", conf, **cluster.pod(networks, namespace="web"))
    assert (answer.status == 0) == is_allowed, answer
    if not is_allowed:
        assert answer.code == 7
        assert f'may not use a network of namespace "{networks.split("/")[0]}"' in answer.json["msg"]
        assert default.calls() == []


def test_a_pod_may_replace_its_default_network(
    cluster: Cluster, conf: dict[str, Any], default: StubPlugin
) -> None:
    cluster.network("mine", rail(name="mine"), "kube-system")
    pod = cluster.pod(**{DEFAULT_NETWORK: "mine"})
    result = cluster.multus.world.add(conf, **pod)
    assert [ip["address"] for ip in result["ips"]] == ["10.1.0.5/24"]
    assert cluster.multus.world.sandbox.addresses("eth0") == ["10.1.0.5/24"]
    assert default.calls() == []
    assert [(entry["name"], entry["default"]) for entry in cluster.status()] == [("kube-system/mine", True)]


def test_isolation_holds_for_the_default_network_too(cluster: Cluster, default: StubPlugin) -> None:
    cluster.network("a", default.network("a"), "secret")
    conf = cluster.conf(default.network("cbr0"), namespaceIsolation=True)
    error = cluster.multus.world.refused("ADD", conf, **cluster.pod(**{DEFAULT_NETWORK: "secret/a"}))
    assert "may not use a network of namespace" in error["msg"]


# -- what is asked of an attachment ----------------------------------------------------------------

ASKED = {
    "ips": ["10.7.0.9/24"],
    "mac": "02:00:00:00:00:09",
    "infiniband-guid": "02:00:00:00:00:00:00:09",
    "portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}],
    "bandwidth": {"ingressRate": 1000, "egressRate": 2000},
    "deviceID": "0000:af:06.1",
    "cni-args": {"vlan": 5, "own": "pod"},
}
_EVERY = ("ips", "mac", "infinibandGUID", "portMappings", "bandwidth", "deviceID")


def test_what_a_pod_asks_for_reaches_the_plugins_that_declare_it(
    cluster: Cluster, conf: dict[str, Any], stubs: Stubs
) -> None:
    stub = stubs("second")
    able = {"capabilities": dict.fromkeys(_EVERY, True)}
    plugin = stub.network("a", args={"cni": {"own": "net", "keep": 1}}, **able)
    network = {"cniVersion": "1.0.0", "name": "a", "plugins": [plugin]}
    cluster.network("a", network)
    pod = cluster.pod([{"name": "a"} | ASKED])
    runtime = {"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "udp"}]}
    cluster.multus.world.add(conf | {"runtimeConfig": runtime}, **pod)
    for command in ("ADD", "DEL"):
        told = stub.stdin(command)
        assert told["runtimeConfig"] == {
            "ips": ["10.7.0.9/24"],
            "mac": "02:00:00:00:00:09",
            "infinibandGUID": "02:00:00:00:00:00:00:09",
            "portMappings": ASKED["portMappings"],
            "bandwidth": {"ingressRate": 1000, "ingressBurst": 0, "egressRate": 2000, "egressBurst": 0},
            "deviceID": "0000:af:06.1",
        }
        assert told["args"] == {"cni": {"own": "pod", "keep": 1, "vlan": 5}}
        assert stub.environment(command)["CNI_ARGS"].endswith(";MAC=02:00:00:00:00:09;IP=10.7.0.9/24")
        cluster.multus.world.delete(conf, **pod)


def test_a_mac_and_addresses_reach_plugins_without_the_capability_too(
    cluster: Cluster, conf: dict[str, Any]
) -> None:
    cluster.network("a", rail(name="a", ipam={"type": "static"}))
    asked = {"name": "a", "mac": "02:00:00:00:00:09", "ips": ["10.1.0.9/24"]}
    cluster.multus.world.add(conf, **cluster.pod([asked]))
    sandbox = cluster.multus.world.sandbox
    assert sandbox.addresses("net1") == ["10.1.0.9/24"]
    assert sandbox.link("net1")["address"] == "02:00:00:00:00:09"


@pytest.mark.parametrize("key", ["portMappings", "bandwidth", "infiniband-guid"])
def test_what_no_plugin_of_the_network_would_hear_of_is_refused(
    cluster: Cluster, conf: dict[str, Any], default: StubPlugin, key: str
) -> None:
    cluster.network("a", default.network("a"))
    error = cluster.multus.world.refused("ADD", conf, **cluster.pod([{"name": "a", key: ASKED[key]}]))
    assert error["code"] == 7
    assert "no plugin of the network declares the capability" in f"{error['msg']} {error['details']}"
    assert default.calls() == []


# -- default routes --------------------------------------------------------------------------------

GATEWAYS = ("10.1.0.5/24 via 10.1.0.1", "fd01::5/64 via fd01::1")


def routed(name: str, *addresses: str) -> dict[str, Any]:
    """A network whose plugin sets default routes."""
    routes = [{"dst": "::/0" if "::" in address else "0.0.0.0/0"} for address in addresses]
    return rail(name=name, dad="off", ipam=static(*addresses, routes=routes))


def defaults(cluster: Cluster) -> set[tuple[str, str]]:
    """Gateway and interface of the sandbox's default routes."""
    sandbox = cluster.multus.world.sandbox
    found = [*sandbox.routes("default"), *sandbox.ip_json("-6", "route", "show", "default")]
    return {(route["gateway"], route["dev"]) for route in found}


def test_without_a_wish_every_plugins_default_routes_stay(cluster: Cluster) -> None:
    cluster.network("b", rail(name="b", ipam=static("10.2.0.5/24")))
    cluster.multus.world.add(cluster.conf(routed("a", *GATEWAYS)), **cluster.pod("b"))
    assert defaults(cluster) == {("10.1.0.1", "eth0"), ("fd01::1", "eth0")}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(["10.2.0.1"], {("10.2.0.1", "net1"), ("fd01::1", "eth0")}, id="a-family-alone"),
        pytest.param(["10.2.0.1", "fd02::1"], {("10.2.0.1", "net1"), ("fd02::1", "net1")}, id="both"),
        pytest.param([], {("10.2.0.254", "net1"), ("fd01::1", "eth0")}, id="what-its-plugin-set"),
    ],
)
def test_the_default_route_goes_to_who_asks_for_it(
    cluster: Cluster, asked: list[str], expected: set[tuple[str, str]]
) -> None:
    v4_only = rail(
        name="b",
        dad="off",
        ipam=static(
            "10.2.0.5/24 via 10.2.0.254", "fd02::5/64", routes=[{"dst": "0.0.0.0/0", "priority": 100}]
        ),
    )
    cluster.network("b", v4_only)
    conf = cluster.conf(routed("a", *GATEWAYS))
    pod = cluster.pod([{"name": "b", "default-route": asked}])
    result = cluster.multus.world.add(conf, **pod)
    assert defaults(cluster) == expected
    told = [(route["dst"], route.get("gw")) for route in result.get("routes", ())]
    assert told == [("::/0", None)] if len(expected & {("fd01::1", "eth0")}) else told == []
    assert cluster.multus.world.call("CHECK", {**conf, "prevResult": result}, **pod).status == 0
    published = {entry["interface"]: entry.get("gateway", []) for entry in cluster.status()}
    assert {(gateway, link) for link, gateways in published.items() for gateway in gateways} == expected


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(
            [{"name": "b", "default-route": ["10.1.0.1"]}, {"name": "b", "default-route": ["10.1.0.2"]}],
            id="two-gateways-of-a-family",
        ),
        pytest.param([{"name": "b", "default-route": ["10.1.0.1", "10.1.0.2"]}], id="two-in-one-list"),
        pytest.param(
            [{"name": "b", "default-route": []}, {"name": "b", "default-route": ["10.1.0.2"]}],
            id="an-empty-list-beside-a-gateway",
        ),
    ],
)
def test_default_routes_that_contradict_each_other_are_refused(
    cluster: Cluster, conf: dict[str, Any], default: StubPlugin, asked: object
) -> None:
    cluster.network("b", default.network("b"))
    assert cluster.multus.world.refused("ADD", conf, **cluster.pod(asked))["code"] == 7
    assert default.calls() == []


def test_a_gateway_that_nothing_reaches_undoes_everything(cluster: Cluster) -> None:
    cluster.network("b", rail(name="b", ipam=static("10.2.0.5/24")))
    pod = cluster.pod([{"name": "b", "default-route": ["192.0.2.1"]}])
    before = cluster.multus.world.sandbox.snapshot()
    error = cluster.multus.world.refused("ADD", cluster.conf(routed("a", GATEWAYS[0])), **pod)
    assert (error["code"], "192.0.2.1" in error["msg"]) == (7, True)
    assert cluster.multus.world.sandbox.snapshot() == before
    assert left(cluster) == []


# -- network-status and events ---------------------------------------------------------------------


def test_the_status_of_a_pod_has_the_originals_form(cluster: Cluster, conf: dict[str, Any]) -> None:
    cluster.network("a", rail(name="a", ipam=static("10.1.0.5/24", "fd00::5/64")))
    cluster.multus.world.add(conf, **cluster.pod("a"))
    mac = cluster.multus.world.sandbox.link("net1")["address"]
    assert cluster.object()["metadata"]["annotations"][STATUS] == (
        '[{\n    "name": "cbr0",\n    "interface": "eth0",\n    "ips": [\n        "10.244.0.5"\n    ],\n'
        '    "mac": "02:00:00:00:00:07",\n    "default": true,\n    "dns": {}\n},{\n'
        '    "name": "default/a",\n    "interface": "net1",\n    "ips": [\n        "10.1.0.5",\n'
        f'        "fd00::5"\n    ],\n    "mac": "{mac}",\n    "dns": {{}}\n}}]'
    )


def test_the_pod_keeps_all_else_that_it_has(cluster: Cluster, conf: dict[str, Any]) -> None:
    pod = cluster.pod(None, mine="kept")
    cluster.multus.world.add(conf, **pod)
    found = cluster.object()
    assert found["metadata"]["annotations"]["mine"] == "kept"
    assert found["spec"]["containers"][0]["newField"] == {"of": ["later"]}
    assert found["status"] == {"phase": "Pending"}


def test_an_event_tells_of_each_attachment(cluster: Cluster, conf: dict[str, Any]) -> None:
    cluster.network("a", rail(name="a", ipam=static("10.1.0.5/24", "fd00::5/64")))
    cluster.multus.world.add(conf, **cluster.pod("a"))
    assert cluster.events() == [
        ("Normal", "AddedInterface", "Add eth0 [10.244.0.5/24] from cbr0"),
        ("Normal", "AddedInterface", "Add net1 [10.1.0.5/24 fd00::5/64] from default/a"),
    ]


def test_events_that_fail_or_hang_keep_nobody(cluster: Cluster, conf: dict[str, Any]) -> None:
    cluster.server.on(faults.hang, path="/events$", times=-1)
    cluster.multus.world.add(conf, **cluster.pod())
    cluster.server.heal()
    cluster.server.on(faults.answer(403), path="/events$", times=-1)
    cluster.multus.world.add(conf, **cluster.pod(None, "other"), CNI_CONTAINERID="pod-2")


def test_a_lost_race_for_the_status_is_run_again(cluster: Cluster, conf: dict[str, Any]) -> None:
    """A rival changes the pod between our reading and our writing, twice."""
    pod = cluster.pod()
    numbers = iter(range(9))

    def write() -> None:
        place = cluster.server.objects.place("/api/v1/namespaces/default/pods/web")
        found = cluster.object()
        metadata = {**found["metadata"], "labels": {"rival": str(next(numbers))}}
        cluster.server.objects.replace(place, {**found, "metadata": metadata})

    cluster.server.on(faults.rival(write), method="PUT", times=2)
    cluster.multus.world.add(conf, **pod)
    assert cluster.object()["metadata"]["labels"] == {"rival": "1"}
    assert [entry["name"] for entry in cluster.status()] == ["cbr0"]


def test_a_status_that_may_not_be_written_undoes_everything(
    cluster: Cluster, conf: dict[str, Any], default: StubPlugin
) -> None:
    pod = cluster.pod()
    cluster.server.on(faults.answer(403), method="PUT", times=-1)
    error = cluster.multus.world.refused("ADD", conf, **pod)
    assert 'resources ["pods/status"], verbs ["update"]' in error["details"]
    assert default.calls() == ["ADD pod-1 eth0", "DEL pod-1 eth0"]
    assert left(cluster) == []


def test_a_pod_that_goes_while_it_is_attached_needs_no_status(cluster: Cluster, conf: dict[str, Any]) -> None:
    pod = cluster.pod()
    cluster.server.on(faults.answer(404), method="PUT", times=-1)
    cluster.multus.world.add(conf, **pod)


# -- what the API server is asked ------------------------------------------------------------------


def test_the_pod_is_read_once_each_network_once_and_the_status_written_once(
    cluster: Cluster, conf: dict[str, Any], stubs: Stubs
) -> None:
    stub = stubs("second")
    for name in ("a", "b"):
        cluster.network(name, stub.network(name))
    cluster.multus.world.add(conf, **cluster.pod("a,b,a,b"))
    first, *middle, last = cluster.requests()
    assert (first, last) == ("GET pods/web", "PUT pods/web/status")
    assert sorted(middle) == [f"GET network-attachment-definitions/{name}" for name in ("a", "b")]


def test_networks_are_read_side_by_side(cluster: Cluster, conf: dict[str, Any], stubs: Stubs) -> None:
    """The first answer waits until all eight have been asked for."""
    stub = stubs("second")
    names = [f"n{number}" for number in range(8)]
    for name in names:
        cluster.network(name, stub.network(name))
    together = threading.Barrier(len(names), timeout=20)

    def meet(exchange: faults.Exchange) -> None:
        together.wait()
        exchange.send(exchange.apply())

    cluster.server.on(meet, path="/network-attachment-definitions/", times=len(names))
    cluster.multus.world.add(conf, **cluster.pod(",".join(names)))
    assert len(stub.calls()) == len(names)


@pytest.mark.parametrize("state", ["gone", "refusing", "forbidding"])
def test_delete_asks_nobody_when_everything_is_on_disk(
    cluster: Cluster, conf: dict[str, Any], stubs: Stubs, state: str
) -> None:
    stub = stubs("second")
    cluster.network("a", stub.network("a"))
    pod = cluster.pod("a")
    cluster.multus.world.add(conf, **pod)
    asked = cluster.server.count()
    if state == "gone":
        cluster.kubeconfig.unlink()
    elif state == "refusing":
        cluster.server.on(faults.reset_before, times=-1)
    else:
        cluster.server.on(faults.answer(403), times=-1)
    cluster.multus.world.delete(conf, **pod)
    assert cluster.server.count() == asked
    assert stub.calls()[-1] == "DEL pod-1 net1"
    assert left(cluster) == []


def test_delete_without_anything_on_disk_asks_the_cluster(
    cluster: Cluster, conf: dict[str, Any], default: StubPlugin, stubs: Stubs
) -> None:
    stub = stubs("second")
    cluster.network("a", stub.network("a"))
    pod = cluster.pod("a@rail0")
    cluster.multus.world.delete(conf, **pod)
    assert (default.calls(), stub.calls()) == (["DEL pod-1 eth0"], ["DEL pod-1 rail0"])


def test_delete_does_not_wait_long_for_a_cluster_that_hangs(cluster: Cluster, conf: dict[str, Any]) -> None:
    pod = cluster.pod()
    cluster.server.on(faults.hang, times=-1)
    began = time.monotonic()
    cluster.multus.world.call("DEL", conf, **pod)
    assert time.monotonic() - began < 7


def test_delete_without_anything_on_disk_and_without_a_cluster_succeeds(
    cluster: Cluster, conf: dict[str, Any], default: StubPlugin
) -> None:
    pod = cluster.pod("a")
    cluster.server.on(faults.answer(403), times=-1)
    answer = cluster.multus.world.call("DEL", conf, **pod)
    assert (answer.status, answer.stdout) == (0, "")
    assert default.calls() == ["DEL pod-1 eth0"]


@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        pytest.param(faults.answer(401), 7, "does not accept the credential (401 Unauthorized)", id="401"),
        pytest.param(faults.answer(403), 7, "may not get pods", id="403"),
        pytest.param(faults.answer(404), 11, "pod default/web is unknown", id="no-such-pod"),
    ],
)
def test_an_api_server_that_refuses_is_an_error_that_says_so(
    cluster: Cluster, conf: dict[str, Any], default: StubPlugin, fault: faults.Fault, code: int, told: str
) -> None:
    cluster.server.on(fault, path="/pods/", times=-1)
    error = cluster.multus.world.refused("ADD", conf, **cluster.pod())
    assert (error["code"], told in error["msg"]) == (code, True), error
    assert (default.calls(), left(cluster)) == ([], [])


@pytest.mark.parametrize(
    ("fault", "keys"),
    [
        pytest.param(faults.answer(401, "Unauthorized"), {}, id="a-token-that-expired"),
        pytest.param(faults.answer(403, "Forbidden"), {}, id="a-role-that-is-gone"),
        pytest.param(faults.answer(500, "InternalError"), {}, id="a-server-that-fails"),
        pytest.param(None, {"kubeconfig": "/nowhere"}, id="a-kubeconfig-that-is-gone"),
    ],
)
def test_where_the_cluster_is_optional_pods_have_the_configured_networks_without_it(
    cluster: Cluster,
    conf: dict[str, Any],
    default: StubPlugin,
    fault: faults.Fault | None,
    keys: dict[str, Any],
) -> None:
    pod = cluster.pod("nowhere")
    if fault:
        cluster.server.on(fault, times=-1)
    assert cluster.multus.world.refused("ADD", conf | keys, **pod)["code"] in (7, 11)
    answer = cluster.multus.world.call("ADD", conf | keys | {"clusterIsOptional": True}, **pod)
    assert answer.status == 0
    assert "only the networks of the configuration are attached" in answer.stderr
    cluster.multus.world.delete(conf | keys, **pod)
    assert default.calls() == ["ADD pod-1 eth0", "DEL pod-1 eth0"]


def test_status_of_an_optional_cluster_does_not_ask_for_its_answer(
    cluster: Cluster, conf: dict[str, Any]
) -> None:
    newer = conf | {"cniVersion": "1.1.0"}
    cluster.server.on(faults.answer(401, "Unauthorized"), times=-1)
    assert cluster.multus.world.refused("STATUS", newer)["code"] == 50
    answer = cluster.multus.world.call("STATUS", newer | {"clusterIsOptional": True})
    assert answer.status == 0
    assert "networks of the configuration alone" in answer.stderr


def test_an_optional_cluster_that_does_not_know_the_pod_is_believed(
    cluster: Cluster, conf: dict[str, Any], default: StubPlugin
) -> None:
    told = cluster.told("nobody")
    error = cluster.multus.world.refused("ADD", conf | {"clusterIsOptional": True}, **told)
    assert (error["code"], default.calls()) == (11, [])


def test_another_pod_of_the_same_name_is_told_by_its_uid(
    cluster: Cluster, conf: dict[str, Any], default: StubPlugin
) -> None:
    pod = cluster.pod()
    stranger = cluster.told(uid="another")
    error = cluster.multus.world.refused("ADD", conf, **stranger)
    assert 'expected pod UID "another" but got' in error["msg"]
    assert default.calls() == []
    cluster.multus.world.add(conf, **pod)
    cluster.multus.world.delete(conf, **stranger)
    assert default.calls() == ["ADD pod-1 eth0", "DEL pod-1 eth0"]


def test_a_pod_without_a_namespace_is_the_callers_mistake(cluster: Cluster, conf: dict[str, Any]) -> None:
    told = {"CNI_IFNAME": "eth0", "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web"}
    error = cluster.multus.world.refused("ADD", conf, **told)
    assert error["code"] == 4
    assert "without its namespace" in error["msg"]
    cluster.multus.world.delete(conf, **told)


def test_a_static_pod_has_another_uid_in_the_cluster(cluster: Cluster, conf: dict[str, Any]) -> None:
    cluster.pod(None, **{"kubernetes.io/config.source": "file"})
    cluster.multus.world.add(conf, **cluster.told(uid="of-the-kubelet"))


def test_a_missing_kubeconfig_is_an_error_for_add_and_none_for_delete(
    cluster: Cluster, conf: dict[str, Any]
) -> None:
    pod = cluster.pod()
    cluster.kubeconfig.unlink()
    error = cluster.multus.world.refused("ADD", conf, **pod)
    assert (error["code"], str(cluster.kubeconfig) in error["msg"]) == (7, True)
    cluster.multus.world.delete(conf, **pod)


def test_an_api_that_takes_a_second_per_call_still_serves(
    cluster: Cluster, conf: dict[str, Any], stubs: Stubs
) -> None:
    """Three round trips in sequence, and events beside the last."""
    stub = stubs("second")
    for name in ("a", "b", "c"):
        cluster.network(name, stub.network(name))
    pod = cluster.pod("a,b,c")
    cluster.server.latency = 1.0
    cluster.multus.world.add(conf, **pod)
    cluster.server.latency = 0.0
    assert len(cluster.status()) == 4


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [pytest.param(faults.hang, 30, id="hanging"), pytest.param(faults.closed_before, 10, id="closing")],
)
def test_an_api_server_that_does_not_answer_is_an_error_in_time(
    cluster: Cluster, conf: dict[str, Any], default: StubPlugin, fault: faults.Fault, seconds: float
) -> None:
    pod = cluster.pod()
    cluster.server.on(fault, times=-1)
    began = time.monotonic()
    error = cluster.multus.world.refused("ADD", conf, **pod)
    assert (error["code"], "does not answer" in error["msg"]) == (11, True), error
    assert time.monotonic() - began < seconds
    assert (default.calls(), left(cluster)) == ([], [])


@pytest.mark.parametrize(
    ("method", "path", "calls"),
    [
        pytest.param("GET", "/network-attachment-definitions/", [], id="a-network"),
        pytest.param("PUT", "/status$", ["ADD pod-1 eth0", "DEL pod-1 eth0"], id="the-status"),
    ],
)
def test_a_later_call_that_hangs_is_given_up_in_time_and_everything_undone(
    cluster: Cluster, default: StubPlugin, method: str, path: str, calls: list[str]
) -> None:
    cluster.network("cbr0", default.network("cbr0"), "kube-system")
    conf = cluster.conf(clusterNetwork="cbr0")
    pod = cluster.pod()
    cluster.server.on(faults.hang, method=method, path=path, times=-1)
    began = time.monotonic()
    assert cluster.multus.world.refused("ADD", conf, **pod)["code"] == 11
    assert time.monotonic() - began < 30
    assert default.calls() == calls
    assert left(cluster) == []


def test_inside_a_pod_the_service_account_serves(
    cluster: Cluster, default: StubPlugin, authority: Authority
) -> None:
    account = Path("/run/secrets/kubernetes.io/serviceaccount")
    account.mkdir(parents=True)
    try:
        user = json.loads(cluster.kubeconfig.read_text())["users"][0]["user"]
        (account / "token").write_text(user["token"])
        (account / "ca.crt").write_bytes(authority.certificate.read_bytes())
        host, _, port = cluster.server.url.removeprefix("https://").rpartition(":")
        inside = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        conf = cluster.multus.conf(default.network("cbr0"))
        cluster.multus.world.add(conf, **cluster.pod(), **inside)
    finally:
        shutil.rmtree("/run/secrets")
    assert [entry["name"] for entry in cluster.status()] == ["cbr0"]


# -- STATUS ----------------------------------------------------------------------------------------

AS_LIBCNI = {"CNI_CONTAINERID": "", "CNI_NETNS": "", "CNI_IFNAME": ""}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        pytest.param(None, "", id="well"),
        pytest.param(faults.answer(401), "does not accept the credential", id="401"),
    ],
)
def test_status_says_whether_the_cluster_would_answer(
    cluster: Cluster, conf: dict[str, Any], fault: faults.Fault | None, told: str
) -> None:
    if fault:
        cluster.server.on(fault, times=-1)
    answer = cluster.multus.world.call("STATUS", conf | {"cniVersion": "1.1.0"}, **AS_LIBCNI)
    assert (answer.status, told in answer.stdout) == (1 if fault else 0, True), answer
    if fault:
        assert answer.code == 50


def test_status_says_if_the_cluster_network_is_missing(cluster: Cluster) -> None:
    conf = cluster.conf(clusterNetwork="nowhere", cniVersion="1.1.0")
    error = cluster.multus.world.refused("STATUS", conf, **AS_LIBCNI)
    assert (error["code"], '"nowhere"' in error["msg"]) == (50, True)


def test_the_status_annotation_is_json(cluster: Cluster, conf: dict[str, Any]) -> None:
    cluster.multus.world.add(conf, **cluster.pod())
    assert json.loads(cluster.object()["metadata"]["annotations"][STATUS]) == cluster.status()
