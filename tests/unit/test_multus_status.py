"""network-status: what becomes of results of every kind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni.plugins.multus.status import Attached, annotation, entries_of
from cni.protocol.result import Result

SANDBOX = {"sandbox": "/run/netns/pod"}
V4, V6 = {"address": "10.1.0.5/24"}, {"address": "fd00::5/64"}


def entries(result: dict[str, Any], *, is_default: bool = False) -> list[dict[str, Any]]:
    parsed = Result.parse(result, "1.1.0", "the result")
    return entries_of(Attached("ns/a", "net1", is_default, parsed))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        pytest.param(
            {"interfaces": [{"name": "net1", "mac": "02:00:00:00:00:01", **SANDBOX}], "ips": [V4, V6]},
            [{"interface": "net1", "mac": "02:00:00:00:00:01", "ips": ["10.1.0.5", "fd00::5"]}],
            id="one-interface-has-all-addresses",
        ),
        pytest.param(
            {"interfaces": [{"name": "net1", "mtu": 1400, **SANDBOX}]},
            [{"interface": "net1", "mtu": 1400}],
            id="what-is-empty-is-left-out",
        ),
        pytest.param(
            {"interfaces": [{"name": "cni0"}, {"name": "veth0"}, {"name": "net1", **SANDBOX}], "ips": [V4]},
            [{"interface": "net1", "ips": ["10.1.0.5"]}],
            id="interfaces-of-the-host-are-left-out",
        ),
        pytest.param(
            {
                "interfaces": [{"name": "br0"}, {"name": "a", **SANDBOX}, {"name": "b", **SANDBOX}],
                "ips": [{"interface": 2, **V4}, {"interface": 1, **V6}, {"address": "10.2.0.5/24"}],
            },
            [
                {"interface": "a", "ips": ["fd00::5"]},
                {"interface": "b", "ips": ["10.1.0.5", "10.2.0.5"]},
            ],
            id="several-have-theirs-and-the-last-has-what-names-none",
        ),
        pytest.param({"ips": [V4]}, [{"interface": "net1", "ips": ["10.1.0.5"]}], id="no-interface-is-told"),
        pytest.param(
            {"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/24"}},
            [{"interface": "net1", "ips": ["10.1.0.5"]}],
            id="a-result-of-old",
        ),
        pytest.param({}, [{"interface": "net1"}], id="an-empty-result"),
        pytest.param(
            {
                "interfaces": [{"name": "net1", **SANDBOX}],
                "ips": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00::1"}, {"dst": "10.0.0.0/8"}],
            },
            [{"interface": "net1", "ips": ["10.1.0.5"], "gateway": ["10.1.0.1", "fd00::1"]}],
            id="gateways-of-default-routes-alone",
        ),
        pytest.param(
            {"interfaces": [{"name": "net1", **SANDBOX}], "routes": [{"dst": "0.0.0.0/0"}]},
            [{"interface": "net1"}],
            id="a-default-route-without-any-gateway",
        ),
        pytest.param(
            {
                "interfaces": [{"name": "net1", **SANDBOX}],
                "dns": {"nameservers": ["10.0.0.1"], "domain": "d", "search": ["s"], "options": ["o"]},
            },
            [
                {
                    "interface": "net1",
                    "dns": {"nameservers": ["10.0.0.1"], "domain": "d", "search": ["s"], "options": ["o"]},
                }
            ],
            id="name-servers",
        ),
    ],
)
def test_entries_of_a_result(result: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    assert entries(result) == [{"name": "ns/a", "dns": {}} | entry for entry in expected]


@pytest.mark.parametrize(
    ("ips", "expected"),
    [
        pytest.param([], [True, False], id="the-first-by-itself"),
        pytest.param(
            [{"interface": 1, "address": "10.1.0.5/24", "gateway": "10.1.0.1"}],
            [False, True],
            id="the-one-with-a-gateway",
        ),
    ],
)
def test_of_the_default_network_one_interface_is_the_default(
    ips: list[dict[str, Any]], expected: list[bool]
) -> None:
    result = {"interfaces": [{"name": "a", **SANDBOX}, {"name": "b", **SANDBOX}], "ips": ips}
    assert [entry.get("default", False) for entry in entries(result, is_default=True)] == expected
    assert [entry.get("default", False) for entry in entries(result)] == [False, False]


def test_the_annotation_escapes_what_go_escapes() -> None:
    attached = Attached("ns/a", "net1", False, Result(), {"path": "<a&b>", "\u00e4": []})
    text = annotation([attached, attached])
    assert text.count('"path": "\\u003ca\\u0026b\\u003e"') == 2
    assert "\u00e4" in text
    assert [entry["device-info"]["path"] for entry in json.loads(text)] == ["<a&b>", "<a&b>"]
    assert "},{\n" in text
