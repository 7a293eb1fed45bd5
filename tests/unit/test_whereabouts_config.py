"""The `ipam` section of whereabouts: every key, what is refused with its path, what a flat file adds."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest

from cni.protocol.errors import CniError, InvalidConfig
from ipam import config
from ipam.config import WhereaboutsConf, searched, seconds, with_flat_file

FlatFile = Callable[[Any], Path]


def network(**ipam: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "rail", "ipam": {"type": "whereabouts", **ipam}}


def parsed(**ipam: Any) -> WhereaboutsConf:
    return WhereaboutsConf.parse(network(**ipam))


def allowed(conf: WhereaboutsConf) -> list[str]:
    """The ranges as `first-last` with the paths that they have in the configuration."""
    return [f"{each.path} {each.address(each.first)}-{each.address(each.last)}" for each in conf.ranges()]


@pytest.fixture(autouse=True)
def no_flat_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No file of this machine counts; tests name theirs by `configuration_path`."""
    monkeypatch.setattr(config, "FLAT_FILES", (tmp_path / "absent",))


@pytest.fixture
def flat_file(tmp_path: Path) -> FlatFile:
    """Write a flat file and return where it is."""

    def write(content: Any) -> Path:
        path = tmp_path / "whereabouts.conf"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_every_key_is_read() -> None:
    conf = parsed(
        range="10.0.0.0/24",
        range_start="10.0.0.10",
        range_end="10.0.0.20",
        exclude=["10.0.0.12/31", "10.0.0.15"],
        ipRanges=[
            {"range": "fd00::/64", "range_start": "fd00::5", "range_end": "fd00::9", "exclude": ["fd00::7"]}
        ],
        gateway="10.0.0.1",
        routes=[{"dst": "10.9.0.0/16", "gw": "10.0.0.9", "mtu": 1300}],
        dns={"nameservers": ["10.0.0.53"], "domain": "rail"},
        addresses=[{"address": "192.0.2.5/24", "gateway": "192.0.2.1"}],
        network_name="blue",
        enable_overlapping_ranges=False,
        enable_l3=True,
        exclude_gateway=True,
        node_slice_size="/26",
        node_blocks=True,
        datastore="file",
        dataDir="/srv/addresses",
        kubernetes={"kubeconfig": "/etc/kubeconfig", "k8s_api_root": "https://10.0.0.1"},
        configuration_path="",
        log_file="/var/log/whereabouts.log",
        log_level="verbose",
        rest_time="30s",
        request_timeout="5s",
        total_timeout="1m",
    )
    ipam = conf.ipam
    assert allowed(conf) == ["ipam 10.0.0.10-10.0.0.20", "ipam.ipRanges[0] fd00::5-fd00::9"]
    assert [each.size for each in conf.ranges()] == [8, 4]
    assert ipam.gateway == ip_address("10.0.0.1")
    assert [route.to_json() for route in ipam.routes] == [
        {"dst": "10.9.0.0/16", "gw": "10.0.0.9", "mtu": 1300}
    ]
    assert ipam.dns.to_json() == {"nameservers": ["10.0.0.53"], "domain": "rail"}
    assert [(each.address, each.gateway) for each in ipam.addresses] == [
        (ip_interface("192.0.2.5/24"), ip_address("192.0.2.1"))
    ]
    assert (ipam.network_name, ipam.node_slice_size, ipam.node_blocks) == ("blue", 26, True)
    assert (ipam.enable_overlapping_ranges, ipam.enable_l3, ipam.exclude_gateway) == (False, True, True)
    assert (ipam.datastore, ipam.data_dir) == ("file", "/srv/addresses")
    assert ipam.kubernetes.kubeconfig == "/etc/kubeconfig"
    assert (ipam.log_file, ipam.log_level) == ("/var/log/whereabouts.log", "verbose")
    assert (ipam.rest_time, ipam.request_timeout, ipam.total_timeout) == (30, 5, 60)


def test_defaults() -> None:
    ipam = parsed(range="10.0.0.0/24").ipam
    assert ipam.enable_overlapping_ranges
    assert (ipam.network_name, ipam.exclude, ipam.ip_ranges, ipam.addresses, ipam.routes) == (
        "",
        (),
        (),
        (),
        (),
    )
    assert (ipam.gateway, ipam.node_slice_size, ipam.datastore, ipam.data_dir) == (None, None, None, None)
    assert (ipam.rest_time, ipam.request_timeout, ipam.total_timeout) == (0, 10, 40)


@pytest.mark.parametrize(
    "ipam",
    [
        pytest.param({"RANGE": "10.0.0.0/24", "Range_Start": "10.0.0.9"}, id="whatever-the-case-of-the-keys"),
        pytest.param(
            {"range": "10.0.0.0/24", "range_start": "10.0.0.9", "range_end": ""}, id="empty-text-is-absent"
        ),
        pytest.param(
            {
                "range": "10.0.0.0/24",
                "range_start": "10.0.0.9",
                "range_end": None,
                "exclude": None,
                "ipRanges": None,
            },
            id="null-is-absent",
        ),
    ],
)
def test_keys_are_read_as_go_reads_them(ipam: dict[str, Any]) -> None:
    assert allowed(parsed(**ipam)) == ["ipam 10.0.0.9-10.0.0.254"]


def test_range_comes_before_ip_ranges_and_its_exclusions_are_its_own() -> None:
    conf = parsed(
        range="10.0.0.0/29",
        exclude=["10.0.0.1"],
        ipRanges=[{"range": "10.0.0.0/29"}, {"range": "10.1.0.0/29"}],
    )
    assert [each.path for each in conf.ranges()] == ["ipam", "ipam.ipRanges[0]", "ipam.ipRanges[1]"]
    assert [each.size for each in conf.ranges()] == [5, 6, 6]


def test_the_gateway_is_kept_back_where_that_is_asked_for() -> None:
    conf = parsed(
        ipRanges=[{"range": "10.0.0.0/29"}, {"range": "fd00::/125"}], gateway="10.0.0.3", exclude_gateway=True
    )
    assert [each.size for each in conf.ranges()] == [5, 6]
    assert [each.size for each in parsed(range="10.0.0.0/29", gateway="10.0.0.3").ranges()] == [6]


def test_a_gateway_may_have_leading_zeros() -> None:
    assert parsed(range="10.0.0.0/24", gateway="010.000.0.01").ipam.gateway == ip_address("10.0.0.1")


@pytest.mark.parametrize(
    ("ipam", "path"),
    [
        pytest.param({"range": 5}, "ipam.range", id="a-range-that-is-a-number"),
        pytest.param({"range_start": ["10.0.0.1"]}, "ipam.range_start", id="a-bound-that-is-a-list"),
        pytest.param({"exclude": "10.0.0.1"}, "ipam.exclude", id="exclusions-that-are-text"),
        pytest.param({"exclude": ["10.0.0.1", 5]}, "ipam.exclude[1]", id="an-exclusion-that-is-a-number"),
        pytest.param({"ipRanges": {}}, "ipam.ipRanges", id="ranges-that-are-an-object"),
        pytest.param({"ipRanges": ["10.0.0.0/24"]}, "ipam.ipRanges[0]", id="a-range-that-is-text"),
        pytest.param(
            {"ipRanges": [{"range": 5}]}, "ipam.ipRanges[0].range", id="a-numeric-range-in-the-list"
        ),
        pytest.param({"gateway": "10.0.0"}, "ipam.gateway", id="an-unreadable-gateway"),
        pytest.param({"gateway": 5}, "ipam.gateway", id="a-gateway-that-is-a-number"),
        pytest.param({"routes": [{"gw": "10.0.0.1"}]}, "ipam.routes[0].dst", id="a-route-to-nowhere"),
        pytest.param({"dns": []}, "ipam.dns", id="dns-that-is-a-list"),
        pytest.param(
            {"addresses": [{"address": "10.0.0.5"}]}, "ipam.addresses[0].address", id="no-prefix-length"
        ),
        pytest.param({"network_name": "Blue"}, "ipam.network_name", id="a-network-name-with-a-capital"),
        pytest.param(
            {"network_name": "-blue"}, "ipam.network_name", id="a-network-name-that-begins-with-a-dash"
        ),
        pytest.param({"network_name": "../blue"}, "ipam.network_name", id="a-network-name-that-is-a-path"),
        pytest.param({"network_name": 5}, "ipam.network_name", id="a-network-name-that-is-a-number"),
        pytest.param(
            {"enable_overlapping_ranges": "no"}, "ipam.enable_overlapping_ranges", id="a-flag-that-is-text"
        ),
        pytest.param({"node_slice_size": "/x"}, "ipam.node_slice_size", id="a-slice-size-that-is-none"),
        pytest.param({"node_slice_size": True}, "ipam.node_slice_size", id="a-slice-size-that-is-a-flag"),
        pytest.param({"dataDir": 5}, "ipam.dataDir", id="a-data-directory-that-is-a-number"),
        pytest.param(
            {"dataDir": "addresses"}, "ipam.dataDir", id="a-data-directory-that-depends-on-where-one-stands"
        ),
        pytest.param({"kubernetes": "x"}, "ipam.kubernetes", id="kubernetes-that-is-text"),
        pytest.param(
            {"kubernetes": {"kubeconfig": 5}}, "ipam.kubernetes.kubeconfig", id="a-numeric-kubeconfig"
        ),
        pytest.param({"rest_time": "soon"}, "ipam.rest_time", id="a-rest-time-that-is-none"),
        pytest.param({"rest_time": -1}, "ipam.rest_time", id="a-negative-rest-time"),
        pytest.param({"log_file": 5}, "ipam.log_file", id="a-log-file-that-is-a-number"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_path(ipam: dict[str, Any], path: str) -> None:
    with pytest.raises(CniError) as caught:
        parsed(**ipam)
    assert caught.value.code == 7
    assert f'"{path}"' in caught.value.msg


@pytest.mark.parametrize(
    ("ipam", "path"),
    [
        pytest.param({"range": "10.0.0.0"}, "ipam.range", id="a-range-without-prefix-length"),
        pytest.param({"range": "10.0.0.9-10.0.1.9/24"}, "ipam.range", id="a-span-across-networks"),
        pytest.param({"ipRanges": [{"range": "10.0.0.0/33"}]}, "ipam.ipRanges[0].range", id="in-the-list"),
        pytest.param(
            {"ipRanges": [{"range_start": "10.0.0.1"}]}, "ipam.ipRanges[0].range", id="an-entry-without-range"
        ),
        pytest.param(
            {"ipRanges": [{"range": "10.0.0.0/24", "range_start": "x"}]},
            "ipam.ipRanges[0].range_start",
            id="an-unreadable-start-in-the-list",
        ),
        pytest.param(
            {"ipRanges": [{"range": "10.0.0.0/24", "range_end": "10.0.0.5/24"}]},
            "ipam.ipRanges[0].range_end",
            id="an-end-with-prefix-length-in-the-list",
        ),
    ],
)
def test_a_range_that_can_never_work_is_refused_with_its_path(ipam: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        parsed(**ipam).ranges()
    assert caught.value.code == 7
    assert f'"{path}"' in caught.value.msg


def test_every_bad_key_is_named_at_once() -> None:
    with pytest.raises(CniError) as caught:
        parsed(gateway="x", network_name="Blue", exclude=[5])
    for path in ("ipam.gateway", "ipam.network_name", "ipam.exclude[0]"):
        assert path in caught.value.msg


@pytest.mark.parametrize("kind", ["host-local", "Whereabouts", "", None])
def test_another_plugins_section_is_refused(kind: str | None) -> None:
    with pytest.raises(InvalidConfig, match=r"ipam\.type"):
        WhereaboutsConf.parse({"name": "rail", "ipam": {"type": kind, "range": "10.0.0.0/24"}})


@pytest.mark.parametrize(
    "raw", [{"name": "rail"}, {"name": "rail", "ipam": []}, {"name": "rail", "ipam": "x"}]
)
def test_no_section_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(CniError, match='"ipam"') as caught:
        WhereaboutsConf.parse(raw)
    assert caught.value.code == 7


def test_keys_of_no_effect_are_told() -> None:
    ipam = parsed(
        range="10.0.0.0/24",
        leader_lease_duration=1500,
        etcd_host="10.0.0.1",
        sleep_for_race=1,
        log_level="debug",
    ).ipam
    assert set(ipam.ignored()) == {"leader_lease_duration", "etcd_host", "sleep_for_race"}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (30, 30.0),
        (0.5, 0.5),
        ("30", 30.0),
        ("30s", 30.0),
        ("500ms", 0.5),
        ("2m", 120.0),
        ("1.5h", 5400.0),
        ("0", 0),
    ],
)
def test_durations(written: Any, read: float) -> None:
    assert seconds(written) == read


@pytest.mark.parametrize("written", ["", "s", "-1s", "1 s", "1d", True, None, [], -1, 1e300, float("nan")])
def test_what_is_no_duration_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(written)


# -- the flat file --------------------------------------------------------------------------------


def merged(raw: dict[str, Any]) -> dict[str, Any]:
    ipam: dict[str, Any] = with_flat_file(raw)["ipam"]
    return ipam


@pytest.mark.parametrize(
    ("below", "above", "expected"),
    [
        pytest.param({"gateway": "10.0.0.1"}, {}, {"gateway": "10.0.0.1"}, id="what-is-lacking-is-taken"),
        pytest.param(
            {"gateway": "10.0.0.1"}, {"gateway": "10.0.0.2"}, {"gateway": "10.0.0.2"}, id="the-network-s-wins"
        ),
        pytest.param(
            {"gateway": "10.0.0.1"}, {"gateway": ""}, {"gateway": "10.0.0.1"}, id="unless-it-is-empty"
        ),
        pytest.param({"gateway": "10.0.0.1"}, {"gateway": None}, {"gateway": "10.0.0.1"}, id="or-null"),
        pytest.param(
            {"Gateway": "10.0.0.1"}, {"GATEWAY": "10.0.0.2"}, {"GATEWAY": "10.0.0.2"}, id="whatever-the-case"
        ),
        pytest.param(
            {"kubernetes": {"kubeconfig": "/a", "k8s_api_root": "x"}},
            {"kubernetes": {"kubeconfig": "/b"}},
            {"kubernetes": {"kubeconfig": "/b", "k8s_api_root": "x"}},
            id="objects-are-merged",
        ),
        pytest.param(
            {"exclude": ["a", "b"]}, {"exclude": ["c"]}, {"exclude": ["c"]}, id="lists-are-taken-whole"
        ),
        pytest.param({"exclude": ["a"]}, {"exclude": []}, {"exclude": ["a"]}, id="an-empty-list-is-empty"),
        pytest.param(
            {"enable_overlapping_ranges": True},
            {"enable_overlapping_ranges": False},
            {"enable_overlapping_ranges": False},
            id="false-is-said-and-not-empty",
        ),
        pytest.param(
            {"enable_overlapping_ranges": False},
            {},
            {"enable_overlapping_ranges": False},
            id="the-file-s-flag-counts",
        ),
        pytest.param(
            {"range": "10.0.0.0/24"},
            {"ipRanges": [{"range": "fd00::/64"}]},
            {"range": "10.0.0.0/24", "ipRanges": [{"range": "fd00::/64"}]},
            id="a-range-here-and-ranges-there-give-both",
        ),
    ],
)
def test_a_flat_file_adds_what_is_lacking(
    flat_file: FlatFile, below: dict[str, Any], above: dict[str, Any], expected: dict[str, Any]
) -> None:
    path = str(flat_file(below))
    assert merged(network(configuration_path=path, **above)) == {
        "type": "whereabouts",
        "configuration_path": path,
        **expected,
    }


def test_a_flat_file_may_bring_all_but_where_it_is(flat_file: FlatFile) -> None:
    path = flat_file({"type": "whereabouts", "range": "10.0.0.0/29"})
    raw = {"name": "rail", "IPAM": {"configuration_path": str(path)}}
    assert allowed(WhereaboutsConf.parse(raw)) == ["ipam 10.0.0.1-10.0.0.6"]


@pytest.mark.parametrize("content", ["", "[]", "{", "null", '"text"'])
def test_a_flat_file_that_is_no_object_is_an_error_that_names_it(flat_file: FlatFile, content: str) -> None:
    path = flat_file(content)
    with pytest.raises(CniError, match=str(path)) as caught:
        with_flat_file(network(configuration_path=str(path)))
    assert caught.value.code == 6


def test_without_any_flat_file_the_configuration_is_complete(tmp_path: Path) -> None:
    raw = network(range="10.0.0.0/24", configuration_path=str(tmp_path / "nowhere"))
    assert merged(raw) == raw["ipam"]


def test_where_a_flat_file_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    assert [str(path) for path in searched({"configuration_path": "/srv/flat.conf"})] == [
        "/srv/flat.conf",
        "/etc/kubernetes/cni/net.d/whereabouts.d/whereabouts.conf",
        "/etc/cni/net.d/whereabouts.d/whereabouts.conf",
        "/host/etc/cni/net.d/whereabouts.d/whereabouts.conf",
        "/var/lib/rancher/k3s/agent/etc/cni/net.d/whereabouts.d/whereabouts.conf",
        "/var/lib/rancher/rke2/agent/etc/cni/net.d/whereabouts.d/whereabouts.conf",
    ]
    assert searched({"configuration_path": str(tmp_path)})[0] == tmp_path / "whereabouts.conf"
    assert searched({}) == searched({"configuration_path": ""}) == searched({"configuration_path": "/x"})[1:]
