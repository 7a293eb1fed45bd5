"""What pods may write of the networks that they want, and what is refused, with the part that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.plugins.multus.annotation import DEFAULT_NETWORK, NETWORKS, default_network, networks
from cni.protocol.errors import CniError, Code


def parsed(text: str) -> list[dict[str, Any]]:
    """Return what was asked for, without what was not."""
    found = []
    for selection in networks({NETWORKS: text}, "web"):
        told = {
            key: value for key, value in vars(selection).items() if value not in ("", (), {}, None, False)
        }
        del told["where"]
        found.append(told)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", [], id="nothing-wants-no-network"),
        pytest.param("a", [("web", "a", "")], id="a-name-lives-in-the-pods-namespace"),
        pytest.param("other/a", [("other", "a", "")], id="a-namespace-may-stand-before-it"),
        pytest.param("a@rail0", [("web", "a", "rail0")], id="an-interface-may-stand-behind-it"),
        pytest.param("o/a@eth5", [("o", "a", "eth5")], id="all-three"),
        pytest.param(" o / a @ e1 , b ", [("o", "a", "e1"), ("web", "b", "")], id="blanks-mean-nothing"),
        pytest.param("a,a", [("web", "a", ""), ("web", "a", "")], id="a-network-may-be-wanted-twice"),
        pytest.param("/a", [("web", "a", "")], id="an-empty-namespace-is-none"),
        pytest.param("a@", [("web", "a", "")], id="an-empty-interface-is-none"),
        pytest.param("a@Eth_0.5", [("web", "a", "Eth_0.5")], id="interfaces-have-other-letters-than-names"),
    ],
)
def test_the_short_form(text: str, expected: list[tuple[str, str, str]]) -> None:
    found = networks({NETWORKS: text}, "web")
    assert [(each.namespace, each.name, each.interface) for each in found] == expected


@pytest.mark.parametrize(
    ("text", "item", "reason"),
    [
        pytest.param("a/b/c", 1, 'more than one "/"', id="two-slashes"),
        pytest.param("a@b@c", 1, 'more than one "@"', id="two-ats"),
        pytest.param("a,", 2, "names no network", id="a-comma-too-many"),
        pytest.param("ns/", 1, "names no network", id="a-namespace-alone"),
        pytest.param("@net1", 1, "names no network", id="an-interface-alone"),
        pytest.param("a,Big", 2, 'name "Big"', id="upper-case"),
        pytest.param("a.b", 1, 'name "a.b"', id="a-dot"),
        pytest.param("-a", 1, 'name "-a"', id="a-dash-at-the-end"),
        pytest.param("N/a", 1, 'namespace "N"', id="a-namespace-in-upper-case"),
        pytest.param("a@0123456789abcdef", 1, "longer than 15 bytes", id="a-long-interface"),
        pytest.param("a@b c", 1, "white space", id="a-blank-within-an-interface"),
        pytest.param("a@b:c", 1, '":"', id="a-colon-within-an-interface"),
        pytest.param("a b", 1, 'name "a b"', id="a-blank-within-a-name"),
        pytest.param("a;b", 1, 'name "a;b"', id="another-separator"),
    ],
)
def test_what_the_short_form_does_not_have_is_refused_with_the_item(
    text: str, item: int, reason: str
) -> None:
    with pytest.raises(CniError) as refused:
        networks({NETWORKS: text}, "web")
    assert refused.value.code == Code.INVALID_NETWORK_CONFIG
    assert f'item {item} of annotation "{NETWORKS}"' in refused.value.msg
    assert reason in refused.value.why


FULL = {
    "name": "a",
    "namespace": "ns",
    "interface": "rail0",
    "ips": ["10.1.0.5/24", "fd00::5"],
    "mac": "02-00-00-00-00-01",
    "infiniband-guid": "02:00:00:00:00:00:00:01",
    "portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp", "hostIP": "10.0.0.1"}],
    "bandwidth": {"ingressRate": 1000, "ingressBurst": 10},
    "default-route": ["10.1.0.1", "fd00::1"],
    "cni-args": {"any": {"thing": [1, None]}},
    "deviceID": "0000:af:06.1",
}


def test_the_json_form_with_every_key() -> None:
    assert parsed(json.dumps([FULL])) == [
        {
            "name": "a",
            "namespace": "ns",
            "interface": "rail0",
            "ips": ("10.1.0.5/24", "fd00::5"),
            "mac": "02-00-00-00-00-01",
            "infiniband_guid": "02:00:00:00:00:00:00:01",
            "port_mappings": (
                {"hostPort": 80, "containerPort": 8080, "protocol": "tcp", "hostIP": "10.0.0.1"},
            ),
            "bandwidth": {"ingressRate": 1000, "ingressBurst": 10, "egressRate": 0, "egressBurst": 0},
            "default_route": ("10.1.0.1", "fd00::1"),
            "cni_args": {"any": {"thing": [1, None]}},
            "device_id": "0000:af:06.1",
        }
    ]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        pytest.param({}, {}, id="a-name-is-enough"),
        pytest.param({"interfaceRequest": "old"}, {"interface": "old"}, id="the-old-spelling"),
        pytest.param(
            {"interfaceRequest": "old", "interface": "new"}, {"interface": "new"}, id="the-new-one-counts"
        ),
        pytest.param({"NAMESPACE": "x"}, {"namespace": "x"}, id="keys-have-any-case"),
        pytest.param({"ips": None, "mac": None, "default-route": None}, {}, id="null-is-absent"),
        pytest.param({"ips": [], "mac": "", "cni-args": {}}, {}, id="empty-is-absent"),
        pytest.param({"unknown": 1, "x.io/y": 2}, {}, id="unknown-keys-mean-nothing"),
        pytest.param({"mac": "0200.0000.0001"}, {"mac": "0200.0000.0001"}, id="a-mac-in-quads"),
        pytest.param({"ipam-claim-reference": "c"}, {}, id="a-claim-is-the-ipam-plugins"),
    ],
)
def test_the_json_form(item: dict[str, Any], expected: dict[str, Any]) -> None:
    assert parsed(json.dumps([{"name": "a"} | item])) == [{"name": "a", "namespace": "web"} | expected]


def test_an_empty_default_route_is_asked_for_unlike_an_absent_one() -> None:
    (asked,) = networks({NETWORKS: '[{"name":"a","default-route":[]}]'}, "web")
    (absent,) = networks({NETWORKS: '[{"name":"a"}]'}, "web")
    assert (asked.default_route, absent.default_route) == ((), None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param('[{"name":"a"', "is not valid JSON", id="cut-off"),
        pytest.param('{"name":"a"}', "is a JSON object, not an array", id="one-object"),
        pytest.param('"a"', "is a JSON string, not an array", id="a-string"),
        pytest.param("[null]", "item 1 of annotation", id="null"),
        pytest.param('[{"name":"a"},5]', "item 2 of annotation", id="a-number"),
        pytest.param('["a"]', "is a JSON string, not an object", id="a-list-of-strings"),
        pytest.param('[{"namespace":"a"}]', "name: is missing", id="no-name"),
        pytest.param('[{"name":""}]', "It names no network", id="an-empty-name"),
        pytest.param('[{"name":5}]', "name: must be a string", id="a-name-of-another-type"),
        pytest.param('[{"name":"a","ips":"10.1.0.5"}]', "ips: must be a list", id="the-form-before-3.2"),
        pytest.param('[{"name":"a","ips":["10.1.0.300"]}]', '"10.1.0.300" is not an IP', id="no-address"),
        pytest.param('[{"name":"a","ips":["fe80::1%eth0"]}]', "fe80::1%eth0", id="an-address-with-a-zone"),
        pytest.param('[{"name":"a","ips":["10.1.0.1/255.255.255.0"]}]', "255.255.255.0", id="a-netmask"),
        pytest.param('[{"name":"a","ips":["010.1.0.1"]}]', "010.1.0.1", id="a-leading-zero"),
        pytest.param('[{"name":"a","ips":[5]}]', "ips[0]", id="an-address-that-is-a-number"),
        pytest.param('[{"name":"a","mac":"02:00"}]', '"02:00" is not a MAC', id="a-short-mac"),
        pytest.param('[{"name":"a","mac":5}]', "mac: must be a string", id="a-mac-that-is-a-number"),
        pytest.param(
            '[{"name":"a","infiniband-guid":"02:00:00:00:00:01"}]', "8 bytes of a GUID", id="a-short-guid"
        ),
        pytest.param(
            '[{"name":"a","portMappings":[{"hostPort":80}]}]', "containerPort: is missing", id="half"
        ),
        pytest.param(
            '[{"name":"a","portMappings":[{"hostPort":0,"containerPort":80}]}]', "hostPort", id="port-zero"
        ),
        pytest.param(
            '[{"name":"a","portMappings":[{"hostPort":1.5,"containerPort":80}]}]', "hostPort", id="a-fraction"
        ),
        pytest.param(
            '[{"name":"a","bandwidth":{"ingressBurst":1}}]', '"ingressBurst" needs "ingressRate"', id="burst"
        ),
        pytest.param('[{"name":"a","bandwidth":{"egressRate":-1}}]', "egressRate", id="a-negative-rate"),
        pytest.param('[{"name":"a","default-route":"10.1.0.1"}]', "must be a list", id="a-route-as-a-string"),
        pytest.param('[{"name":"a","default-route":["10.1.0.0/24"]}]', "10.1.0.0/24", id="a-route-to-a-cidr"),
        pytest.param('[{"name":"a","cni-args":[]}]', "cni-args: must be an object", id="arguments-in-a-list"),
        pytest.param('[{"name":"a","interface":"a/b"}]', "directory", id="an-interface-with-a-slash"),
        pytest.param(
            '[{"name":"a","ips":["10.1.0.5"],"ipam-claim-reference":"c"}]',
            "exclude",
            id="addresses-and-a-claim",
        ),
        pytest.param('[{"name":"a","mac":"NaN"},NaN]', "is not valid JSON", id="no-number"),
    ],
)
def test_what_the_json_form_does_not_have_is_refused_with_the_part(text: str, told: str) -> None:
    with pytest.raises(CniError) as refused:
        networks({NETWORKS: text}, "web")
    assert refused.value.code == Code.INVALID_NETWORK_CONFIG
    if told == "directory":
        told = 'holds "/"'
    assert told in f"{refused.value.msg} {refused.value.why}"
    assert NETWORKS in refused.value.msg


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a", ("kube-system", "a"), id="short"),
        pytest.param("ns/a", ("ns", "a"), id="with-a-namespace"),
        pytest.param('[{"name":"a","namespace":"ns"}]', ("ns", "a"), id="json"),
    ],
)
def test_the_default_network_may_be_replaced(text: str, expected: tuple[str, str]) -> None:
    found = default_network({DEFAULT_NETWORK: text}, "kube-system")
    assert found is not None
    assert (found.namespace, found.name) == expected


@pytest.mark.parametrize("text", ["a,b", "[]", '[{"name":"a"},{"name":"b"}]'])
def test_the_default_network_is_exactly_one(text: str) -> None:
    with pytest.raises(CniError, match=r"names [02] networks"):
        default_network({DEFAULT_NETWORK: text}, "kube-system")


def verdict(text: str) -> CniError | None:
    try:
        assert all(each.name and each.namespace for each in networks({NETWORKS: text}, "web"))
    except CniError as error:
        return error
    return None


@given(st.text(alphabet='[]{}",:/@ abn0.-\\n\u00e4', max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    error = verdict(text)
    assert error is None or (error.code == Code.INVALID_NETWORK_CONFIG and NETWORKS in error.msg)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(FULL)), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(JSON)
def test_any_json_is_read_or_refused(document: Any) -> None:
    error = verdict(json.dumps(document))
    assert error is None or error.code == Code.INVALID_NETWORK_CONFIG
