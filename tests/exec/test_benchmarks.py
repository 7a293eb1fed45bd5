"""What the benchmark of client and daemon runs: each case on both sides, and the stand-in for Multus."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import bench as compared
from benchmarks.bench import Bench
from benchmarks.kernel_floor import Kernel
from benchmarks.measure import Spawner
from tests.support.daemon import Daemon
from tests.support.golang import built
from tests.support.world import StubIpam, World

MULTUS = Path(compared.__file__).with_name("multus.go")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.node.host.delete()
    bench.node.sandbox.delete()


@pytest.mark.parametrize("side", ["ours", "go"])
def test_each_case_attaches_and_detaches(bench: Bench, side: str) -> None:
    with Daemon(bench.node), Spawner(bench.node.host) as spawner:
        for case in bench.cases.values():
            conf = case.ours if side == "ours" else case.go
            spawner.run(*bench.job(side, "ADD", conf))
            assert set(bench.node.sandbox.links()) == {"lo", "net0"}
            spawner.run(*bench.job(side, "DEL", conf))
            assert set(bench.node.sandbox.links()) == {"lo"}


def test_the_kernels_part_of_a_call_is_timed(bench: Bench) -> None:
    with Kernel(bench.node.host) as kernel:
        for case in bench.cases.values():
            for verb, links in (("ADD", {"lo", "net0"}), ("DEL", {"lo"})):
                began = time.perf_counter()
                seconds = kernel.run(*bench.job("kernel", verb, case.ours))
                assert 0 < seconds < time.perf_counter() - began
                assert set(bench.node.sandbox.links()) == links


def test_the_stand_in_keeps_the_files_of_multus(world: World, tmp_path: Path) -> None:
    """Its delegates are known before the first is called; DEL calls them in reverse by what was kept."""
    log, seen, own = tmp_path / "log", tmp_path / "seen", tmp_path / "multus"
    delegates = []
    for number, name in enumerate(("first", "second")):
        stub = StubIpam(tmp_path / name, plugin_type=name)
        address = {"address": f"10.1.0.{number}/24"}
        stub.answers("ADD", {"cniVersion": "1.0.0", "ips": [address]})
        for verb in ("ADD", "DEL"):
            stub.does(verb, f"cp -n {own}/pod-1 {seen}; echo {verb} {name} $CNI_IFNAME >>{log}")
        delegates.append({"cniVersion": "1.0.0", "name": f"{name}-rail", "type": name})
    world.path = f"{tmp_path}/first:{tmp_path}/second"
    world.bin = built("multus", MULTUS).parent
    conf = {"cniVersion": "1.0.0", "name": "bench", "type": "multus", "cniDir": str(own)}

    result = world.add({**conf, "delegates": delegates}, CNI_IFNAME="eth0")
    assert [ip["address"] for ip in result["ips"]] == ["10.1.0.0/24"]
    kept = [json.loads(base64.b64decode(each["Bytes"])) for each in json.loads(seen.read_text())]
    assert kept == delegates
    results = {path.name for path in (own / "results").iterdir()}
    assert results == {"first-rail-pod-1-eth0", "second-rail-pod-1-net1"}

    world.delete({**conf, "delegates": delegates[:1]}, CNI_IFNAME="eth0")
    assert log.read_text().splitlines() == [
        "ADD first eth0",
        "ADD second net1",
        "DEL second net1",
        "DEL first eth0",
    ]
    assert [path for path in own.rglob("*") if path.is_file()] == []
    world.delete({**conf, "delegates": delegates}, CNI_IFNAME="eth0")
    assert len(log.read_text().splitlines()) == 4, "nothing is known any more"
