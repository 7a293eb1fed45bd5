"""whereabouts on the file store, as a runtime and an administrator meet it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipam.config import DIRECTORIES
from tests.support.world import Answer, Namespace, WarmWorld, World, run

VERSIONS_WITH_IPS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
POD = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID=u"


@pytest.fixture
def world(host: Namespace, sandbox: Namespace, tmp_path: Path) -> World:
    return WarmWorld(host, sandbox, tmp_path / "state")


def network(range_: str = "10.1.0.0/29", **ipam: Any) -> dict[str, Any]:
    """The configuration of a macvlan, which whereabouts gets as it is."""
    section = {"type": "whereabouts", "datastore": "file", "range": range_, **ipam}
    section = {key: value for key, value in section.items() if value != ""}
    return {"cniVersion": "1.0.0", "name": "rail", "type": "macvlan", "master": "eth0", "ipam": section}


def call(world: World, command: str, conf: dict[str, Any], pod: str = "", **variables: str) -> Answer:
    """Call whereabouts for a pod, whose container is named after it, or for the world's own container."""
    if pod:
        container = variables.setdefault("CNI_CONTAINERID", f"{pod}-1")
        variables.setdefault("CNI_ARGS", POD.format(pod, container))
    return world.call(command, conf, plugin="whereabouts", **variables)


def add(world: World, conf: dict[str, Any], pod: str = "", **variables: str) -> dict[str, Any]:
    answer = call(world, "ADD", conf, pod, **variables)
    assert answer.status == 0, answer
    return answer.json


def given(world: World, conf: dict[str, Any], pod: str = "", **variables: str) -> list[str]:
    """The addresses that ADD gives, each with its gateway as in `10.1.0.5/24 via 10.1.0.1`."""
    ips = add(world, conf, pod, **variables).get("ips", [])
    return [" via ".join(filter(None, (ip["address"], ip.get("gateway")))) for ip in ips]


def delete(world: World, conf: dict[str, Any], pod: str = "", **variables: str) -> Answer:
    answer = call(world, "DEL", conf, pod, **variables)
    assert (answer.status, answer.stdout) == (0, ""), answer
    return answer


def refused(
    world: World, command: str, conf: dict[str, Any], pod: str = "", **variables: str
) -> dict[str, Any]:
    answer = call(world, command, conf, pod, **variables)
    assert answer.status == 1, answer
    assert "Traceback" not in answer.stderr, answer
    return answer.json


def store(world: World) -> Path:
    return world.state / "ipam"


def entries(world: World) -> list[str]:
    """The addresses that are held, in all pools."""
    return sorted(path.name for path in store(world).glob("pools/*/addresses/*/*"))


# -- the result -----------------------------------------------------------------------------------

EVERYTHING: dict[str, Any] = {
    "range_start": "10.1.0.3",
    "gateway": "10.1.0.1",
    "ipRanges": [{"range": "fd00::/64"}],
    "addresses": [{"address": "192.0.2.5/24", "gateway": "192.0.2.1"}],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9", "mtu": 1300}],
    "dns": {"nameservers": ["10.1.0.53"], "domain": "rail", "search": ["a.rail"], "options": ["ndots:2"]},
}


@pytest.mark.parametrize("version", VERSIONS_WITH_IPS)
def test_result_has_the_shape_of_the_configurations_version(world: World, version: str) -> None:
    families = ({"version": "4"}, {"version": "6"}) if version < "1" else ({}, {})
    assert add(world, network(**EVERYTHING) | {"cniVersion": version}) == {
        "cniVersion": version,
        "ips": [
            {"address": "10.1.0.3/29", "gateway": "10.1.0.1"} | families[0],
            {"address": "fd00::1/64"} | families[1],
            {"address": "192.0.2.5/24", "gateway": "192.0.2.1"} | families[0],
        ],
        "routes": EVERYTHING["routes"],
        "dns": EVERYTHING["dns"],
    }


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", ""])
def test_result_of_old_versions_has_a_block_for_each_family(world: World, version: str) -> None:
    conf = network(gateway="10.1.0.1", ipRanges=[{"range": "fd00::/64"}]) | {"cniVersion": version}
    assert add(world, conf) == {
        "cniVersion": version or "0.1.0",
        "ip4": {"ip": "10.1.0.2/29", "gateway": "10.1.0.1"} | {"ip": "10.1.0.1/29"},
        "ip6": {"ip": "fd00::1/64"},
        "dns": {},
    }


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_old_versions_have_room_for_one_address_of_a_family(world: World, version: str) -> None:
    conf = network(ipRanges=[{"range": "10.2.0.0/29"}]) | {"cniVersion": version}
    error = refused(world, "ADD", conf)
    assert error["code"] == 7
    assert version in error["msg"]
    assert world.records() == []


@pytest.mark.parametrize(
    ("ipam", "expected"),
    [
        pytest.param({"range_": "10.1.0.6/31"}, ["10.1.0.6/31", "10.1.0.7/31"], id="a-31-gives-both"),
        pytest.param({"range_": "10.1.0.6/32"}, ["10.1.0.6/32"], id="a-32-gives-its-one"),
        pytest.param({"range_": "fd00::2/127"}, ["fd00::2/127", "fd00::3/127"], id="a-127-gives-both"),
        pytest.param({"range_": "fd00::2/128"}, ["fd00::2/128"], id="a-128-gives-its-one"),
        pytest.param({"range_": "10.0.0.0/8"}, ["10.0.0.1/8", "10.0.0.2/8"], id="an-8"),
        pytest.param({"range_": "fd00::/64"}, ["fd00::1/64", "fd00::2/64"], id="a-64"),
        pytest.param(
            {"range_": "fd00::ffff:ffff:ffff:fffd-fd00::ffff:ffff:ffff:fffe/64"},
            ["fd00::ffff:ffff:ffff:fffd/64", "fd00::ffff:ffff:ffff:fffe/64"],
            id="the-end-of-a-64",
        ),
        pytest.param(
            {"range_": "010.001.000.005-010.1.0.06/24"},
            ["10.1.0.5/24", "10.1.0.6/24"],
            id="a-span-with-zeros",
        ),
        pytest.param(
            {"exclude": ["10.1.0.0/30", "10.1.0.5"]},
            ["10.1.0.4/29", "10.1.0.6/29"],
            id="not-what-is-excluded",
        ),
        pytest.param(
            {"range_start": "10.1.0.4", "range_end": "10.1.0.5"},
            ["10.1.0.4/29", "10.1.0.5/29"],
            id="within-bounds",
        ),
        pytest.param(
            {"gateway": "10.1.0.2", "exclude_gateway": True, "range_end": "10.1.0.3"},
            ["10.1.0.1/29 via 10.1.0.2", "10.1.0.3/29 via 10.1.0.2"],
            id="not-a-gateway-that-is-kept-back",
        ),
        pytest.param(
            {"range_": "10.1.0.0/30", "enable_l3": True},
            ["10.1.0.0/30", "10.1.0.1/30", "10.1.0.2/30", "10.1.0.3/30"],
            id="the-edges-where-they-are-asked-for",
        ),
    ],
)
def test_addresses_are_given_lowest_first_until_none_is_left(
    world: World, ipam: dict[str, Any], expected: list[str]
) -> None:
    conf = network(**ipam)
    assert [given(world, conf, f"web-{number}") for number in range(len(expected))] == [
        [each] for each in expected
    ]
    if not expected[0].endswith(("/8", "1/64")):
        assert refused(world, "ADD", conf, "late")["code"] == 100


def test_gateway_is_told_with_addresses_of_its_family(world: World) -> None:
    conf = network(gateway="fd00::ff", ipRanges=[{"range": "fd00::/64"}])
    assert given(world, conf) == ["10.1.0.1/29", "fd00::1/64 via fd00::ff"]


def test_range_comes_before_ip_ranges(world: World) -> None:
    conf = network(ipRanges=[{"range": "10.2.0.0/29", "range_start": "10.2.0.4"}, {"range": "10.3.0.0/29"}])
    assert given(world, conf) == ["10.1.0.1/29", "10.2.0.4/29", "10.3.0.1/29"]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param({"range": "10.1.0.0/28"}, "10.1.0.2/28", id="one-that-overlaps"),
        pytest.param({"range": "10.1.0.0/29"}, "10.1.0.2/29", id="the-same-again"),
        pytest.param({"range": "10.1.0.0/29", "range_start": "10.1.0.5"}, "10.1.0.5/29", id="another-part"),
    ],
)
@pytest.mark.parametrize("unique", [True, False])
def test_two_ranges_of_one_attachment_give_two_addresses(
    world: World, second: dict[str, str], expected: str, unique: bool
) -> None:
    conf = network(ipRanges=[second], enable_overlapping_ranges=unique)
    for _ in range(2):
        result = add(world, conf)
        assert [ip["address"] for ip in result["ips"]] == ["10.1.0.1/29", expected]
    assert call(world, "CHECK", conf | {"prevResult": result}).status == 0
    other = given(world, conf, "other")
    assert not set(other) & {"10.1.0.1/29", expected}
    delete(world, conf)
    delete(world, conf, "other")
    assert world.records() == []


def test_two_interfaces_of_a_pod_on_overlapping_networks_have_an_address_each(world: World) -> None:
    wide = network("10.1.0.0/24") | {"name": "wide"}
    assert given(world, network(), "web", CNI_IFNAME="net1") == ["10.1.0.1/29"]
    assert given(world, wide, "web", CNI_IFNAME="net2") == ["10.1.0.2/24"]
    delete(world, network(), "web", CNI_IFNAME="net1")
    assert given(world, wide, "db") == ["10.1.0.1/24"]
    assert given(world, network(), "web-2") == ["10.1.0.3/29"]


def test_overlapping_ranges_give_the_same_address_where_that_is_allowed(world: World) -> None:
    assert given(world, network("10.1.0.0/24"), "web") == ["10.1.0.1/24"]
    assert given(world, network(enable_overlapping_ranges=False), "db") == ["10.1.0.1/29"]
    assert given(world, network(network_name="blue"), "ml") == ["10.1.0.1/29"]


def test_networks_with_the_same_range_share_its_pool(world: World) -> None:
    assert given(world, network(), "web") == ["10.1.0.1/29"]
    assert given(world, network() | {"name": "other"}, "db") == ["10.1.0.2/29"]
    assert [path.name for path in store(world).glob("pools/*")] == ["10.1.0.0-29"]


# -- what the caller asks for ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        pytest.param("IP=10.7.0.5/24", ["10.7.0.5/24"], id="one"),
        pytest.param("IP=10.7.0.5/24,fd07::5/64", ["10.7.0.5/24", "fd07::5/64"], id="several"),
        pytest.param(
            "IP=10.7.0.5/24,fd07::5/64;GATEWAY=fd07::1,10.7.0.1",
            ["10.7.0.5/24 via 10.7.0.1", "fd07::5/64 via fd07::1"],
            id="gateways-go-where-they-fit",
        ),
        pytest.param("IP=10.1.0.1/29", ["10.1.0.1/29"], id="one-of-the-range-is-not-recorded"),
    ],
)
def test_ip_of_cni_args_is_added_beside_the_pools_address(
    world: World, args: str, expected: list[str]
) -> None:
    assert given(world, network(), CNI_ARGS=args) == ["10.1.0.1/29", *expected]
    assert entries(world) == ["10.1.0.1"]


def test_gateway_of_cni_args_goes_to_configured_addresses_too(world: World) -> None:
    conf = network(addresses=[{"address": "192.0.2.5/24", "gateway": "192.0.2.1"}])
    assert given(world, conf, CNI_ARGS="GATEWAY=192.0.2.9") == ["10.1.0.1/29", "192.0.2.5/24 via 192.0.2.9"]


@pytest.mark.parametrize(
    "args",
    [
        pytest.param("IP=10.7.0.5", id="an-address-without-prefix-length"),
        pytest.param("IP=mistake/24", id="no-address"),
        pytest.param("GATEWAY=10.7.0", id="no-gateway"),
        pytest.param("NOBODY=knows", id="an-unknown-key"),
        pytest.param("IP", id="no-pair"),
    ],
)
def test_bad_cni_args_are_refused_and_nothing_is_taken(world: World, args: str) -> None:
    assert refused(world, "ADD", network(), CNI_ARGS=args)["code"] == 4
    assert world.records() == []


def wanting(conf: dict[str, Any], *ips: str) -> dict[str, Any]:
    return conf | {"runtimeConfig": {"ips": list(ips)}}


@pytest.mark.parametrize("written", ["10.1.0.5", "10.1.0.5/29", "10.1.0.5/24"])
def test_a_requested_address_of_a_range_is_claimed_in_the_place_of_the_lowest(
    world: World, written: str
) -> None:
    conf = wanting(network(), written)
    assert given(world, conf, "web") == given(world, conf, "web") == ["10.1.0.5/29"]
    assert entries(world) == ["10.1.0.5"]
    error = refused(world, "ADD", conf, "db")
    assert error["code"] == 105
    assert "default/web net1 (container web-1)" in error["msg"]
    assert entries(world) == ["10.1.0.5"]
    delete(world, conf, "web")
    assert given(world, conf, "db") == ["10.1.0.5/29"]


def test_requested_addresses_go_each_to_its_range_and_others_are_added(world: World) -> None:
    conf = wanting(network(ipRanges=[{"range": "fd00::/64"}]), "fd00::9", "10.7.0.5/24", "10.1.0.2")
    assert given(world, conf) == ["10.1.0.2/29", "fd00::9/64", "10.7.0.5/24"]
    assert entries(world) == ["10.1.0.2", "fd00::9"]


def test_a_requested_address_that_overlaps_another_range_is_held_through_that(world: World) -> None:
    add(world, network("10.1.0.0/24"), "web")
    error = refused(world, "ADD", wanting(network(), "10.1.0.1"), "db")
    assert error["code"] == 105
    assert "default/web" in error["msg"]


@pytest.mark.parametrize(
    "ips",
    [
        pytest.param(["10.7.0.5"], id="outside-every-range-and-without-prefix-length"),
        pytest.param(["10.1.0.0"], id="the-network-address"),
        pytest.param(["10.1.0.7"], id="the-broadcast-address"),
        pytest.param(["10.1.0.2", "10.1.0.3"], id="two-of-one-range"),
        pytest.param(["mistake"], id="no-address"),
        pytest.param([5], id="a-number"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_with_its_path(world: World, ips: list[Any]) -> None:
    error = refused(world, "ADD", wanting(network(), *ips))
    assert error["code"] == 7
    assert "runtimeConfig.ips[" in error["msg"]
    assert world.records() == []


# -- the configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ipam", "parts"),
    [
        pytest.param(
            {"range_start": "10.9.0.1"},
            ["ipam.range_start", "10.9.0.1", "10.1.0.1 to 10.1.0.6", "10.1.0.0/29"],
            id="a-start-outside",
        ),
        pytest.param(
            {"range_start": "10.1.0.5", "range_end": "10.1.0.2"},
            ["ipam.range_end", "10.1.0.2", "10.1.0.5 to 10.1.0.6"],
            id="an-end-before-the-start",
        ),
        pytest.param(
            {"range_end": "mistake"}, ["ipam.range_end", "mistake"], id="a-bound-that-is-no-address"
        ),
        pytest.param(
            {"ipRanges": [{"range": "10.2.0.0/29", "range_end": "10.3.0.1"}]},
            ["ipam.ipRanges[0].range_end", "10.3.0.1"],
            id="a-bound-in-the-list",
        ),
        pytest.param(
            {"exclude": ["10.1.0.2", "10.9.0.0/30"]},
            ["ipam.exclude[1]", "10.9.0.0/30", "10.1.0.0/29"],
            id="an-exclusion-outside",
        ),
        pytest.param(
            {"ipRanges": [{"range": "fd00::/126", "exclude": ["10.1.0.2"]}]},
            ["ipam.ipRanges[0].exclude[0]", "10.1.0.2", "fd00::/126"],
            id="an-exclusion-of-another-family",
        ),
        pytest.param({"leader_lease_duration": 1500}, ["leader_lease_duration"], id="leader-election"),
        pytest.param({"rangestart": "10.1.0.2"}, ["ipam.rangestart", "range_start"], id="a-misspelt-key"),
    ],
)
def test_what_is_surely_a_mistake_is_warned_about_on_stderr(
    world: World, ipam: dict[str, Any], parts: list[str]
) -> None:
    answer = call(world, "ADD", network(**ipam))
    assert answer.status == 0, answer
    assert [part for part in parts if part not in answer.stderr] == []


def test_a_good_configuration_is_not_warned_about(world: World) -> None:
    assert call(world, "ADD", network(**EVERYTHING)).stderr == ""


@pytest.mark.parametrize(
    ("ipam", "path"),
    [
        pytest.param({"range_": "10.1.0.0"}, "ipam.range", id="no-prefix-length"),
        pytest.param({"range_": "10.1.0.0/33"}, "ipam.range", id="a-prefix-that-is-too-long"),
        pytest.param({"range_": "10.2.0.5-10.1.0.9/24"}, "ipam.range", id="a-span-that-begins-outside"),
        pytest.param({"ipRanges": [{}]}, "ipam.ipRanges[0].range", id="an-entry-without-range"),
        pytest.param({"exclude": ["10.1.0"]}, "ipam.exclude[0]", id="an-unreadable-exclusion"),
        pytest.param({"exclude": ["10.1.0.0/24"]}, "ipam.exclude", id="everything-is-excluded"),
        pytest.param({"gateway": "10.1"}, "ipam.gateway", id="an-unreadable-gateway"),
        pytest.param({"network_name": "Blue"}, "ipam.network_name", id="a-name-that-no-object-can-have"),
        pytest.param({"range_": ""}, "ipam.range", id="neither-range-nor-address"),
        pytest.param({"dataDir": "relative"}, "ipam.dataDir", id="a-relative-directory"),
        pytest.param({"type": "host-local"}, "ipam.type", id="another-plugins-section"),
    ],
)
def test_what_can_never_work_is_refused_with_its_path_and_nothing_is_taken(
    world: World, ipam: dict[str, Any], path: str
) -> None:
    error = refused(world, "ADD", network(**ipam))
    assert error["code"] == 7
    assert f'"{path}' in error["msg"]
    assert world.records() == []


def test_addresses_alone_are_enough_and_leave_nothing(world: World) -> None:
    assert given(world, network("", addresses=[{"address": "192.0.2.5/24"}])) == ["192.0.2.5/24"]
    assert world.records() == []


def test_data_dir_is_where_the_files_are(world: World, tmp_path: Path) -> None:
    conf = network(dataDir=str(tmp_path / "srv/addresses"))
    add(world, conf, "web")
    assert (tmp_path / "srv/addresses/pools/10.1.0.0-29/pool.json").exists()
    delete(world, conf, "web")
    assert not (tmp_path / "srv/addresses").exists()


def test_a_data_dir_that_changes_takes_the_attachment_along(world: World, tmp_path: Path) -> None:
    add(world, network(dataDir=str(tmp_path / "one")), "web")
    add(world, network(dataDir=str(tmp_path / "two")), "web")
    assert not (tmp_path / "one").exists()
    delete(world, network(dataDir=str(tmp_path / "three")), "web")
    assert not (tmp_path / "two").exists()
    assert world.records() == []


# -- the flat file and the lookup of a cluster ----------------------------------------------------


class Rooted:
    """The executable in a root directory of its own, whose /etc, /host and /var are empty at first."""

    def __init__(self, folder: Path, world: World) -> None:
        self.root, self.world = folder, world
        self.shared = [
            path for path in Path("/").iterdir() if path.is_dir() and path.name not in ("etc", "host", "var")
        ]
        for path in self.shared:
            (folder / path.name).mkdir(parents=True)
            run("mount", "--rbind", path.resolve(), folder / path.name)

    def close(self) -> None:
        for path in self.shared:
            run("umount", "--lazy", self.root / path.name)

    def write(self, path: str, **ipam: Any) -> Path:
        """Write a flat file and return where it is, seen from outside."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(ipam))
        return place

    def call(self, command: str, conf: dict[str, Any], pod: str = "") -> Answer:
        args = {"CNI_ARGS": POD.format(pod, "pod-1")} if pod else {}
        done = subprocess.run(
            ["chroot", self.root, self.world.bin / "whereabouts"],
            input=json.dumps(conf).encode(),
            env=self.world.environment(command, **args),
            capture_output=True,
            check=False,
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    def given(self, conf: dict[str, Any], pod: str = "") -> list[str]:
        answer = self.call("ADD", conf, pod)
        assert answer.status == 0, answer
        assert self.call("DEL", conf, pod).status == 0
        return [ip["address"] for ip in answer.json["ips"]]


@pytest.fixture
def rooted(host: Namespace, sandbox: Namespace, tmp_path: Path) -> Iterator[Rooted]:
    folder = Path(tempfile.mkdtemp(dir="/run"))
    rooted = Rooted(folder, World(host, sandbox, tmp_path / "state"))
    yield rooted
    rooted.close()


PLACES = [f"{folder}/whereabouts.d/whereabouts.conf" for folder in DIRECTORIES]


@pytest.mark.parametrize("first", range(len(PLACES)), ids=DIRECTORIES)
def test_the_first_flat_file_that_exists_wins_alone(rooted: Rooted, first: int) -> None:
    for number, path in list(enumerate(PLACES))[first:]:
        rooted.write(path, datastore="file", range=f"10.{number}.0.0/24")
    assert rooted.given(network("", datastore="")) == [f"10.{first}.0.1/24"]


@pytest.mark.parametrize("path", ["/srv/flat.conf", "/srv/whereabouts.d/"], ids=["a-file", "a-directory"])
def test_configuration_path_is_looked_at_first(rooted: Rooted, path: str) -> None:
    file = rooted.write(path if path.endswith("conf") else f"{path}whereabouts.conf", range="10.9.0.0/24")
    rooted.write(PLACES[0], range="10.1.0.0/24")
    conf = network("", configuration_path=path)
    assert rooted.given(conf) == ["10.9.0.1/24"]
    file.unlink()
    assert rooted.given(conf) == ["10.1.0.1/24"]


def test_a_flat_file_adds_to_the_configuration_and_its_flags_count(rooted: Rooted) -> None:
    rooted.write(
        PLACES[1],
        datastore="file",
        range="10.1.0.0/24",
        gateway="10.1.0.254",
        exclude=["10.1.0.1"],
        enable_overlapping_ranges=False,
    )
    conf = network("", datastore="", ipRanges=[{"range": "10.1.0.0/25"}])
    answer = rooted.call("ADD", conf)
    assert [ip["address"] for ip in answer.json["ips"]] == ["10.1.0.2/24", "10.1.0.1/25"]
    assert not (rooted.world.state / "ipam/reservations").exists()


@pytest.mark.parametrize(
    ("content", "code"), [("{", 6), ("[]", 6), (None, 5)], ids=["half", "a-list", "a-directory"]
)
def test_a_flat_file_that_cannot_be_read_is_an_error_that_names_it_but_not_for_delete(
    rooted: Rooted, content: str | None, code: int
) -> None:
    conf = network()
    assert rooted.call("ADD", conf).status == 0
    place = rooted.root / PLACES[0].lstrip("/")
    place.parent.mkdir(parents=True)
    if content is None:
        place.mkdir()
    else:
        place.write_text(content)
    answer = rooted.call("ADD", conf)
    assert (answer.status, answer.code) == (1, code)
    assert PLACES[0] in answer.json["msg"]
    for _ in range(2):
        assert rooted.call("DEL", conf).status == 0
    assert rooted.world.records() == []


def test_a_pod_without_kubeconfig_is_refused_with_the_places_searched(rooted: Rooted) -> None:
    answer = rooted.call("ADD", network(datastore=""), "web")
    assert (answer.status, answer.code) == (1, 7)
    assert "kubeconfig" in answer.json["msg"]
    assert [place for place in PLACES if place not in answer.json["details"]] == []
    assert rooted.world.records() == []
    assert rooted.call("DEL", network(datastore=""), "web").status == 0


@pytest.mark.parametrize(
    ("conf", "flat", "pod"),
    [
        pytest.param(network(datastore="kubernetes"), None, "", id="kubernetes-by-name"),
        pytest.param(network(datastore="etcd"), None, "", id="what-meant-kubernetes-later"),
        pytest.param(network(datastore=""), {"log_level": "error"}, "", id="a-flat-file-without-kubeconfig"),
        pytest.param(network(datastore=""), None, "web", id="a-pod"),
    ],
)
def test_addresses_of_a_cluster_are_never_given_by_the_node_alone(
    rooted: Rooted, conf: dict[str, Any], flat: dict[str, Any] | None, pod: str
) -> None:
    if flat is not None:
        rooted.write(PLACES[1], **flat)
    answer = rooted.call("ADD", conf, pod)
    assert (answer.status, answer.code) == (1, 7), answer
    assert rooted.world.records() == []


def test_without_cluster_and_pod_addresses_are_the_nodes(rooted: Rooted) -> None:
    assert rooted.given(network(datastore="")) == ["10.1.0.1/29"]
    assert rooted.given(network(datastore="file"), "web") == ["10.1.0.1/29"]


# -- a full range ---------------------------------------------------------------------------------


def test_a_full_range_takes_nothing_and_tells_who_holds_most(world: World) -> None:
    conf = network(ipRanges=[{"range": "10.2.0.0/30"}])
    for number in range(2):
        add(world, conf, f"web-{number}")
    before = sorted(map(str, world.state.rglob("*")))
    error = refused(world, "ADD", conf, "late")
    assert error["code"] == 100
    for part in ("10.2.0.0/30", "ipam.ipRanges[0]", "All 2", "10.2.0.1 to 10.2.0.2", "namespace default (2)"):
        assert part in f"{error['msg']} {error['details']}"
    assert sorted(map(str, world.state.rglob("*"))) == before
    delete(world, conf, "web-0")
    assert given(world, conf, "late") == ["10.1.0.1/29", "10.2.0.1/30"]


def test_a_failed_add_takes_nothing_from_an_attachment_that_stands(world: World) -> None:
    conf = network("10.1.0.0/30")
    add(world, conf, "web")
    for number in range(2):
        add(world, network("10.2.0.0/30"), f"db-{number}")
    refused(world, "ADD", network("10.2.0.0/30", ipRanges=[{"range": "10.1.0.0/30"}]), "web")
    assert entries(world) == ["10.1.0.1", "10.2.0.1", "10.2.0.2"]
    delete(
        world,
        {"cniVersion": "1.0.0", "name": "rail", "type": "macvlan", "ipam": {"type": "whereabouts"}},
        "web",
    )
    assert entries(world) == ["10.2.0.1", "10.2.0.2"]


def test_an_address_that_was_given_back_rests_if_it_shall(world: World) -> None:
    conf = network("10.1.0.0/30", rest_time="1h")
    for pod in ("web", "db"):
        add(world, conf, pod)
    delete(world, conf, "web")
    error = refused(world, "ADD", conf, "late")
    assert (error["code"], "rest" in error["details"]) == (11, True)
    assert given(world, network("10.1.0.0/30"), "late") == ["10.1.0.1/30"]


# -- whose an address is --------------------------------------------------------------------------


def test_a_repeated_add_gets_the_answer_of_the_first(world: World) -> None:
    conf = network(**EVERYTHING)
    first = add(world, conf, "web")
    add(world, conf, "db")
    assert add(world, conf, "web") == first
    assert (
        add(world, network(**EVERYTHING | {"range_start": "10.1.0.5", "exclude": ["10.1.0.3"]}), "web")
        == first
    )


def test_a_pod_made_anew_keeps_its_address_though_the_earlier_sandbox_goes_late(world: World) -> None:
    conf = network()
    add(world, conf, "web")
    add(world, conf, "db")
    assert given(world, conf, "web", CNI_CONTAINERID="web-2") == ["10.1.0.1/29"]
    delete(world, conf, "web")
    assert given(world, conf, "late") == ["10.1.0.3/29"]
    delete(world, conf, "web", CNI_CONTAINERID="web-2")
    assert given(world, conf, "later") == ["10.1.0.1/29"]


def test_pods_are_told_apart_by_namespace_and_containers_by_id(world: World) -> None:
    assert given(world, network(), "web") == ["10.1.0.1/29"]
    other = "K8S_POD_NAMESPACE=other;K8S_POD_NAME=web"
    assert given(world, network(), CNI_CONTAINERID="o", CNI_ARGS=other) == ["10.1.0.2/29"]
    assert given(world, network(), CNI_CONTAINERID="c1") == ["10.1.0.3/29"]
    assert given(world, network(), CNI_CONTAINERID="c2") == ["10.1.0.4/29"]
    assert given(world, network(), CNI_CONTAINERID="c1") == ["10.1.0.3/29"]


# -- DEL ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "conf",
    [
        pytest.param({"ipam": {"type": "whereabouts"}}, id="no-range"),
        pytest.param({"ipam": {"type": "whereabouts", "range": "10.9.0.0/24"}}, id="another-range"),
        pytest.param({"ipam": {"type": "whereabouts", "range": 5, "dataDir": []}}, id="keys-of-wrong-types"),
        pytest.param({"ipam": "mistake"}, id="a-section-that-is-text"),
        pytest.param({}, id="no-section"),
    ],
)
def test_delete_needs_no_valid_configuration_no_pod_and_no_sandbox(
    world: World, conf: dict[str, Any]
) -> None:
    add(world, network(ipRanges=[{"range": "fd00::/64"}]), "web")
    told = {"cniVersion": "1.0.0", "name": "rail", "type": "macvlan", **conf}
    for netns in ("/run/netns/gone", ""):
        delete(world, told, "web", CNI_ARGS="", CNI_NETNS=netns)
    assert world.records() == []


def test_delete_without_a_record_looks_in_the_configured_ranges(world: World) -> None:
    conf = network(ipRanges=[{"range": "fd00::/64"}])
    add(world, conf, "web")
    add(world, conf, "db")
    for record in world.state.rglob("web-1@net1.json"):
        record.unlink()
    delete(world, conf, "web")
    assert entries(world) == ["10.1.0.2", "fd00::2"]


def test_delete_of_an_unreadable_record_looks_in_the_configured_ranges(world: World) -> None:
    add(world, network(), "web")
    for record in world.state.rglob("web-1@net1.json"):
        record.write_bytes(b"")
    assert "cannot be read" in delete(world, network(), "web").stderr
    assert not store(world).exists()


def test_delete_leaves_others_alone(world: World) -> None:
    for pod in ("web", "db"):
        add(world, network(), pod)
    delete(world, network(), "web", CNI_IFNAME="net2")
    delete(world, network(), "web", CNI_CONTAINERID="another")
    delete(world, network() | {"name": "other"}, "db", CNI_CONTAINERID="another")
    assert entries(world) == ["10.1.0.1", "10.1.0.2"]


def test_every_range_is_given_back_whatever_the_others_did(world: World) -> None:
    conf = network(ipRanges=[{"range": "10.2.0.0/29"}, {"range": "10.3.0.0/29"}])
    add(world, conf, "web")
    # Of the first nothing is left, and in the second a directory is in the way.
    for path in store(world).glob("pools/10.1.0.0-29/addresses/*/*"):
        path.unlink()
    (blocked,) = store(world).glob("pools/10.2.0.0-29/addresses/*/10.2.0.1")
    blocked.unlink()
    blocked.mkdir()
    error = refused(world, "DEL", conf, "web")
    assert error["code"] == 5
    assert "10.2.0.1" in error["msg"]
    assert entries(world) == ["10.2.0.1"]
    blocked.rmdir()
    delete(world, conf, "web")
    assert world.records() == []


# -- CHECK ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_check_is_content_with_what_add_answered(world: World, version: str) -> None:
    conf = network(**EVERYTHING) | {"cniVersion": version}
    conf["prevResult"] = add(world, conf, "web")
    answer = call(world, "CHECK", conf, "web")
    assert (answer.status, answer.stdout) == (0, "")
    assert call(world, "CHECK", conf, "web", CNI_ARGS="").status == 0


@pytest.mark.parametrize("harm", ["released", "elsewhere", "taken-over", "lost", "less", "static"])
def test_check_tells_what_differs(world: World, harm: str) -> None:
    conf = network(addresses=[{"address": "192.0.2.5/24"}])
    result = add(world, conf, "web")
    told = "10.1.0.1"
    if harm == "released":
        delete(world, conf, "web")
        told = "no address of 10.1.0.0/29"
    elif harm == "elsewhere":
        result["ips"][0]["address"] = "10.1.0.2/29"
    elif harm == "taken-over":
        add(world, conf, "web", CNI_CONTAINERID="web-2")
        told = "held by default/web net1 (container web-2)"
    elif harm == "lost":
        next(store(world).glob("pools/*/addresses/*/*")).unlink()
        told = "no address of 10.1.0.0/29"
    elif harm == "less":
        result["ips"] = result["ips"][1:]
    else:
        result["ips"] = result["ips"][:1]
        told = "192.0.2.5"
    error = refused(world, "CHECK", conf | {"prevResult": result}, "web")
    assert error["code"] == 102
    assert told in error["msg"]


def test_check_without_prev_result_is_refused(world: World) -> None:
    add(world, network(), "web")
    assert refused(world, "CHECK", network(), "web")["code"] == 7


# -- GC -------------------------------------------------------------------------------------------


def collect(world: World, conf: dict[str, Any], *keep: tuple[str, str]) -> Answer:
    valid = [{"containerID": container, "ifname": ifname} for container, ifname in keep]
    conf = conf | {"cniVersion": "1.1.0", "cni.dev/valid-attachments": valid}
    return call(world, "GC", conf, CNI_CONTAINERID="", CNI_IFNAME="", CNI_NETNS="")


def test_gc_gives_back_what_is_not_listed_of_this_network_only(world: World) -> None:
    for pod in ("web", "db", "ml"):
        add(world, network(), pod)
    add(world, network() | {"name": "other"}, "web", CNI_IFNAME="net2")
    answer = collect(world, network(), ("db-1", "net1"), ("ml-1", "net9"))
    assert (answer.status, answer.stdout) == (0, "")
    assert entries(world) == ["10.1.0.2", "10.1.0.4"]
    assert collect(world, network()).status == 0
    assert entries(world) == ["10.1.0.4"]
    delete(world, network() | {"name": "other"}, "web", CNI_IFNAME="net2")
    assert world.records() == []


def test_gc_finds_entries_whose_record_is_lost(world: World) -> None:
    for pod in ("web", "db"):
        add(world, network(), pod)
    for record in world.state.rglob("*@net1.json"):
        record.unlink()
    assert collect(world, network(), ("db-1", "net1")).status == 0
    assert entries(world) == ["10.1.0.2"]


def test_gc_needs_no_valid_configuration(world: World) -> None:
    add(world, network(), "web")
    conf = {"name": "rail", "type": "macvlan", "ipam": {"type": "whereabouts", "range": 5}}
    assert collect(world, conf).status == 0
    assert world.records() == []


def test_gc_without_a_list_keeps_all(world: World) -> None:
    add(world, network(), "web")
    conf = network() | {"cniVersion": "1.1.0"}
    assert call(world, "GC", conf, CNI_CONTAINERID="", CNI_IFNAME="", CNI_NETNS="").status == 0
    assert entries(world) == ["10.1.0.1"]


# -- STATUS ---------------------------------------------------------------------------------------


def status(world: World, conf: dict[str, Any]) -> Answer:
    return call(
        world, "STATUS", conf | {"cniVersion": "1.1.0"}, CNI_CONTAINERID="", CNI_IFNAME="", CNI_NETNS=""
    )


def test_status_is_content_with_a_store_that_is_not_there_yet_and_makes_nothing(world: World) -> None:
    answer = status(world, network())
    assert (answer.status, answer.stdout) == (0, "")
    assert not world.state.exists()
    add(world, network(), "web")
    assert status(world, network()).status == 0


def complaint(world: World, conf: dict[str, Any]) -> str:
    answer = status(world, conf)
    assert (answer.status, answer.code) == (1, 50), answer
    return f"{answer.json['msg']} {answer.json.get('details', '')}"


def test_status_tells_of_a_full_range(world: World) -> None:
    conf = network(ipRanges=[{"range": "10.2.0.1/32"}])
    add(world, conf, "web")
    assert "10.2.0.1/32" in complaint(world, conf)


def test_status_tells_of_a_store_that_cannot_be_written(world: World) -> None:
    store(world).mkdir(parents=True)
    run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", store(world))
    told = complaint(world, network())
    run("umount", store(world))
    assert str(store(world)) in told


def test_status_tells_of_a_data_dir_that_is_a_file(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    conf = network(dataDir=str(tmp_path / "file"))
    assert str(tmp_path / "file") in complaint(world, conf)
    error = refused(world, "ADD", conf)
    assert error["code"] == 5
    assert str(tmp_path / "file") in error["msg"]
    assert world.records() == []
    delete(world, conf)


@pytest.mark.parametrize("what", ["addresses/*/*", "pool.json"])
def test_status_tells_of_what_cannot_be_read(world: World, what: str) -> None:
    add(world, network(), "web")
    (path,) = store(world).glob(f"pools/*/{what}")
    path.write_bytes(b"{")
    assert str(path) in complaint(world, network())


# -- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [b"", b"{", b"\xff", b"[]"])
def test_a_corrupt_entry_is_set_aside_and_rebuilt_from_the_journal(world: World, garbage: bytes) -> None:
    add(world, network(), "web")
    (path,) = store(world).glob("pools/*/addresses/*/*")
    whole = json.loads(path.read_bytes())
    path.write_bytes(garbage)
    assert given(world, network(), "db") == ["10.1.0.2/29"]
    answer = call(world, "ADD", network(), "web")
    assert answer.json["ips"] == [{"address": "10.1.0.1/29"}]
    aside = store(world) / "corrupt/10.1.0.0-29/10.1.0.1"
    assert str(aside) in answer.stderr
    assert aside.read_bytes() == garbage
    assert json.loads(path.read_bytes()) | {"since": ""} == whole | {"since": ""}


def test_a_corrupt_entry_of_an_earlier_sandbox_is_proven_by_its_record(world: World) -> None:
    add(world, network(), "web")
    (path,) = store(world).glob("pools/*/addresses/*/*")
    path.write_bytes(b"")
    assert given(world, network(), "web", CNI_CONTAINERID="web-2") == ["10.1.0.1/29"]


def test_delete_frees_a_corrupt_entry_that_the_journal_proves_and_keeps_what_it_was(world: World) -> None:
    add(world, network(), "web")
    (path,) = store(world).glob("pools/*/addresses/*/*")
    path.write_bytes(b"")
    assert "set aside" in delete(world, network(), "web").stderr
    assert entries(world) == []
    assert given(world, network(), "db") == ["10.1.0.1/29"]


def test_without_a_record_a_corrupt_entry_stays_held(world: World) -> None:
    add(world, network(), "web")
    for record in world.state.rglob("*@net1.json"):
        record.unlink()
    (path,) = store(world).glob("pools/*/addresses/*/*")
    path.write_bytes(b"")
    delete(world, network(), "web")
    assert given(world, network(), "web") == ["10.1.0.2/29"]
    assert entries(world) == ["10.1.0.1", "10.1.0.2"]


def test_a_corrupt_pool_json_is_set_aside_and_written_anew(world: World) -> None:
    add(world, network(), "web")
    path = store(world) / "pools/10.1.0.0-29/pool.json"
    whole = path.read_bytes()
    path.write_bytes(b"{")
    answer = call(world, "ADD", network(), "db")
    assert answer.json["ips"] == [{"address": "10.1.0.2/29"}]
    assert str(path) in answer.stderr
    assert path.read_bytes() == whole
    assert (store(world) / "corrupt/10.1.0.0-29/pool.json").read_bytes() == b"{"


def test_the_executable_answers_as_a_call_in_the_process_does(
    host: Namespace, sandbox: Namespace, tmp_path: Path
) -> None:
    conf = network(**EVERYTHING)
    worlds = [World(host, sandbox, tmp_path / "one"), WarmWorld(host, sandbox, tmp_path / "two")]
    answers = [
        [
            call(world, "ADD", conf, "web"),
            call(world, "ADD", network("10.1.0.4/32"), "db"),
            call(world, "ADD", network("10.1.0.4/32"), "ml"),
            call(world, "DEL", conf, "web"),
            call(world, "VERSION", conf),
        ]
        for world in worlds
    ]
    assert answers[0] == answers[1]
    assert [answer.status for answer in answers[0]] == [0, 0, 1, 0, 0]
