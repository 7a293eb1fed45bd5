"""Connecting to the API server before a deadline: its name, TCP, TLS."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

from cni.kube.config import KubeConfig
from cni.kube.credential import Material, Tls
from cni.kube.deadline import Deadline
from cni.protocol.errors import InvalidConfig


class Lost(Exception):
    """There was no connection, or no whole answer; the text says what happened.

    Args:
        is_sent: the server may have got the whole request.
        is_stale: a kept-alive connection ended before the first byte of an answer.
    """

    def __init__(self, cause: str, *, is_sent: bool, is_stale: bool = False) -> None:
        super().__init__(cause)
        self.is_sent = is_sent
        self.is_stale = is_stale


class Mistrusted(Exception):
    """TLS could not be agreed on; nothing was sent that the server acted on."""


def connected(config: KubeConfig, deadline: Deadline) -> socket.socket:
    """Connect, to one of the host's addresses after the other, and agree on TLS.

    Raises:
        Lost: nobody answers in time.
        Mistrusted: TLS was refused by either side.
        InvalidConfig: a certificate or key cannot be used.
    """
    context = _context(config.tls) if config.tls else None
    sock = _first_of(config.host, config.port, deadline)
    try:
        if context and config.tls:
            sock = _secured(sock, context, config.tls.server_name or config.host, deadline)
    except BaseException:
        sock.close()
        raise
    return sock


def _first_of(host: str, port: int, deadline: Deadline) -> socket.socket:
    addresses = _resolved(host, port, deadline)
    failures = []
    for index, (family, address) in enumerate(addresses):
        # What one address does not use of its share is the next ones'.
        share = deadline.left() / (len(addresses) - index)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(share or 0.001)
            sock.connect(address)
        except OSError as error:
            sock.close()
            failures.append(f"{address[0]}: {in_words(error)}")
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise Lost(", ".join(failures), is_sent=False)


def _resolved(host: str, port: int, deadline: Deadline) -> list[tuple[int, Any]]:
    """Return the addresses of a host. The resolver knows no time limit: names are asked for in a thread."""
    try:
        return _ask(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    from threading import Thread

    answers: list[list[tuple[int, Any]] | OSError] = []

    def ask() -> None:
        try:
            answers.append(_ask(host, port, 0))
        except (OSError, UnicodeError) as error:
            answers.append(error if isinstance(error, OSError) else OSError(str(error)))

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(deadline.left())
    if not answers:
        raise Lost(f'the name "{host}" was not resolved in time', is_sent=False)
    if isinstance(answers[0], OSError):
        raise Lost(
            f'the name "{host}" cannot be resolved ({answers[0].strerror or answers[0]})', is_sent=False
        )
    return answers[0]


def _ask(host: str, port: int, flags: int) -> list[tuple[int, Any]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]


def _secured(sock: socket.socket, context: ssl.SSLContext, name: str, deadline: Deadline) -> ssl.SSLSocket:
    try:
        sock.settimeout(deadline.left() or 0.001)
        # Its time-out is for the whole handshake, unlike that of recv.
        return context.wrap_socket(sock, server_hostname=name)
    except TimeoutError as error:
        raise Lost("it accepts connections, but did not answer to TLS in time", is_sent=False) from error
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError) as error:
        raise Lost(f"it closed the connection during TLS ({in_words(error)})", is_sent=False) from error
    except ssl.SSLCertVerificationError as error:
        raise Mistrusted(f"its certificate is not accepted: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise Mistrusted(in_words(error)) from error
    except OSError as error:
        raise Lost(in_words(error), is_sent=False) from error


def _context(tls: Tls) -> ssl.SSLContext:
    """Return a TLS context.

    Made anew for each connection, because certificates rotate. Not `create_default_context`: from Python
    3.13 on it wants an authority key identifier, which many clusters' certificates lack.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not tls.is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca:
        _use(tls.ca, lambda ca: context.load_verify_locations(cadata=_ascii(ca)), tls.ca.read())
    else:
        context.load_default_certs()
    if tls.certificate and tls.key:
        pair = tls.certificate.read() + b"\n" + tls.key.read()
        _use(tls.certificate, lambda pem: _load_pair(context, pem), pair)
    return context


def _use(material: Material, load: Callable[[bytes], None], pem: bytes) -> None:
    try:
        load(pem)
    except (ssl.SSLError, ValueError) as error:
        words = in_words(error) if isinstance(error, ssl.SSLError) else "it is no PEM text"
        raise InvalidConfig(
            f"{material} is not usable: {words}",
            why=f"It belongs to {material.source}.",
            fix="Give a PEM certificate, and its own key where there is one.",
        ) from None


def _ascii(pem: bytes) -> str:
    """Drop what Python does not take: comments between certificates may be in any language."""
    return pem.decode("ascii", errors="ignore")


def _load_pair(context: ssl.SSLContext, pem: bytes) -> None:
    # OpenSSL takes files only; this one has no name, so that a key never lies on a disk.
    fd = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(pem)
        # A password would be asked for on the terminal.
        context.load_cert_chain(f"/proc/self/fd/{fd}", password=lambda: "")
    finally:
        os.close(fd)


def in_words(error: OSError) -> str:
    """Return what went wrong without Python's decorations."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return (error.reason or error.strerror or "TLS failed").replace("_", " ").lower()
    return (error.strerror or str(error)).lower()
