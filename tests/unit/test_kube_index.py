"""The index of an IPPool: kept in step with the entries, it says what one made anew would say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam.kube_pool import KubePool, Operation
from ipam.pool import Owner, PoolKey
from ipam.ranges import parse_network, parse_range

RANGE = "10.0.0.0/28"
KEY = PoolKey(parse_network(RANGE))


def entry(number: int) -> dict[str, str]:
    return {"id": f"sandbox-{number % 4}", "podref": f"default/web-{number % 3}", "ifname": "net1"}


def pool(allocations: dict[str, Any], generation: int = 1) -> KubePool:
    metadata = {"name": KEY.name, "uid": "a", "generation": generation}
    return KubePool(KEY, {"metadata": metadata, "spec": {"range": RANGE, "allocations": dict(allocations)}})


def said(pool: KubePool) -> object:
    """Return all that is looked up in a pool."""
    owners = [Owner(f"sandbox-{n}", "net1", f"default/web-{m}") for n in range(4) for m in range(3)]
    held = [sorted(pool.held_by(each)) for each in owners]
    keys = [sorted(pool.keys_of_sandbox(each)) for each in owners]
    return list(pool.candidates(parse_range(RANGE))), held, keys, [pool.holds(int(n)) for n in KEY.network]


def changing(key: str, value: dict[str, str] | None) -> Operation:
    path = f"/spec/allocations/{key}"
    return {"op": "remove", "path": path} if value is None else {"op": "add", "path": path, "value": value}


@given(
    start=st.dictionaries(st.integers(1, 14), st.integers(0, 11), max_size=14),
    steps=st.lists(st.tuples(st.integers(1, 14), st.integers(0, 11)), max_size=12),
)
def test_a_pool_after_patches_is_as_if_it_were_read(
    start: dict[int, int], steps: list[tuple[int, int]]
) -> None:
    now = pool({str(key): entry(number) for key, number in start.items()})
    assert said(now)  # the index is made
    for generation, (key, number) in enumerate(steps, 2):
        is_held = str(key) in now.allocations
        expected = {k: v for k, v in now.allocations.items() if k != str(key)}
        expected |= {} if is_held else {str(key): entry(number)}
        after = now.after(
            [changing(str(key), None if is_held else entry(number))], pool({}, generation).raw["metadata"]
        )
        assert after is not None
        assert after.allocations == expected
        assert said(after) == said(pool(expected))
        now = after


@pytest.mark.parametrize(
    ("uid", "generation", "value"),
    [
        pytest.param("a", 3, entry(1), id="somebody-else-changed-it-too"),
        pytest.param("b", 2, entry(1), id="it-was-made-anew"),
        pytest.param("a", 1, entry(1), id="what-was-sent-is-not-in-it"),
        pytest.param("a", 2, entry(5), id="nothing-was-changed-by-us-but-by-somebody"),
    ],
)
def test_a_pool_that_others_have_changed_must_be_read(
    uid: str, generation: int, value: dict[str, str]
) -> None:
    before = pool({"5": entry(5)})
    assert before.after([changing("5", value)], {"uid": uid, "generation": generation}) is None


def test_what_a_key_with_zeros_holds_is_never_guessed() -> None:
    before = pool({"05": entry(5)})
    assert list(before.candidates(parse_range(RANGE)))[:5] == [int(KEY.network[n]) for n in (1, 2, 3, 4, 6)]
    assert before.after([changing("05", None)], {"uid": "a", "generation": 2}) is None


@pytest.mark.parametrize(
    "key", ["-1", "16", "99999999999999999999", "1" * 60, "1" * 5000, "x", "", "1 2", "१"]
)
def test_keys_that_mean_nothing_hold_nothing(key: str) -> None:
    found = pool({key: entry(1), "2": entry(2)})
    assert [int(n) - int(KEY.network[0]) for n in found.candidates(parse_range(RANGE))] == [1, *range(3, 15)]
    assert found.keys_of_sandbox(Owner("sandbox-1", "net1", "default/web-1")) == [key]
