"""Versions of the spec: how they compare, what each allows, what is refused with which code."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.protocol import versions
from cni.protocol.errors import CniError

VERBS = ("ADD", "DEL", "CHECK", "GC", "STATUS")


def refusal_of(version: str, verb: str) -> CniError | None:
    try:
        versions.check(version, verb)
    except CniError as error:
        return error
    return None


numbers = st.tuples(*[st.integers(0, 10**6)] * 3)


@given(numbers, numbers)
def test_versions_compare_as_their_numbers(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    def dotted(parts: tuple[int, ...]) -> str:
        return ".".join(map(str, parts))

    assert versions.parse(dotted(one)) == one
    assert versions.at_least(dotted(one), dotted(other)) is (one >= other)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        pytest.param("1", (1, 0, 0), id="one-number"),
        pytest.param("1.1", (1, 1, 0), id="two-numbers"),
        pytest.param("0.4.0", (0, 4, 0), id="three-numbers"),
    ],
)
def test_numbers_that_are_left_out_are_0(text: str, parsed: tuple[int, ...]) -> None:
    assert versions.parse(text) == parsed


@pytest.mark.parametrize(
    "text", ["", ".", "1.", "1..0", "1.0.0.0", "v1.0.0", "1.0.0-rc1", "-1", "1.\u0660", "1 "]
)
def test_what_is_no_version_cannot_be_compared(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        versions.parse(text)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("version", versions.SUPPORTED)
def test_which_verbs_a_version_knows(version: str, verb: str) -> None:
    since = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}.get(verb, "0.1.0")
    knows = versions.SUPPORTED.index(version) >= versions.SUPPORTED.index(since)
    refusal = refusal_of(version, verb)
    assert (refusal is None) is knows
    if refusal:
        assert (refusal.code, refusal.msg) == (1, f"config version does not allow {verb}")
        assert (version in refusal.details, since in refusal.details) == (True, True)


@pytest.mark.parametrize(
    ("version", "verb", "code"),
    [
        pytest.param("1.0.1", "ADD", 1, id="one-between"),
        pytest.param("1.2.0", "ADD", 1, id="one-from-the-future"),
        pytest.param("1.1", "ADD", 1, id="another-spelling"),
        pytest.param("1.2.0", "CHECK", 1, id="one-from-the-future-that-would-know-the-verb"),
        pytest.param("abc", "ADD", 1, id="a-word"),
        pytest.param("abc", "DEL", 1, id="a-word-on-del"),
        pytest.param("abc", "CHECK", 6, id="a-word-where-it-must-be-compared"),
        pytest.param("abc", "STATUS", 6, id="a-word-on-status"),
    ],
)
def test_a_version_that_is_not_spoken_is_refused(version: str, verb: str, code: int) -> None:
    refusal = refusal_of(version, verb)
    assert refusal
    assert refusal.code == code
    assert version in refusal.msg + refusal.details
    assert versions.NEWEST in refusal.details


@given(st.text(max_size=20), st.sampled_from(VERBS))
def test_any_version_is_spoken_or_refused(version: str, verb: str) -> None:
    refusal = refusal_of(version, verb)
    assert refusal.code in (1, 6) if refusal else version in versions.SUPPORTED


def test_the_answer_of_version_is_one_compact_line_with_every_version() -> None:
    told = json.loads(versions.answer())
    assert told == {"cniVersion": "1.1.0", "supportedVersions": list(versions.SUPPORTED)}
    assert versions.answer() == json.dumps(told, separators=(",", ":")).encode() + b"\n"


def test_every_version_has_the_shape_of_its_results() -> None:
    shapes = [versions.shape(version) for version in versions.SUPPORTED]
    assert shapes == ["0.2.0"] * 2 + ["0.3.0"] * 3 + ["1.0.0"] * 2
