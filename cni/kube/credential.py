"""What speaks for us and what we trust: certificates, keys and tokens, given or in files.

A file is read when its content is needed, so that what an installer or the kubelet rotates counts at once.
No value is ever part of a message.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path

from cni.protocol.errors import InvalidConfig


@dataclass(frozen=True)
class Material:
    """A certificate, key or token: given in the kubeconfig, or in a file that is read when it is needed."""

    name: str  # the field's, as in `users[node].user.tokenFile`
    source: str  # the file that has the field
    data: bytes = field(default=b"", repr=False)
    path: Path | None = None

    def read(self) -> bytes:
        """Return what it holds now.

        Raises:
            InvalidConfig: code 7; the file cannot be read.
        """
        if self.path is None:
            return self.data
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise InvalidConfig(
                f"{self.path} cannot be read: {error.strerror}",
                why=f"{self.name} of {self.source} names it.",
                fix="Put the file there, or correct the field.",
            ) from error

    def __str__(self) -> str:
        return f"{self.name} ({self.path})" if self.path else self.name


@dataclass(frozen=True)
class Tls:
    """How an https server is trusted, and who we are to it."""

    ca: Material | None = None  # None is the system's
    server_name: str = ""  # "" is the host's
    is_verified: bool = True
    certificate: Material | None = None
    key: Material | None = None


def bearer(token: Material) -> str:
    """Return the token that is to be sent now.

    Raises:
        InvalidConfig: code 7; its file cannot be read or holds no token.
    """
    text = token.read().strip()
    if not text or not text.isascii() or not text.decode().isprintable():
        raise InvalidConfig(
            f"{token} holds no token",
            why=f"It is {'no single line of ASCII text' if text else 'empty'}. It belongs to {token.source}.",
            fix="Write the token there.",
        )
    return text.decode()


def expiry(token: Material) -> str:
    """Say when a token expires, if it is a JSON Web Token that tells."""
    from datetime import UTC, datetime

    try:
        payload = bearer(token).split(".")[1]
        end = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"]
        return f", which expires at {datetime.fromtimestamp(end, UTC):%Y-%m-%dT%H:%M:%SZ},"
    except (InvalidConfig, IndexError, KeyError, TypeError, ValueError, OverflowError, OSError):
        return ""
