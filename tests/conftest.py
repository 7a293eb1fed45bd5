"""Fixtures of all tests: everything that touches the kernel happens in namespaces of our own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from cni.protocol.signals import again_in_time
from tests.support.apiserver import ApiServer
from tests.support.apiserver.certificates import Authority
from tests.support.apiserver.real import RealApiServer
from tests.support.isolation import isolate
from tests.support.world import Namespace, World, run

VERSIONS_WITH_INTERFACES = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--exhaustive",
        action="store_true",
        help="crash and fault tests at every system call, and new examples of properties",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Who is started in the background of a shell ignores it, and hands that down to what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A busy machine is no fault of what is tested. The same examples each time tell a change that broke
    # something from one that did not; --exhaustive looks for new ones.
    is_exhaustive = bool(config.getoption("--exhaustive"))
    settings.register_profile("podrail", deadline=None, derandomize=not is_exhaustive)
    settings.load_profile("podrail")
    isolate()


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """What a test leaves waiting, as a call in this process does that is done, must not reach the next."""
    with again_in_time():
        yield


@pytest.fixture
def exhaustive(request: pytest.FixtureRequest) -> bool:
    """Whether a series is to be run in full, not only where it matters most."""
    return bool(request.config.getoption("--exhaustive"))


@pytest.fixture
def host() -> Iterator[Namespace]:
    """The host's namespace of one test."""
    namespace = Namespace("host")
    namespace.ip("link", "set", "lo", "up")
    yield namespace
    namespace.delete()


@pytest.fixture
def sandbox() -> Iterator[Namespace]:
    """A pod's namespace of one test."""
    namespace = Namespace("pod")
    yield namespace
    namespace.delete()


@pytest.fixture
def peer() -> Iterator[Namespace]:
    """A namespace at the far end of the host's wire."""
    namespace = Namespace("peer")
    yield namespace
    namespace.delete()


@pytest.fixture
def world(host: Namespace, sandbox: Namespace, tmp_path: Path) -> World:
    return World(host, sandbox, tmp_path / "state")


@pytest.fixture(scope="session")
def loopback() -> None:
    """127.0.0.1 and ::1 in the namespace of the tests themselves."""
    run("ip", "link", "set", "lo", "up")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """What signs the certificates of the tests' API servers and their clients."""
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def apiserver(authority: Authority, loopback: None, tmp_path: Path) -> Iterator[ApiServer]:
    """An API server of one test, over TLS."""
    with ApiServer(tmp_path / "apiserver", authority=authority) as server:
        yield server


@pytest.fixture(scope="session")
def real_apiserver(
    authority: Authority, loopback: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealApiServer]:
    """The real API server, one for all tests: give objects names of your own."""
    with RealApiServer(tmp_path_factory.mktemp("kubernetes"), authority) as server:
        yield server


@pytest.fixture(params=["in-this-process", "kube-apiserver"])
def any_apiserver(request: pytest.FixtureRequest) -> ApiServer | RealApiServer:
    """Both API servers, for what must hold on each."""
    name = "apiserver" if request.param == "in-this-process" else "real_apiserver"
    server: ApiServer | RealApiServer = request.getfixturevalue(name)
    return server
