"""What an API server's rules grant."""

from __future__ import annotations

from typing import Any

import pytest

from cni.kube.rights import Rights

GROUP = "whereabouts.cni.cncf.io"


def rule(**fields: Any) -> dict[str, Any]:
    return {"verbs": ["get", "list"], "apiGroups": [GROUP], "resources": ["ippools"]} | fields


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        pytest.param([rule()], ["patch"], id="what-no-rule-has-is-missing"),
        pytest.param([rule(), rule(verbs=["patch"])], [], id="rules-add-up"),
        pytest.param([rule(verbs=["*"], apiGroups=["*"], resources=["*"])], [], id="a-star-is-everything"),
        pytest.param([rule(verbs=["*"], apiGroups=[""])], ["get", "patch"], id="another-group"),
        pytest.param([rule(verbs=["*"], resources=["pods"])], ["get", "patch"], id="another-kind"),
        pytest.param(
            [rule(), rule(verbs=["patch"], resourceNames=["10.0.0.0-24"])], ["patch"], id="some-objects-only"
        ),
        pytest.param([rule(verbs=None), {}], ["get", "patch"], id="empty-rules"),
    ],
)
def test_what_is_missing(rules: list[dict[str, Any]], missing: list[str]) -> None:
    assert Rights(tuple(rules), is_whole=True).missing(GROUP, "ippools", ("get", "patch")) == missing


def test_of_rules_that_are_not_all_nothing_is_surely_missing() -> None:
    assert Rights((), is_whole=False).missing(GROUP, "ippools", ("get",)) == []
