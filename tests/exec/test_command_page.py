"""docs/command.md shows what the command prints: its examples are run, in their order."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.examples import ROOT
from tests.support.world import Namespace, WarmWorld, World, rail, run

PAGE = ROOT / "docs" / "command.md"
POD = {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=jobs;K8S_POD_NAME=train-0"}


def sections() -> dict[str, list[tuple[str, str]]]:
    """The examples of each section of the page: a command, and what it prints."""
    found: dict[str, list[tuple[str, str]]] = {}
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
        shown = [
            (command, printed)
            for block in blocks
            for command, printed in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
        ]
        found[section.splitlines()[0]] = shown
    return found


def pattern(printed: str) -> str:
    """What an example prints as a pattern: `…` stands for anything."""
    return re.escape(printed).replace("…", ".*")


@pytest.fixture
def node(host: Namespace, sandbox: Namespace, tmp_path: Path) -> World:
    """A node with eth0, the files that the page names, and the pod jobs/train-0 where that is attached."""
    for namespace in (host, sandbox):
        namespace.without_link_local()
    host.add_veth("eth0")
    pool = {
        "type": "whereabouts",
        "datastore": "file",
        "range": "10.1.0.0/24",
        "gateway": "10.1.0.254",
        "routes": [{"dst": "10.9.0.0/16"}],
    }
    plugin = {"type": "macvlan", "master": "eth0", "capabilities": {"mac": True}, "ipam": pool}
    conflist = {"cniVersion": "1.0.0", "name": "rail", "plugins": [plugin]}
    (tmp_path / "10-rail.conflist").write_text(json.dumps(conflist))
    (tmp_path / "20-lost.conf").write_text(json.dumps(rail(name="lost", master="eth7")))
    refused = {
        "time": "2026-01-01T00:00:00.061+00:00",
        "level": "warning",
        "event": "call",
        "trace": "5f0c1d2e3a4b5c6d",
        "verb": "ADD",
        "plugin": "macvlan",
        "attachment": "jobs/train-0 net1",
        "container": "pod-0",
        "status": 1,
        "code": 7,
        "msg": 'master "eth7" does not exist on the host',
        "waited_ms": 0.2,
        "worked_ms": 9.1,
    }
    (tmp_path / "daemon.jsonl").write_text(json.dumps(refused) + "\n")
    return WarmWorld(host, sandbox, tmp_path / "state")


@pytest.mark.parametrize("section", [name for name, examples in sections().items() if examples])
def test_every_example_prints_what_the_page_says(node: World, tmp_path: Path, section: str) -> None:
    if not section.startswith("What would"):
        conf = json.loads((tmp_path / "10-rail.conflist").read_text())
        node.add({**conf["plugins"][0], "name": "rail", "cniVersion": "1.0.0"}, **POD)
    environment = node.environment("", CNI_COMMAND="", CNI_NETNS="", CNI_CONTAINERID="")
    environment["PATH"] = f"{node.bin}:{os.environ['PATH']}"
    (Path("/run/netns/pod")).touch()
    run("mount", "--bind", node.sandbox.path, "/run/netns/pod")  # the page calls it by this name
    try:
        for command, printed in sections()[section]:
            done = subprocess.run(
                ["nsenter", f"--net={node.host.path}", "bash", "-c", command],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            assert re.fullmatch(pattern(printed), done.stdout + done.stderr), (command, done)
    finally:
        run("ip", "netns", "del", "pod")
