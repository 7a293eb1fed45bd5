"""The Kubernetes store among rivals, lost answers and what the original Whereabouts has written."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from cni.kube.errors import Forbidden, Unreachable
from cni.protocol.errors import CniError, Code
from ipam.pool import Claim
from ipam.store import AddressHeld, PoolExhausted
from tests.support.apiserver import LIMITED, ApiServer, faults
from tests.support.apiserver.faults import Fault, Seen
from tests.support.stores import Cluster, address, owner, wish

POOLS, RESERVATIONS = "/ippools", "/overlappingrangeipreservations"


@pytest.fixture
def cluster(apiserver: ApiServer) -> Cluster:
    return Cluster.of(apiserver)


def requests(cluster: Cluster, since: int = 0) -> list[str]:
    """Return what was asked of the server, such as `PATCH ippools`."""
    return [f"{seen.method} {kind(seen)}" for seen in cluster.server.requests[since:]]


def kind(seen: Seen) -> str:
    return seen.path.partition("/kube-system/")[2].partition("/")[0]


def entry(number: int, **fields: str) -> dict[str, str]:
    return {"id": f"sandbox-{number}", "podref": f"default/web-{number}", "ifname": "net1"} | fields


# What it costs


def test_a_claim_is_three_requests_from_the_first_one_on(cluster: Cluster) -> None:
    cluster.claim()
    assert requests(cluster) == ["GET ippools", "POST ippools", f"POST {RESERVATIONS[1:]}"]
    cluster.claim(by=owner(2))
    assert requests(cluster, 3) == ["GET ippools", "PATCH ippools", f"POST {RESERVATIONS[1:]}"]
    assert cluster.server.requests[3].query == {"resourceVersion": "0"}


def test_without_a_look_at_other_pools_a_claim_is_two_requests(cluster: Cluster) -> None:
    for number in (1, 2):
        cluster.claim(wish(is_unique=False), owner(number))
    assert requests(cluster) == ["GET ippools", "POST ippools", "GET ippools", "PATCH ippools"]


def test_a_release_that_is_noted_is_two_requests_and_reads_nothing(cluster: Cluster) -> None:
    cluster.claim()
    cluster.release(claims=cluster.claims)
    assert requests(cluster, 3) == [f"DELETE {RESERVATIONS[1:]}", "PATCH ippools"]
    assert (cluster.entries(), cluster.reservations()) == ({}, {})


def test_addresses_that_others_have_reserved_cost_six_requests_however_many(cluster: Cluster) -> None:
    cluster.claim(wish(is_unique=False), owner(99))
    for number in range(2, 60):
        cluster.reserve(f"10.0.0.{number}", podref="other/pod", ifname="net1")
    before = len(cluster.server.requests)
    assert cluster.claim() == "10.0.0.60"
    assert len(requests(cluster, before)) == 6
    assert set(cluster.entries()) == {"1", "60"}


# Rivals


def test_a_rival_that_writes_the_negative_key_is_seen(cluster: Cluster) -> None:
    asked = wish("fd00::/64", start="fd00::ffff:ffff:ffff:fffd")
    cluster.record(name="fd00---64", range_="fd00::/64")
    rival = faults.rival(lambda: cluster.write("-3", entry(9), "fd00---64"))
    cluster.server.on(rival, method="PATCH", when=lambda seen: b"allocations/-3" in seen.body)
    assert cluster.claim(asked) == "fd00::ffff:ffff:ffff:fffe"


def test_whoever_loses_a_key_takes_another(cluster: Cluster) -> None:
    cluster.claim()
    cluster.server.on(faults.rival(lambda: cluster.write("2", entry(9))), method="PATCH")
    given = cluster.claim(by=owner(2))
    assert given not in ("10.0.0.1", "10.0.0.2")
    assert cluster.entries()["2"] == entry(9)
    assert len(cluster.entries()) == 3


def test_the_last_address_is_found_behind_rivals(cluster: Cluster) -> None:
    asked = wish("10.0.0.0/28")
    cluster.record(name="10.0.0.0-28", range_="10.0.0.0/28")
    taken = iter(range(1, 14))

    def take() -> None:
        held = cluster.entries("10.0.0.0-28")
        key = next((n for n in taken if str(n) not in held), None)
        if key:
            cluster.write(str(key), entry(100 + key), "10.0.0.0-28")

    cluster.server.on(
        faults.rival(take), method="PATCH", times=20, when=lambda seen: b'sandbox-1"' in seen.body
    )
    assert (
        cluster.claim(asked)
        == f"10.0.0.{next(k for k, e in cluster.entries('10.0.0.0-28').items() if e == entry(1))}"
    )
    held = [each["id"] for each in cluster.entries("10.0.0.0-28").values()]
    assert len(held) == len(set(held))


def test_a_pool_that_a_rival_makes_first_is_used(cluster: Cluster) -> None:
    cluster.server.on(faults.rival(lambda: cluster.record({"1": entry(9)})), method="POST", path=POOLS)
    assert cluster.claim() == "10.0.0.2"


def test_a_pool_that_is_deleted_meanwhile_is_made_again(cluster: Cluster) -> None:
    cluster.record()
    delete = faults.rival(lambda: cluster.api.delete(cluster.path("ippools", "10.0.0.0-24")))
    cluster.server.on(delete, method="PATCH")
    assert cluster.claim() == "10.0.0.1"


def test_of_two_sandboxes_at_once_one_address_is_left(cluster: Cluster) -> None:
    cluster.record()
    cluster.server.on(faults.rival(lambda: cluster.write("9", entry(1, id="twin"))), method="PATCH")
    assert cluster.claim() == "10.0.0.9"
    assert cluster.entries() == {"9": entry(1)}
    assert list(cluster.reservations()) == ["10.0.0.9"]


def test_a_reservation_that_a_rival_makes_first_is_respected(cluster: Cluster) -> None:
    reserve = faults.rival(lambda: cluster.reserve("10.0.0.1", podref="default/other", ifname="net1"))
    cluster.server.on(reserve, method="POST", path=RESERVATIONS, when=lambda seen: b"web-1" in seen.body)
    assert cluster.claim() == "10.0.0.2"
    assert cluster.entries() == {"2": entry(1)}


def test_a_cache_that_lags_gives_no_address_twice(cluster: Cluster) -> None:
    cluster.claim()
    cluster.server.objects.store.freeze_cache()
    cluster.claim(by=owner(2))
    given = cluster.claim(by=owner(3))
    assert cluster.claim(by=owner(2)) == "10.0.0.2"
    assert len(set(cluster.held())) == 3
    assert cluster.held()[given] == "sandbox-3"


def test_a_cache_that_shows_what_is_gone_gives_a_new_entry(cluster: Cluster) -> None:
    cluster.claim()
    cluster.server.objects.store.freeze_cache()
    cluster.release()
    assert cluster.claim() == "10.0.0.1"
    assert (cluster.entries(), list(cluster.reservations())) == ({"1": entry(1)}, ["10.0.0.1"])


def test_a_cache_that_shows_a_full_pool_is_not_believed(cluster: Cluster) -> None:
    asked = wish("10.0.0.0/30")
    for number in (1, 2):
        cluster.claim(asked, owner(number))
    cluster.server.objects.store.freeze_cache()
    cluster.release(owner(2), asked)
    assert cluster.claim(asked, owner(3)) == "10.0.0.2"


# Answers that do not come


LOST: list[Any] = [
    pytest.param(faults.lost_answer, id="closed-after-it-was-done"),
    pytest.param(faults.reset_after, id="reset-after-it-was-done"),
    pytest.param(faults.applied_but(faults.answer(504, "Timeout")), id="504-after-it-was-done"),
    pytest.param(faults.hang_after, id="no-answer-after-it-was-done"),
    pytest.param(faults.closed_before, id="closed-before"),
    pytest.param(faults.reset_before, id="reset-before"),
    pytest.param(faults.answer(500, "InternalError"), id="500-before"),
    pytest.param(faults.answer(409, "Conflict"), id="conflict"),
    pytest.param(faults.answer(429, "TooManyRequests", retry_after=0), id="429"),
    pytest.param(faults.answer(503, "ServiceUnavailable", retry_after=0), id="503"),
]
STEPS = [
    pytest.param("POST", POOLS, id="making-the-pool"),
    pytest.param("PATCH", POOLS, id="claiming"),
    pytest.param("POST", RESERVATIONS, id="reserving"),
]


@pytest.mark.parametrize("fault", LOST)
@pytest.mark.parametrize(("method", "path"), STEPS)
def test_a_lost_answer_neither_leaks_nor_claims_twice(
    cluster: Cluster, fault: Fault, method: str, path: str
) -> None:
    if method == "PATCH":
        cluster.record()
    cluster.server.on(fault, method=method, path=path)
    assert cluster.claim() == "10.0.0.1"
    assert (cluster.entries(), list(cluster.reservations())) == ({"1": entry(1)}, ["10.0.0.1"])


@pytest.mark.parametrize("fault", LOST)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("DELETE", RESERVATIONS, id="deleting-the-reservation"),
        pytest.param("PATCH", POOLS, id="giving-the-entry-back"),
    ],
)
@pytest.mark.parametrize("is_noted", [True, False], ids=["with-notes", "without-notes"])
def test_a_release_goes_on_until_all_is_given_back(
    cluster: Cluster, fault: Fault, method: str, path: str, is_noted: bool
) -> None:
    cluster.claim()
    cluster.claim(by=owner(2))
    cluster.server.on(fault, method=method, path=path)
    cluster.release(claims=cluster.claims[:1] if is_noted else ())
    assert (list(cluster.entries()), list(cluster.reservations())) == (["2"], ["10.0.0.2"])


def test_a_claim_that_cannot_be_completed_is_given_back(cluster: Cluster) -> None:
    cluster.record()
    cluster.server.on(faults.answer(403, "Forbidden"), method="POST", path=RESERVATIONS, times=-1)
    with pytest.raises(Forbidden):
        cluster.claim()
    assert cluster.entries() == {}


def test_what_could_not_be_undone_is_not_called_given_back(cluster: Cluster) -> None:
    cluster.record()
    cluster.server.on(faults.hang_after, method="PATCH")
    so_far = len(cluster.server.requests)
    cluster.server.on(faults.hang, times=-1, when=lambda seen: seen.number > so_far + 2)
    store = cluster.opened()
    started = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        store.claim(wish(), owner())
    assert caught.value.code == Code.TRY_AGAIN_LATER
    with pytest.raises(Unreachable):
        store.release(owner(), ())
    assert time.monotonic() - started < 4 + 2.5  # the time for silence, and some to spare
    cluster.server.heal()
    assert list(cluster.entries()) == ["1"]
    cluster.release()
    assert cluster.entries() == {}


def test_a_server_that_is_down_is_told_within_the_time_for_silence(cluster: Cluster) -> None:
    cluster.server.on(faults.hang, times=-1)
    store = cluster.opened()
    with pytest.raises(Unreachable) as caught:
        store.claim(wish(), owner())
    assert caught.value.code == Code.TRY_AGAIN_LATER
    store.release(owner(), ())  # nothing was done that would have to be given back


def test_what_the_credential_may_not_do_is_told_at_once(apiserver: ApiServer) -> None:
    cluster = Cluster.of(apiserver, token=LIMITED)
    with pytest.raises(Forbidden, match=r'may not get ippools "10\.0\.0\.0-24"') as caught:
        cluster.claim()
    assert caught.value.code == Code.INVALID_NETWORK_CONFIG
    assert 'verbs ["get"]' in caught.value.details
    assert len(apiserver.requests) == 1


def test_a_pool_at_the_limit_of_an_object_says_so(cluster: Cluster) -> None:
    cluster.record(name="10.0.0.0-16", range_="10.0.0.0/16")
    limit = faults.answer(500, "", "etcdserver: request is too large")
    cluster.server.on(limit, method="PATCH", path=POOLS, times=-1)
    with pytest.raises(CniError, match="can record no further address") as caught:
        cluster.claim(wish("10.0.0.0/16"))
    assert caught.value.code == Code.POOL_EXHAUSTED
    assert "node_blocks" in caught.value.fix


def test_a_schema_that_refuses_entries_is_told_and_not_tried_again(cluster: Cluster) -> None:
    cluster.record()
    cluster.server.on(_refused_by_schema, method="PATCH", times=-1)
    with pytest.raises(CniError, match="422"):
        cluster.claim()
    assert cluster.server.count("PATCH") == 1


def _refused_by_schema(exchange: faults.Exchange) -> None:
    causes = [{"reason": "FieldValueInvalid", "message": "must be string", "field": "spec.allocations.1.id"}]
    told = {"kind": "Status", "status": "Failure", "reason": "Invalid", "code": 422, "message": "is invalid"}
    faults.text(422, json.dumps(told | {"details": {"causes": causes}}))(exchange)


def test_a_missing_definition_is_told(apiserver: ApiServer) -> None:
    apiserver.on(faults.answer(404, "NotFound"), path=POOLS, times=-1)
    with pytest.raises(CniError, match=r"cannot be made in namespace") as caught:
        Cluster.of(apiserver).claim()
    assert caught.value.code == Code.INVALID_NETWORK_CONFIG
    assert "CustomResourceDefinitions" in caught.value.fix


def test_a_range_that_cannot_be_read_is_told(cluster: Cluster) -> None:
    cluster.record(range_="ten")
    with pytest.raises(CniError, match=r'spec\.range is "ten"'):
        cluster.claim()


def test_an_unreadable_entry_is_freed_where_that_is_proven(cluster: Cluster) -> None:
    cluster.record({"1": entry(1)})
    stale = Claim(wish().pool, address("10.0.0.1"))
    cluster.opened().release(owner(2), (), [stale])
    assert list(cluster.entries()) == ["1"]
    cluster.opened().release(owner(1), (), [stale], is_recorded=True)
    assert cluster.entries() == {}


def test_an_address_that_is_asked_for_is_refused_where_another_pool_has_it(cluster: Cluster) -> None:
    cluster.reserve("10.0.0.7", podref="default/other", ifname="net1")
    with pytest.raises(AddressHeld, match="default/other net1, through another pool"):
        cluster.claim(wish(wanted="10.0.0.7"))
    assert cluster.entries() == {}


def test_a_range_that_is_full_through_other_pools_is_full(cluster: Cluster) -> None:
    for number in (1, 2):
        cluster.reserve(f"10.0.0.{number}", podref="default/other", ifname="net1")
    with pytest.raises(PoolExhausted):
        cluster.claim(wish("10.0.0.0/30"))
    assert cluster.entries("10.0.0.0-30") == {}


def test_status_sees_a_range_that_is_full_through_other_pools(cluster: Cluster) -> None:
    small = wish("10.0.0.0/30")
    cluster.claim(small)
    assert cluster.opened().complaints([small]) == []
    cluster.claim(wish(start="10.0.0.2"), owner(2))
    assert cluster.opened().complaints([small]) == ["no address is left in 10.0.0.0/30 (ipam)"]
    assert cluster.opened().complaints([wish("10.0.0.0/30", is_unique=False)]) == []


def test_two_ranges_of_one_pool_are_two_addresses(cluster: Cluster) -> None:
    high = wish(start="10.0.0.100")
    low = wish(taken=frozenset([address("10.0.0.100")]))
    for _ in range(2):
        assert cluster.claim(high) == "10.0.0.100"
        assert cluster.claim(low) == "10.0.0.1"
    assert cluster.held() == {"10.0.0.1": "sandbox-1", "10.0.0.100": "sandbox-1"}
    cluster.release(claims=cluster.claims[-2:])
    assert (cluster.entries(), cluster.reservations()) == ({}, {})
