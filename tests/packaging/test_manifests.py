"""The plain manifests and the Helm chart: API servers take them, and they are the same objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cni.kube.paths import resource
from tests.support import helm, manifests
from tests.support.apiserver import ApiServer
from tests.support.apiserver.real import RealApiServer
from tests.support.helm import HelmServer
from tests.support.manifests import Manifest

CHART = manifests.FOLDER.parent / "helm" / "podrail"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
FILES = ["namespace.yaml", "crds.yaml", "rbac.yaml", "configmap.yaml", "daemonset.yaml"]

# What the templates say, and what that is with the chart's own values. Anything else in braces is a mistake.
AS_DEFAULT = {
    '"{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"': "podrail:0.1.0",
    "{{ .Values.image.pullPolicy }}": "IfNotPresent",
    "{{ .Values.binDir }}": "/opt/cni/bin",
    "{{ .Values.confDir }}": "/etc/cni/net.d",
    "{{ .Values.kubeletDir }}": "/var/lib/kubelet",
    "{{ .Values.metricsPort }}": "9478",
    "{{ .Values.priorityClassName }}": "system-node-critical",
    "{{ .Release.Namespace }}": "podrail",
    "{{- toYaml .Values.nodeSelector | nindent 8 }}": "kubernetes.io/os: linux",
    "{{- toYaml .Values.tolerations | nindent 8 }}": "- operator: Exists",
    "{{- toYaml .Values.resources | nindent 12 }}": "requests: {cpu: 100m, memory: 128Mi}",
    "{{- toYaml .Values.networks | nindent 2 }}": "{}",
    "{{ toYaml .Values.networks | sha256sum }}": "0",
    "{{- range .Values.installOptions }}\n            - {{ . | quote }}\n            {{- end }}": (
        "- --prefix=podrail-"
    ),
    "{{- range .Values.daemonOptions }}\n            - {{ . | quote }}\n            {{- end }}": "",
    '{{- include "podrail.metricsProxy" . }}': "",
    "{{- with .Values.imagePullSecrets }}\n      imagePullSecrets:\n        {{- toYaml . | nindent 8 }}\n"
    "      {{- end }}": "",
}


def by_name(objects: list[Manifest]) -> dict[str, Manifest]:
    """Return objects by kind and name; a sum over networks, which only the chart can know, is left out."""
    for each in objects:
        each.get("spec", {}).get("template", {}).get("metadata", {}).pop("annotations", None)
    return {f"{each['kind']} {each['metadata']['name']}": each for each in objects}


def plain(*files: str) -> dict[str, Manifest]:
    return by_name([each for file in files for each in manifests.read(file)])


def test_every_file_is_part_of_what_is_applied() -> None:
    (kustomization,) = manifests.read("kustomization.yaml")
    assert kustomization["resources"] == FILES
    assert {path.name for path in manifests.FOLDER.iterdir()} == {*FILES, "kustomization.yaml"}


def test_an_api_server_takes_every_object(any_apiserver: ApiServer | RealApiServer) -> None:
    with any_apiserver.client() as api:
        for each in [each for file in FILES if file != "crds.yaml" for each in manifests.read(file)]:
            place = {"namespace": each["metadata"].get("namespace")}
            plural = each["kind"].lower() + "s"
            made = api.create(resource(each["apiVersion"], plural, **place), each)
            assert made["metadata"]["name"] == each["metadata"]["name"]


@pytest.mark.parametrize("file", ["rbac.yaml", "configmap.yaml", "daemonset.yaml"])
def test_a_template_with_the_chart_s_own_values_is_the_plain_manifest(file: str) -> None:
    text = (CHART / "templates" / file).read_text()
    for expression, meaning in AS_DEFAULT.items():
        text = text.replace(expression, meaning)
    assert "{{" not in text
    assert by_name(list(yaml.safe_load_all(text))) == plain(file)


def test_the_chart_has_no_other_templates_and_the_same_definitions() -> None:
    assert {path.name for path in (CHART / "templates").iterdir()} == {
        *("rbac.yaml", "configmap.yaml", "daemonset.yaml", "test.yaml", "NOTES.txt"),
        *("podmonitor.yaml", "_metrics.tpl"),
    }
    definitions = (CHART / "crds" / "crds.yaml").read_text()
    assert definitions == (manifests.FOLDER / "crds.yaml").read_text()


def test_every_value_is_used_and_has_a_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]) - {"global"} == set(VALUES)
    for name in ("image", "podMonitor"):
        assert set(schema["properties"][name]["properties"]) == set(VALUES[name])
    text = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    assert set(re.findall(r"\.Values\.(\w+)", text)) == set(VALUES)


def test_chart_image_and_package_have_one_version() -> None:
    project = (manifests.FOLDER.parents[1] / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.*)"', project, re.MULTILINE)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (daemonset,) = manifests.read("daemonset.yaml")
    spec = daemonset["spec"]["template"]["spec"]
    images = {each["image"] for each in (*spec["initContainers"], *spec["containers"])}
    assert version
    assert (chart["version"], chart["appVersion"], images) == (
        version[1],
        version[1],
        {f"podrail:{version[1]}"},
    )


# -- with Helm itself ------------------------------------------------------------------------------


@pytest.fixture
def server(loopback: None, tmp_path: Path) -> Iterator[HelmServer]:
    with HelmServer(tmp_path) as server:
        yield server


def rendered(release: dict[str, Any]) -> dict[str, Manifest]:
    return by_name([each for each in yaml.safe_load_all(release["manifest"]) if each])


def test_helm_installs_the_plain_manifests(server: HelmServer) -> None:
    release = helm.install(CHART, server.kubeconfig(), "podrail", {})
    assert rendered(release) == plain("rbac.yaml", "configmap.yaml", "daemonset.yaml")
    (test,) = release["hooks"]
    assert test["name"] == "podrail-test"
    defined = {each["metadata"]["name"] for each in manifests.read("crds.yaml")}
    assert {
        path.rpartition("/")[2] for path in server.objects if "customresourcedefinitions" in path
    } == defined


def test_helm_installs_them_on_a_real_api_server(real_apiserver: RealApiServer) -> None:
    release = helm.install(CHART, real_apiserver.kubeconfig(), "podrail", {})
    assert rendered(release) == plain("rbac.yaml", "configmap.yaml", "daemonset.yaml")


def test_helm_finds_no_fault_with_the_chart() -> None:
    told = helm.lint(CHART)
    assert [each for each in told.get("messages") or [] if "icon" not in str(each)] == []


def test_helm_puts_values_where_they_belong(server: HelmServer) -> None:
    values = {
        "image": {"repository": "registry.example/podrail", "tag": "1.2.3"},
        "imagePullSecrets": [{"name": "pull"}],
        "binDir": "/run/cni/bin",
        "confDir": "/run/cni/net.d",
        "installOptions": ["--replace"],
        "daemonOptions": ["--concurrency=8"],
        "networks": {"00-podrail.conf": '{"name": "a"}\n'},
        "tolerations": [],
    }
    release = helm.install(CHART, server.kubeconfig(), "elsewhere", values)
    objects = rendered(release)
    assert objects["ConfigMap podrail-networks"]["data"] == {"00-podrail.conf": '{"name": "a"}\n'}
    assert objects["ClusterRoleBinding podrail"]["subjects"][0]["namespace"] == "elsewhere"
    spec = objects["DaemonSet podrail"]["spec"]["template"]["spec"]
    (install,), (daemon, networks) = spec["initContainers"], spec["containers"]
    assert install["image"] == "registry.example/podrail:1.2.3"
    assert install["command"][-3:] == [
        *("--bin-dir=/run/cni/bin", "--kubeconfig=/run/cni/net.d/podrail.d/podrail.kubeconfig", "--replace")
    ]
    assert daemon["command"][-1] == "--concurrency=8"
    assert networks["command"][-3:] == ["--bin-dir=/run/cni/bin", "--conf-dir=/run/cni/net.d", "--replace"]
    assert (spec["imagePullSecrets"], spec["tolerations"]) == ([{"name": "pull"}], [])


def test_a_pod_monitor_comes_with_a_proxy_that_alone_listens(server: HelmServer) -> None:
    values = {"podMonitor": {"enabled": True, "proxyImage": "registry.example/proxy:1", "labels": {"a": "b"}}}
    objects = rendered(helm.install(CHART, server.kubeconfig(), "podrail", values))
    monitor = objects["PodMonitor podrail"]
    assert monitor["metadata"]["labels"] == {"app.kubernetes.io/name": "podrail", "a": "b"}
    daemonset = objects["DaemonSet podrail"]["spec"]["template"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= daemonset["metadata"]["labels"].items()
    *_, daemon, _, proxy = daemonset["spec"]["containers"]
    assert [port["name"] for port in proxy["ports"]] == [monitor["spec"]["podMetricsEndpoints"][0]["port"]]
    assert proxy["image"] == "registry.example/proxy:1"
    assert "--metrics=127.0.0.1:9478" in daemon["command"]
    assert "--upstream=http://127.0.0.1:9478/" in proxy["args"]
    helm.validate([each for each in objects.values() if each["kind"] != "PodMonitor"])


def test_kubernetes_schemas_know_every_field(server: HelmServer) -> None:
    release = helm.install(CHART, server.kubeconfig(), "podrail", {})
    (test,) = release["hooks"]
    objects = [*rendered(release).values(), yaml.safe_load(test["manifest"])]
    plain_ones = [each for file in FILES for each in manifests.read(file)]
    helm.validate([*objects, *plain_ones])
    spec = {"template": {"spec": {"hostNetworks": True}}}
    with pytest.raises(helm.HelmRefused, match="hostNetworks"):
        helm.validate([{"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": spec}])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        pytest.param({"binDirectory": "/opt"}, "specifications", id="a-value-that-does-not-exist"),
        pytest.param({"binDir": "opt/cni"}, "specifications", id="a-directory-that-is-not-absolute"),
        pytest.param({"networks": {"00.txt": ""}}, "specifications", id="a-network-that-no-runtime-reads"),
        pytest.param({"metricsPort": 0}, "specifications", id="a-port-that-is-none"),
        pytest.param({"podMonitor": {"enabled": True}}, "kube-rbac-proxy", id="a-monitor-without-a-proxy"),
    ],
)
def test_helm_refuses(server: HelmServer, values: dict[str, Any], told: str) -> None:
    with pytest.raises(helm.HelmRefused, match=told):
        helm.install(CHART, server.kubeconfig(), "refused", values)
