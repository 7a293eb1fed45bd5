"""podrail plan: it tells what ADD then does, and changes nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cni.cli.plan import main
from tests.support.command import called
from tests.support.devices import told
from tests.support.plans import agreed
from tests.support.pods import Multus
from tests.support.sysfs_tree import SysfsTree, WorldOfThisSys
from tests.support.world import Namespace, StubIpam, WarmWorld, World, rail, static

VF = "0000:00:04.0"


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a directory with its content, and every directory."""
    if not folder.exists():
        return {}
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def planned(
    world: World, conf: Mapping[str, Any], *options: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Call the command as a runtime would call the plugin; it must change nothing at all."""
    before = files(world.state.parent), world.host.snapshot(), world.sandbox.snapshot()
    arguments, stdin, environment = ["-", *options], json.dumps(conf), world.environment("", **variables)
    if isinstance(world, WarmWorld):
        done = called(world, main, *arguments, stdin=stdin, **variables)
    else:
        command = ["nsenter", f"--net={world.host.path}", world.bin / "podrail", "plan", *arguments]
        done = subprocess.run(
            command, input=stdin, env=environment, capture_output=True, text=True, check=False
        )
    assert "Traceback" not in done.stderr, done.stderr
    assert (files(world.state.parent), world.host.snapshot(), world.sandbox.snapshot()) == before
    return done


def plan_of(world: World, conf: Mapping[str, Any], **variables: str) -> dict[str, Any]:
    done = planned(world, conf, "--json", **variables)
    assert done.returncode == 0, (done.stdout, done.stderr)
    (step,) = json.loads(done.stdout)["steps"]
    return dict(step)


def kept(world: World, plan: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """The answer, the sysctls and the routes of an ADD must be those of its plan."""
    agreed(plan, result)
    for path, value in plan.get("sysctls", {}).items():
        assert world.sandbox.sh("cat", f"/proc/sys/{path}").strip() == value, path
    there = {
        (route["dst"], route.get("gateway"))
        for option in ("-4", "-6")
        for route in json.loads(world.sandbox.ip(option, "-j", "route", "show", "table", "all") or "[]")
    }
    for route in plan.get("routes", ()):
        network = "default" if route["network"].endswith("/0") else route["network"]
        assert (network, route.get("gateway")) in there, (route, there)


@pytest.fixture
def world(host: Namespace, sandbox: Namespace, tmp_path: Path) -> World:
    for namespace in (host, sandbox):
        namespace.without_link_local()
    return WarmWorld(host, sandbox, tmp_path / "state")


DUAL = static(
    "10.1.0.5/24 via 10.1.0.1",
    "fd00::5/64 via fd00::1",
    routes=[{"dst": "0.0.0.0/0"}, {"dst": "fd01::/48"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9"}],
)


@pytest.mark.parametrize(
    "conf",
    [
        pytest.param(rail(), id="one-address"),
        pytest.param(rail(ipam=DUAL, dad="optimistic"), id="two-families-with-routes"),
        pytest.param(
            rail(ipam={}, mode="private", mtu=1400, mac="02:00:00:00:00:77"), id="without-addresses"
        ),
        pytest.param(rail(macFromAddress=True), id="mac-from-the-address"),
        pytest.param(rail(mode="passthru", announce=False), id="passthru"),
        pytest.param(rail(master="", cniVersion="0.2.0"), id="default-route-and-an-old-version"),
        pytest.param(
            rail(ipam={"type": "whereabouts", "range": "10.2.0.0/29", "gateway": "10.2.0.6"}),
            id="whereabouts",
        ),
        pytest.param(
            rail(
                ipam={"type": "whereabouts", "ipRanges": [{"range": "10.2.0.0/29"}, {"range": "10.2.0.0/28"}]}
            ),
            id="whereabouts-with-ranges-that-overlap",
        ),
    ],
)
def test_macvlan_does_what_was_planned(world: World, conf: dict[str, Any]) -> None:
    world.host.add_veth("eth0")
    world.host.ip("addr", "add", "10.1.0.1/24", "dev", "eth0")
    world.host.ip("route", "add", "default", "via", "10.1.0.254", "dev", "eth0")
    plan = plan_of(world, conf)
    result = world.add(conf)
    kept(world, plan, result)
    link = world.sandbox.link("net1")
    assert plan["facts"] == {
        "master": "eth0",
        "mode": link["linkinfo"]["info_data"]["mode"],
        "mtu": link["mtu"],
    }
    if "MAC" not in " ".join(plan.get("open", ())):
        (interface,) = plan["result"].get("interfaces", [{"mac": link["address"]}])
        assert interface["mac"] == link["address"]


def test_whereabouts_gives_what_was_planned_whatever_is_held(world: World, peer: Namespace) -> None:
    world.host.add_veth("eth0")
    conf = rail(ipam={"type": "whereabouts", "range": "10.2.0.0/29", "rest_time": "1h"})
    for name in ("pod-a", "pod-b"):
        other = WarmWorld(world.host, peer, world.state, container_id=name, ifname=f"{name}0")
        other.add(conf)
        if name == "pod-a":
            other.delete(conf)
    plan = plan_of(world, conf)
    assert plan["result"]["ips"][0]["address"] == "10.2.0.3/29", "10.2.0.1 rests, 10.2.0.2 is held"
    assert plan["steps"][0]["facts"]["pool"] == "10.2.0.0/29"
    kept(world, plan, world.add(conf))


def test_a_pod_that_has_an_address_is_planned_to_keep_it(world: World, peer: Namespace) -> None:
    world.host.add_veth("eth0")
    conf = rail(ipam={"type": "whereabouts", "range": "10.2.0.0/29", "datastore": "file"})
    pod = {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=jobs;K8S_POD_NAME=web"}
    earlier = WarmWorld(world.host, peer, world.state)
    earlier.add(conf, CNI_CONTAINERID="another", CNI_IFNAME="net7")
    earlier.add(conf, CNI_CONTAINERID="earlier", **pod)
    earlier.delete(conf, CNI_CONTAINERID="another", CNI_IFNAME="net7")
    plan = plan_of(world, conf, **pod)
    assert plan["result"]["ips"][0]["address"] == "10.2.0.2/29", "though 10.2.0.1 is free"
    kept(world, plan, world.add(conf, **pod))


def test_a_full_pool_is_planned_to_refuse(world: World, peer: Namespace) -> None:
    world.host.add_veth("eth0")
    conf = rail(ipam={"type": "whereabouts", "range": "10.2.0.0/30"})
    for name in ("pod-a", "pod-b"):
        WarmWorld(world.host, peer, world.state, container_id=name, ifname=f"{name}0").add(conf)
    done = planned(world, conf, "--json")
    (step,) = json.loads(done.stdout)["steps"]
    refused = world.refused("ADD", conf)
    assert (done.returncode, step["error"]["code"]) == (1, 100)
    assert step["error"]["msg"] == refused["msg"]


@pytest.mark.parametrize(
    "conf",
    [
        pytest.param(rail(type="host-device", device="dev0"), id="by-name"),
        pytest.param(rail(type="host-device", hwaddr="02:00:00:00:00:d0", ipam={}), id="by-mac"),
    ],
)
def test_host_device_does_what_was_planned(world: World, conf: dict[str, Any]) -> None:
    world.host.add_veth("dev0")
    world.host.ip("link", "set", "dev0", "address", "02:00:00:00:00:d0")
    plan = plan_of(world, conf)
    assert plan["facts"] == {"device": "dev0", "mtu": 1500}
    assert plan["result"]["interfaces"][0]["mac"] == "02:00:00:00:00:d0"
    kept(world, plan, world.add(conf))
    again = planned(world, {**conf, "name": "other"}, "--json", CNI_IFNAME="net2")
    (step,) = json.loads(again.stdout)["steps"]
    refused = world.refused("ADD", {**conf, "name": "other"}, CNI_IFNAME="net2")
    assert (again.returncode, step["error"]["code"]) == (1, 104)
    assert step["error"]["msg"] == refused["msg"]


@pytest.fixture
def world_with_vf(world: World, tmp_path: Path) -> Iterator[WorldOfThisSys]:
    world.host.add_veth("guest0")
    world.host.ip("link", "set", "guest0", "address", "02:00:00:00:00:f0")
    tree = SysfsTree(tmp_path / "sys")
    tree.add_pci(VF, "guest0", driver="iavf")
    tree.add_pci("0000:00:05.0", driver="vfio-pci")
    with tree.in_place_of_sys():
        yield WorldOfThisSys(world.host, world.sandbox, tmp_path / "state")


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({}, id="as-it-is"),
        pytest.param({"mtu": 1400, "mac": "02:00:00:00:00:f1"}, id="with-mac-and-mtu"),
        pytest.param({"deviceID": "0000:00:05.0", "ipam": {}}, id="for-a-program"),
    ],
)
def test_sriov_does_what_was_planned(world_with_vf: World, keys: dict[str, Any]) -> None:
    world = world_with_vf
    conf = {
        "cniVersion": "1.1.0",
        "name": "rail",
        "type": "sriov",
        "deviceID": VF,
        "ipam": static("10.3.0.5/24"),
    }
    plan = plan_of(world, conf | keys)
    assert plan["facts"]["VF"] == keys.get("deviceID", VF)
    kept(world, plan, world.add(conf | keys))


def test_multus_does_what_was_planned_for_each_network(world: World, tmp_path: Path) -> None:
    world.host.add_veth("eth0")
    world.host.add_veth("dev0")
    where = {"type": "whereabouts", "range": "10.2.0.0/29"}
    multus = Multus(world, tmp_path / "multus")
    conf = multus.conf(
        rail(name="main", ipam=where),
        rail(name="second", ipam=where),
        rail(name="third", type="host-device", device="dev0", ipam=static("10.3.0.5/24")),
    )
    plan = plan_of(world, conf, CNI_IFNAME="eth0")
    result = world.add(conf, CNI_IFNAME="eth0")
    kept(world, plan, result)
    networks = plan["steps"]
    assert [each["interface"] for each in networks] == ["eth0", "net1", "net2"]
    for each in networks:
        for ip in each["result"]["ips"]:
            assert ip["address"] in world.sandbox.addresses(each["interface"])
    addresses = [each["result"]["ips"][0]["address"] for each in networks]
    assert addresses == ["10.2.0.1/29", "10.2.0.2/29", "10.3.0.5/24"]


def test_two_networks_of_a_pod_that_want_one_device_are_planned_to_fail(world: World, tmp_path: Path) -> None:
    world.host.add_veth("dev0")
    device = rail(type="host-device", device="dev0", ipam={})
    conf = Multus(world, tmp_path / "multus").conf({**device, "name": "one"}, {**device, "name": "two"})
    done = planned(world, conf, CNI_IFNAME="eth0")
    assert done.returncode == 1
    assert 'ADD would fail: the device "dev0" is in use (code 104)' in done.stdout
    assert world.call("ADD", conf, CNI_IFNAME="eth0").status == 1


def test_what_another_makes_plugin_does_is_said_to_be_open(world: World, tmp_path: Path) -> None:
    world.host.add_veth("eth0")
    stub = StubIpam(tmp_path / "stub")
    world.path = f"{stub.folder}:{world.path}"
    plan = plan_of(world, rail(ipam={"type": "stub-ipam"}))
    assert "ips" not in plan["result"]
    assert "is of another make" in plan["steps"][0]["open"][0]
    assert stub.calls() == []


def test_a_list_is_planned_plugin_by_plugin_and_another_makes_hands_on_what_it_got(world: World) -> None:
    world.host.add_veth("eth0")
    plugins = [
        {"type": "macvlan", "master": "eth0", "mac": "02:00:00:00:00:0c", "ipam": static("10.1.0.5/24")},
        {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_ignore": "1"}},
        {"type": "rdma"},
    ]
    conf = {"cniVersion": "1.0.0", "name": "rail", "plugins": plugins}
    done = planned(world, conf, "--json")
    first, second, third = json.loads(done.stdout)["steps"]
    assert first["result"]["ips"] == second["result"]["ips"] == third["result"]["ips"]
    assert "is of another make" in second["open"][0]
    assert "which RDMA device goes along is known when the interface is there" in third["open"]
    assert done.returncode == 0


def test_a_list_ends_with_the_plugin_that_would_fail(world: World) -> None:
    world.host.add_veth("eth0")
    plugins = [{"type": "macvlan", "master": "eth7"}, {"type": "tuning"}]
    done = planned(world, {"cniVersion": "1.0.0", "name": "rail", "plugins": plugins}, "--json")
    ((step),) = json.loads(done.stdout)["steps"]
    assert (done.returncode, step["error"]["code"]) == (1, 7)


def test_a_plugin_that_is_not_installed_is_told(world: World) -> None:
    world.host.add_veth("eth0")
    for conf in (rail(type="nobody"), rail(ipam={"type": "nobody"})):
        done = planned(world, conf)
        assert (done.returncode, 'failed to find plugin "nobody"' in done.stdout) == (1, True)


def test_without_a_sandbox_the_plan_is_that_of_a_new_one(world: World) -> None:
    world.host.add_veth("eth0")
    plan = plan_of(world, rail(), CNI_NETNS="", CNI_CONTAINERID="")
    assert plan["result"]["ips"][0]["address"] == "10.1.0.5/24"


def test_the_text_says_what_the_pod_would_get(world: World) -> None:
    world.host.add_veth("eth0")
    world = World(world.host, world.sandbox, world.state)  # as users call it
    done = planned(world, rail(ipam=DUAL))
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "net1: macvlan on network rail",
        "  master: eth0",
        "  mode: bridge",
        "  mtu: 1500",
        "  address: 10.1.0.5/24, gateway 10.1.0.1",
        "  address: fd00::5/64, gateway fd00::1",
        "  route: 0.0.0.0/0 via 10.1.0.1",
        "  route: fd01::/48 via fd00::1",
        "  route: 10.9.0.0/16 via 10.1.0.9",
        "  sysctl: net/ipv6/conf/lo/disable_ipv6 = 0",
        "  sysctl: net/ipv6/conf/net1/disable_ipv6 = 0",
        "  sysctl: net/ipv6/conf/net1/keep_addr_on_down = 1",
        "  sysctl: net/ipv4/conf/net1/arp_notify = 1",
        "  sysctl: net/ipv6/conf/net1/ndisc_notify = 1",
        "  open: the MAC is chosen by ADD, at random unless an address decides it",
        "  net1: static on network rail",
        "    address: 10.1.0.5/24, gateway 10.1.0.1",
        "    address: fd00::5/64, gateway fd00::1",
    ]


def test_a_plan_that_cannot_be_made_says_why(world: World) -> None:
    done = planned(world, rail(master="eth7"))
    assert (done.returncode, "eth7" in done.stdout) == (1, True)
    broken = subprocess.run(
        [world.bin / "podrail", "plan", "-"],
        input="{",
        env=world.environment(""),
        capture_output=True,
        text=True,
    )
    assert (broken.returncode, broken.stdout) == (1, "")
    assert "Traceback" not in broken.stderr


def test_state_is_untouched_by_plans_of_a_world_in_use(world: World) -> None:
    world.host.add_veth("eth0")
    world.host.add_veth("dev0")
    world.add(rail(ipam={"type": "whereabouts", "range": "10.2.0.0/29"}))
    world.add(rail(name="d", type="host-device", device="dev0", ipam={}), CNI_IFNAME="net2")
    before = told(world.host)
    for conf in (
        rail(ipam={"type": "whereabouts", "range": "10.2.0.0/29"}),
        rail(name="d", type="host-device", device="dev0", ipam={}),
    ):
        planned(world, conf, CNI_IFNAME="net3")  # asserts that nothing changed
    assert told(world.host) == before


WHEREABOUTS = {"type": "whereabouts", "range": "10.2.0.0/29"}


@pytest.mark.parametrize(
    "conf",
    [
        pytest.param(rail(master="eth7"), id="no-such-master"),
        pytest.param(rail(master=""), id="no-default-route"),
        pytest.param(rail(mtu=9000), id="an-mtu-above-the-masters"),
        pytest.param(rail(mode="hub"), id="no-such-mode"),
        pytest.param(rail(master="port0"), id="a-master-that-is-a-port"),
        pytest.param(rail(master="lo"), id="a-master-that-is-loopback"),
        pytest.param(rail(cniVersion="9.0.0"), id="an-unknown-version"),
        pytest.param(rail(ipam={}, cniVersion="0.2.0"), id="an-old-version-without-addresses"),
        pytest.param(rail(ipam={"type": "macvlan"}), id="its-own-ipam"),
        pytest.param(rail(ipam={"type": "nobody"}), id="an-ipam-that-is-not-installed"),
        pytest.param(rail(ipam={"type": "static"}), id="static-without-addresses"),
        pytest.param(rail(ipam=static("224.0.0.1/24")), id="a-groups-address"),
        pytest.param(rail(ipam=static("0.0.0.0/24")), id="no-address-at-all"),
        pytest.param(rail(mtu=1000, ipam=static("fd00::5/64")), id="ipv6-below-its-least-mtu"),
        pytest.param(
            rail(ipam=static("10.1.0.5/24", routes=[{"dst": "10.9.0.0/16", "gw": "fd00::1"}])),
            id="a-gateway-of-the-other-family",
        ),
        pytest.param(rail(mac="01:00:00:00:00:01"), id="a-groups-mac"),
        pytest.param(rail(prevResult={"cniVersion": "0.2.0"}), id="a-result-of-another-shape"),
        pytest.param(rail(ipam=WHEREABOUTS | {"range": "10.2.0.0/40"}), id="a-range-that-is-none"),
        pytest.param(rail(ipam=WHEREABOUTS | {"exclude": ["10.2.0.0/29"]}), id="nothing-but-exclusions"),
        pytest.param(rail(ipam=WHEREABOUTS | {"datastore": "kubernetes"}), id="a-cluster-without-kubeconfig"),
        pytest.param(rail(type="host-device"), id="no-device-named"),
        pytest.param(rail(type="host-device", device="dev7"), id="no-such-device"),
        pytest.param(rail(type="host-device", device="lo"), id="the-loopback-device"),
        pytest.param(rail(type="host-device", pciBusID="0000:ff:1f.7"), id="no-such-pci-device"),
        pytest.param({"type": "sriov", "cniVersion": "1.0.0", "name": "vf"}, id="no-vf-named"),
        pytest.param(
            {"type": "sriov", "cniVersion": "1.0.0", "name": "vf", "deviceID": "0000:ff:1f.7"},
            id="no-such-vf",
        ),
        pytest.param({"type": "rdma", "cniVersion": "1.0.0", "name": "vf"}, id="rdma-that-is-not-chained"),
    ],
)
def test_what_add_refuses_the_plan_refuses_with_the_same_words(world: World, conf: dict[str, Any]) -> None:
    world.host.add_veth("eth0")
    world.host.add_veth("port0")
    world.host.ip("link", "add", "br0", "type", "bridge")
    world.host.ip("link", "set", "port0", "master", "br0")
    done = planned(world, conf, "--json")
    told = json.loads(done.stdout)
    error = told.get("error") or told["steps"][-1]["error"]
    refused = world.refused("ADD", conf)
    assert done.returncode == 1
    assert error["code"] == refused["code"]
    assert refused["msg"].startswith(error["msg"]), "what the kernel would add the plan does not know"
    assert refused["details"].startswith(error["details"].split(". ")[0])


@pytest.mark.parametrize(
    ("keys", "variables"),
    [
        pytest.param({"delegates": []}, {}, id="no-network"),
        pytest.param({"delegates": [{"name": "x"}]}, {}, id="a-delegate-without-a-type"),
        pytest.param({"delegates": [rail(type="multus")]}, {}, id="multus-below-itself"),
        pytest.param({"delegates": [rail(type="nobody")]}, {}, id="a-delegate-that-is-not-installed"),
        pytest.param({"delegates": [rail()]}, {"CNI_IFNAME": "a/b"}, id="a-bad-interface-name"),
        pytest.param({"delegates": [rail()]}, {"CNI_CONTAINERID": "!"}, id="a-bad-container-id"),
        pytest.param({"delegates": [rail()]}, {"CNI_ARGS": "K8S"}, id="bad-arguments"),
        pytest.param({"delegates": [rail()], "kubeconfig": "/nowhere"}, {}, id="no-such-kubeconfig"),
        pytest.param({"clusterNetwork": "nowhere"}, {}, id="no-such-network"),
    ],
)
def test_what_multus_refuses_its_plan_refuses_with_the_same_words(
    world: World, tmp_path: Path, keys: dict[str, Any], variables: dict[str, str]
) -> None:
    conf = Multus(world, tmp_path / "multus").conf(**keys)
    done = planned(world, conf, "--json", **variables)
    told = json.loads(done.stdout)
    error = told.get("error") or told["steps"][-1]["error"]
    refused = world.refused("ADD", conf, **variables)
    assert done.returncode == 1
    assert (error["code"], error["msg"]) == (refused["code"], refused["msg"])
