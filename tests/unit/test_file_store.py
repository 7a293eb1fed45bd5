"""The file store: any order of claims and releases, killed steps, unreadable files, full blocks."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cni.protocol.errors import CniError, Code, InvalidConfig
from ipam.file_store import FileStore
from ipam.pool import Claim, Owner, PoolKey
from ipam.ranges import Ip, Range, parse_range
from ipam.store import AddressHeld, PoolExhausted, Wish
from tests.support.killing import killed_before

_HOUR = 3600.0


def owner(pod: str = "default/web", container: str = "c1", ifname: str = "net1") -> Owner:
    return Owner(container, ifname, pod, "rail")


def wish(text: str = "10.0.0.0/29", network_name: str = "", **fields: object) -> Wish:
    keys = {name: fields.pop(name) for name in ("start", "end", "exclude") if name in fields}
    range_ = parse_range(text, **keys)  # type: ignore[arg-type]
    return Wish(PoolKey(range_.network, network_name), range_, **fields)  # type: ignore[arg-type]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory in memory: syncing costs nothing there."""
    path = Path(tempfile.mkdtemp(dir="/run"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def store(folder: Path) -> FileStore:
    return FileStore(folder / "ipam", folder)


def given(store: FileStore, asked: Wish, who: Owner) -> str:
    return str(store.claim(asked, who).address)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# -- what lies on disk ----------------------------------------------------------------------------


def test_a_claim_is_readable_with_cat_and_ls(store: FileStore, folder: Path) -> None:
    store.claim(wish("10.0.0.0/24", "blue"), owner())
    pool = folder / "ipam/pools/blue-10.0.0.0-24"
    assert json.loads((pool / "pool.json").read_text()) == {
        "format": 1,
        "range": "10.0.0.0/24",
        "network_name": "blue",
    }
    entry = json.loads((pool / "addresses/10.0.0.0-24/10.0.0.1").read_text())
    assert entry.pop("since").endswith("+00:00")
    assert entry == {"id": "c1", "podref": "default/web", "ifname": "net1", "network": "rail"}
    link = pool / "owners/default%2Fweb@net1"
    assert link.samefile(pool / "addresses/10.0.0.0-24/10.0.0.1")
    reserved = folder / "ipam/reservations/blue/addresses/10.0.0.0-24/10.0.0.1"
    assert reserved.samefile(link)


def test_only_its_owner_may_read_the_store(store: FileStore, folder: Path) -> None:
    store.claim(wish(), owner())
    modes = {path.lstat().st_mode & 0o777 for path in (folder / "ipam").rglob("*") if not path.is_symlink()}
    assert modes == {0o700, 0o600}


@pytest.mark.parametrize("asked", [wish("10.0.0.0/29"), wish("fd00::/64"), wish("10.0.0.0/8", "blue")])
def test_after_the_last_release_nothing_is_left(store: FileStore, folder: Path, asked: Wish) -> None:
    owners = [owner(f"default/web-{number}", f"c{number}") for number in range(3)]
    for each in owners:
        store.claim(asked, each)
    for each in owners:
        store.release(each, [asked.pool])
    assert files(folder) == []


def test_a_failed_claim_leaves_nothing(store: FileStore, folder: Path) -> None:
    with pytest.raises(PoolExhausted):
        store.claim(wish(exclude=("10.0.0.0/24",)), owner())
    assert files(folder) == []


# -- who gets what --------------------------------------------------------------------------------


def test_the_lowest_free_address_is_given(store: FileStore) -> None:
    names = [f"default/web-{number}" for number in range(4)]
    assert [given(store, wish(), owner(name, name[-5:])) for name in names] == [
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.3",
        "10.0.0.4",
    ]
    store.release(owner(names[1], "web-1"), [wish().pool])
    assert given(store, wish(), owner("default/new", "c9")) == "10.0.0.2"


def test_a_pod_in_another_sandbox_keeps_its_address(store: FileStore) -> None:
    assert given(store, wish(), owner(container="c1")) == "10.0.0.1"
    assert given(store, wish(start="10.0.0.4"), owner(container="c2")) == "10.0.0.1"
    store.release(owner(container="c1"), [wish().pool])  # late
    found = store.find(wish().pool, owner(container="c2"))
    assert found is not None
    assert found.owner == owner(container="c2")
    store.release(owner(container="c2"), [wish().pool])
    assert store.pools() == []


def test_a_container_without_pod_is_known_by_its_id(store: FileStore) -> None:
    assert given(store, wish(), Owner("c1", "net1")) == "10.0.0.1"
    assert given(store, wish(), Owner("c1", "net1")) == "10.0.0.1"
    assert given(store, wish(), Owner("c2", "net1")) == "10.0.0.2"


def test_an_entry_without_pod_becomes_the_pods_and_is_found_as_such(store: FileStore) -> None:
    store.claim(wish(), Owner("c1", "net1"))
    assert given(store, wish(), owner(container="c1")) == "10.0.0.1"
    assert given(store, wish(), owner(container="c2")) == "10.0.0.1"
    store.release(owner(container="c2"), [wish().pool])
    assert store.pools() == []


def test_two_interfaces_of_a_pod_have_an_address_each(store: FileStore) -> None:
    assert given(store, wish(), owner(ifname="net1")) == "10.0.0.1"
    assert given(store, wish(), owner(ifname="net2")) == "10.0.0.2"


def test_ranges_that_overlap_give_no_address_twice(store: FileStore) -> None:
    assert given(store, wish("10.0.0.0/24"), owner("default/a", "c1")) == "10.0.0.1"
    assert given(store, wish("10.0.0.0/25"), owner("default/b", "c2")) == "10.0.0.2"
    assert given(store, wish("10.0.0.0/24"), owner("default/c", "c3")) == "10.0.0.3"
    assert given(store, wish("10.0.0.0/24", "blue"), owner("default/d", "c4")) == "10.0.0.1"
    assert given(store, wish("10.0.0.0/25", is_unique=False), owner("default/e", "c5")) == "10.0.0.1"


def test_two_ranges_of_one_pool_give_two_addresses_again_and_again(store: FileStore) -> None:
    for _ in range(2):
        first = store.claim(wish(count=2), owner())
        second = store.claim(wish(count=2, taken=frozenset({first.address})), owner())
        assert (str(first.address), str(second.address)) == ("10.0.0.1", "10.0.0.2")
    assert given(store, wish(), owner("default/db", "c2")) == "10.0.0.3"
    store.release(owner(), [wish().pool])
    store.release(owner("default/db", "c2"), [wish().pool])
    assert store.pools() == []


def test_a_range_that_is_configured_no_more_gives_its_address_back(store: FileStore) -> None:
    first = store.claim(wish(count=2), owner())
    store.claim(wish(count=2, taken=frozenset({first.address})), owner())
    assert given(store, wish(), owner()) == "10.0.0.1"
    assert given(store, wish(), owner("default/db", "c2")) == "10.0.0.2"


def test_a_wanted_address_is_given_in_the_place_of_the_one_held(store: FileStore) -> None:
    assert given(store, wish(), owner()) == "10.0.0.1"
    assert given(store, wish(wanted=ip_address("10.0.0.5")), owner()) == "10.0.0.5"
    assert given(store, wish(), owner()) == "10.0.0.5"
    assert given(store, wish(), owner("default/db", "c2")) == "10.0.0.1"


@pytest.mark.parametrize("text", ["10.0.0.0/29", "10.0.0.0/28"])
def test_a_wanted_address_of_another_names_who_has_it(store: FileStore, text: str) -> None:
    store.claim(wish("10.0.0.0/29"), owner("default/db", "c7", "net9"))
    with pytest.raises(AddressHeld, match=r"default/db net9 \(container c7\)") as caught:
        store.claim(wish(text, wanted=ip_address("10.0.0.1")), owner())
    assert caught.value.code == 105


def test_a_full_range_tells_its_size_and_who_holds_most(store: FileStore) -> None:
    for number in range(6):
        store.claim(wish(), owner(f"{'ml' if number < 4 else 'web'}/pod-{number}", f"c{number}"))
    with pytest.raises(PoolExhausted) as caught:
        store.claim(wish(), owner("default/late", "c9"))
    assert caught.value.code == 100
    for part in ("10.0.0.0/29", "6", "10.0.0.1 to 10.0.0.6", "namespace ml (4)", "namespace web (2)"):
        assert part in f"{caught.value.msg} {caught.value.details}"


def test_who_holds_an_address_keeps_it_though_the_exclusions_cannot_be_read(store: FileStore) -> None:
    store.claim(wish(), owner())
    broken = wish(exclude=("10.0.0.0.0",))
    assert given(store, broken, owner()) == "10.0.0.1"
    with pytest.raises(InvalidConfig, match=r"exclude\[0\]"):
        store.claim(broken, owner("default/db", "c2"))


# -- rest -----------------------------------------------------------------------------------------


def wake(folder: Path) -> None:
    """Let the time come at which all that rests wakes."""
    for number, bed in enumerate(sorted(folder.rglob("until/*"))):
        if bed.is_dir():
            bed.rename(bed.with_name(f"{number}.000"))


def test_an_address_rests_before_it_is_given_again(store: FileStore, folder: Path) -> None:
    resting = wish(rest=_HOUR)
    store.claim(resting, owner())
    store.release(owner(), [resting.pool], rest=_HOUR)
    assert given(store, resting, owner("default/db", "c2")) == "10.0.0.2"
    wake(folder)
    assert given(store, resting, owner("default/new", "c3")) == "10.0.0.1"


def test_who_asks_for_a_resting_address_gets_it(store: FileStore) -> None:
    resting = wish(rest=_HOUR)
    store.claim(resting, owner())
    store.release(owner(), [resting.pool], rest=_HOUR)
    assert (
        given(store, replace(resting, wanted=ip_address("10.0.0.1")), owner("default/db", "c2")) == "10.0.0.1"
    )


def test_an_address_that_was_given_back_twice_rests_from_the_second_time(
    store: FileStore, folder: Path
) -> None:
    resting = wish(rest=_HOUR)
    store.claim(resting, owner())
    store.release(owner(), [resting.pool], rest=_HOUR)
    wake_first = [bed for bed in folder.rglob("until/*") if bed.is_dir()]
    store.claim(replace(resting, rest=0), owner())
    store.release(owner(), [resting.pool], rest=2 * _HOUR)
    for bed in wake_first:
        bed.rename(bed.with_name("1.000"))
    assert given(store, resting, owner("default/db", "c2")) == "10.0.0.2"


def test_a_range_whose_last_addresses_rest_says_call_again(store: FileStore) -> None:
    resting = wish("10.0.0.0/30", rest=_HOUR)
    for number in range(2):
        store.claim(resting, owner(f"default/web-{number}", f"c{number}"))
    store.release(owner("default/web-0", "c0"), [resting.pool], rest=_HOUR)
    with pytest.raises(CniError, match="just now") as caught:
        store.claim(resting, owner("default/late", "c9"))
    assert caught.value.code == Code.TRY_AGAIN_LATER
    store.claim(replace(resting, rest=0), owner("default/late", "c9"))
    with pytest.raises(PoolExhausted):
        store.claim(resting, owner("default/later", "c10"))


def test_when_all_rest_is_over_the_next_release_leaves_nothing(store: FileStore, folder: Path) -> None:
    resting = wish(rest=_HOUR)
    for number in range(3):
        store.claim(resting, owner(f"default/web-{number}", f"c{number}"))
    for number in range(2):
        store.release(owner(f"default/web-{number}", f"c{number}"), [resting.pool], rest=_HOUR)
    wake(folder)
    store.release(owner("default/web-2", "c2"), [resting.pool])
    assert files(folder) == []


# -- what cannot be read --------------------------------------------------------------------------

_GARBAGE = [
    pytest.param(b"", id="an-empty-file"),
    pytest.param(b"{", id="half-an-object"),
    pytest.param(b"[]", id="a-list"),
    pytest.param(b'{"id": 5, "ifname": "net1"}', id="fields-of-other-types"),
    pytest.param(b"\xff\xfe\x00", id="no-text"),
]


def entry(folder: Path, address: str = "10.0.0.1") -> Path:
    (path,) = (folder / "ipam/pools").rglob(f"addresses/*/{address}")
    return path


@pytest.mark.parametrize("garbage", _GARBAGE)
def test_an_unreadable_entry_goes_on_holding_its_address(
    store: FileStore, folder: Path, garbage: bytes
) -> None:
    store.claim(wish(), owner())
    entry(folder).write_bytes(garbage)
    assert given(store, wish(), owner("default/db", "c2")) == "10.0.0.2"
    with pytest.raises(AddressHeld, match="unreadable"):
        store.claim(wish(wanted=ip_address("10.0.0.1")), owner("default/db", "c2"))
    (complaint,) = store.complaints([wish()])
    assert str(entry(folder)) in complaint


@pytest.mark.parametrize("garbage", _GARBAGE)
def test_an_entry_is_rebuilt_for_whom_the_journal_proves(
    store: FileStore, folder: Path, garbage: bytes
) -> None:
    store.claim(wish(), owner())
    entry(folder).write_bytes(garbage)
    proving = replace(store, witness=lambda pool, who: owner())
    assert given(proving, wish(), owner()) == "10.0.0.1"
    found = store.find(wish().pool, owner())
    assert found is not None
    assert found.owner == owner()
    assert store.complaints([wish()]) == []
    assert (folder / "ipam/corrupt/10.0.0.0-29/10.0.0.1").read_bytes() == garbage
    proving.release(owner(), [wish().pool], is_recorded=True)
    assert store.pools() == []


def test_without_proof_the_holder_gets_another_and_the_unreadable_entry_stays(
    store: FileStore, folder: Path
) -> None:
    store.claim(wish(), owner())
    entry(folder).write_bytes(b"")
    assert given(store, wish(), owner()) == "10.0.0.2"
    assert entry(folder).exists()
    assert (folder / "ipam/corrupt/10.0.0.0-29/10.0.0.1").exists()


def test_an_entry_that_two_owners_may_hold_is_proven_to_be_neither_s(store: FileStore, folder: Path) -> None:
    store.claim(wish(), owner("default/db", "c2"))
    entry(folder).write_bytes(b"")
    # What a claim that was killed before it had made its entry leaves.
    (folder / "ipam/pools/10.0.0.0-29/owners/default%2Fweb@net1").symlink_to(
        "../addresses/10.0.0.0-24/10.0.0.1"
    )
    proving = replace(store, witness=lambda pool, who: owner())
    assert given(proving, wish(), owner()) == "10.0.0.2"


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b"{}", b'{"format": 1, "range": "x"}'])
def test_an_unreadable_pool_json_is_set_aside_and_written_anew(
    store: FileStore, folder: Path, garbage: bytes
) -> None:
    store.claim(wish(), owner())
    path = folder / "ipam/pools/10.0.0.0-29/pool.json"
    path.write_bytes(garbage)
    assert [str(path) in complaint for complaint in store.complaints([wish()])] == [True]
    assert given(store, wish(), owner("default/db", "c2")) == "10.0.0.2"
    assert store.pools() == [wish().pool]
    assert (folder / "ipam/corrupt/10.0.0.0-29/pool.json").read_bytes() == garbage


def test_a_newer_format_is_refused_and_stays(store: FileStore, folder: Path) -> None:
    store.claim(wish(), owner())
    path = folder / "ipam/pools/10.0.0.0-29/pool.json"
    path.write_text('{"format": 2, "range": "10.0.0.0/29"}')
    with pytest.raises(CniError, match="format 2"):
        store.claim(wish(), owner("default/db", "c2"))
    assert path.read_text() == '{"format": 2, "range": "10.0.0.0/29"}'


def test_files_that_are_none_of_the_store_s_are_left_alone(store: FileStore, folder: Path) -> None:
    store.claim(wish(), owner())
    for path in ("addresses/lost+found", "addresses/10.0.0.0-24/notes", "owners/notes"):
        (folder / "ipam/pools/10.0.0.0-29" / path).write_text("mine")
    assert given(store, wish(), owner("default/db", "c2")) == "10.0.0.2"
    assert [str(each.address) for each in store.allocations(wish().pool)] == ["10.0.0.1", "10.0.0.2"]


# -- any order ------------------------------------------------------------------------------------

_NAMES = [f"default/pod-{number}" for number in range(3)] + ["", ""]
_RANGES: list[tuple[Range, str, bool]] = [
    (parse_range("10.0.0.0/29"), "", True),
    (parse_range("10.0.0.0/30"), "", True),
    (parse_range("10.0.0.0/29", start="10.0.0.3", exclude=("10.0.0.4",)), "", True),
    (parse_range("10.0.0.2-10.0.0.5/29"), "blue", False),
    (parse_range("10.0.0.0/30"), "blue", False),
    (parse_range("fd00::/126"), "", True),
]
_CHANGES = st.integers(0, 30)


@dataclass
class _Attachment:
    """Who holds what, as it should be: addresses by pool, in the order of their claims."""

    number: int
    podref: str
    container: int = 0

    def owner(self, container: int | None = None) -> Owner:
        container = self.container if container is None else container
        return Owner(f"c{self.number}x{container}", "net1", self.podref, "rail")


class AnyOrder(RuleBasedStateMachine):
    """Five attachments compete for the addresses of ranges that overlap; some of their calls are killed."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/run"))
        self.store = FileStore(self.folder / "ipam", self.folder)
        self.all = [_Attachment(number, podref) for number, podref in enumerate(_NAMES)]
        # Pool and address: whose it is, and the container that holds it.
        self.held: dict[PoolKey, dict[Ip, tuple[int, str]]] = {}
        self.resting: set[tuple[PoolKey, Ip]] = set()
        self.in_doubt: set[int] = set()  # killed, and not called again since
        self.owed: set[int] = set()  # killed, and not deleted since

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(
        who=st.integers(0, 4),
        asked=st.lists(st.sampled_from(_RANGES), min_size=1, max_size=2),
        wanted=st.none() | st.integers(1, 6),
        rest=st.sampled_from((0.0, _HOUR)),
    )
    def add(self, who: int, asked: list[tuple[Range, str, bool]], wanted: int | None, rest: float) -> None:
        me = self.all[who]
        self._look_again(me)
        claims: list[Claim] = []
        for each in self._wishes(asked, wanted, rest):
            each = replace(each, taken=frozenset(claim.address for claim in claims))
            expected, is_new = self._expected(me, each)
            try:
                claim = self.store.claim(each, me.owner())
            except CniError as error:
                answered: object = self._kind(error)
                assert answered is expected  # one of several outcomes
                break
            assert (claim.address, claim.is_new) == (expected, is_new)
            self._claimed(me, each, claim.address)
            claims.append(claim)
        else:
            return
        self.store.release(me.owner(), (), [claim for claim in claims if claim.is_new])
        for claim in claims:
            if claim.is_new:
                del self.held[claim.pool][claim.address]

    @rule(who=st.integers(0, 4), rest=st.sampled_from((0.0, _HOUR)))
    def delete(self, who: int, rest: float) -> None:
        me = self.all[who]
        self._look_again(me)
        self.store.release(me.owner(), self._pools(), rest=rest)
        self._released(me, me.owner().container_id, rest)
        assert not any(self._addresses(me, pool) for pool in self.held), "a sandbox before holds something"
        self.owed.discard(who)

    @rule(who=st.integers(0, 4))
    def delete_the_sandbox_before(self, who: int) -> None:
        me = self.all[who]
        if me.container and who not in self.in_doubt:
            earlier = me.owner(me.container - 1)
            self.store.release(earlier, self._pools())
            self._released(me, earlier.container_id, 0)

    @rule(who=st.integers(0, 2))
    def make_the_pod_anew(self, who: int) -> None:
        """Another sandbox takes over all that the pod holds; a runtime calls ADD of all its networks."""
        me = self.all[who]
        if who in self.in_doubt:
            self.delete(who, 0)
        me.container += 1
        for pool in list(self.held):
            mine = self._addresses(me, pool)
            taken: frozenset[Ip] = frozenset()
            for address in mine:
                unique = pool.network_name == ""
                each = Wish(
                    pool, parse_range(str(pool.network)), is_unique=unique, count=len(mine), taken=taken
                )
                claim = self.store.claim(each, me.owner())
                assert (claim.address, claim.is_new) == (address, False)
                taken |= {address}
                self.held[pool][address] = (who, me.owner().container_id)

    @rule(
        who=st.integers(0, 4),
        asked=st.sampled_from(_RANGES),
        change=_CHANGES,
        wanted=st.none() | st.integers(1, 6),
    )
    def add_is_killed(
        self, who: int, asked: tuple[Range, str, bool], change: int, wanted: int | None
    ) -> None:
        me = self.all[who]
        (each,) = self._wishes([asked], wanted, 0)

        def step() -> None:
            with suppress(CniError):
                self.store.claim(each, me.owner())

        killed_before(change, step)
        self.in_doubt.add(who)
        self.owed.add(who)

    @rule(who=st.integers(0, 4), change=_CHANGES, rest=st.sampled_from((0.0, _HOUR)))
    def delete_is_killed(self, who: int, change: int, rest: float) -> None:
        me = self.all[who]
        killed_before(change, lambda: self.store.release(me.owner(), self._pools(), rest=rest))
        self.in_doubt.add(who)
        self.owed.add(who)

    @precondition(lambda self: self.resting)
    @rule()
    def time_passes(self) -> None:
        wake(self.folder)
        self.resting.clear()

    @rule()
    def restart(self) -> None:
        self.store = FileStore(self.folder / "ipam", self.folder)

    @invariant()
    def the_store_holds_what_it_should(self) -> None:
        for pool in self._pools():
            found = {
                each.address: each.owner.container_id
                for each in self.store.allocations(pool)
                if each.owner and self._of(each.owner) not in self.in_doubt
            }
            expected = {
                address: container
                for address, (who, container) in self.held.get(pool, {}).items()
                if who not in self.in_doubt
            }
            assert found == expected

    @invariant()
    def no_address_is_unique_twice(self) -> None:
        addresses = [
            each.address
            for pool in self._pools()
            if not pool.network_name
            for each in self.store.allocations(pool)
            # Of a killed claim that got no further than the entry, the reservation is another's.
            if each.owner and self._of(each.owner) not in self.owed
        ]
        assert len(addresses) == len(set(addresses))

    @invariant()
    def reservations_are_of_what_is_held(self) -> None:
        reserved = {path.name for path in self.folder.glob("ipam/reservations/_/addresses/*/[!.]*")}
        held = {
            str(each.address)
            for pool in self._pools()
            if not pool.network_name
            for each in self.store.allocations(pool)
        }
        assert reserved <= held
        if not self.owed:
            assert reserved == held

    @invariant()
    def without_holders_nothing_is_left(self) -> None:
        if not self.in_doubt and not self.resting and not any(self.held.values()):
            for who in self.owed or {0}:  # what rested is gone with the next release
                self.store.release(self.all[who].owner(), self._pools())
            self.owed.clear()
            assert files(self.folder) == []

    def _wishes(
        self, asked: Iterable[tuple[Range, str, bool]], wanted: int | None, rest: float
    ) -> list[Wish]:
        keys = [PoolKey(range_.network, name) for range_, name, _ in asked]
        wishes = [
            Wish(key, range_, is_unique=unique, rest=rest, count=keys.count(key))
            for key, (range_, _, unique) in zip(keys, asked, strict=True)
        ]
        first = wishes[0]
        if wanted is not None and first.range.network.version == 4:
            address = first.range.network.network_address + wanted
            if address in first.range.network:
                wishes[0] = replace(first, wanted=address)
        return wishes

    def _pools(self) -> list[PoolKey]:
        return list(dict.fromkeys(PoolKey(range_.network, name) for range_, name, _ in _RANGES))

    @staticmethod
    def _kind(error: CniError) -> type[CniError]:
        # While addresses rest, an exhausted range is told as one to try again.
        return PoolExhausted if error.code == Code.TRY_AGAIN_LATER else type(error)

    def _of(self, holder: Owner) -> int:
        return int(holder.container_id[1:].partition("x")[0])

    def _addresses(self, me: _Attachment, pool: PoolKey) -> list[Ip]:
        return [address for address, (who, _) in self.held.get(pool, {}).items() if who == me.number]

    def _expected(self, me: _Attachment, each: Wish) -> tuple[object, bool]:
        """Return the address that must be given or the error, and whether it is new."""
        mine = [address for address in self._addresses(me, each.pool) if address not in each.taken]
        if each.wanted is None and mine:
            return mine[0], False
        if each.wanted in mine:
            return each.wanted, False
        held = self.held.get(each.pool, {})
        # What those in doubt have, if they have it, is among the store's own entries below.
        unfree = {address for address, (who, _) in held.items() if who not in self.in_doubt} | set(each.taken)
        unfree |= {
            reserved
            for path in self.folder.glob("ipam/reservations/_/addresses/*/[!.]*")
            if each.is_unique and (reserved := ip_address(path.name))
        }
        unfree |= {held.address for held in self.store.allocations(each.pool)}  # of those in doubt
        if each.wanted is not None:
            return (AddressHeld, False) if each.wanted in unfree else (each.wanted, True)
        if each.rest:
            unfree |= {address for pool, address in self.resting if pool == each.pool}
        numbers = (n for first, last in each.range.spans for n in range(first, last + 1))
        free = (each.range.address(number) for number in numbers)
        return next(((address, True) for address in free if address not in unfree), (PoolExhausted, False))

    def _claimed(self, me: _Attachment, each: Wish, address: Ip) -> None:
        held = self.held.setdefault(each.pool, {})
        others = [a for a in self._addresses(me, each.pool) if a not in each.taken and a != address]
        held[address] = (me.number, me.owner().container_id)
        for surplus in others[: max(0, len(others) - each.count + 1)]:
            del held[surplus]
            if each.rest:
                self.resting.add((each.pool, surplus))

    def _released(self, me: _Attachment, container: str, rest: float) -> None:
        for pool, held in self.held.items():
            for address in [a for a, holder in held.items() if holder == (me.number, container)]:
                del held[address]
                if rest:
                    self.resting.add((pool, address))

    def _look_again(self, me: _Attachment) -> None:
        """See what a killed call of an attachment has left it; it may be more than it should hold."""
        self.in_doubt.discard(me.number)
        for pool in self._pools():
            held = {a: holder for a, holder in self.held.get(pool, {}).items() if holder[0] != me.number}
            mine = [
                (each.address, (me.number, each.owner.container_id))
                for number in self.store._pool(pool).linked(me.owner())
                for each in self.store.allocations(pool)
                if int(each.address) == number and each.owner and self._of(each.owner) == me.number
            ]
            self.held[pool] = {**held, **dict(mine)}
        self.resting |= {
            (pool, ip_address(path.name))
            for pool in self._pools()
            for path in self.folder.glob(f"ipam/pools/{pool.name}/resting/addresses/*/*")
        }


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
)
