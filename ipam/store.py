"""Store: what whereabouts asks of the place where allocations are kept, and how it fails.

A claim is one atomic step against every other writer: on this node for files, in the cluster for custom
resources. A pool's entry is claimed before the reservation and given back after it, so that a killed call
leaves an entry, which the next ADD, DEL or GC of its owner finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from cni.protocol.errors import CniError, Code
from ipam.pool import Allocation, Claim, Owner, PoolKey
from ipam.ranges import Ip, Range


@dataclass(frozen=True)
class Wish:
    """What one range is asked for."""

    pool: PoolKey
    range: Range
    wanted: Ip | None = None  # this address or none
    is_unique: bool = True  # no other pool of the same network_name may have it
    taken: frozenset[Ip] = frozenset()  # what this attachment has of other ranges
    rest: float = 0  # seconds that an address lies idle after it was given back
    count: int = 1  # how many addresses of this pool the attachment asks for in all


class Store(Protocol):
    """Where pools live."""

    def claim(self, wish: Wish, owner: Owner) -> Claim:
        """Return the address that `owner` holds in the pool, or let it hold the lowest free one.

        What the owner held with an earlier sandbox is its own from now on.

        Raises:
            PoolExhausted: code 100.
            AddressHeld: code 105, `wanted` is another's.
            CniError: code 11, the store is not to be had now.
        """

    def candidate(self, wish: Wish, owner: Owner) -> Ip | None:
        """Return the address that a claim would give just now, and change nothing.

        None: a block of the range would be claimed first, and which one is not known.

        Raises:
            CniError: as `claim`.
        """

    @property
    def wants_notes(self) -> bool:
        """Whether a release is cheaper when the journal knows the claims."""

    def release(
        self,
        owner: Owner,
        pools: Iterable[PoolKey],
        claims: Iterable[Claim] = (),
        *,
        rest: float = 0,
        is_recorded: bool = False,
    ) -> None:
        """Give back what this sandbox of `owner` holds in `pools`; nothing to do is success.

        `claims` are what it is known to hold, if that is known. `is_recorded` says that the journal has
        this sandbox' ADD in these pools, which speaks for an entry that cannot be read.

        Raises:
            CniError: something could not be given back.
        """

    def find(self, pool: PoolKey, owner: Owner, beside: frozenset[Ip] = frozenset()) -> Allocation | None:
        """Return what `owner` holds in a pool `beside` addresses that are known."""

    def allocations(self, pool: PoolKey) -> Iterator[Allocation]:
        """All entries of a pool, lowest first."""

    def pools(self) -> list[PoolKey]:
        """All pools that there are."""

    def complaints(self, wishes: Iterable[Wish]) -> list[str]:
        """Return a sentence for each reason why a claim would fail, without changing anything."""


class PoolExhausted(CniError):
    """No address is left in a range."""

    code = Code.POOL_EXHAUSTED

    def __init__(self, wish: Wish, most: str) -> None:
        range_ = wish.range
        bounds = f"{range_.address(range_.first)} to {range_.address(range_.last)}"
        super().__init__(
            f"no address is left in {wish.pool.network} ({range_.path})",
            why=f"All {range_.size} that may be given out of {bounds} are held. {most}".rstrip(),
            fix="Give pods back that are not needed, or make the range larger. "
            "`podrail ipam show` lists who holds what.",
        )


class AddressHeld(CniError):
    """An address that was asked for is another attachment's."""

    code = Code.ADDRESS_IN_USE

    def __init__(self, address: Ip, pool: PoolKey, holder: str) -> None:
        super().__init__(
            f"the address {address}, which was asked for, is held by {holder}",
            why=f"It is recorded in the pool {pool.name}.",
            fix="Ask for another address, or delete that pod first.",
        )


def most_of(owners: Iterable[str]) -> str:
    """Return a sentence that tells which namespaces hold most; owners are `namespace/pod@interface`."""
    counts: dict[str, int] = {}
    for name in owners:
        namespace, slash, _ = name.partition("/")
        key = f"namespace {namespace}" if slash else "containers without a pod"
        counts[key] = counts.get(key, 0) + 1
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:3]
    return f"Most are held by {', '.join(f'{name} ({count})' for name, count in most)}." if most else ""
