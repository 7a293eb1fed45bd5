"""Certificates of a test's own authority, made with openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_NAMES = "IP:127.0.0.1,IP:::1,DNS:localhost,DNS:kubernetes.default.svc"


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a directory."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._pair = Pair(folder / "ca.crt", folder / "ca.key")
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        _openssl("req", "-x509", *_new_key(self._pair, f"/CN={name}"), "-days", "2", *usage)

    @property
    def certificate(self) -> Path:
        return self._pair.certificate

    def server(self, names: str = _NAMES) -> Pair:
        """Return a server's certificate for names such as `IP:127.0.0.1,DNS:localhost`."""
        stem = "server" if names == _NAMES else "other-server"
        if names == _NAMES and (known := self._pair_of(stem)).certificate.exists():
            return known
        return self._signed(stem, "/CN=server", f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")

    def client(self, user: str, *groups: str) -> Pair:
        """Return a client's certificate: as in Kubernetes CN is the user and each O a group."""
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        return self._signed(f"client-{user}", subject, "extendedKeyUsage=clientAuth\n")

    def _pair_of(self, stem: str) -> Pair:
        return Pair(self._folder / f"{stem}.crt", self._folder / f"{stem}.key")

    def _signed(self, stem: str, subject: str, extensions: str) -> Pair:
        pair = self._pair_of(stem)
        request, wanted = self._folder / f"{stem}.csr", self._folder / f"{stem}.ext"
        wanted.write_text(extensions)
        _openssl("req", *_new_key(Pair(request, pair.key), subject))
        signing = ("-CA", self._pair.certificate, "-CAkey", self._pair.key, "-CAcreateserial", "-days", "2")
        _openssl("x509", "-req", "-in", request, *signing, "-extfile", wanted, "-out", pair.certificate)
        return pair


def _new_key(pair: Pair, subject: str) -> tuple[str | Path, ...]:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
    return *curve, "-keyout", pair.key, "-out", pair.certificate, "-subj", subject


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
