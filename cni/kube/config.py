"""KubeConfig: which API server to ask and with which credential, from a kubeconfig or from inside a pod.

Read as client-go reads it: the current context; data before files; a tokenFile before a token; file names
relative to the kubeconfig. Values are never shown.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cni.kube.credential import Material, Tls, bearer, expiry
from cni.protocol.errors import InvalidConfig
from cni.protocol.notes import note

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class KubeConfig:
    """One API server and one credential."""

    source: str  # the file it was read from
    host: str  # name or address, an IPv6 address without brackets
    port: int
    base: str = ""  # path before `/api`, as of a proxy for many clusters
    tls: Tls | None = None  # None is plain http
    namespace: str = ""  # the context's; "" if it has none
    token: Material | None = None
    basic: str = field(default="", repr=False)  # `user:password`
    is_in_cluster: bool = False

    def renewed(self) -> KubeConfig:
        """Read the kubeconfig again: an installer may have written a new token into it."""
        return self if self.is_in_cluster else load(self.source)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def server(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.base}"

    def authorization(self) -> str:
        """Return the value of the Authorization header; "" if a certificate or nothing speaks for us.

        Raises:
            InvalidConfig: code 7; the token's file cannot be read or holds no token.
        """
        if self.token:
            return f"Bearer {bearer(self.token)}"
        if self.basic:
            return "Basic " + base64.b64encode(self.basic.encode()).decode()
        return ""

    def credential(self) -> str:
        """Say in words what speaks for us: the field, and when a token expires."""
        if self.token:
            return f"{self.token}{expiry(self.token)}"
        if self.basic:
            return "username and password"
        return str(self.tls.certificate) if self.tls and self.tls.certificate else "no credential"


def load(path: str | os.PathLike[str]) -> KubeConfig:
    """Read a kubeconfig, YAML or JSON.

    Raises:
        InvalidConfig: code 7, with the file and the field.
    """
    file = Path(path)
    document = _Entry(_parsed(file), str(file), "")
    context_name = document.text("current-context")
    if not context_name:
        raise document.refusal("current-context", "is missing", "Set it to the name of a context.")
    context = document.named("contexts", context_name, "context", by="current-context")
    cluster = document.named("clusters", context.text("cluster"), "cluster", by=context.path_of("cluster"))
    user_name = context.text("user")
    # client-go, too, takes a context without a user for an anonymous one.
    user = (
        document.named("users", user_name, "user", by=context.path_of("user"))
        if user_name
        else _Entry({}, str(file), "")
    )
    _refuse_unsupported(cluster, user)
    return _assembled(cluster, user, context.text("namespace"))


def in_cluster(environment: Mapping[str, str] | None = None, folder: Path = SERVICE_ACCOUNT) -> KubeConfig:
    """Return what a pod is given: its service account, and the server's address in the environment.

    Raises:
        InvalidConfig: code 7; this is no pod, or one without a service account's token.
    """
    variables = os.environ if environment is None else environment
    host, port = variables.get("KUBERNETES_SERVICE_HOST", ""), variables.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidConfig(
            "no Kubernetes API server is configured",
            why=f"There is no kubeconfig, KUBERNETES_SERVICE_HOST is {host!r} and _PORT is {port!r}.",
            fix="Name a kubeconfig, or run in a pod.",
        )
    source = f"the service account in {folder}"
    token = Material("token", source, path=folder / "token")
    token.read()
    namespace = folder / "namespace"
    return KubeConfig(
        source=source,
        host=host.strip("[]"),
        port=int(port),
        tls=Tls(ca=Material("ca.crt", source, path=folder / "ca.crt")),
        namespace=namespace.read_text().strip() if namespace.exists() else "",
        token=token,
        is_in_cluster=True,
    )


def _parsed(file: Path) -> object:
    try:
        text = file.read_text()
    except OSError as error:
        raise InvalidConfig(
            f"the kubeconfig {file} cannot be read: {error.strerror}",
            fix="Put it there, or correct the configuration that names it.",
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidConfig(f"the kubeconfig {file} is not UTF-8 text", fix="Write it anew.") from error
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass  # YAML's flow style begins like JSON
    return _yaml(file, text)


def _yaml(file: Path, text: str) -> object:
    import yaml  # 20 ms, and a kubeconfig may be JSON

    # The parser in C is an optional part of PyYAML.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, loader)  # noqa: S506 -- both are safe loaders
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Not the error's own text: it quotes the line, which may be a token's.
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidConfig(
            f"the kubeconfig {file} is neither YAML nor JSON{place}",
            why=f"{getattr(error, 'problem', None) or 'It is not readable'}.",
            fix="Correct the file.",
        ) from None


class _Entry:
    """An object of a kubeconfig, with its place in it, so that every refusal names file and field."""

    def __init__(self, value: object, file: str, where: str) -> None:
        self.file = file
        self._where = where
        if value is not None and not isinstance(value, dict):
            raise self.refusal("", "must be an object", "Correct it.")
        self._fields: dict[Any, Any] = value or {}

    def path_of(self, key: str) -> str:
        return ".".join(filter(None, (self._where, key)))

    def refusal(self, key: str, fault: str, fix: str) -> InvalidConfig:
        return InvalidConfig(
            f"the kubeconfig {self.file} is not valid: {self.path_of(key) or '(top)'} {fault}", fix=fix
        )

    def has(self, key: str) -> bool:
        return bool(self._fields.get(key))

    def text(self, key: str) -> str:
        value = self._fields.get(key)
        if value is not None and not isinstance(value, str):
            raise self.refusal(key, "must be a string", "Put it in quotes.")
        return value or ""

    def flag(self, key: str) -> bool:
        value = self._fields.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.refusal(key, "must be true or false", "Correct it.")
        return bool(value)

    def named(self, key: str, name: str, member: str, *, by: str) -> _Entry:
        """Return `member` of the entry of a list that has a name; `by` is the field that names it."""
        entries = self._fields.get(key) or []
        if not isinstance(entries, list):
            raise self.refusal(key, "must be a list", "Correct it.")
        for index, value in enumerate(entries):
            entry = _Entry(value, self.file, f"{key}[{index}]")
            if entry.text("name") == name:
                return _Entry(entry._fields.get(member), self.file, f"{key}[{name}].{member}")
        raise self.refusal(
            by, f'names "{name}", which is not among its {key}', f"Add it to {key}, or correct {by}."
        )

    def material(self, data_key: str, file_key: str, *, is_encoded: bool = True) -> Material | None:
        """Return what is given as data or in a file; data counts if both are, as in client-go."""
        data = self.text(data_key) if data_key else ""
        if data:
            content = self._decoded(data_key, data) if is_encoded else data.encode()
            return Material(self.path_of(data_key), self.file, data=content)
        file = self.text(file_key)
        path = Path(self.file).parent / file
        return Material(self.path_of(file_key), self.file, path=path) if file else None

    def _decoded(self, key: str, text: str) -> bytes:
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except ValueError:
            raise self.refusal(key, "is not base64", "Correct it.") from None


def _refuse_unsupported(cluster: _Entry, user: _Entry) -> None:
    for entry, key, instead in (
        (cluster, "proxy-url", "Give an address that this node reaches without a proxy."),
        (user, "exec", "Use token, tokenFile or a client certificate."),
        (user, "auth-provider", "Use token, tokenFile or a client certificate."),
    ):
        if entry.has(key):
            raise entry.refusal(key, "is not supported", instead)


def _assembled(cluster: _Entry, user: _Entry, namespace: str) -> KubeConfig:
    tls = Tls(
        ca=cluster.material("certificate-authority-data", "certificate-authority"),
        server_name=cluster.text("tls-server-name"),
        is_verified=not cluster.flag("insecure-skip-tls-verify"),
        certificate=user.material("client-certificate-data", "client-certificate"),
        key=user.material("client-key-data", "client-key"),
    )
    if tls.ca and not tls.is_verified:
        raise cluster.refusal(
            "insecure-skip-tls-verify",
            "contradicts the certificate authority beside it",
            "Remove one of them.",
        )
    if (tls.certificate is None) != (tls.key is None):
        missing = "client-key" if tls.certificate else "client-certificate"
        raise user.refusal(missing, "is missing beside its other half", "Give both, or none.")
    scheme, host, port, base = _address(cluster, is_tls_meant=tls != Tls())
    token = user.material("", "tokenFile") or user.material("token", "", is_encoded=False)
    username = user.text("username")
    if (token or username) and scheme == "http" and not _is_this_machine(host):
        # As client-go: whoever is on the way could read and use it.
        note(cluster.file, f"{cluster.text('server')} is no https, so no credential is sent to it")
        token, username = None, ""
    return KubeConfig(
        source=cluster.file,
        host=host,
        port=port,
        base=base,
        tls=tls if scheme == "https" else None,
        namespace=namespace,
        token=token,
        basic=f"{username}:{user.text('password')}" if username else "",
    )


def _is_this_machine(host: str) -> bool:
    from ipaddress import ip_address  # 5 ms that https does not need

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(cluster: _Entry, *, is_tls_meant: bool) -> tuple[str, str, int, str]:
    """Return scheme, host, port and path of `server`; client-go's rules for one without a scheme."""
    server = cluster.text("server")
    if not server:
        raise cluster.refusal("server", "is missing", "Give the API server's URL.")
    try:
        url = urlsplit(server if "://" in server else f"{'https' if is_tls_meant else 'http'}://{server}")
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        raise cluster.refusal("server", "is not a URL", "Write https://HOST:PORT.") from None
    odd = url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or url.username
    if odd or not server.isascii() or not server.isprintable() or " " in server:
        raise cluster.refusal("server", "is not a URL of an API server", "Write https://HOST:PORT.")
    return url.scheme, url.hostname or "", port, url.path.rstrip("/")
