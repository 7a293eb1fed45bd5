"""Large pools in a warm process: little is sent and read, and nothing rests on what was known."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cni.kube.client import Client
from cni.kube.paths import resource
from cni.protocol.memory import Memory
from cni.protocol.plugin import run
from cni.protocol.request import Request
from cni.protocol.signals import again_in_time
from ipam.known_pools import KnownPools
from ipam.kube_pool import GROUP_VERSION
from ipam.kube_store import KubeStore
from ipam.pool import Claim
from tests.support.apiserver import ApiServer, faults
from tests.support.stores import QUICK, Cluster, owner, wish

POOL = resource(GROUP_VERSION, "ippools", namespace="kube-system", name="10.0.0.0-16")
LARGE = wish("10.0.0.0/16")
HELD = 300


def entry(number: int, **fields: str) -> dict[str, str]:
    return {"id": f"sandbox-{number}", "podref": f"default/web-{number}", "ifname": "net1"} | fields


class Warm:
    """A process that has made claims before, and what it asks."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.cluster = Cluster.of(server)
        kind = {"apiVersion": GROUP_VERSION, "kind": "IPPool"}
        spec = {"range": "10.0.0.0/16", "allocations": {str(n): entry(n) for n in range(1, HELD + 1)}}
        metadata = {"name": "10.0.0.0-16", "namespace": "kube-system"}
        server.seed({**kind, "metadata": metadata, "spec": spec})
        self._api: Client = server.client()
        self._known = KnownPools()
        self.claims: dict[int, Claim] = {}

    def store(self) -> KubeStore:
        return KubeStore(self._api, "kube-system", QUICK, self._known)

    def claim(self, number: int, **sandbox: str) -> str:
        self.claims[number] = self.store().claim(LARGE, owner(number, **sandbox))
        return str(self.claims[number].address)

    def release(self, number: int) -> None:
        self.store().release(owner(number), [LARGE.pool], [self.claims[number]])

    def asked(self, act: Callable[[], object]) -> list[str]:
        """Return the requests that something makes; `?` marks those for an object's metadata alone."""
        before = len(self.server.requests)
        act()
        return [
            f"{seen.method}{'?' * ('Partial' in seen.headers['accept'])}"
            for seen in self.server.requests[before:]
        ]

    def write(self, key: str, value: object) -> None:
        self.cluster.write(key, value, "10.0.0.0-16")


@pytest.fixture
def warm(apiserver: ApiServer) -> Warm:
    warm = Warm(apiserver)
    for number in (1001, 1002):
        warm.claim(number)
    return warm


def test_the_first_claims_read_the_pool_and_are_answered_briefly(apiserver: ApiServer) -> None:
    warm = Warm(apiserver)
    assert warm.asked(lambda: warm.claim(1001)) == ["GET", "PATCH?", "POST"]
    assert warm.asked(lambda: warm.claim(1002)) == ["GET", "PATCH?", "POST"]


def test_claims_and_releases_of_a_process_on_its_own_read_nothing(warm: Warm) -> None:
    assert warm.asked(lambda: warm.claim(1003)) == ["PATCH?", "POST"]
    assert warm.asked(lambda: warm.claim(1004)) == ["PATCH?", "POST"]
    assert warm.asked(lambda: warm.release(1003)) == ["DELETE", "PATCH?"]
    assert warm.asked(lambda: warm.claim(1005)) == ["PATCH?", "POST"]
    assert [str(warm.claims[number].address) for number in (1003, 1004, 1005)] == [
        "10.0.1.47",
        "10.0.1.48",
        "10.0.1.47",
    ]
    assert warm.claim(1004, sandbox="another") == "10.0.1.48"
    assert warm.cluster.entries("10.0.0.0-16")["304"]["id"] == "another"


def test_what_others_gave_back_is_given_out_first(warm: Warm) -> None:
    warm.write("7", None)
    assert warm.asked(lambda: warm.claim(1003)) == ["PATCH?", "GET", "PATCH?", "POST"]
    assert str(warm.claims[1003].address) == "10.0.0.7"


def test_where_others_write_in_between_the_pool_is_read_each_time(warm: Warm) -> None:
    for number in range(1003, 1008):
        warm.write(str(number - 1000), None)
        asked = warm.asked(lambda number=number: warm.claim(number))  # type: ignore[misc]
        assert asked == (["PATCH?", "GET", "PATCH?", "POST"] if number == 1003 else ["GET", "PATCH?", "POST"])


def test_what_the_same_pod_got_elsewhere_is_found(warm: Warm) -> None:
    warm.write("900", entry(1003, id="elsewhere"))
    assert warm.claim(1003) == "10.0.3.132"
    assert "303" not in warm.cluster.entries("10.0.0.0-16")


def test_what_the_same_pod_gets_elsewhere_meanwhile_is_kept(apiserver: ApiServer) -> None:
    warm = Warm(apiserver)
    rival = faults.rival(lambda: warm.write("200", entry(200, podref="default/web-1001", id="elsewhere")))
    apiserver.on(rival, method="PATCH", when=lambda seen: b"web-1001" in seen.body)
    assert warm.claim(1001) == "10.0.0.200"
    held = warm.cluster.entries("10.0.0.0-16")
    assert [key for key, each in held.items() if each["podref"] == "default/web-1001"] == ["200"]


def test_a_pool_that_was_made_anew_is_read(warm: Warm) -> None:
    warm.cluster.api.delete(POOL)
    assert warm.claim(1003) == "10.0.0.1"
    assert list(warm.cluster.entries("10.0.0.0-16")) == ["1"]


def test_a_cache_that_lags_behind_what_this_process_has_done_is_not_believed(apiserver: ApiServer) -> None:
    known, api, small = KnownPools(), apiserver.client(), wish()

    def store() -> KubeStore:
        return KubeStore(api, "kube-system", QUICK, known)

    claims = [store().claim(small, owner(number)) for number in (1, 2, 3)]
    apiserver.objects.store.freeze_cache()
    store().release(owner(2), [small.pool], [claims[1]])
    before = len(apiserver.requests)
    assert str(store().claim(small, owner(4)).address) == "10.0.0.2"
    assert [seen.method for seen in apiserver.requests[before:]] == ["GET", "GET", "PATCH", "POST"]


def test_a_lost_answer_neither_leaks_nor_claims_twice(warm: Warm) -> None:
    warm.server.on(faults.lost_answer, method="PATCH")
    assert warm.claim(1003) == "10.0.1.47"
    assert len(warm.cluster.entries("10.0.0.0-16")) == HELD + 3
    assert warm.claim(1004) == "10.0.1.48"


def test_a_lost_answer_to_a_release_is_looked_up(warm: Warm) -> None:
    warm.claim(1003)
    warm.server.on(faults.lost_answer, method="PATCH")
    warm.release(1003)
    assert warm.claim(1004) == "10.0.1.47"


def test_a_server_that_sends_the_whole_pool_all_the_same_is_understood(warm: Warm) -> None:
    path, whole = POOL, faults.Answer
    warm.server.on(
        lambda exchange: exchange.send(_whole(warm.server, path, exchange, whole)), method="PATCH", times=-1
    )
    assert [warm.claim(number) for number in (1003, 1004)] == ["10.0.1.47", "10.0.1.48"]


def _whole(server: ApiServer, path: str, exchange: Any, answer: Any) -> Any:
    exchange.apply()
    return answer(200, json.dumps(server.find(path)).encode())


def test_calls_of_one_process_share_a_connection(apiserver: ApiServer, tmp_path: Path) -> None:
    kubeconfig = str(apiserver.kubeconfig())
    ipam = {"type": "whereabouts", "range": "10.0.0.0/24", "kubernetes": {"kubeconfig": kubeconfig}}
    conf = {"cniVersion": "1.0.0", "name": "rail", "type": "macvlan", "ipam": ipam}

    def call(verb: str, memory: Memory) -> None:
        environment = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "a",
            "CNI_IFNAME": "net1",
            "CNI_NETNS": "/run/netns/none",
            "CNI_PATH": "/opt/cni/bin",
            "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=a",
            "PODRAIL_STATE_DIR": str(tmp_path),
        }
        request = Request(verb, environment, json.dumps(conf).encode(), memory=memory)
        with again_in_time():
            assert run("whereabouts", request).exit_status == 0

    one = Memory()
    for verb in ("ADD", "ADD", "DEL"):
        call(verb, one)
    assert {seen.connection for seen in apiserver.requests} == {1}
    call("ADD", Memory())
    assert {seen.connection for seen in apiserver.requests} == {1, 2}
    apiserver.close_idle()
    call("DEL", one)
    assert {seen.connection for seen in apiserver.requests} == {1, 2, 3}


class WarmProcessesAndARival(RuleBasedStateMachine):
    """Two warm processes and somebody else change a pool by turns: what is known never shows in an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.server = self.stack.enter_context(ApiServer(folder))
        self.cluster = Cluster.of(self.server)
        self.processes = [KnownPools(), KnownPools()]
        # So many that the pool is just at the border of a large one.
        self.held = {n: f"default/other-{n}@net1" for n in range(1, 197)}
        kind = {"apiVersion": GROUP_VERSION, "kind": "IPPool"}
        spec = {"range": "10.0.0.0/16", "allocations": {str(n): self._others(n) for n in self.held}}
        metadata = {"name": "10.0.0.0-16", "namespace": "kube-system"}
        self.server.seed({**kind, "metadata": metadata, "spec": spec})

    def teardown(self) -> None:
        self.stack.close()

    def _store(self, process: int) -> KubeStore:
        return KubeStore(self.server.client(), "kube-system", QUICK, self.processes[process])

    @staticmethod
    def _others(number: int) -> dict[str, str]:
        return entry(number, id=f"other-{number}", podref=f"default/other-{number}")

    def _of(self, name: str) -> int | None:
        return next((n for n, holder in self.held.items() if holder == name), None)

    @rule(process=st.integers(0, 1), who=st.integers(1, 6))
    def claim(self, process: int, who: int) -> None:
        me = owner(who)
        expected = self._of(me.name) or next(n for n in range(1, 1000) if n not in self.held)
        claim = self._store(process).claim(replace(LARGE, is_unique=False), me)
        assert int(claim.address) - int(LARGE.pool.network[0]) == expected
        self.held[expected] = me.name

    @rule(process=st.integers(0, 1), who=st.integers(1, 6), is_known=st.booleans())
    def release(self, process: int, who: int, is_known: bool) -> None:
        me = owner(who)
        number = self._of(me.name)
        claims = []
        if is_known and number:
            claims = [Claim(LARGE.pool, LARGE.pool.network[number], is_unique=False)]
        self._store(process).release(me, [LARGE.pool], claims)
        if number:
            del self.held[number]

    @rule(number=st.integers(1, 210))
    def rival_writes(self, number: int) -> None:
        if number in self.held:
            self.cluster.write(str(number), None, "10.0.0.0-16")
            del self.held[number]
        else:
            self.cluster.write(str(number), self._others(number), "10.0.0.0-16")
            self.held[number] = f"default/other-{number}@net1"

    @invariant()
    def the_pool_holds_what_it_should(self) -> None:
        entries = self.server.find(POOL)["spec"]["allocations"]  # type: ignore[index]
        found = {int(key): f"{each['podref']}@{each['ifname']}" for key, each in entries.items()}
        assert found == self.held


TestWarmProcessesAndARival = WarmProcessesAndARival.TestCase
TestWarmProcessesAndARival.settings = settings(max_examples=12, stateful_step_count=30)
TestWarmProcessesAndARival.pytestmark = [pytest.mark.usefixtures("loopback")]
