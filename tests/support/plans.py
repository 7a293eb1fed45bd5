"""Plans beside what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# What may be left out, where this is said.
_SAID = {"mac": "the MAC is chosen by ADD", "ips": "is claimed from the cluster first"}


def agreed(plan: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Assert that an ADD answered what its plan told; only what the plan says to be open may be left out."""
    said = " ".join(_open(plan))
    left_out = set(_left_out(plan.get("result", {}), result))
    if "is of another make" not in said:
        assert left_out <= {key for key, sentence in _SAID.items() if sentence in said}, (plan, result)


def _open(plan: Mapping[str, Any]) -> Iterator[str]:
    yield from plan.get("open", ())
    for step in plan.get("steps", ()):
        yield from _open(step)


def _left_out(plan: Any, result: Any) -> Iterator[str]:
    """Yield the keys of a result that a plan has not; what it has must be so."""
    if isinstance(plan, dict):
        assert isinstance(result, dict)
        yield from result.keys() - plan.keys()
        for key, value in plan.items():
            yield from _left_out(value, result.get(key))
    elif isinstance(plan, list):
        assert len(plan) == len(result), (plan, result)
        for each, other in zip(plan, result, strict=True):
            yield from _left_out(each, other)
    else:
        assert plan == result
