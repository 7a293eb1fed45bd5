"""Kubeconfigs as kubectl and the installers of Multus and Whereabouts write them, and broken ones."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni.kube.config import KubeConfig, in_cluster, load
from cni.protocol.errors import InvalidConfig

SECRET = "eyJhbGciOi.c2VjcmV0.c2lnbmF0dXJl"
PEM = b"-----BEGIN CERTIFICATE-----\n"

# What Multus' thin entrypoint writes.
OF_MULTUS = """\
apiVersion: v1
kind: Config
clusters:
- name: local
  cluster:
    server: https://[10.96.0.1]:443
    certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==
users:
- name: multus
  user:
    token: "%s"
contexts:
- name: multus-context
  context:
    cluster: local
    user: multus
current-context: multus-context
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a kubeconfig with one context; `cluster`, `user`, `context` and `top` add to it."""

    def write(
        cluster: Any = None, user: Any = None, context: Any = None, top: Any = None, text: str | None = None
    ) -> Path:
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"} | (context or {})}],
            "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443"} | (cluster or {})}],
            "users": [{"name": "u", "user": {"token": SECRET} if user is None else user}],
        } | (top or {})
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(document) if text is None else text)
        return path

    return write


def refused(path: Path) -> str:
    with pytest.raises(InvalidConfig) as caught:
        load(path).authorization()
    text = f"{caught.value.msg} {caught.value.details}"
    assert (caught.value.code, SECRET in text, str(path) in text) == (7, False, True), text
    return text


def test_the_file_that_multus_writes_is_read(write: Write) -> None:
    config = load(write(text=(OF_MULTUS % SECRET).replace("[10.96.0.1]", "10.96.0.1")))
    assert (config.server, config.namespace) == ("https://10.96.0.1:443", "")
    assert config.authorization() == f"Bearer {SECRET}"
    assert config.tls
    assert config.tls.ca
    assert config.tls.ca.read() == PEM


@pytest.mark.parametrize(
    ("text", "namespace"),
    [
        pytest.param(
            "{current-context: a, contexts: [{name: a, context: {cluster: c, namespace: n}}], "
            "clusters: [{name: c, cluster: {server: 'http://localhost:8080'}}]}",
            "n",
            id="flow-style",
        ),
        pytest.param(
            "current-context: a\ncontexts:\n- &x {name: a, context: {cluster: c}}\n- {<<: *x, name: b}\n"
            "clusters:\n- name: c\n  cluster:\n    server: >-\n      http://localhost:8080\n",
            "",
            id="anchors-and-folded-blocks",
        ),
    ],
)
def test_yaml_of_every_style_is_read(write: Write, text: str, namespace: str) -> None:
    config = load(write(text=text))
    assert (config.server, config.namespace, config.tls) == ("http://localhost:8080", namespace, None)
    assert config.authorization() == ""


@pytest.mark.parametrize("user", [{"token": "t"}, {"tokenFile": "t"}, {"username": "u", "password": "p"}])
@pytest.mark.parametrize(
    ("server", "is_sent"),
    [
        pytest.param("https://10.0.0.1:6443", True, id="https"),
        pytest.param("http://127.0.0.1:8080", True, id="http-of-this-machine"),
        pytest.param("http://[::1]:8080", True, id="ipv6-of-this-machine"),
        pytest.param("http://localhost:8080", True, id="this-machine-by-name"),
        pytest.param("http://10.0.0.1:8080", False, id="http"),
        pytest.param("http://api.example.com", False, id="http-by-name"),
    ],
)
def test_a_credential_is_sent_to_nobody_who_might_be_overheard(
    write: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    server: str,
    is_sent: bool,
    user: dict[str, str],
) -> None:
    (tmp_path / "t").write_text("t")
    config = load(write(cluster={"server": server}, user=user))
    assert bool(config.authorization()) == is_sent
    assert ("no credential is sent to it" in capsys.readouterr().err) == (not is_sent)


@pytest.mark.parametrize(
    ("server", "parts"),
    [
        pytest.param("https://10.0.0.1:6443", ("10.0.0.1", 6443, ""), id="address-and-port"),
        pytest.param("https://api.example.com", ("api.example.com", 443, ""), id="https-without-a-port"),
        pytest.param("http://127.0.0.1", ("127.0.0.1", 80, ""), id="http-without-a-port"),
        pytest.param("https://[fd00::1]:6443", ("fd00::1", 6443, ""), id="ipv6"),
        pytest.param("https://rancher/k8s/clusters/c-1/", ("rancher", 443, "/k8s/clusters/c-1"), id="path"),
    ],
)
def test_server_is_a_url(write: Write, server: str, parts: tuple[str, int, str]) -> None:
    config = load(write(cluster={"server": server}))
    assert (config.host, config.port, config.base) == parts
    assert load(write(cluster={"server": config.server})) == config


@pytest.mark.parametrize(
    ("cluster", "scheme"),
    [
        pytest.param({}, "http", id="without-certificates-it-is-http"),
        pytest.param({"insecure-skip-tls-verify": True}, "https", id="with-tls-settings-it-is-https"),
    ],
)
def test_server_without_a_scheme(write: Write, cluster: dict[str, Any], scheme: str) -> None:
    config = load(write(cluster={"server": "10.0.0.1:8080", **cluster}))
    assert config.server == f"{scheme}://10.0.0.1:8080"


def test_token_file_is_read_again_and_wins_over_a_token(write: Write, tmp_path: Path) -> None:
    config = load(write(user={"token": "old", "tokenFile": "secrets/token"}))
    (tmp_path / "secrets").mkdir()
    for token in ("first", "second"):
        (tmp_path / "secrets/token").write_text(f"{token}\n")
        assert config.authorization() == f"Bearer {token}"


def test_file_names_are_relative_to_the_kubeconfig_and_data_wins(write: Write, tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text(f"the {name} file")
    data = base64.b64encode(PEM).decode()
    config = load(
        write(
            cluster={"certificate-authority": "ca", "certificate-authority-data": data},
            user={"client-certificate": "cert", "client-key": str(tmp_path / "key")},
        )
    )
    tls = config.tls
    assert tls
    assert tls.ca
    assert tls.certificate
    assert tls.key
    assert [part.read() for part in (tls.ca, tls.certificate, tls.key)] == [
        PEM,
        b"the cert file",
        b"the key file",
    ]


def test_user_and_password(write: Write) -> None:
    config = load(write(user={"username": "a", "password": "b"}))
    assert config.authorization() == "Basic " + base64.b64encode(b"a:b").decode()


def test_tls_server_name_and_verification(write: Write) -> None:
    tls = load(write(cluster={"tls-server-name": "kubernetes", "insecure-skip-tls-verify": True})).tls
    assert tls
    assert (tls.server_name, tls.is_verified) == ("kubernetes", False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"text": ""}, ["current-context", "missing"], id="empty"),
        pytest.param({"text": "- a"}, ["(top)", "object"], id="a-list"),
        pytest.param({"text": f"a: [\ntoken: {SECRET}"}, ["YAML", "line 3"], id="no-yaml"),
        pytest.param({"text": "{" * 100_000}, ["YAML"], id="nested-without-end"),
        pytest.param({"text": "\0"}, ["YAML"], id="binary"),
        pytest.param({"top": {"current-context": None}}, ["current-context"], id="no-current-context"),
        pytest.param({"top": {"current-context": 5}}, ["current-context", "string"], id="a-number-as-a-name"),
        pytest.param({"top": {"current-context": "x"}}, ["current-context", '"x"'], id="unknown-context"),
        pytest.param({"top": {"contexts": {}, "clusters": 5}}, ["current-context"], id="no-contexts"),
        pytest.param({"top": {"clusters": "c"}}, ["clusters", "list"], id="clusters-that-are-no-list"),
        pytest.param({"context": {"cluster": "x"}}, ["contexts[here].context.cluster"], id="unknown-cluster"),
        pytest.param({"context": {"user": "x"}}, ["contexts[here].context.user"], id="unknown-user"),
        pytest.param({"cluster": {"server": ""}}, ["clusters[c].cluster.server", "missing"], id="no-server"),
        pytest.param({"cluster": {"server": "https://a:b:c"}}, ["server", "URL"], id="server-with-two-ports"),
        pytest.param({"cluster": {"server": "ftp://a"}}, ["server", "URL"], id="server-of-another-protocol"),
        pytest.param({"cluster": {"server": "https://"}}, ["server", "URL"], id="server-without-a-host"),
        pytest.param({"cluster": {"server": "https://a?b"}}, ["server", "URL"], id="server-with-a-query"),
        pytest.param({"cluster": {"server": "https://a/\r\nb"}}, ["server"], id="server-with-a-newline"),
        pytest.param({"cluster": {"proxy-url": "http://p"}}, ["cluster.proxy-url"], id="proxy"),
        pytest.param(
            {"cluster": {"insecure-skip-tls-verify": "true"}},
            ["true or false"],
            id="a-flag-in-quotes",
        ),
        pytest.param(
            {"cluster": {"insecure-skip-tls-verify": True, "certificate-authority": "ca"}},
            ["insecure-skip-tls-verify", "contradicts"],
            id="a-certificate-authority-that-is-not-to-be-used",
        ),
        pytest.param(
            {"cluster": {"certificate-authority-data": "%%"}},
            ["cluster.certificate-authority-data", "base64"],
            id="data-that-is-no-base64",
        ),
        pytest.param({"user": {"exec": {"command": "aws"}}}, ["users[u].user.exec", "tokenFile"], id="exec"),
        pytest.param(
            {"user": {"auth-provider": {"name": "gcp"}}}, ["user.auth-provider"], id="auth-provider"
        ),
        pytest.param({"user": {"token": 12345}}, ["user.token", "string"], id="a-token-that-is-a-number"),
        pytest.param({"user": {"token": f"{SECRET}\r\nX: y"}}, ["user.token"], id="a-token-of-two-lines"),
        pytest.param({"user": {"tokenFile": "nowhere"}}, ["user.tokenFile"], id="no-token-file"),
        pytest.param({"user": {"client-certificate": "c"}}, ["user.client-key"], id="half-a-pair"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_field(
    write: Write, change: dict[str, Any], words: list[str]
) -> None:
    text = refused(write(**change))
    assert [word for word in words if word not in text] == []
    assert "12345" not in text


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "nowhere")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert "UTF-8" in refused(tmp_path / "binary")
    assert "Is a directory" in refused(tmp_path)


def test_no_secret_is_in_a_printed_configuration(write: Write) -> None:
    key = base64.b64encode(SECRET.encode()).decode()
    users: list[dict[str, Any]] = [
        {"token": SECRET},
        {"username": "a", "password": SECRET},
        {"client-certificate-data": key, "client-key-data": key},
    ]
    for user in users:
        assert SECRET not in repr(load(write(user=user)))


@pytest.fixture
def account(tmp_path: Path) -> Path:
    for name, text in (("token", SECRET), ("ca.crt", "CA"), ("namespace", "kube-system\n")):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("host", ["10.96.0.1", "fd00::1"])
def test_a_pod_uses_its_service_account(account: Path, host: str) -> None:
    variables = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    config = in_cluster(variables, account)
    authority = f"[{host}]:443" if ":" in host else f"{host}:443"
    assert (config.server, config.namespace) == (f"https://{authority}", "kube-system")
    (account / "token").write_text("rotated")
    assert config.renewed().authorization() == "Bearer rotated"


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, id="no-port"),
        pytest.param({"KUBERNETES_SERVICE_HOST": "a", "KUBERNETES_SERVICE_PORT": "tcp://x"}, id="no-number"),
    ],
)
def test_outside_a_pod_there_is_no_service_account(account: Path, variables: dict[str, str]) -> None:
    with pytest.raises(InvalidConfig, match="no Kubernetes API server is configured"):
        in_cluster(variables, account)


def test_a_pod_without_a_token_is_told_so(tmp_path: Path) -> None:
    variables = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(InvalidConfig, match="token cannot be read"):
        in_cluster(variables, tmp_path)


def test_expiry_of_a_token_is_told(write: Write) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1_700_000_000}).encode()).decode().rstrip("=")
    config: KubeConfig = load(write(user={"token": f"a.{claims}.b"}))
    assert "expires at 2023-11-14T22:13:20Z" in config.credential()
    assert load(write(user={"token": "opaque"})).credential() == "users[u].user.token"
