"""Whatever comes in: no traceback, no leftover, one error object with a code that says what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cni.protocol.plugin import Reply, run
from cni.protocol.registry import TYPES
from cni.protocol.request import Request
from tests.support.world import BIN, GO_BIN, Namespace, World, rail, static

# What a refusal may say; 999 would be a fault of podrail's own.
CODES = {1, 2, 4, 5, 6, 7, 8, 11, 50, 51, *range(100, 107)}
VERBS = ("ADD", "DEL", "CHECK", "GC", "STATUS")

FULL: dict[str, Any] = rail(
    mode="bridge",
    mtu=1400,
    mac="02:00:00:00:00:01",
    linkInContainer=False,
    bcqueuelen=100,
    dns={"nameservers": ["10.0.0.1"], "search": ["a"], "domain": "b", "options": ["c"]},
    args={"cni": {"ips": []}},
    runtimeConfig={"mac": "02:00:00:00:00:02", "ips": []},
    prevResult={"cniVersion": "1.0.0", "interfaces": [{"name": "x"}], "ips": [{"address": "10.9.0.1/24"}]},
    device="nothing-of-that-name",
    hwaddr="02:00:00:00:00:03",
    kernelpath="/sys/devices/nothing",
    pciBusID="0000:ff:1f.7",
    ipam=static(
        "10.1.0.5/24 via 10.1.0.1",
        routes=[{"dst": "10.9.0.0/16", "gw": "10.1.0.1", "mtu": 1300, "table": 7, "scope": 0, "priority": 3}],
        dns={"nameservers": ["10.0.0.2"]},
        reserve=False,
    ),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
# Things that look nearly right, where most faults are.
near_misses = st.sampled_from(
    [
        "",
        " ",
        "0",
        "10.1.0.5",
        "10.1.0.5/33",
        "010.1.0.5/24",
        "fe80::1%eth0/64",
        "::ffff:10.0.0.1/95",
        "\0",
        "\ud800",
        "02:00:00:00:00:0g",
        "ff:ff:ff:ff:ff:ff",
        "../../etc",
        "a" * 300,
        "eth0\n",
        "é",
        "-1",
        "1e3",
    ]
)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from paths_of(item, (*path, key))


PATHS = list(paths_of(FULL))


def with_value(conf: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy: Any = json.loads(json.dumps(conf))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A full configuration with one value replaced by something else."""
    return with_value(FULL, draw(st.sampled_from(PATHS)), draw(json_values | near_misses))


def judged(reply: Reply, state: Path) -> None:
    """Check what holds for every answer: success, or one error object and nothing left."""
    if reply.exit_status == 0:
        return
    error = json.loads(reply.stdout)
    assert error["code"] in CODES, error
    assert error["msg"]
    assert [path for path in state.rglob("*") if path.is_file()] == []


def environment(command: str, state: Path, **variables: str) -> dict[str, str]:
    """A call whose sandbox does not exist: what is looked at here comes before the kernel."""
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "pod-1",
        "CNI_NETNS": "/run/netns/gone",
        "CNI_IFNAME": "net1",
        "CNI_PATH": f"{BIN}:{GO_BIN}",
        "PODRAIL_STATE_DIR": str(state),
        **variables,
    }


def called(plugin: str, command: str, stdin: bytes, state: Path, **variables: str) -> Reply:
    request = Request(command, environment(command, state, **variables), stdin, str(BIN / plugin))
    return run(plugin, request)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


plugins = st.sampled_from(TYPES)
verbs = st.sampled_from(VERBS)


@given(plugins, verbs, st.binary(max_size=200))
def test_any_bytes_on_stdin(state: Path, plugin: str, verb: str, stdin: bytes) -> None:
    reply = called(plugin, verb, stdin, state)
    assert reply.exit_status == 1
    judged(reply, state)


@given(plugins, verbs, json_values)
def test_any_json_on_stdin(state: Path, plugin: str, verb: str, value: Any) -> None:
    judged(called(plugin, verb, json.dumps(value).encode(), state), state)


@settings(max_examples=400, deadline=None)
@given(plugins, verbs, st.sampled_from(["0.2.0", "0.4.0", "1.0.0", "1.1.0"]), mutated())
def test_any_value_in_any_place_of_a_configuration(
    state: Path, plugin: str, verb: str, version: str, conf: Any
) -> None:
    if conf.get("cniVersion") == "1.0.0":
        conf["cniVersion"] = version
    judged(called(plugin, verb, json.dumps(conf).encode("utf-8", "surrogatepass"), state), state)


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=20)


@given(
    plugins,
    verbs,
    st.dictionaries(st.sampled_from(["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS"]), texts),
)
def test_any_environment(state: Path, plugin: str, verb: str, variables: dict[str, str]) -> None:
    stdin = json.dumps(rail(cniVersion="1.1.0")).encode()
    judged(called(plugin, verb, stdin, state, **variables), state)


# -- where in the configuration --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        pytest.param(("mtu",), "1400", "mtu", id="a-number-as-a-text"),
        pytest.param(("mtu",), True, "mtu", id="a-boolean-for-a-number"),
        pytest.param(("mtu",), 1400.0, "mtu", id="a-fraction-for-an-integer"),
        pytest.param(("mode",), "source", "mode", id="a-mode-that-is-not-supported"),
        pytest.param(("dns", "nameservers"), "10.0.0.1", "dns.nameservers", id="a-text-for-a-list"),
        pytest.param(
            ("ipam", "addresses", 0, "address"), "10.1.0.5", "ipam.addresses[0].address", id="no-prefix"
        ),
        pytest.param(("ipam", "addresses", 0, "gateway"), "x", "ipam.addresses[0].gateway", id="no-gateway"),
        pytest.param(("ipam", "routes", 0, "dst"), "10.9.0.0", "ipam.routes[0].dst", id="no-destination"),
        pytest.param(("ipam", "routes", 0, "table"), -1, "ipam.routes[0].table", id="a-table-below-0"),
        pytest.param(("runtimeConfig", "mac"), "zz", "runtimeConfig.mac", id="a-mac-from-the-runtime"),
        pytest.param(("prevResult", "ips", 0, "address"), 5, "prevResult.ips[0].address", id="in-prevresult"),
    ],
)
def test_the_error_names_the_place(world: World, path: tuple[Any, ...], value: Any, named: str) -> None:
    world.host.add_veth("eth0")
    before = world.host.snapshot(), world.sandbox.snapshot()
    error = world.refused("ADD", with_value(FULL, path, value))
    assert error["code"] == 7
    assert f'"{named}"' in error["msg"]
    assert error["details"]
    assert (world.host.snapshot(), world.sandbox.snapshot(), world.records()) == (*before, [])


@pytest.mark.parametrize("name", ["eth0\0", "eth0\0x", "e" * 200, "e" * 70_000], ids=len)
@pytest.mark.parametrize(
    ("plugin", "key"),
    [
        ("macvlan", "master"),
        ("host-device", "device"),
        ("host-device", "pciBusID"),
        ("host-device", "kernelpath"),
    ],
)
def test_name_that_nothing_can_have_is_found_nowhere(
    world_on_eth0: World, plugin: str, key: str, name: str
) -> None:
    """A NUL would end it for the kernel, which would find what its beginning names."""
    value = f"/sys/devices/{name}" if key == "kernelpath" else name
    conf = {"cniVersion": "1.0.0", "name": "rail", "type": plugin, key: value}
    assert world_on_eth0.refused("ADD", conf)["code"] == 7


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conf=mutated())
def test_executable_leaves_nothing_whatever_the_configuration(conf: Any, world_on_eth0: World) -> None:
    world = world_on_eth0
    before = world.host.snapshot(), world.sandbox.snapshot()
    stdin = json.dumps(conf).encode("utf-8", "surrogatepass")
    answer = world.call("ADD", stdin, "macvlan")
    assert "Traceback" not in answer.stderr
    if answer.status:
        assert answer.code in CODES
    else:
        assert world.call("DEL", stdin, "macvlan").status == 0
    assert (world.host.snapshot(), world.sandbox.snapshot(), world.records()) == (*before, [])


@pytest.fixture
def world_on_eth0(world: World, host: Namespace) -> World:
    host.add_veth("eth0")
    return world
