"""What the documents say is true: their examples run, their tables are complete."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni.cli.plan import main as plan_main
from cni.host import netns
from cni.host.link_messages import ARPHRD_INFINIBAND
from cni.host.sysfs import Sysfs
from cni.plugins.host_device.config import HostDeviceConf
from cni.plugins.macvlan.config import MacvlanConf
from cni.plugins.multus.config import MultusConf
from cni.plugins.sriov.config import SriovConf
from cni.protocol.config import PluginConf, Section
from cni.protocol.errors import Code
from cni.protocol.registry import TYPES
from ipam.config import WhereaboutsSection
from ipam.static import StaticSection
from tests.exec.differences import DIFFERENCES
from tests.support import reference
from tests.support.apiserver import ApiServer
from tests.support.command import called
from tests.support.devices import told
from tests.support.examples import ROOT, configurations, json_blocks, plugins_of
from tests.support.plans import agreed
from tests.support.sysfs_tree import SysfsTree, WorldOfThisSys
from tests.support.world import GO_BIN, Namespace, World


@pytest.fixture
def furnished(host: Namespace, sandbox: Namespace, tmp_path: Path) -> Iterator[World]:
    """A host with what the examples name: eth0 with the default route, eth1, eth2, and devices in sysfs."""
    for name in ("eth0", "eth1", "eth2", "ib0"):
        host.add_veth(name)
        # No addresses of the kernel's own, which come when they like.
        host.ip("link", "set", name, "addrgenmode", "none")
        host.ip("addr", "flush", "dev", name)
    host.ip("link", "set", "eth1", "address", "02:00:00:00:00:e1")
    host.ip("addr", "add", "10.1.0.1/24", "dev", "eth0")
    host.ip("route", "add", "default", "via", "10.1.0.254", "dev", "eth0")
    tree = SysfsTree(tmp_path / "sys")
    tree.add_pci("0000:af:00.1", "eth1")
    tree.add_pci("0000:af:06.1", driver="vfio-pci")
    tree.add_pci("0000:af:06.2", "ib0")
    tree.write("pci", "0000:af:06.2", {"type": ARPHRD_INFINIBAND}, "ib0")
    tree.add_auxiliary("mlx5_core.sf.4", "0000:af:00.1", "eth2")
    with tree.in_place_of_sys():
        yield WorldOfThisSys(host, sandbox, tmp_path / "state")


def placed(conf: dict[str, Any], world: World, kubeconfig: Path) -> dict[str, Any]:
    """Return a configuration that keeps what it keeps of its own below the test's directory."""
    own = {"cniDir": str(world.state.parent / "multus"), "binDir": str(world.bin)}
    if "kubernetes" in conf.get("ipam", {}):
        return conf | {"ipam": conf["ipam"] | {"kubernetes": {"kubeconfig": str(kubeconfig)}}}
    return conf | own if conf["type"] == "multus" else conf


@pytest.fixture
def kubeconfig(furnished: World, tmp_path: Path) -> Iterator[Path]:
    """That of an API server which is reached from the host, and has given node-a a slice."""
    with netns.opened(furnished.host.path) as inside:
        listening = inside.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    with ApiServer(tmp_path / "apiserver", sock=listening) as server:
        server.seed(
            {
                "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
                "kind": "NodeSlicePool",
                "metadata": {"name": "sliced", "namespace": "kube-system"},
                "spec": {"range": "10.1.0.0/16", "sliceSize": "/26"},
                "status": {"allocations": [{"nodeName": "node-a", "sliceRange": "10.1.0.64/26"}]},
            }
        )
        yield server.kubeconfig()


POD = {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0", "NODENAME": "node-a"}


def having(conf: dict[str, Any], world: World) -> World:
    """Return the world with the directory where a configuration's plugin is."""
    return world if conf["type"] in TYPES else replace(world, bin=GO_BIN)


def planned(world: World, conf: dict[str, Any], **variables: str) -> dict[str, Any]:
    """Return what `podrail plan` tells of a configuration."""
    world = replace(world, path=f"{world.bin}:{GO_BIN}")
    done = called(world, plan_main, "-", "--json", stdin=json.dumps(conf), **variables)
    assert (done.returncode, done.stderr) == (0, ""), done
    (step,) = json.loads(done.stdout)["steps"]
    return dict(step)


@pytest.mark.parametrize("document", configurations())
def test_every_example_attaches_checks_and_detaches(
    furnished: World, kubeconfig: Path, document: dict[str, Any]
) -> None:
    before = told(furnished.host), told(furnished.sandbox)
    result: dict[str, Any] | None = None
    ifname = "eth0" if document.get("type") == "multus" else "net1"  # multus' own are net1, net2, …
    plugins = [placed(conf, furnished, kubeconfig) for conf in plugins_of(document)]
    for conf in plugins:
        args = POD if "kubernetes" in conf.get("ipam", {}) else {}
        told_result = {"prevResult": result} if result else {}
        plan = planned(furnished, {**conf, **told_result}, CNI_IFNAME=ifname, **args)
        result = having(conf, furnished).add({**conf, **told_result}, CNI_IFNAME=ifname, **args)
        agreed(plan, result)
    for conf in plugins:
        checked = {**conf, "prevResult": result}
        answer = having(conf, furnished).call("CHECK", checked, CNI_IFNAME=ifname, **args)
        assert (answer.status, answer.stdout) == (0, ""), answer
        assert "unknown key" not in answer.stderr
    for conf in reversed(plugins):
        having(conf, furnished).delete({**conf, "prevResult": result}, CNI_IFNAME=ifname)
    assert (told(furnished.host), told(furnished.sandbox)) == before
    assert furnished.records() == []


def test_every_example_file_is_in_their_table() -> None:
    table = ROOT / "conf-examples" / "README.md"
    named = set(re.findall(r"^\| `([^`]+)`", table.read_text(), re.MULTILINE))
    assert named == {path.name for path in table.parent.iterdir()} - {table.name}


def shared_keys() -> set[str]:
    """Keys that every plugin has and that its page need not explain; `ipam` and `dns` it does."""
    return set(PluginConf.spellings()) - {"ipam", "dns"}


def _keys_of_tables(text: str) -> list[str]:
    """The keys in rows such as "| `range` | string |", of which a row may name several."""
    types = "string|boolean|integer|number|object|list|duration|any"
    rows = re.findall(rf"^\| (`[^|]+`) \| (?:{types})\b", text, re.MULTILINE)
    return [key for row in rows for key in re.findall("`([^`]+)`", row)]


@pytest.mark.parametrize(
    ("page", "section"),
    [
        pytest.param("macvlan.md", MacvlanConf, id="macvlan"),
        pytest.param("host-device.md", HostDeviceConf, id="host-device"),
        pytest.param("sriov.md", SriovConf, id="sriov"),
        pytest.param("static.md", StaticSection, id="static"),
        pytest.param("whereabouts.md", WhereaboutsSection, id="whereabouts"),
        pytest.param("multus.md", MultusConf, id="multus"),
    ],
)
def test_the_page_of_a_plugin_has_every_key_and_no_other(page: str, section: type[Section]) -> None:
    rows = _keys_of_tables((ROOT / "docs" / page).read_text())
    optional = {"type"} if page != "multus.md" else {"ipam", "dns"}
    assert set(rows) - optional == set(section.spellings()) - shared_keys() - optional


def test_every_error_code_is_in_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert rows == [(str(int(code)), code.name) for code in Code]


def test_the_example_error_is_what_a_plugin_prints(furnished: World) -> None:
    (example,) = json_blocks(ROOT / "docs" / "operations.md")
    furnished.host.ip("link", "del", "eth1")
    furnished.host.ip("link", "del", "eth2")
    furnished.host.ip("link", "del", "ib0")
    furnished.host.ip("link", "del", "eth0")
    furnished.host.add_veth("eth0", furnished.sandbox, "far")
    conf = {"cniVersion": "1.0.0", "name": "rail0", "type": "macvlan", "master": "eth7"}
    assert furnished.refused("ADD", conf) == example


def test_the_reference_of_every_key_is_current() -> None:
    written = (ROOT / "docs" / "reference.md").read_text()
    assert written == reference.text(), "run: python -m tests.support.reference >docs/reference.md"


def test_every_page_can_be_reached_from_the_first() -> None:
    found, waiting = set[Path](), [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        found.add(page)
        links = re.findall(r"\]\(([^)#]+\.md)", page.read_text())
        named = [(page.parent / each).resolve() for each in links if "://" not in each]
        waiting += [each for each in named if each not in found and each not in waiting]
    assert found >= set((ROOT / "docs").rglob("*.md"))


def test_every_link_between_documents_leads_somewhere() -> None:
    for page in (
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "README.md",
        *(ROOT / "conf-examples").rglob("README.md"),
    ):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_deliberate_difference_is_told_with_its_reason_and_every_one_told_is_seen() -> None:
    page = (ROOT / "docs" / "compatibility.md").read_text()
    rows = re.findall(r'^\| <a id="([^"]+)"></a>(.+) \| (.+) \| (.*) \|$', page, re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(difference.name for difference in DIFFERENCES)
    assert page.count("<a id=") == len(rows), "a row that this test does not understand"
    for name, *cells in rows:
        assert all(cell.strip() for cell in cells), f"{name} has an empty cell"


def test_the_default_root_of_sysfs_is_where_executables_look() -> None:
    assert Sysfs().root == Path("/sys")
