"""Devices: which of a pod's a network gets, from a kubelet that speaks real gRPC over a real socket."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.cluster import DEFAULT_NETWORK, Cluster
from tests.support.kubelet import Kubelet
from tests.support.pods import StubPlugin

Stubs = Callable[..., StubPlugin]
VFS, GPUS = "vendor.com/vfs", "vendor.com/gpus"
_RESOURCE = "k8s.v1.cni.cncf.io/resourceName"
DEVICE_INFO = Path("/run/k8s.cni.cncf.io/devinfo")


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[Kubelet]:
    with Kubelet(tmp_path / "kubelet") as kubelet:
        yield kubelet


@pytest.fixture
def sriov(cluster: Cluster, stubs: Stubs) -> StubPlugin:
    """The plugin of a network `vfs`, which wants a device."""
    stub = stubs("stub-sriov")
    conf = stub.network("vfs", capabilities={"deviceID": True, "CNIDeviceInfoFile": True})
    cluster.network("vfs", conf, **{_RESOURCE: VFS})
    return stub


@pytest.fixture
def conf(cluster: Cluster, stubs: Stubs, kubelet: Kubelet) -> dict[str, Any]:
    default = stubs("flannel")
    return cluster.conf(default.network("cbr0"), kubeletDir=str(kubelet.directory))


def given(stub: StubPlugin) -> list[str]:
    """The devices of each ADD, in order; the stub writes them down."""
    return (stub.folder / "devices").read_text().split()


def writes_down_devices(stub: StubPlugin) -> None:
    line = (stub.folder / "line.ADD").read_text()
    look = 'sed -n \'s/.*"pciBusID": "\\([^"]*\\)".*/\\1/p\' stdin.ADD >>devices; echo >>devices; '
    (stub.folder / "line.ADD").write_text(look + line)


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        pytest.param([{VFS: ["b", "a"]}], ["b", "a"], id="in-the-kubelets-order"),
        pytest.param([{VFS: ["z"]}, {VFS: ["a"]}], ["z", "a"], id="container-by-container"),
        pytest.param([{VFS: ["a"]}, {VFS: ["a", "b"]}], ["a", "b"], id="one-of-two-containers-counts-once"),
        pytest.param([{GPUS: ["x", "y"], VFS: ["a", "b"]}], ["a", "b"], id="of-its-own-resource"),
        pytest.param([{VFS: ["a", *(f"v{n}" for n in range(5000))]}], ["a", "v0"], id="of-thousands"),
    ],
)
def test_the_nth_network_of_a_resource_gets_the_nth_device(
    cluster: Cluster,
    conf: dict[str, Any],
    kubelet: Kubelet,
    sriov: StubPlugin,
    containers: list[dict[str, list[str]]],
    expected: list[str],
) -> None:
    kubelet.has("web", {VFS: ["wrong"]}, namespace="other")
    kubelet.has("db", {VFS: ["wrong"]})
    kubelet.has("web", *containers)
    writes_down_devices(sriov)
    cluster.multus.world.add(conf, **cluster.pod("vfs,vfs"))
    assert given(sriov) == expected
    assert kubelet.calls == 1


def test_a_device_reaches_every_plugin_in_all_three_ways_on_delete_too(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, stubs: Stubs
) -> None:
    first, second = stubs("first"), stubs("second")
    able = {"capabilities": {"deviceID": True}}
    plugins = [first.network("x", **able), {"type": "second"}]
    cluster.network("vfs", {"cniVersion": "1.0.0", "name": "x", "plugins": plugins}, **{_RESOURCE: VFS})
    kubelet.has("web", {VFS: ["0000:af:06.1"]})
    pod = cluster.pod("vfs")
    cluster.multus.world.add(conf, **pod)
    kubelet.stop()
    for command in ("ADD", "DEL"):
        for stub in (first, second):
            told = stub.stdin(command)
            assert (told["deviceID"], told["pciBusID"]) == ("0000:af:06.1", "0000:af:06.1")
        assert first.stdin(command)["runtimeConfig"] == {"deviceID": "0000:af:06.1"}
        assert "runtimeConfig" not in second.stdin(command)
        cluster.multus.world.delete(conf, **pod)


def test_the_default_network_and_the_others_share_the_devices(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin
) -> None:
    kubelet.has("web", {VFS: ["a", "b"]})
    writes_down_devices(sriov)
    cluster.multus.world.add(conf, **cluster.pod("vfs", **{DEFAULT_NETWORK: "default/vfs"}))
    assert given(sriov) == ["a", "b"]


def test_more_networks_than_devices_are_an_error_that_names_the_resource(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin
) -> None:
    kubelet.has("web", {VFS: ["a"]})
    error = cluster.multus.world.refused("ADD", conf, **cluster.pod("vfs,vfs"))
    assert error["code"] == 7
    assert error["msg"] == f'no device of "{VFS}" is left for network "default/vfs" (net2)'
    assert "want 2, and its containers have: a." in error["details"]
    assert sriov.calls() == []


# -- devices by claims -----------------------------------------------------------------------------


def may_read_claims(cluster: Cluster) -> None:
    rights = [
        {"apiGroups": ["resource.k8s.io"], "resources": ["resourceclaims"], "verbs": ["get"]},
        {"apiGroups": ["resource.k8s.io"], "resources": ["resourceslices"], "verbs": ["list"]},
    ]
    cluster.server.alter(
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/multus",
        lambda role: role | {"rules": [*role["rules"], *rights]},
    )


def device(name: str, device_id: str = "", resource: str = VFS) -> dict[str, Any]:
    """A device as a driver publishes it; without an ID it is none for networks."""
    told = {"k8s.cni.cncf.io/deviceID": device_id, "k8s.cni.cncf.io/resourceName": resource}
    attributes: dict[str, Any] = {key: {"string": value} for key, value in told.items() if device_id}
    return {"name": name, "attributes": attributes | {"vendor.com/speed": {"int": 100}}}


def publishes(cluster: Cluster, name: str, *devices: dict[str, Any], **spec: Any) -> None:
    """Make a ResourceSlice; by default one of the pod's node."""
    pool = {"name": "node-a", "generation": 1, "resourceSliceCount": 1}
    whole = {"driver": "nics.vendor.com", "nodeName": "node-a", "pool": pool, "devices": list(devices)}
    kind = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice"}
    cluster.server.seed({**kind, "metadata": {"name": name}, "spec": whole | spec})


def claims(cluster: Cluster, name: str, *results: str | tuple[str, str]) -> None:
    """Make a ResourceClaim that was given devices, each by its name or by that of its request too."""
    pairs = [("nic", each) if isinstance(each, str) else each for each in results]
    given = [
        {"request": request, "driver": "nics.vendor.com", "pool": "node-a", "device": each}
        for request, each in pairs
    ]
    status = {"allocation": {"devices": {"results": given}}} if given else {}
    kind = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim"}
    cluster.server.seed({**kind, "metadata": {"name": name}, "spec": {}, "status": status})


def with_claims(cluster: Cluster, spec: dict[str, Any], status: dict[str, Any]) -> dict[str, str]:
    told = cluster.pod("vfs,vfs")
    cluster.server.alter(
        "/api/v1/namespaces/default/pods/web",
        lambda pod: (
            pod | {"spec": pod["spec"] | {"nodeName": "node-a"} | spec, "status": pod["status"] | status}
        ),
    )
    return told


DIRECT = {"resourceClaims": [{"name": "first", "resourceClaimName": "one"}]}
OF_TEMPLATE = {"resourceClaims": [{"name": "first", "resourceClaimTemplateName": "t"}]}


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        pytest.param(DIRECT, {}, id="named-by-the-pod"),
        pytest.param(
            OF_TEMPLATE,
            {"resourceClaimStatuses": [{"name": "first", "resourceClaimName": "one"}]},
            id="made-of-a-template",
        ),
        pytest.param(
            {},
            {
                "extendedResourceClaimStatus": {
                    "resourceClaimName": "one",
                    "requestMappings": [{"containerName": "a", "requestName": "nic", "resourceName": VFS}],
                }
            },
            id="asked-for-as-a-resource",
        ),
    ],
)
def test_devices_of_claims_are_given_in_their_order(
    cluster: Cluster,
    conf: dict[str, Any],
    kubelet: Kubelet,
    sriov: StubPlugin,
    spec: dict[str, Any],
    status: dict[str, Any],
) -> None:
    may_read_claims(cluster)
    publishes(cluster, "s1", device("vf0", "0000:af:06.0"), device("gpu0"))
    publishes(cluster, "s2", device("vf1", "0000:af:06.1"))
    publishes(cluster, "other", device("vf1", "wrong"), pool={"name": "node-b", "generation": 9})
    claims(cluster, "one", ("gpu", "gpu0"), "vf1", "vf0")
    writes_down_devices(sriov)
    cluster.multus.world.add(conf, **with_claims(cluster, spec, status))
    assert given(sriov) == ["0000:af:06.1", "0000:af:06.0"]


def test_devices_of_claims_come_behind_those_of_device_plugins_and_count_once(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin
) -> None:
    may_read_claims(cluster)
    publishes(cluster, "s1", device("vf0", "a"), device("vf1", "b"))
    claims(cluster, "one", "vf0", "vf1")
    kubelet.has("web", {VFS: ["a"]})
    writes_down_devices(sriov)
    cluster.multus.world.add(conf, **with_claims(cluster, DIRECT, {}))
    assert given(sriov) == ["a", "b"]


def test_slices_of_no_node_and_of_an_older_generation_are_told_apart(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin
) -> None:
    may_read_claims(cluster)
    publishes(cluster, "old", device("vf0", "old"), nodeName="")
    pool = {"name": "node-a", "generation": 2, "resourceSliceCount": 1}
    publishes(cluster, "new", device("vf0", "new"), device("vf1", "b"), nodeName="", pool=pool)
    claims(cluster, "one", "vf0", "vf1")
    writes_down_devices(sriov)
    cluster.multus.world.add(conf, **with_claims(cluster, DIRECT, {}))
    assert given(sriov) == ["new", "b"]


def test_a_claim_without_devices_yet_is_to_be_tried_again(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin
) -> None:
    may_read_claims(cluster)
    told = with_claims(cluster, DIRECT, {})
    error = cluster.multus.world.refused("ADD", conf, **told)
    assert (error["code"], error["msg"]) == (11, 'the ResourceClaim "one" of the pod tells no devices')
    claims(cluster, "one")
    assert cluster.multus.world.refused("ADD", conf, **told)["code"] == 11
    assert sriov.calls() == []


def test_a_claim_that_may_not_be_read_is_told_with_the_right_that_lacks(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin
) -> None:
    claims(cluster, "one", "vf0")
    error = cluster.multus.world.refused("ADD", conf, **with_claims(cluster, DIRECT, {}))
    assert error["code"] == 7
    assert 'resources ["resourceclaims"], verbs ["get"]' in error["details"]


def test_claims_are_not_read_where_device_plugins_gave_enough(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin
) -> None:
    kubelet.has("web", {VFS: ["a", "b"]})
    cluster.multus.world.add(conf, **with_claims(cluster, DIRECT, {}))
    assert cluster.server.count(path="resource.k8s.io") == 0


def test_a_pod_may_name_the_device_of_a_network_without_a_resource(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, stubs: Stubs
) -> None:
    stub = stubs("second")
    cluster.network("a", stub.network("a"))
    cluster.multus.world.add(conf, **cluster.pod([{"name": "a", "deviceID": "mine"}]))
    assert (stub.stdin("ADD")["deviceID"], kubelet.calls) == ("mine", 0)


def test_a_pod_without_such_networks_does_not_ask_the_kubelet(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin
) -> None:
    cluster.multus.world.add(conf, **cluster.pod())
    assert kubelet.calls == 0


# -- a kubelet that does not answer at once --------------------------------------------------------


@pytest.mark.parametrize("status", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE])
def test_a_kubelet_that_is_busy_is_asked_again(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin, status: grpc.StatusCode
) -> None:
    kubelet.has("web", {VFS: ["a"]})
    kubelet.refuses(status, "rejected by rate limit", times=3)
    writes_down_devices(sriov)
    cluster.multus.world.add(conf, **cluster.pod("vfs"))
    assert (given(sriov), kubelet.calls) == (["a"], 4)


def test_a_kubelet_that_restarts_meanwhile_is_asked_again(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin, tmp_path: Path
) -> None:
    """The new one listens in the place of the old one's socket, which refuses until then."""
    kubelet.has("web", {VFS: ["a"]})
    kubelet.stop()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(kubelet.socket))
    tracer = ("strace", "-f", "-e", "trace=connect", "-o", str(tmp_path / "log"))
    os.mkfifo(tmp_path / "log")
    world = cluster.multus.world
    with subprocess.Popen(
        ["ip", "netns", "exec", world.host.name, *tracer, world.bin / "multus"],
        env=world.environment("ADD", **cluster.pod("vfs")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as adding:
        assert adding.stdin
        adding.stdin.write(json.dumps(conf).encode())
        adding.stdin.close()
        with (tmp_path / "log").open() as told:
            assert any("kubelet.sock" in line and "ECONNREFUSED" in line for line in told)
            kubelet.socket.unlink()
            kubelet.start()
            for _ in told:
                pass
        assert adding.wait() == 0
    assert sriov.stdin("ADD")["deviceID"] == "a"


@pytest.mark.parametrize(
    "devices",
    [
        pytest.param({"1": ["c"], "0": ["b", "a"]}, id="by-numa-node"),
        pytest.param({"-1": ["b", "a", "c"]}, id="without-numa"),
        pytest.param(["b", "a", "c"], id="as-before-1.20"),
    ],
)
def test_the_checkpoint_serves_where_there_is_no_socket(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin, devices: Any
) -> None:
    pod = cluster.pod("vfs,vfs,vfs")
    uid = cluster.object()["metadata"]["uid"]
    kubelet.writes_checkpoint(
        ("other", VFS, {"0": ["wrong"]}), (uid, GPUS, {"0": ["x"]}), (uid, VFS, devices)
    )
    kubelet.stop()
    assert not kubelet.socket.exists()
    writes_down_devices(sriov)
    cluster.multus.world.add(conf, **pod)
    assert given(sriov) == ["b", "a", "c"]


def test_the_checkpoint_serves_where_the_kubelet_does_not_know_the_call(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin
) -> None:
    pod = cluster.pod("vfs")
    kubelet.writes_checkpoint((cluster.object()["metadata"]["uid"], VFS, {"0": ["a"]}))
    kubelet.refuses(grpc.StatusCode.UNIMPLEMENTED, "no such service")
    answer = cluster.multus.world.call("ADD", conf, **pod)
    assert answer.status == 0, answer
    assert "no such service" in answer.stderr


@pytest.mark.parametrize("checkpoint", [None, "", "{", "[]", '{"Data":null}'])
def test_a_kubelet_that_tells_nothing_is_an_error_to_try_again(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin, checkpoint: str | None
) -> None:
    kubelet.stop()
    if checkpoint is not None:
        kubelet.checkpoint.parent.mkdir()
        kubelet.checkpoint.write_text(checkpoint)
    error = cluster.multus.world.refused("ADD", conf, **cluster.pod("vfs"))
    assert (error["code"], error["msg"]) == (11, "the kubelet does not tell which devices the pod has")
    assert str(kubelet.socket) in error["details"]
    assert sriov.calls() == []


def test_a_refusal_is_told_in_the_kubelets_words(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin
) -> None:
    kubelet.refuses(grpc.StatusCode.INTERNAL, "caf\u00e9 is on fire: 100%")
    error = cluster.multus.world.refused("ADD", conf, **cluster.pod("vfs"))
    assert "caf\u00e9 is on fire: 100%" in error["details"]
    assert sriov.calls() == []


def test_an_answer_beyond_the_kubelets_own_limit_is_refused(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin
) -> None:
    kubelet.has("huge", {VFS: ["x" * 1024] * (17 * 1024)})
    error = cluster.multus.world.refused("ADD", conf, **cluster.pod("vfs"))
    assert "larger than" in error["details"]
    assert kubelet.calls == 1
    assert sriov.calls() == []


# -- device-info files -----------------------------------------------------------------------------

INFO = {"type": "pci", "version": "1.1.0", "pci": {"pci-address": "0000:af:06.1"}}


@pytest.fixture
def device_plugins_file() -> Iterator[Path]:
    """What a device plugin has written of the device."""
    path = DEVICE_INFO / "dp" / "vendor.com-vfs-0000:af:06.1-device.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(INFO))
    yield path
    subprocess.run(["rm", "-r", DEVICE_INFO.parent], check=True)


@pytest.mark.usefixtures("device_plugins_file")
def test_a_devices_file_is_copied_offered_shown_and_removed(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin
) -> None:
    kubelet.has("web", {VFS: ["0000:af:06.1"]})
    pod = cluster.pod("vfs")
    cluster.multus.world.add(conf, **pod)
    path = Path(sriov.stdin("ADD")["runtimeConfig"]["CNIDeviceInfoFile"])
    assert path.resolve() == DEVICE_INFO / "cni" / "default-vfs-pod-1_net1"
    assert (json.loads(path.read_text()), path.stat().st_mode & 0o777) == (INFO, 0o444)
    assert (path.parent.stat().st_mode & 0o777) == 0o755
    assert cluster.status()[1]["device-info"] == INFO
    cluster.multus.world.delete(conf, **pod)
    assert sriov.stdin("DEL")["runtimeConfig"]["CNIDeviceInfoFile"] == str(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.usefixtures("device_plugins_file")
def test_a_file_that_the_plugin_writes_itself_is_shown(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin
) -> None:
    kubelet.has("web", {VFS: ["0000:af:06.7"]})
    own = {"type": "vdpa", "version": "1.1.0"}
    line = (sriov.folder / "line.ADD").read_text()
    write = f"f={DEVICE_INFO}/cni/default-vfs-pod-1_net1; mkdir -p ${{f%/*}}; echo '{json.dumps(own)}' >$f; "
    (sriov.folder / "line.ADD").write_text(write + line)
    cluster.multus.world.add(conf, **cluster.pod("vfs"))
    assert cluster.status()[1]["device-info"] == own


@pytest.mark.usefixtures("device_plugins_file")
def test_a_failed_add_removes_the_copy(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin
) -> None:
    kubelet.has("web", {VFS: ["0000:af:06.1"]})
    sriov.does("ADD", "exit 3")
    cluster.multus.world.refused("ADD", conf, **cluster.pod("vfs"))
    assert list((DEVICE_INFO / "cni").iterdir()) == []


def test_a_file_that_is_no_json_keeps_nobody(
    cluster: Cluster, conf: dict[str, Any], kubelet: Kubelet, sriov: StubPlugin, device_plugins_file: Path
) -> None:
    device_plugins_file.write_text("{")
    kubelet.has("web", {VFS: ["0000:af:06.1"]})
    answer = cluster.multus.world.call("ADD", conf, **cluster.pod("vfs"))
    assert answer.status == 0, answer
    assert "device-info" not in cluster.status()[1]
    assert "cannot be read" in answer.stderr
