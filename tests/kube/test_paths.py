"""Names go into paths only if they are names; Retry-After and back-off."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.kube.paths import InvalidName, Target, checked, is_name, resource
from cni.kube.retry import Backoff, retry_after

POOLS = "whereabouts.cni.cncf.io/v1alpha1"


@pytest.mark.parametrize(
    ("path", "expected", "words"),
    [
        pytest.param(
            resource("v1", "pods", namespace="default", name="web-0", subresource="status"),
            "/api/v1/namespaces/default/pods/web-0/status",
            'pods/status "web-0" in namespace "default"',
            id="subresource",
        ),
        pytest.param(
            resource(POOLS, "ippools", namespace="kube-system", name="10.0.0.0-24"),
            "/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/kube-system/ippools/10.0.0.0-24",
            'ippools "10.0.0.0-24" in namespace "kube-system"',
            id="custom-resource",
        ),
        pytest.param(resource("v1", "pods"), "/api/v1/pods", "pods", id="all-namespaces"),
        pytest.param(
            resource("v1", "nodes", name="n1"), "/api/v1/nodes/n1", 'nodes "n1"', id="cluster-scoped"
        ),
        pytest.param(
            resource("v1", "namespaces", name="default"),
            "/api/v1/namespaces/default",
            'namespaces "default"',
            id="a-namespace-itself",
        ),
        pytest.param("/version", "/version", "/version", id="no-resource"),
    ],
)
def test_paths_are_built_and_told(path: str, expected: str, words: str) -> None:
    assert (path, str(Target.of(path))) == (expected, words)


NO_NAMES = (
    "",
    ".",
    "..",
    "-a",
    "a-",
    "A",
    "a b",
    "a%2fb",
    "a?b",
    "a\n",
    "a_b",
    "é",
    "a..b",
    "::-64",
    "a" * 254,
)


@pytest.mark.parametrize("name", [*NO_NAMES, "a/b"])
def test_no_other_name_is_put_into_a_path(name: str) -> None:
    with pytest.raises(InvalidName) as caught:
        resource("v1", "pods", namespace="default", name=name)
    assert caught.value.code == 7
    with pytest.raises(InvalidName):
        resource("v1", "pods", namespace=name, name="web")


@pytest.mark.parametrize("name", NO_NAMES)
def test_no_other_path_is_asked_for(name: str) -> None:
    with pytest.raises(InvalidName):
        checked(f"/api/v1/pods/{name}")


@given(st.text())
def test_whatever_is_a_name_stays_one_segment(name: str) -> None:
    if is_name(name):
        assert resource("v1", "nodes", name=name).split("/") == ["", "api", "v1", "nodes", name]


@pytest.mark.parametrize("namespace", ["a.b", "a" * 64])
def test_a_namespace_is_a_label(namespace: str) -> None:
    with pytest.raises(InvalidName):
        resource("v1", "pods", namespace=namespace)


NOW = datetime(2015, 10, 21, 7, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("3", 3.0, id="seconds"),
        pytest.param(" 0 ", 0.0, id="at-once"),
        pytest.param("Wed, 21 Oct 2015 07:28:05 GMT", 5.0, id="a-date"),
        pytest.param("Wed, 21 Oct 2015 07:27:00 GMT", 0.0, id="a-date-that-has-passed"),
        pytest.param("", None, id="nothing"),
        pytest.param("soon", None, id="no-time"),
        pytest.param("-1", None, id="a-negative-number"),
        pytest.param("1.5", None, id="a-fraction"),
    ],
)
def test_retry_after_is_read_in_both_forms(text: str, seconds: float | None) -> None:
    assert retry_after(text, NOW) == seconds


@given(failures=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_back_off_doubles_up_to_its_bound(failures: int, chance: float) -> None:
    backoff = Backoff(first=0.5, most=8.0)
    assert backoff.bound(failures) == min(8.0, 0.5 * 2 ** (min(failures, 10) - 1))
    assert 0 <= backoff.wait(failures, chance) <= backoff.bound(failures)
