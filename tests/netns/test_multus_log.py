"""multus' log: the lines that people who run Multus look for."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.pods import Multus, StubPlugin

POD = {
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;K8S_POD_UID=u",
    "CNI_IFNAME": "eth0",
}
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture
def stub(stubs: Callable[..., StubPlugin]) -> StubPlugin:
    return stubs("flannel")


def test_a_line_tells_of_each_attachment_and_detachment(
    multus: Multus, stub: StubPlugin, tmp_path: Path
) -> None:
    log = tmp_path / "log" / "multus.log"
    conf = multus.conf(stub.network("cbr0"), logFile=str(log), logLevel="verbose", logToStderr=False)
    result = multus.world.add(conf, **POD)
    multus.world.delete(conf, **POD)
    added, deleted = log.read_text().splitlines()
    found = re.fullmatch(rf"{_TIME} \[verbose\] Add: ns:web:u:cbr0\(cbr0\):eth0 (.*)", added)
    assert found
    assert json.loads(found[1]) == result
    assert re.match(rf"{_TIME} \[verbose\] Del: ns:web:u:cbr0\(cbr0\):eth0 {{", deleted)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        pytest.param({}, 0, id="nothing-by-default"),
        pytest.param({"logLevel": "error"}, 1, id="failures-at-error"),
        pytest.param({"logLevel": "Debug"}, 1, id="in-any-case-of-the-level"),
        pytest.param({"logLevel": "error", "logToStderr": False}, 0, id="not-on-stderr-if-it-is-off"),
    ],
)
def test_failures_are_logged_from_the_level_error_on(
    multus: Multus, stub: StubPlugin, keys: dict[str, object], expected: int
) -> None:
    stub.fails("ADD", {"code": 11, "msg": "no luck"})
    stub.does("ADD", "")
    answer = multus.world.call("ADD", multus.conf(stub.network("cbr0"), **keys), **POD)
    assert answer.code == 11
    lines = re.findall(rf"{_TIME} \[error\] ADD of ns/web eth0: .*no luck", answer.stderr)
    assert len(lines) == expected


def test_an_unknown_level_is_noted_and_a_log_that_cannot_be_written_is_no_failure(
    multus: Multus, stub: StubPlugin, tmp_path: Path
) -> None:
    conf = multus.conf(stub.network("cbr0"), logFile=str(tmp_path), logLevel="loud")
    answer = multus.world.call("ADD", conf, **POD)
    assert answer.status == 0
    assert '"logLevel" is "loud", which is none of panic, error, verbose, debug' in answer.stderr
    answer = multus.world.call("DEL", conf | {"logLevel": "verbose"}, **POD)
    assert answer.status == 0
    assert f'"logFile" {tmp_path}: Is a directory' in answer.stderr


@pytest.mark.parametrize("compress", [True, False])
def test_a_log_that_is_full_is_put_aside(
    multus: Multus, stub: StubPlugin, tmp_path: Path, *, compress: bool
) -> None:
    log = tmp_path / "multus.log"
    options = {"maxSize": 1, "maxBackups": 2, "compress": compress}
    conf = multus.conf(stub.network("cbr0"), logFile=str(log), logLevel="verbose", logOptions=options)
    for number in range(4):
        log.write_text(f"{number}" * 1024 * 1024)
        multus.world.call("ADD" if number % 2 == 0 else "DEL", conf, **POD)
        assert not log.exists()
    kept = sorted(tmp_path.glob("multus-*"))
    read = [gzip.decompress(path.read_bytes()) if compress else path.read_bytes() for path in kept]
    assert [content[:1] for content in read] == [b"2", b"3"]
    assert all(path.name.endswith(".log.gz" if compress else ".log") for path in kept)
