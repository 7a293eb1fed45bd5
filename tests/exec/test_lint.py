"""podrail lint: every rule finds its mistake at its place, and none finds one where there is none."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cni.cli.lint.rules import RULES
from cni.cli.schemas import schema
from cni.protocol.registry import TYPES
from tests.support.world import BIN

ROOT = Path(__file__).parents[2]

GOOD = """\
{
    "cniVersion": "1.0.0",
    "name": "rail",
    "type": "macvlan",
    "master": "eth0",
    "ipam": { "type": "whereabouts", "range": "10.1.0.0/24", "gateway": "10.1.0.1" }
}
"""
DEFINITIONS = """\
kind: NetworkAttachmentDefinition
metadata:
  name: blue
  namespace: jobs
  annotations:
    k8s.v1.cni.cncf.io/resourceName: nvidia.com/rail0
spec:
  config: |
    {
      "cniVersion": "0.3.1",
      "type": "macvlan",
      "ipam": {"type": "whereabouts", "range": "10.1.0.0/24"}
    }
---
kind: NetworkAttachmentDefinition
metadata: {name: red, namespace: jobs}
spec:
  config: '{"type": "macvlan", "ipam": {"type": "whereabouts", "range": "10.2.0.0/24"}}'
---
kind: Deployment
metadata: {namespace: jobs}
spec:
  template:
    metadata:
      annotations:
        k8s.v1.cni.cncf.io/networks: blue@net1, red
"""
RESOURCES = """\
---
kind: ConfigMap
data:
  config.json: '{"resourceList": [{"resourcePrefix": "nvidia.com", "resourceName": "rail0"}]}'
"""


def lint(text: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [BIN / "podrail", "lint", *options]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def found(text: str) -> list[tuple[str, str]]:
    """Return the rule of each finding, and what stands at its place."""
    done = lint(text, "--json")
    assert "Traceback" not in done.stderr, done.stderr
    listed: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    lines = text.splitlines()
    return [(each["rule"], lines[each["line"] - 1][each["column"] - 1 :]) for each in listed]


# What is changed, into what, the rule, and what stands at its place; all else is without mistake.
CONFIGURATIONS = {
    "text-that-ends-too-early": ('"name": "rail",', '"name": "rail"', "syntax", '"type": "macvlan"'),
    "a-list-of-lists": (GOOD, "[1, 2]", "shape", "[1, 2]"),
    "a-key-that-stands-twice": (
        '"cniVersion": "1.0.0"',
        '"mtu": 1500, "mtu": 1400',
        "duplicate-key",
        '"mtu": 1400',
    ),
    "a-mode-that-does-not-exist": ('"master": "eth0"', '"mode": "brigde"', "invalid-value", '"brigde"'),
    "a-number-in-quotes": ('"master": "eth0"', '"mtu": "1500"', "invalid-value", '"1500"'),
    "an-address-that-is-none": ('"10.1.0.1"', '"10.1.0.300"', "invalid-value", '"10.1.0.300"'),
    "an-exclusion-that-is-none": ('"gateway": "10.1.0.1"', '"exclude": ["x"]', "invalid-value", '"x"'),
    "a-key-with-a-typo": ('"master"', '"mastr"', "unknown-key", '"mastr"'),
    "a-key-of-ipam-with-a-typo": ('"gateway"', '"gatway"', "unknown-key", '"gatway"'),
    "a-plugin-without-type": ('"type": "macvlan"', '"plugins": [{"mtu": 1500}]', "no-type", '{"mtu": 1500}'),
    "a-network-without-name": ('"name": "rail",', "", "no-name", "{"),
    "a-version-of-the-future": ('"1.0.0"', '"2.0.0"', "version", '"2.0.0"'),
    "a-bound-outside": ('"gateway": "10.1.0.1"', '"range_end": "10.2.0.1"', "bound-outside", '"10.1.0.0/24"'),
    "a-range-that-is-excluded": (
        '"gateway": "10.1.0.1"',
        '"exclude": ["10.0.0.0/8"]',
        "empty-range",
        '"10.1.0.0/24"',
    ),
    "a-gateway-elsewhere": ('"10.1.0.1"', '"10.2.0.1"', "gateway-outside", '"10.2.0.1"'),
}
OBJECTS = {
    "another-name-within": ('"type": "macvlan",\n', '"name": "bleu",\n', "name-mismatch", '"bleu"'),
    "a-mistake-in-a-block": ('"10.1.0.0/24"', '"10.1.0.0/33"', "invalid-value", '"10.1.0.0/33"'),
    "a-mistake-in-quotes": ('"10.2.0.0/24"', '"10.2.0.0/33"', "invalid-value", '"10.2.0.0/33"'),
    "ranges-that-overlap": (
        '"range": "10.2.0.0/24"',
        '"range": "10.1.0.0/16", "network_name": "x"',
        "overlap",
        '"10.1.0.0/16"',
    ),
    "rails-in-one-subnet": ("10.2.0.0/24", "10.1.0.0/24", "same-subnet", "blue@net1"),
    "an-annotation-that-is-none": ("blue@net1, red", "'[{\"nmae\": 1}]'", "annotation", "'[{"),
    "a-network-that-is-not-there": (
        "blue@net1, red",
        "blue@net1, read",
        "unknown-network",
        "blue@net1, read",
    ),
    "a-resource-that-is-not-there": ('"rail0"}', '"rail1"}', "unknown-resource", "{"),
}


@pytest.mark.parametrize(("old", "new", "rule", "there"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_mistake_in_a_configuration_is_found_at_its_place(
    old: str, new: str, rule: str, there: str
) -> None:
    assert old in GOOD
    ((told, text),) = found(GOOD.replace(old, new))
    assert (told, text[: len(there)]) == (rule, there)


@pytest.mark.parametrize(("old", "new", "rule", "there"), OBJECTS.values(), ids=OBJECTS)
def test_a_mistake_in_objects_is_found_at_its_place(old: str, new: str, rule: str, there: str) -> None:
    whole = DEFINITIONS + RESOURCES
    assert old in whole
    told = found(whole.replace(old, new))
    assert (rule, there) in [(name, text[: len(there)]) for name, text in told]


def test_what_has_no_mistake_gets_no_finding() -> None:
    assert found(GOOD) == []
    assert found(DEFINITIONS + RESOURCES) == []


def test_the_examples_have_no_mistake_but_that_they_are_alternatives() -> None:
    done = lint("", str(ROOT / "conf-examples"), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert {each["rule"] for each in json.loads(done.stdout)["findings"]} <= {"overlap"}


def test_a_larger_mtu_than_the_master_is_to_have_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text('{"name": "a", "type": "tap", "device": "eth0", "mtu": 1500}')
    (tmp_path / "b.conf").write_text('{"name": "b", "type": "macvlan", "master": "eth0", "mtu": 9000}')
    done = lint("", str(tmp_path))
    assert (done.returncode, "error: 9000 is more than the 1500" in done.stdout) == (1, True)


def test_every_rule_has_a_case_and_is_in_the_document() -> None:
    cases = {rule for _, _, rule, _ in (*CONFIGURATIONS.values(), *OBJECTS.values())}
    assert cases | {"mtu-over-master"} == set(RULES)
    page = (ROOT / "docs" / "lint.md").read_text()
    assert all(f"| `{name}` | {meaning} |" in page for name, meaning in RULES.items())


def test_exit_status_tells_errors_warnings_and_wrong_calls_apart() -> None:
    warning = GOOD.replace('"master"', '"mastr"')
    assert lint(warning).returncode == 0
    assert lint(warning, "--strict").returncode == 1
    assert lint(GOOD.replace("macvlan", "")).returncode == 1
    assert lint("", "no-such-file").returncode == 2


def test_sarif_has_the_rule_and_the_region() -> None:
    told = json.loads(lint(GOOD.replace('"master"', '"mastr"'), "--format", "sarif").stdout)
    (result,) = told["runs"][0]["results"]
    assert (told["version"], result["ruleId"], result["level"]) == ("2.1.0", "unknown-key", "warning")
    region = result["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 5, "startColumn": 5}
    assert {rule["id"] for rule in told["runs"][0]["tool"]["driver"]["rules"]} == set(RULES)


@pytest.mark.parametrize("plugin_type", TYPES)
def test_the_schemas_in_the_documents_are_those_of_the_models(plugin_type: str) -> None:
    written = json.loads((ROOT / "docs" / "schemas" / f"{plugin_type}.json").read_text())
    assert written == schema(plugin_type), "run: podrail schemas --into docs/schemas"
