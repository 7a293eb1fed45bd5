"""whereabouts in a cluster: requests, time and CPU of ADD and DEL, alone, in parallel, and from blocks.

    python -m benchmarks.cluster [--rounds N] [--output DIR]

Stores and nodes are in one warm process, the API server of the tests in another, over plain http, with some
latency added to each request. What the API server itself spends is not counted as CPU.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import bars
from cni.kube.client import Client
from cni.kube.config import load
from cni.kube.deadline import Limits
from cni.protocol.plugin import run
from cni.protocol.request import Request
from ipam.known_pools import KnownPools
from ipam.kube_pool import GROUP_VERSION
from ipam.kube_store import KubeStore
from ipam.pool import Claim
from tests.support.apiserver import ApiServer
from tests.support.isolation import isolate
from tests.support.stores import owner, wish
from tests.support.world import run as command

RANGE = "10.0.0.0/16"
LATENCIES = (0, 5, 20)  # ms
FILLS = (0, 100, 1000, 10_000)
AT_ONCE = (50, 200)
NODES, PODS, RAILS = 16, 8, 16
# Milliseconds of Whereabouts (March 2026, Go 1.26) against such a server on this class of machine.
GO = {
    ("ADD, 0 held", 0): 13.1,
    ("ADD, 0 held", 5): 68.8,
    ("ADD, 0 held", 20): 209.0,
    ("ADD, 10,000 held", 0): 201.0,
    ("50 ADDs at once", 0): 2800.0,
    ("50 ADDs at once", 5): 5300.0,
    ("200 ADDs at once", 0): 5500.0,
    ("200 ADDs at once", 5): 15000.0,
    ("200 ADDs at once", 20): 40600.0,
}
_WARM_UP = 3  # claims after which a process goes by what it knows of a large pool
LIMITS = Limits(connect=10, request=30, silence=60, operation=300)


@dataclass(frozen=True)
class Row:
    """One line of the tables; times in milliseconds."""

    what: str
    latency_ms: int
    wall_ms: float
    cpu_ms: float
    requests: float


class Server:
    """An API server in a process of its own."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.kubeconfig = str(pipe.recv())

    def requests(self) -> int:
        self._pipe.send("count")
        return int(self._pipe.recv())

    def fill(self, count: int) -> None:
        """Let the pool of RANGE have so many entries."""
        self._pipe.send(count)
        self._pipe.recv()

    def store(self) -> KubeStore:
        """Return the store of a warm process: with connections and pools of earlier calls."""
        return KubeStore(Client(load(self.kubeconfig), LIMITS), "kube-system", LIMITS, KnownPools())


@contextmanager
def serving(latency_ms: int) -> Iterator[Server]:
    here, there = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = multiprocessing.Process(target=_serve, args=(Path(folder), latency_ms / 1000, there))
        process.start()
        yield Server(here)
        here.send("end")
        process.join()


def _serve(folder: Path, latency: float, pipe: Connection) -> None:
    with ApiServer(folder) as server:
        server.latency = latency
        pipe.send(str(server.kubeconfig()))
        while (told := pipe.recv()) != "end":
            if isinstance(told, int):
                server.seed(_pool(told))
            pipe.send(server.count())


def _pool(count: int) -> dict[str, Any]:
    entries = {
        str(n): {"id": f"{n:064x}", "podref": f"default/worker-{n}", "ifname": "net1"}
        for n in range(1, count + 1)
    }
    metadata = {"name": "10.0.0.0-16", "namespace": "kube-system"}
    spec = {"range": RANGE, "allocations": entries}
    return {"apiVersion": GROUP_VERSION, "kind": "IPPool", "metadata": metadata, "spec": spec}


def alone(latency_ms: int, fill: int, rounds: int) -> Iterator[Row]:
    """One ADD and one DEL after the other."""
    with serving(latency_ms) as server:
        server.fill(fill)
        asked, store = wish(RANGE), server.store()
        claims: list[Claim] = []

        def add(number: int) -> None:
            claims.append(store.claim(asked, owner(10**6 + number)))

        def delete(number: int) -> None:
            store.release(owner(10**6 + number), [asked.pool], [claims[number]])

        for number in range(_WARM_UP):
            store.claim(asked, owner(2 * 10**6 + number))
        for verb, act in (("ADD", add), ("DEL", delete)):
            yield _measured(f"{verb}, {fill:,} held", server, latency_ms, rounds, act)


def _measured(what: str, server: Server, latency_ms: int, rounds: int, act: Callable[[int], object]) -> Row:
    before, cpu, walls = server.requests(), time.process_time(), []
    for number in range(rounds):
        start = time.perf_counter()
        act(number)
        walls.append((time.perf_counter() - start) * 1000)
    spent = (time.process_time() - cpu) * 1000 / rounds
    return Row(what, latency_ms, statistics.median(walls), spent, (server.requests() - before) / rounds)


def at_once(latency_ms: int, count: int) -> Row:
    """So many ADDs of one pool in threads of one process; the row is of all together."""
    with serving(latency_ms) as server:
        server.fill(1)
        api, asked = Client(load(server.kubeconfig), LIMITS), wish(RANGE)

        def add(number: int) -> object:
            return KubeStore(api, "kube-system", LIMITS).claim(asked, owner(10**6 + number)).address

        with ThreadPoolExecutor(count) as pool:
            start, cpu = time.perf_counter(), time.process_time()
            given = set(pool.map(add, range(count)))
            wall, spent = time.perf_counter() - start, time.process_time() - cpu
        if len(given) != count:
            raise SystemExit(f"{count} ADDs at once were given {len(given)} addresses")
        return Row(f"{count} ADDs at once", latency_ms, wall * 1000, spent * 1000, server.requests() / count)


def from_blocks(latency_ms: int) -> Row:
    """A big job: pods of many networks start on all nodes at once; the row is of one ADD."""
    with serving(latency_ms) as server, tempfile.TemporaryDirectory() as folder:
        with ThreadPoolExecutor(NODES) as pool:
            start, cpu = time.perf_counter(), time.process_time()
            given = [
                address
                for each in pool.map(lambda n: _start_pods(server, Path(folder) / f"node-{n}"), range(NODES))
                for address in each
            ]
            wall, spent = time.perf_counter() - start, time.process_time() - cpu
        count = NODES * PODS * RAILS
        if len(set(given)) != count:
            raise SystemExit(f"{count} ADDs from blocks were given {len(set(given))} addresses")
        what = f"ADD from blocks, {NODES} nodes, {PODS} pods, {RAILS} networks"
        return Row(what, latency_ms, wall * 1000 / count, spent * 1000 / count, server.requests() / count)


def _start_pods(server: Server, state: Path) -> list[str]:
    ipam = {
        "type": "whereabouts",
        "range": RANGE,
        "node_slice_size": "/24",
        "node_blocks": True,
        "kubernetes": {"kubeconfig": server.kubeconfig},
    }
    conf = {"cniVersion": "1.0.0", "name": "rails", "type": "macvlan", "ipam": ipam}
    given = []
    for number in range(PODS * RAILS):
        name = f"{state.name}-{number // RAILS}"
        environment = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": name,
            "CNI_IFNAME": f"net{number % RAILS}",
            "CNI_NETNS": "/run/netns/none",
            "CNI_PATH": "/opt/cni/bin",
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}",
            "NODENAME": state.name,
            "PODRAIL_STATE_DIR": str(state),
        }
        reply = run("whereabouts", Request("ADD", environment, json.dumps(conf).encode()))
        given.append(json.loads(reply.stdout)["ips"][0]["address"])
    return given


def rows(rounds: int) -> Iterator[Row]:
    for fill in FILLS:
        yield from alone(0, fill, rounds)
    for latency in LATENCIES[1:]:
        yield from alone(latency, 0, rounds)
    for latency in LATENCIES:
        for count in AT_ONCE:
            yield at_once(latency, count)
    for latency in LATENCIES[1:]:
        yield from_blocks(latency)


def _is_flat(measured: list[Row]) -> bool:
    """CPU of an ADD with 10,000 addresses held within 1.5 times that with none."""
    spent = {row.what: row.cpu_ms for row in measured if row.latency_ms == 0}
    return spent["ADD, 10,000 held"] <= 1.5 * spent["ADD, 0 held"]


def _keeps_bars(row: Row) -> bool:
    """3 requests for an ADD alone, 1.5 s for 200 at once at 5 ms, a twentieth of a request from blocks."""
    if row.what.startswith("ADD from blocks"):
        return row.requests <= 0.05
    if row.what == "200 ADDs at once" and row.latency_ms == 5:
        return row.wall_ms <= 1500
    return not row.what.startswith("ADD,") or row.requests <= 3


def to_markdown(measured: list[Row]) -> str:
    lines = ["| what | latency ms | wall ms | CPU ms | requests per call |", "|---|---|---|---|---|"]
    for row in measured:
        figures = f"{row.wall_ms:.1f} | {row.cpu_ms:.1f} | {row.requests:.2f}"
        lines.append(f"| {row.what} | {row.latency_ms} | {figures} |")
    return "\n".join(lines)


def plot(measured: list[Row]) -> str:
    """What Whereabouts was measured at too, as bars, in SVG."""
    pairs = [
        (f"{row.what}, {row.latency_ms} ms of latency", row.wall_ms, GO[row.what, row.latency_ms])
        for row in measured
        if (row.what, row.latency_ms) in GO
    ]
    return bars.svg("ADD in a cluster: one warm process (blue), Whereabouts in Go (grey)", pairs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="calls one after the other, of each kind (40)")
    parser.add_argument("--output", type=Path, help="a folder for table, figures as JSON and plot")
    arguments = parser.parse_args()
    isolate()
    command("ip", "link", "set", "lo", "up")
    measured = list(rows(arguments.rounds))
    print(to_markdown(measured))
    if arguments.output:
        figures = json.dumps([asdict(row) for row in measured], indent=2)
        (arguments.output / "cluster.md").write_text(to_markdown(measured) + "\n")
        (arguments.output / "cluster.json").write_text(figures + "\n")
        (arguments.output / "cluster.svg").write_text(plot(measured))
    sys.exit(not (_is_flat(measured) and all(map(_keeps_bars, measured))))


if __name__ == "__main__":
    main()
