"""What a runtime says of a call: CNI_ARGS, names, GC's list."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.protocol.errors import CniError, InvalidConfig, InvalidEnvironment
from cni.protocol.request import Network, Request, ifname_fault, new_ifname_fault, parse_cni_args

KNOWN = frozenset({"IP", "GATEWAY", "MAC"})

values = st.text(st.characters(exclude_characters=";="), max_size=10)
unknown_keys = values.filter(lambda key: key not in {*KNOWN, "IgnoreUnknown"})


def joined(pairs: dict[str, str]) -> str:
    return ";".join(f"{key}={value}" for key, value in pairs.items())


# -- CNI_ARGS --------------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from(sorted(KNOWN)), values, min_size=1))
def test_known_pairs_are_read_as_they_are_written(pairs: dict[str, str]) -> None:
    assert parse_cni_args(joined(pairs), KNOWN) == pairs


@given(
    st.dictionaries(st.sampled_from(sorted(KNOWN)), values),
    st.dictionaries(unknown_keys, values, min_size=1),
    st.sampled_from(["1", "true", "TRUE", "True"]),
)
def test_unknown_keys_are_refused_unless_they_are_to_be_ignored(
    pairs: dict[str, str], others: dict[str, str], word: str
) -> None:
    with pytest.raises(InvalidEnvironment, match="unknown args"):
        parse_cni_args(joined(pairs | others), KNOWN)
    assert parse_cni_args(joined({"IgnoreUnknown": word} | others | pairs), KNOWN) == pairs
    assert parse_cni_args(joined(others | pairs | {"IgnoreUnknown": word}), KNOWN) == pairs


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        pytest.param("", {}, id="nothing"),
        pytest.param("IP=10.0.0.2/24", {"IP": "10.0.0.2/24"}, id="one-pair"),
        pytest.param("IP=", {"IP": ""}, id="an-empty-value"),
        pytest.param("IP=a;IP=b", {"IP": "b"}, id="the-last-of-two"),
        pytest.param("IgnoreUnknown=0;IP=a", {"IP": "a"}, id="ignoring-turned-off-and-nothing-unknown"),
        pytest.param(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=0a1b",
            {},
            id="what-containerd-passes",
        ),
    ],
)
def test_what_is_accepted(text: str, pairs: dict[str, str]) -> None:
    assert parse_cni_args(text, KNOWN) == pairs


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("IP", '"IP" is not a KEY=VALUE pair', id="no-value"),
        pytest.param("IP=a=b", '"IP=a=b" is not a KEY=VALUE pair', id="two-equals"),
        pytest.param("IP=a;", '"" is not a KEY=VALUE pair', id="a-semicolon-at-the-end"),
        pytest.param(";IP=a", '"" is not a KEY=VALUE pair', id="a-semicolon-at-the-start"),
        pytest.param("IP=a;;MAC=b", '"" is not a KEY=VALUE pair', id="two-semicolons"),
        pytest.param(" ", '" " is not a KEY=VALUE pair', id="a-space"),
        pytest.param("ip=a", "unknown args [ip]", id="another-case"),
        pytest.param("b=1;a=2", "unknown args [a, b]", id="several-unknown"),
        pytest.param("IgnoreUnknown=0;a=2", "unknown args [a]", id="ignoring-turned-off"),
        pytest.param("ignoreunknown=1;a=2", "unknown args [a, ignoreunknown]", id="ignoring-in-another-case"),
        pytest.param("IgnoreUnknown=yes", 'IgnoreUnknown is "yes"', id="a-word-that-says-neither"),
    ],
)
def test_what_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidEnvironment) as refusal:
        parse_cni_args(text, KNOWN)
    assert (refusal.value.code, told in refusal.value.msg) == (4, True), refusal.value.msg


@given(st.text(max_size=30))
def test_any_text_is_pairs_of_known_keys_or_refused(text: str) -> None:
    try:
        pairs = parse_cni_args(text, KNOWN)
    except InvalidEnvironment:
        return
    assert set(pairs) <= KNOWN


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "named"),
    [
        pytest.param("", "pod-1 net1", id="without-a-pod"),
        pytest.param("K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web", "prod/web net1", id="of-a-pod"),
        pytest.param("K8S_POD_NAME=web", "default/web net1", id="of-a-pod-without-a-namespace"),
        pytest.param("nonsense;=;K8S_POD_NAME=web", "default/web net1", id="whatever-else-is-malformed"),
    ],
)
def test_how_an_attachment_is_named(args: str, named: str) -> None:
    environment = {"CNI_CONTAINERID": "pod-1", "CNI_IFNAME": "net1", "CNI_ARGS": args}
    assert Request("ADD", environment, b"").attachment == named


@pytest.mark.parametrize(
    "name", ["net1", "a", "a" * 15, "eth0.100", "é" * 7, "a@b", "a[*?]", "-", "a\\b", "..."]
)
def test_an_interface_can_have_this_name(name: str) -> None:
    assert ifname_fault(name) == ""


@pytest.mark.parametrize(
    "name", [".", "..", "a/b", "a:b", "a b", "a\tb", "a\n", "a\u00a0b", "a\u2003b", "a" * 16, "é" * 8]
)
def test_an_interface_cannot_have_this_name(name: str) -> None:
    assert ifname_fault(name)


@pytest.mark.parametrize("name", ["lo", "all", "default", "net%d", "100%", "a/b", "a" * 16])
def test_no_interface_can_be_given_this_name(name: str) -> None:
    assert new_ifname_fault(name)


@pytest.mark.parametrize("name", ["rail", "0", "A.b_c-d", "a" * 300])
def test_a_network_can_have_this_name(name: str) -> None:
    assert Network.parse(json.dumps({"name": name}).encode()).name == name


@given(st.text(max_size=10))
def test_a_name_that_could_leave_its_directory_is_refused(name: str) -> None:
    try:
        network = Network.parse(json.dumps({"name": name}).encode())
    except InvalidConfig as error:
        assert "network name" in error.msg  # noqa: PT017  # it may be raised or not
    else:
        assert network.name.isascii()
        assert not set(network.name) & set("/\0\n")
        assert network.name[0].isalnum()


@pytest.mark.parametrize(
    ("keys", "code", "told"),
    [
        pytest.param({"name": 5, "cniVersion": 5}, 6, '"name"', id="a-name-that-is-no-text"),
        pytest.param({"cniVersion": 5}, 7, "missing network name", id="no-name"),
        pytest.param({"name": "a/b", "cniVersion": 5}, 7, "network name", id="a-malformed-name"),
        pytest.param({"name": "rail", "cniVersion": 5}, 6, '"cniVersion"', id="a-version-that-is-no-text"),
    ],
)
def test_the_name_is_judged_before_the_version(keys: dict[str, Any], code: int, told: str) -> None:
    with pytest.raises(CniError) as refusal:
        _ = Network.parse(json.dumps(keys).encode())
    assert (refusal.value.code, told in refusal.value.msg) == (code, True)


@pytest.mark.parametrize("version", [None, ""])
def test_a_version_that_is_left_out_is_the_oldest(version: str | None) -> None:
    assert Network.parse(json.dumps({"name": "rail", "cniVersion": version}).encode()).version == "0.1.0"


@pytest.mark.parametrize(
    "ipam", [None, {}, [], "static", 5, {"type": None}, {"type": 5}, {"type": ""}, {"addresses": []}]
)
def test_without_a_type_there_is_no_ipam(ipam: Any) -> None:
    assert Network.parse(json.dumps({"name": "rail", "ipam": ipam}).encode()).ipam_type == ""


# -- GC's list -------------------------------------------------------------------------------------

_KEEP = [{"containerID": "pod-1", "ifname": "net1"}]


def kept(**keys: Any) -> frozenset[tuple[str, str]] | None:
    return Network.parse(json.dumps({"name": "rail"} | keys).encode()).valid_attachments()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        pytest.param({}, None, id="an-absent-list-keeps-all"),
        pytest.param({"cni.dev/valid-attachments": None}, None, id="null-keeps-all"),
        pytest.param({"cni.dev/valid-attachments": []}, frozenset(), id="an-empty-list-keeps-none"),
        pytest.param({"cni.dev/valid-attachments": _KEEP}, frozenset({("pod-1", "net1")}), id="the-new-key"),
        pytest.param({"cni.dev/attachments": _KEEP}, frozenset({("pod-1", "net1")}), id="the-old-key"),
        pytest.param(
            {"cni.dev/attachments": [], "cni.dev/valid-attachments": _KEEP},
            frozenset({("pod-1", "net1")}),
            id="the-new-key-before-the-old-one",
        ),
        pytest.param(
            {"cni.dev/valid-attachments": [{"CONTAINERID": "a", "ifName": "b", "more": 1}]},
            frozenset({("a", "b")}),
            id="keys-in-another-case-and-more-of-them",
        ),
    ],
)
def test_which_attachments_stay(keys: dict[str, Any], expected: frozenset[tuple[str, str]] | None) -> None:
    assert kept(**keys) == expected


@pytest.mark.parametrize("listed", [5, "all", "", {}, [5], [None], [{}], [{"containerID": "a"}], [[]]])
def test_a_list_that_cannot_be_read_releases_nothing(listed: Any) -> None:
    with pytest.raises(CniError, match="is not a list of attachments") as refusal:
        kept(**{"cni.dev/valid-attachments": listed})
    assert refusal.value.code == 7


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_any_list_is_read_or_refused(listed: Any) -> None:
    try:
        keep = kept(**{"cni.dev/valid-attachments": listed})
    except InvalidConfig:
        return
    assert keep in (None, frozenset())
