"""Sections of a configuration: what a wrong key is told, and which key was meant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.plugins.macvlan.config import MacvlanConf
from cni.protocol.config import unknown_keys
from cni.protocol.errors import CniError
from ipam.static import StaticConf, StaticSection

RAIL: dict[str, Any] = {"cniVersion": "1.0.0", "name": "rail", "type": "macvlan"}


def hints(**keys: Any) -> list[str]:
    raw = RAIL | keys
    return list(unknown_keys(MacvlanConf.parse(raw), raw).values())


def faults(**keys: Any) -> CniError:
    with pytest.raises(CniError) as refusal:
        MacvlanConf.parse(RAIL | keys)
    return refusal.value


# -- unknown keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("mster", "master"),
        ("masters", "master"),
        ("Mods", "mode"),
        ("bcQueueLength", "bcqueuelen"),
        ("link_in_container", "linkInContainer"),
        ("prevResults", "prevResult"),
        ("runtimeconfig ", "runtimeConfig"),
        ("anounce", "announce"),
    ],
)
def test_a_key_that_is_nearly_known_is_told_what_was_meant(key: str, meant: str) -> None:
    assert hints(**{key: None}) == [f'unknown key "{key}" is ignored; did you mean "{meant}"?']


@pytest.mark.parametrize("key", ["colour", "x", "", "vlan-id-of-the-other-rail"])
def test_a_key_like_no_other_is_only_told_that_it_is_ignored(key: str) -> None:
    assert hints(**{key: 1}) == [f'unknown key "{key}" is ignored']


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({}, id="nothing-more"),
        pytest.param({"MASTER": "eth0", "Mtu": 1400, "linkincontainer": False}, id="another-case"),
        pytest.param({"cni.dev/valid-attachments": [], "example.com/x": 1}, id="keys-with-a-domain"),
        pytest.param({"ipam": {"type": "static", "adresses": []}}, id="what-belongs-to-the-ipam-plugin"),
        pytest.param({"args": {"labels": {}}, "capabilities": {"x": True}}, id="what-belongs-to-others"),
        pytest.param({"runtimeConfig": {"portMappings": []}}, id="what-a-runtime-offers"),
    ],
)
def test_nothing_is_said_about(keys: dict[str, Any]) -> None:
    assert hints(**keys) == []


def test_a_key_inside_a_section_is_named_with_its_path() -> None:
    raw = RAIL | {
        "ipam": {
            "type": "static",
            "addresses": [{"address": "10.1.0.5/24"}, {"address": "10.1.0.6/24", "gatway": "10.1.0.1"}],
            "route": [],
        },
        "dns": {"nameserver": []},
    }
    assert list(unknown_keys(StaticConf.parse(raw), raw).values()) == [
        'unknown key "ipam.addresses[1].gatway" is ignored; did you mean "gateway"?',
        'unknown key "ipam.route" is ignored; did you mean "routes"?',
        'unknown key "dns.nameserver" is ignored; did you mean "nameservers"?',
    ]


@given(st.dictionaries(st.text(max_size=12), st.none() | st.integers(), max_size=4))
def test_every_key_is_read_or_told(keys: dict[str, Any]) -> None:
    known = {name.casefold() for name in MacvlanConf.spellings()}
    keys = {key: value for key, value in keys.items() if key.casefold() not in known}
    told = hints(**keys)
    assert len(told) == sum("/" not in key for key in keys)
    assert all(any(f'"{key}"' in sentence for sentence in told) for key in keys if "/" not in key)


# -- wrong values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "path", "told"),
    [
        pytest.param({"mtu": "1400"}, "mtu", 'must be an integer, but it is the string "1400"', id="text"),
        pytest.param({"mtu": True}, "mtu", "but it is the boolean true", id="a-boolean"),
        pytest.param({"mtu": 1400.0}, "mtu", "but it is the number 1400.0", id="a-fraction"),
        pytest.param({"mtu": 67}, "mtu", "must be greater than or equal to 68", id="too-small"),
        pytest.param({"mtu": 10**30}, "mtu", "must be less than or equal to 65535", id="too-large"),
        pytest.param({"master": 5}, "master", "must be a string, but it is the number 5", id="a-number"),
        pytest.param({"dns": []}, "dns", "must be an object, but it is an array", id="a-list"),
        pytest.param({"ipam": {"type": {}}}, "ipam.type", "but it is an object", id="an-object"),
        pytest.param(
            {"dns": {"search": [1]}}, "dns.search[0]", "must be a string", id="an-element-of-a-list"
        ),
        pytest.param({"disableCheck": "no"}, "disableCheck", "must be true or false", id="a-word-for-true"),
        pytest.param({"linkInContainer": 1}, "linkInContainer", "must be true or false", id="one-for-true"),
        pytest.param(
            {"MODE": "source"},
            "mode",
            "'bridge', 'vepa', 'private' or 'passthru'",
            id="a-word-of-another-list",
        ),
    ],
)
def test_a_wrong_value_is_told_by_its_path(keys: dict[str, Any], path: str, told: str) -> None:
    error = faults(**keys)
    assert (error.code, error.msg) == (7, f'the network configuration is not valid: "{path}"')
    assert f"{path}: " in error.why
    assert told in error.why


def test_all_wrong_values_are_told_together() -> None:
    error = faults(mtu=-1, master=[], mac="zz", mode=7)
    assert error.msg == 'the network configuration is not valid: "master", "mode", "mtu", "mac"'


@pytest.mark.parametrize("zero", ["", None])
def test_gos_zero_values_are_absent(zero: str | None) -> None:
    plain = MacvlanConf.parse(RAIL)
    zeros: dict[str, Any] = dict.fromkeys(("master", "mode", "mac", "mtu", "bcqueuelen", "prevResult"), zero)
    if zero == "":
        zeros |= {"mtu": 0, "bcqueuelen": 0, "prevResult": None}
    assert MacvlanConf.parse(RAIL | zeros) == plain


@pytest.mark.parametrize("told", [True, "true", "True"])
def test_disable_check_may_be_a_word_as_old_versions_of_the_spec_have_it(told: object) -> None:
    assert MacvlanConf.parse(RAIL | {"disableCheck": told}).disable_check
    assert not MacvlanConf.parse(RAIL | {"disableCheck": "false"}).disable_check


def test_a_section_keeps_what_was_given_and_cannot_be_changed() -> None:
    section = StaticSection.model_validate({"addresses": [{"address": "10.1.0.5/24"}]})
    with pytest.raises(ValueError, match="frozen"):
        section.reserve = True  # type: ignore[misc]  # what mypy knows too
