"""One cluster for podrail and Whereabouts: what either has written, the other reads.

The objects are as Whereabouts' versions recorded them. With KUBEBUILDER_ASSETS set everything runs on the
real API server too.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.apiserver import ApiServer
from tests.support.apiserver.real import RealApiServer
from tests.support.stores import Cluster, owner, wish


@pytest.fixture
def cluster(any_apiserver: ApiServer | RealApiServer) -> Cluster:
    return Cluster.of_its_own(any_apiserver)


def entry(number: int, **fields: str) -> dict[str, str]:
    return {"id": f"sandbox-{number}", "podref": f"default/web-{number}", "ifname": "net1"} | fields


def test_entries_and_reservations_are_whereabouts_own(cluster: Cluster) -> None:
    cluster.claim(wish("fd00:1::/64", network_name="blue"))
    assert cluster.entries("blue-fd00-1---64") == {"1": entry(1)}
    reserved = {"podref": "default/web-1", "ifname": "net1", "containerid": "sandbox-1"}
    assert cluster.reservations() == {"blue-fd00-1--1": reserved}


def test_the_base_is_the_address_as_it_is_written(cluster: Cluster) -> None:
    cluster.record({"1": entry(9), "3": entry(7)}, range_="10.0.0.8/24")
    assert cluster.claim() == "10.0.0.8"
    assert [cluster.claim(by=owner(n)) for n in (2, 7)] == ["10.0.0.10", "10.0.0.11"]
    assert cluster.entries().keys() == {"0", "1", "2", "3"}


def test_negative_keys_of_old_versions_are_held_and_released(cluster: Cluster) -> None:
    start = "fd00::ffff:ffff:ffff:fffd"
    cluster.record({"-3": entry(9)}, name="fd00---64", range_="fd00::/64")
    assert cluster.claim(wish("fd00::/64", start=start)) == "fd00::ffff:ffff:ffff:fffe"
    cluster.release(owner(9), wish("fd00::/64"))
    assert cluster.entries("fd00---64") == {str(2**64 - 2): entry(1)}


@pytest.mark.parametrize("key", ["18446463705355360228", "abc", "-7", "1e3", "007x"])
def test_keys_that_mean_nothing_are_left_alone(cluster: Cluster, key: str) -> None:
    cluster.record({key: entry(9)})
    assert [cluster.claim(), cluster.claim(by=owner(2))] == ["10.0.0.1", "10.0.0.2"]
    cluster.release()
    assert cluster.entries() == {key: entry(9), "2": entry(2)}
    cluster.release(owner(9))
    assert cluster.entries() == {"2": entry(2)}


def test_entries_without_an_interface_belong_to_the_pod(cluster: Cluster) -> None:
    cluster.record({"5": {"id": "old", "podref": "default/web-1"}})
    cluster.reserve("10.0.0.5", podref="default/web-1")
    assert cluster.claim() == "10.0.0.5"
    assert cluster.entries() == {"5": entry(1)}
    assert cluster.reservations()["10.0.0.5"]["containerid"] == "sandbox-1"


def test_entries_without_an_interface_are_released(cluster: Cluster) -> None:
    cluster.record(
        {"5": {"id": "sandbox-1", "podref": "default/web-1"}, "6": {"id": "x", "podref": "default/x"}}
    )
    cluster.reserve("10.0.0.5", podref="default/web-1")
    cluster.release()
    assert (list(cluster.entries()), cluster.reservations()) == (["6"], {})


def test_what_the_original_allocated_is_released_with_its_reservation(cluster: Cluster) -> None:
    cluster.record({"1": entry(1), "2": entry(2)})
    cluster.reserve("10.0.0.1", podref="default/web-1", ifname="net1")
    cluster.reserve("10.0.0.2", podref="default/web-2", ifname="net1")
    cluster.release()
    assert (list(cluster.entries()), list(cluster.reservations())) == (["2"], ["10.0.0.2"])


def test_a_reservation_of_another_pod_is_not_touched(cluster: Cluster) -> None:
    cluster.record({"1": entry(1)})
    cluster.reserve("10.0.0.1", podref="default/other", ifname="net1")
    cluster.release()
    assert (cluster.entries(), list(cluster.reservations())) == ({}, ["10.0.0.1"])


def test_the_reservation_of_the_pod_s_next_sandbox_is_not_touched(cluster: Cluster) -> None:
    cluster.claim()
    cluster.claim(by=owner(sandbox="later"))
    cluster.release(claims=cluster.claims[:1], is_recorded=True)
    assert cluster.entries() == {"1": entry(1, id="later")}
    assert cluster.reservations()["10.0.0.1"]["containerid"] == "later"


def test_pools_are_told_apart_by_name_and_node(cluster: Cluster) -> None:
    cluster.record(name="blue-10.0.0.0-24")
    cluster.record(name="blue-node-a-10.0.1.0-26", range_="10.0.1.0/26")
    cluster.record(name="odd", range_="10.0.2.0/24")
    slices = [{"nodeName": "node-a", "sliceRange": "10.0.1.0/26"}]
    kind = {"apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "NodeSlicePool"}
    spec = {"range": "10.0.1.0/24", "sliceSize": "/26"}
    body = {**kind, "metadata": {"name": "blue"}, "spec": spec, "status": {"allocations": slices}}
    cluster.api.create(cluster.path("nodeslicepools"), body)
    keys = cluster.opened().pools()
    told = [(str(key.network), key.network_name, key.node) for key in keys]
    assert told == [("10.0.0.0/24", "blue", ""), ("10.0.1.0/26", "blue", "node-a")]


def test_many_at_once_get_an_address_each(cluster: Cluster) -> None:
    with ThreadPoolExecutor(20) as pool:
        given = list(pool.map(lambda number: cluster.claim(by=owner(number)), range(40)))
    assert len(set(given)) == 40
    assert len(cluster.entries()) == len(cluster.reservations()) == 40
