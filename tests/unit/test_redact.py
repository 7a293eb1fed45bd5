"""What leaves the node has no secrets, and still says what a bug report needs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cni.cli import redact

SECRET = "hunter2-Xq9"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK\n-----END RSA PRIVATE KEY-----"

SECRET_KEYS = (
    *("token", "id-token", "refreshToken", "password", "passwd", "passphrase", "secret", "clientSecret"),
    *("client_secret", "client-key-data", "client-certificate-data", "certificate-authority-data"),
    *("api-key", "apiKey", "API_KEY", "authorization", "auth", "registry.auth", "privateKey"),
    *("credentials", "accessKey"),
)


@pytest.mark.parametrize("key", SECRET_KEYS)
@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda key: json.dumps({"a": [{key: SECRET}]}), id="json"),
        pytest.param(lambda key: yaml.safe_dump({"a": {key: SECRET, "other": 1}}), id="yaml"),
        pytest.param(lambda key: f"started with {key}={SECRET} and more", id="a-line"),
        pytest.param(lambda key: f'level=info {key}: "{SECRET}", done', id="a-line-with-quotes"),
        pytest.param(lambda key: f"[plugin]\n{key} = '{SECRET}'\n", id="toml"),
        pytest.param(lambda key: json.dumps({"conf": json.dumps({key: SECRET})}), id="json-in-json"),
        pytest.param(lambda key: json.dumps({key: {"deep": [SECRET]}}), id="below-the-key"),
    ],
)
def test_the_value_of_a_secret_key_goes(key: str, form: Any) -> None:
    text = form(key)
    assert SECRET in text
    for made in (redact.file(text), redact.log(text.encode()).decode()):
        assert SECRET not in made


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        pytest.param(f"asked with {JWT} for", JWT, id="a-token"),
        pytest.param(PEM, "MIIEow", id="a-private-key"),
        pytest.param("-----BEGIN PRIVATE KEY-----\nMIIEow", "MIIEow", id="a-private-key-that-is-cut-off"),
        pytest.param("Authorization: Bearer abcdef123456", "abcdef123456", id="a-bearer"),
        pytest.param("https://user:pa55@registry.example/x", "pa55", id="in-a-url"),
        pytest.param("ran tool --token abc123 --verbose", "abc123", id="an-option"),
        pytest.param("key " + "aB3/" * 40, "aB3/aB3/", id="a-long-key-in-base64"),
    ],
)
def test_what_looks_like_a_secret_goes_whatever_its_key(text: str, secret: str) -> None:
    assert secret not in redact.text(text)
    assert secret not in redact.log(json.dumps({"msg": text}).encode()).decode()


def test_the_users_of_a_kubeconfig_keep_their_names_alone() -> None:
    kubeconfig = {
        "kind": "Config",
        "clusters": [
            {"name": "c", "cluster": {"server": "https://10.0.0.1:6443", "certificate-authority": "/ca"}}
        ],
        "users": [{"name": "u", "user": {"exec": {"args": ["--get", SECRET]}, "username": SECRET}}],
    }
    made = redact.file(yaml.safe_dump(kubeconfig))
    assert SECRET not in made
    assert yaml.safe_load(made)["users"] == [{"name": "u", "user": "REDACTED"}]
    assert yaml.safe_load(made)["clusters"][0]["cluster"]["server"] == "https://10.0.0.1:6443"


def test_a_kubeconfig_that_cannot_be_read_is_left_out() -> None:
    assert redact.file(f"clusters: [\nusers:\n- name: {SECRET}") == (
        "left out: it cannot be read, and may be a kubeconfig\n"
    )


def test_what_a_bug_report_needs_stays() -> None:
    conf = {
        "cniVersion": "1.0.0",
        "name": "rail",
        "type": "macvlan",
        "master": "eth0",
        "container_id": "a" * 64,
        "netns": "/var/run/netns/cni-0f7b5d1e-9f2b-4c3a-8d2e-0a1b2c3d4e5f",
        "ipam": {"type": "whereabouts", "range": "10.1.0.0/24", "gateway": "fd00::1"},
        "keyed": True,
        "token": "",
    }
    assert json.loads(redact.file(json.dumps(conf))) == conf
    line = (
        f"podrail: jobs/web net1: /var/lib/cni/podrail/{'attachments/' * 12}x.json cannot be read: mac=02:00"
    )
    assert redact.text(line) == line


_LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@given(_TREES, st.sampled_from(SECRET_KEYS), st.lists(st.sampled_from(["a", "b", 0]), max_size=4))
def test_a_secret_goes_wherever_it_lies_in_a_document(tree: Any, key: str, path: list[Any]) -> None:
    found: Any = {key: SECRET, "beside": tree}
    for step in path:
        found = [tree, found] if step == 0 else {step: found, "other": tree}
    assert SECRET not in json.dumps(redact.document(found))
