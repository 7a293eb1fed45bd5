"""AddressTree: marks of full blocks never lie, whoever is killed while they are made and removed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cni import durable
from ipam.address_tree import AddressTree
from tests.support.killing import killed_before


def add(tree: AddressTree, number: int) -> None:
    with durable.drafted(tree.root, b"", tree.root) as draft:
        tree.add(number, draft)


def marks(tree: AddressTree) -> dict[str, IPv4Network | IPv6Network]:
    """The networks that marks speak of, by where the marks are."""
    paths = (tree.root / "full").glob("*/*")
    return {str(path): ip_network(path.name.replace("-", "/")) for path in paths}


def fill(tree: AddressTree, network: IPv4Network | IPv6Network) -> None:
    """Hold every address of a network, block by block, as claims of the lowest free one do."""
    first = int(network.network_address)
    for number in range(first, first + network.num_addresses):
        add(tree, number)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir="/run"))
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("text", ["10.0.4.0/22", "fd00::1000/118"])
def test_a_full_block_has_a_mark_and_the_next_free_address_is_behind_it(folder: Path, text: str) -> None:
    network = ip_network(text)
    tree = AddressTree(folder, network.version)
    fill(tree, network)
    block_length = 24 if network.version == 4 else 120
    assert set(marks(tree).values()) == set(network.subnets(new_prefix=block_length))
    first, last = int(network[0]), int(network[-1])
    assert tree.next_free(first, last) is None
    assert tree.next_free(first, last + 1) == last + 1
    tree.remove(first + 700)
    assert tree.next_free(first, last) == first + 700
    assert len(marks(tree)) == 3
    add(tree, first + 700)
    assert len(marks(tree)) == 4


def test_a_full_block_of_blocks_has_a_mark_of_its_own(folder: Path) -> None:
    network = ip_network("10.7.0.0/16")
    tree = AddressTree(folder, 4)
    block = [folder / "full/10.7.0.0-16" / f"10.7.{number}.0-24" for number in range(256)]
    # All but the last block are full already; making their 65,280 files here would take a while.
    block[0].parent.mkdir(parents=True)
    for path in block[:-1]:
        path.touch()
    add(tree, int(network[0]))  # a search looks at its first address, and then at the marks
    fill(tree, ip_network("10.7.255.0/24"))
    assert (folder / "full/10.0.0.0-8/10.7.0.0-16").exists()
    assert tree.next_free(int(network[0]), int(ip_address("10.8.0.5"))) == int(ip_address("10.8.0.0"))
    tree.remove(int(ip_address("10.7.255.9")))
    assert not (folder / "full/10.0.0.0-8").exists()
    assert not block[-1].exists()
    assert tree.next_free(int(network[0]), int(network[-1])) == int(ip_address("10.7.255.9"))


@pytest.mark.parametrize("text", ["10.0.4.0/23", "fd00::1000/119"])
def test_the_mark_of_the_lowest_block_says_nothing_of_its_first_address(folder: Path, text: str) -> None:
    network = ip_network(text)
    lowest, last = int(network[0]), int(network[-1])
    tree = AddressTree(folder, network.version, lowest)
    for number in range(lowest + 1, last + 1):
        add(tree, number)
    assert len(marks(tree)) == 2
    assert tree.next_free(lowest + 1, last + 1) == last + 1
    assert tree.next_free(lowest, last) == lowest
    add(tree, lowest)
    assert len(marks(tree)) == 2
    assert tree.next_free(lowest, last) is None
    tree.remove(lowest + 9)
    assert len(marks(tree)) == 1
    assert tree.next_free(lowest, last) == lowest + 9
    tree.remove(lowest)
    assert tree.next_free(lowest, last) == lowest
    add(tree, lowest + 9)
    assert len(marks(tree)) == 2


def test_a_missing_mark_is_found_out_by_looking(folder: Path) -> None:
    tree = AddressTree(folder, 4)
    network = ip_network("10.0.0.0/23")
    fill(tree, network)
    (folder / "full/10.0.0.0-16/10.0.0.0-24").unlink()
    assert tree.next_free(int(network[0]), int(network[-1]) + 1) == int(network[-1]) + 1


def test_the_search_ends_at_its_bounds(folder: Path) -> None:
    tree = AddressTree(folder, 6)
    base = int(ip_address("fd00::"))
    for number in (0, 1, 2, 300):
        add(tree, base + number)
    assert tree.next_free(base, base + 2) is None
    assert tree.next_free(base, base + 3) == base + 3
    assert tree.next_free(base + 300, base + 300) is None
    assert tree.next_free(base + 300, base + 2**64) == base + 301


def test_addresses_come_lowest_first(folder: Path) -> None:
    tree = AddressTree(folder, 4)
    expected = [ip_address(text) for text in ("9.0.0.1", "10.0.0.2", "10.0.0.10", "10.0.1.0", "100.0.0.1")]
    for address in reversed(expected):
        add(tree, int(address))
    add(AddressTree(folder, 6), int(ip_address("fd00::1")))
    assert list(tree.addresses()) == expected
    assert list(AddressTree(folder, 6).addresses()) == [ip_address("fd00::1")]


def test_the_last_of_all_addresses_has_a_place(folder: Path) -> None:
    for version in (4, 6):
        tree = AddressTree(folder, version)
        last = 2 ** (32 if version == 4 else 128) - 1
        add(tree, last)
        assert tree.holds(last)
        assert tree.next_free(last - 1, last) == last - 1
        tree.remove(last)
    assert not list(folder.iterdir())


class AnyOrder(RuleBasedStateMachine):
    """Three blocks, all but full, in which addresses come and go; some of those steps are killed."""

    LOWEST = -1
    TEXT = "10.0.1.0/24 10.0.2.0/24 10.0.3.0/24"
    NUMBERS = st.one_of(
        *(st.integers(int(ip_network(text)[0]), int(ip_network(text)[0]) + 2) for text in TEXT.split())
    )

    def __init__(self) -> None:
        super().__init__()
        self.tree = AddressTree(Path(tempfile.mkdtemp(dir="/run")), 4, self.LOWEST)
        self.held: set[int] = set()
        for text in self.TEXT.split():
            for number in range(int(ip_network(text)[3]), int(ip_network(text)[-1]) + 1):
                path = self.tree.path(number)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                self.held.add(number)

    def teardown(self) -> None:
        shutil.rmtree(self.tree.root)

    @rule(number=NUMBERS)
    def add(self, number: int) -> None:
        if number in self.held:
            with pytest.raises(FileExistsError):
                add(self.tree, number)
        else:
            add(self.tree, number)
        self.held.add(number)

    @rule(number=NUMBERS)
    def remove(self, number: int) -> None:
        self.tree.remove(number)
        self.held.discard(number)

    @rule(number=NUMBERS, change=st.integers(0, 5), is_added=st.booleans())
    def a_step_is_killed(self, number: int, change: int, is_added: bool) -> None:
        if is_added and number not in self.held:
            killed_before(change, lambda: add(self.tree, number))
        elif not is_added:
            killed_before(change, lambda: self.tree.remove(number))
        self.held.discard(number)
        if self.tree.holds(number):
            self.held.add(number)

    @invariant()
    def marks_speak_of_full_blocks(self) -> None:
        for network in marks(self.tree).values():
            numbers = set(range(int(network[0]), int(network[-1]) + 1))
            assert numbers - self.held <= {self.LOWEST}

    @invariant()
    def the_next_free_address_is_the_lowest_without_a_file(self) -> None:
        first, last = int(ip_address("10.0.1.0")), int(ip_address("10.0.4.0"))
        for start in range(first, last, 256):
            expected = next(number for number in range(start, last + 1) if number not in self.held)
            assert self.tree.next_free(start, last) == expected


class AnyOrderAboveTheLowest(AnyOrder):
    """The same where the first of these addresses is the lowest that there is."""

    LOWEST = int(ip_address("10.0.1.0"))


TestAnyOrder = AnyOrder.TestCase
TestAnyOrderAboveTheLowest = AnyOrderAboveTheLowest.TestCase
TestAnyOrder.settings = settings(max_examples=8, stateful_step_count=30, deadline=None)
TestAnyOrderAboveTheLowest.settings = TestAnyOrder.settings
