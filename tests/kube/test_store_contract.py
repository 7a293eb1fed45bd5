"""What every store promises, shown on files and on custom resources alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cni.protocol.errors import CniError, Code
from ipam.file_store import FileStore
from ipam.pool import Claim, Owner
from ipam.store import AddressHeld, PoolExhausted, Wish
from tests.support.apiserver import ApiServer
from tests.support.apiserver.certificates import Authority
from tests.support.stores import Cluster, Stores, address, owner, wish


@pytest.fixture(scope="module")
def lasting_apiserver(
    authority: Authority, loopback: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("apiserver"), authority=authority) as server:
        yield server


@pytest.fixture(params=["files", "in-this-process", "kube-apiserver"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    if request.param == "files":
        return Stores(lambda: FileStore(tmp_path / "ipam", tmp_path))
    real = request.param == "kube-apiserver"
    return Cluster.of_its_own(request.getfixturevalue("real_apiserver" if real else "lasting_apiserver"))


def test_addresses_are_given_lowest_first(stores: Stores) -> None:
    assert [stores.claim(by=owner(n)) for n in range(1, 4)] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_a_hole_is_filled_before_the_end(stores: Stores) -> None:
    for number in range(1, 4):
        stores.claim(by=owner(number))
    stores.release(owner(2))
    assert stores.claim(by=owner(4)) == "10.0.0.2"


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        pytest.param(wish("10.0.0.0/24", start="10.0.0.9"), "10.0.0.9", id="a-start-is-the-lowest"),
        pytest.param(
            wish("10.0.0.0/24", exclude=("10.0.0.0/29",)), "10.0.0.8", id="an-exclusion-is-jumped-over"
        ),
        pytest.param(wish("10.0.0.0/31"), "10.0.0.0", id="two-addresses-are-both-used"),
        pytest.param(wish("10.0.0.7/32"), "10.0.0.7", id="one-address-is-used"),
        pytest.param(wish("10.0.0.0/24", whole=True), "10.0.0.0", id="a-whole-network-has-its-first"),
        pytest.param(wish("10.0.0.5-10.0.0.6/24"), "10.0.0.5", id="a-span"),
        pytest.param(wish("10.0.0.0/8"), "10.0.0.1", id="sixteen-million"),
        pytest.param(wish("fd00:1::/64"), "fd00:1::1", id="an-IPv6-network"),
        pytest.param(wish("::/64"), "::1", id="the-network-of-zeros"),
        pytest.param(
            wish("fd00::/64", start="fd00::ffff:ffff:ffff:fff0"),
            "fd00::ffff:ffff:ffff:fff0",
            id="beyond-63-bits",
        ),
        pytest.param(wish("fd00::/32", start="fd00:0:1::"), "fd00:0:1::", id="beyond-64-bits"),
        pytest.param(wish(wanted="10.0.0.77"), "10.0.0.77", id="the-one-that-is-asked-for"),
        pytest.param(
            wish(taken=frozenset([address("10.0.0.1")])), "10.0.0.2", id="not-what-it-has-of-other-ranges"
        ),
    ],
)
def test_which_address_is_given(stores: Stores, asked: object, answered: str) -> None:
    assert stores.claim(asked) == answered  # type: ignore[arg-type]  # a Wish
    assert stores.held(asked) == {answered: "sandbox-1"}  # type: ignore[arg-type]  # likewise
    assert stores.claim(asked) == answered  # type: ignore[arg-type]  # likewise


def test_a_repeated_claim_gets_the_first_answer(stores: Stores) -> None:
    assert [stores.claim(), stores.claim(by=owner(2)), stores.claim()] == ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
    assert [claim.is_new for claim in stores.claims] == [True, True, False]


def test_a_new_sandbox_of_the_pod_keeps_the_address(stores: Stores) -> None:
    stores.claim()
    assert stores.claim(by=owner(sandbox="later")) == "10.0.0.1"
    assert stores.held() == {"10.0.0.1": "later"}


def test_the_late_release_of_an_earlier_sandbox_frees_nothing(stores: Stores) -> None:
    stores.claim()
    stores.claim(by=owner(sandbox="later"))
    stores.release(claims=stores.claims[:1], is_recorded=True)
    stores.release()
    assert stores.held() == {"10.0.0.1": "later"}
    assert stores.claim(wish("10.0.0.0/25"), owner(2)) == "10.0.0.2"


def test_a_bound_that_moved_leaves_the_address(stores: Stores) -> None:
    stores.claim()
    assert stores.claim(wish(start="10.0.0.100")) == "10.0.0.1"


def test_an_address_that_is_asked_for_takes_the_place_of_the_one_that_is_held(stores: Stores) -> None:
    stores.claim()
    assert stores.claim(wish(wanted="10.0.0.9")) == "10.0.0.9"
    assert stores.held() == {"10.0.0.9": "sandbox-1"}
    assert stores.claim(by=owner(2)) == "10.0.0.1"


def test_an_address_that_is_asked_for_and_held_names_its_holder(stores: Stores) -> None:
    stores.claim()
    with pytest.raises(AddressHeld, match=r"10\.0\.0\.1.*default/web-1 net1 \(container sandbox-1\)"):
        stores.claim(wish(wanted="10.0.0.1"), owner(2))
    assert stores.held() == {"10.0.0.1": "sandbox-1"}


def test_interfaces_of_one_pod_hold_addresses_of_their_own(stores: Stores) -> None:
    assert stores.claim() == "10.0.0.1"
    assert stores.claim(by=owner(ifname="net2")) == "10.0.0.2"
    stores.release(owner(ifname="net2"))
    assert stores.held() == {"10.0.0.1": "sandbox-1"}


def test_a_full_range_says_so_and_takes_nothing(stores: Stores) -> None:
    for number in (1, 2):
        stores.claim(wish("10.0.0.0/30"), owner(number))
    with pytest.raises(PoolExhausted) as caught:
        stores.claim(wish("10.0.0.0/30"), owner(3))
    assert "All 2 that may be given out of 10.0.0.1 to 10.0.0.2 are held" in caught.value.details
    assert "namespace default (2)" in caught.value.details
    assert len(stores.held(wish("10.0.0.0/30"))) == 2
    assert stores.opened().complaints([wish("10.0.0.0/30")]) == [caught.value.msg]


def test_pools_that_overlap_do_not_share_an_address(stores: Stores) -> None:
    assert stores.claim(wish("10.0.0.0/24")) == "10.0.0.1"
    assert stores.claim(wish("10.0.0.0/25"), owner(2)) == "10.0.0.2"
    assert stores.claim(wish("10.0.0.0/24"), owner(3)) == "10.0.0.3"
    with pytest.raises(AddressHeld, match="through another pool"):
        stores.claim(wish("10.0.0.0/25", wanted="10.0.0.1"), owner(4))


def test_pools_may_share_addresses_where_that_is_not_looked_at(stores: Stores) -> None:
    assert stores.claim(wish("10.0.0.0/24", is_unique=False)) == "10.0.0.1"
    assert stores.claim(wish("10.0.0.0/25", is_unique=False), owner(2)) == "10.0.0.1"


def test_named_networks_know_nothing_of_each_other(stores: Stores) -> None:
    blue, red = wish(network_name="blue"), wish("10.0.0.0/25", network_name="red")
    assert stores.claim(blue) == stores.claim(red, owner(2)) == stores.claim(by=owner(3)) == "10.0.0.1"
    assert {key.name for key in stores.opened().pools()} == {
        "blue-10.0.0.0-24",
        "red-10.0.0.0-25",
        "10.0.0.0-24",
    }


def test_what_is_released_can_be_had_again(stores: Stores) -> None:
    stores.claim()
    stores.release(claims=stores.claims, is_recorded=True)
    assert stores.held() == {}
    assert stores.claim(wish("10.0.0.0/25"), owner(2)) == "10.0.0.1"


def test_releasing_nothing_is_success(stores: Stores) -> None:
    stores.release()
    stores.claim()
    stores.release(owner(2))
    stores.release()
    stores.release()
    assert stores.held() == {}


def test_claims_alone_can_be_released(stores: Stores) -> None:
    stores.claim()
    stores.opened().release(owner(), (), [Claim(wish().pool, address("10.0.0.1"))])
    assert stores.held() == {}


def test_nobody_releases_what_is_another_s(stores: Stores) -> None:
    stores.claim()
    stores.opened().release(owner(2), (), [Claim(wish().pool, address("10.0.0.1"))], is_recorded=True)
    assert stores.held() == {"10.0.0.1": "sandbox-1"}


def test_an_address_rests_after_it_was_given_back(stores: Stores) -> None:
    stores.claim(wish(rest=60))
    stores.release(rest=60)
    assert stores.claim(wish(rest=60), owner(2)) == "10.0.0.2"
    assert stores.claim(wish(), owner(3)) == "10.0.0.1"


def test_a_range_of_which_all_rests_asks_to_come_again(stores: Stores) -> None:
    asked = wish("10.0.0.0/30", rest=60)
    for number in (1, 2):
        stores.claim(asked, owner(number))
        stores.release(owner(number), asked, rest=60)
    with pytest.raises(CniError, match="just now") as caught:
        stores.claim(asked, owner(3))
    assert caught.value.code == Code.TRY_AGAIN_LATER


def test_find_tells_what_an_owner_holds(stores: Stores) -> None:
    stores.claim()
    found = stores.opened().find(wish().pool, owner())
    assert found
    assert (str(found.address), found.owner and found.owner.podref) == ("10.0.0.1", "default/web-1")
    assert stores.opened().find(wish().pool, owner(2)) is None


OVERLAPPING = wish("10.0.0.0/28")


@pytest.mark.parametrize(
    ("asked", "by"),
    [
        pytest.param(wish(), owner(9), id="the-lowest-free"),
        pytest.param(wish(), owner(3), id="what-it-holds-already"),
        pytest.param(wish(), owner(3, sandbox="a-later-one"), id="what-an-earlier-sandbox-held"),
        pytest.param(wish(wanted="10.0.0.77"), owner(9), id="the-one-that-is-wanted"),
        pytest.param(
            wish(taken=frozenset({address("10.0.0.2")})), owner(9), id="not-what-it-has-of-another-range"
        ),
        pytest.param(OVERLAPPING, owner(9), id="not-what-an-overlapping-pool-has"),
        pytest.param(wish("10.0.9.0/30", network_name="blue"), owner(9), id="of-a-pool-that-nobody-has-used"),
        pytest.param(wish(rest=3600.0), owner(9), id="not-what-rests"),
    ],
)
def test_a_candidate_is_what_a_claim_then_gives(stores: Stores, asked: Wish, by: Owner) -> None:
    for number in range(1, 5):
        stores.claim(wish(rest=3600.0), owner(number))
    stores.release(owner(2), wish(rest=3600.0), rest=3600.0 if asked.rest else 0.0)
    held = stores.held()
    candidate = stores.opened().candidate(asked, by)
    assert stores.held() == held
    assert stores.claim(asked, by) == str(candidate)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        pytest.param(wish("10.0.9.0/30"), PoolExhausted, id="a-full-pool"),
        pytest.param(wish("10.0.9.0/30", wanted="10.0.9.1"), AddressHeld, id="an-address-that-is-held"),
        pytest.param(wish("10.0.9.0/29", wanted="10.0.9.1"), AddressHeld, id="one-of-an-overlapping-pool"),
    ],
)
def test_a_candidate_is_refused_as_a_claim_is(stores: Stores, asked: Wish, error: type[CniError]) -> None:
    for number in (1, 2):
        stores.claim(wish("10.0.9.0/30"), owner(number))
    with pytest.raises(error) as planned:
        stores.opened().candidate(asked, owner(9))
    with pytest.raises(error) as claimed:
        stores.claim(asked, owner(9))
    assert planned.value.msg == claimed.value.msg or asked.pool.network.prefixlen == 29
