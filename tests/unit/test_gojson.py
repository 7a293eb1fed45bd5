"""JSON as Go reads it: which keys match, which of several wins, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.protocol import gojson
from cni.protocol.errors import DecodingFailure

NAMES = ("cniVersion", "name", "ipam", "addresses", "runtimeConfig", "kernelpath", "pciBusID")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@st.composite
def spelled(draw: st.DrawFn, name: str) -> str:
    """A name in any mixture of upper and lower case."""
    return "".join(draw(st.sampled_from([char.lower(), char.upper()])) for char in name)


# -- documents -------------------------------------------------------------------------------------


@given(values)
def test_any_value_is_read_as_it_was_written(value: Any) -> None:
    assert gojson.loads(json.dumps(value).encode(), "it") == value
    assert gojson.loads(json.dumps(value, ensure_ascii=False).encode(), "it") == value


@given(st.binary(max_size=100))
def test_any_bytes_are_a_value_or_a_decoding_failure(data: bytes) -> None:
    told: object
    try:
        told = gojson.loads(data, "it")
    except DecodingFailure as error:
        told = error.to_json("1.0.0")
    json.dumps(told, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(b"", "It is empty", id="nothing"),
        pytest.param(b" \n", "It is empty", id="white-space-alone"),
        pytest.param(b"{} {}", "Extra data", id="a-second-document"),
        pytest.param(b"{}\0", "Extra data", id="a-byte-after-the-document"),
        pytest.param(b"\xef\xbb\xbf{}", "BOM", id="a-byte-order-mark"),
        pytest.param(b'{"a":1,}', "", id="a-comma-too-many"),
        pytest.param(b"{'a':1}", "", id="single-quotes"),
        pytest.param(b'{"a":NaN}', "NaN is not a JSON number", id="not-a-number"),
        pytest.param(b'{"a":-Infinity}', "-Infinity is not a JSON number", id="infinity"),
        pytest.param(b'{"a":1e999}', "the number 1e999 is too large", id="a-number-that-becomes-infinite"),
        pytest.param(b'{"a":01}', "", id="a-leading-zero"),
        pytest.param(b'{"a":+1}', "", id="a-plus-sign"),
        pytest.param(b'{"a":' + b"1" * 5000 + b"}", "", id="more-digits-than-anybody-needs"),
        pytest.param(b'"a\nb"', "control character", id="a-newline-in-a-string"),
        pytest.param(b"[" * 100_000, "nested too deeply", id="nested-without-end"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply", id="nested-too-deeply"),
    ],
)
def test_what_is_no_json_is_refused(text: bytes, told: str) -> None:
    with pytest.raises(DecodingFailure) as refusal:
        gojson.loads(text, "it")
    assert told in refusal.value.details


def test_a_document_may_have_16_megabytes_and_no_byte_more() -> None:
    text = b"{}".ljust(gojson.MAX_BYTES)
    assert gojson.loads(text, "it") == {}
    with pytest.raises(DecodingFailure, match="it is larger than 16777216 bytes"):
        gojson.loads(text + b" ", "it")


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")], ids=["lists", "objects"])
def test_a_document_may_be_128_levels_deep_and_no_deeper(opening: str, closing: str) -> None:
    def nested(depth: int) -> bytes:
        return (opening * depth + "1" + closing * depth).encode()

    assert gojson.loads(nested(128), "it")
    with pytest.raises(DecodingFailure) as refusal:
        gojson.loads(nested(129), "it")
    assert "nested too deeply" in refusal.value.details


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"[]", "array"),
        (b'"a"', "string"),
        (b"1", "number"),
        (b"1.5", "number"),
        (b"true", "boolean"),
        (b"null", "null"),
    ],
)
def test_a_document_of_another_kind_is_no_object(text: bytes, kind: str) -> None:
    with pytest.raises(DecodingFailure, match=f"it is a JSON {kind}, not an object"):
        gojson.loads_object(text, "it")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param(b'"a\xffb"', "a\ufffdb", id="a-byte-that-is-no-utf-8"),
        pytest.param(rb'"\ud800"', "\ufffd", id="a-lone-surrogate"),
        pytest.param(rb'"\uD83D\uDE00"', "\U0001f600", id="a-pair-of-surrogates"),
        pytest.param(rb'["\udc00", {"\udc00": "\ud800x"}]', ["\ufffd", {"\ufffd": "\ufffdx"}], id="anywhere"),
    ],
)
def test_text_that_is_none_becomes_the_replacement_character(text: bytes, read: Any) -> None:
    assert gojson.loads(text, "it") == read


# -- keys ------------------------------------------------------------------------------------------


@given(st.data(), st.sampled_from(NAMES), values.filter(lambda value: value is not None))
def test_a_key_matches_whatever_its_case(data: st.DataObject, name: str, value: Any) -> None:
    assert gojson.fold({data.draw(spelled(name)): value}, NAMES) == {name: value}


@given(st.data(), st.sampled_from(NAMES), st.lists(st.none() | st.integers(), min_size=1, max_size=5))
def test_the_last_of_several_wins_and_null_is_none_of_them(
    data: st.DataObject, name: str, given_: list[int | None]
) -> None:
    """Whether they differ by their case or not at all."""
    pairs = [f'"{data.draw(spelled(name))}":{json.dumps(value)}' for value in given_]
    read = gojson.loads_object(f"{{{','.join(pairs)}}}".encode(), "it")
    told = [value for value in given_ if value is not None]
    # Of keys that do not differ at all the text's last counts alone, so a null there hides an earlier one.
    assert gojson.get(read, name) in [None, *told]
    if given_[-1] is not None:
        assert gojson.get(read, name) == given_[-1]


@pytest.mark.parametrize(
    ("key", "name", "matches"),
    [
        pytest.param("NAME", "name", True, id="upper-case"),
        pytest.param("\u212aernelpath", "kernelpath", True, id="the-kelvin-sign-is-a-k"),
        pytest.param("addre\u017f\u017fes", "addresses", True, id="the-long-s-is-an-s"),
        pytest.param("addre\u00dfes", "addresses", False, id="the-sharp-s-is-not-two"),
        pytest.param("\u0130pam", "ipam", False, id="the-dotted-i-is-another-letter"),
        pytest.param("name ", "name", False, id="white-space-counts"),
        pytest.param("na_me", "name", False, id="an-underscore-counts"),
        pytest.param("", "name", False, id="nothing"),
    ],
)
def test_which_letters_are_the_same(key: str, name: str, matches: bool) -> None:
    assert (gojson.fold({key: 1}, (name,)) == {name: 1}) is matches


@given(st.dictionaries(st.text(), values))
def test_keys_that_nobody_asks_for_are_dropped(mapping: dict[str, Any]) -> None:
    assert set(gojson.fold(mapping, NAMES)) <= set(NAMES)
    assert gojson.fold(mapping, ()) == {}
