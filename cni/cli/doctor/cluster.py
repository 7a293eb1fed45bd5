"""Whether the cluster that a kubeconfig names can be reached, and may be asked for what is needed."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from cni.cli.doctor.configured import Configured
from cni.cli.doctor.root import Root
from cni.cli.finding import Finding
from cni.protocol import gojson
from cni.protocol.errors import CniError

_NEEDED = {
    ("", "pods"): ("get", "list"),
    ("k8s.cni.cncf.io", "network-attachment-definitions"): ("get",),
    ("whereabouts.cni.cncf.io", "ippools"): ("get", "list", "create", "patch"),
    ("whereabouts.cni.cncf.io", "overlappingrangeipreservations"): (
        "get",
        "list",
        "create",
        "patch",
        "delete",
    ),
}


def check(root: Root, configured: Configured, kubeconfig: str | None) -> Iterator[Finding]:
    named = {kubeconfig} if kubeconfig else _named(configured)
    for name in sorted(named - {None, ""}, key=str):
        path = Path(str(name)) if kubeconfig else root.at(str(name))
        if not path.exists():
            yield Finding(
                "kubeconfig",
                str(name),
                "it does not exist",
                "Let the installer write it, or correct its name.",
            )
            continue
        if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
            yield Finding(
                "kubeconfig-mode",
                str(name),
                "others than root may read its credential",
                f"Run: chmod 600 {path}",
            )
        if kubeconfig or root.is_this_node:
            yield from _reachable(path)


def _named(configured: Configured) -> set[str | None]:
    named: set[str | None] = {plugin.text("kubeconfig") for plugin in configured.of_type("multus")}
    for plugin in configured.plugins:
        section = gojson.get(plugin.ipam, "kubernetes")
        named.add(gojson.get(section, "kubeconfig") if isinstance(section, dict) else None)
    return named


def _reachable(path: Path) -> Iterator[Finding]:
    # 45 ms, which a node without a cluster does without.
    from cni.kube.client import Client
    from cni.kube.config import load
    from cni.kube.deadline import Limits
    from cni.kube.errors import NotFound
    from cni.kube.rights import Rights

    try:
        config = load(str(path))
        limits = Limits(connect=3.0, request=5.0, silence=5.0, operation=10.0)
        with Client(config, limits) as api:
            rights = Rights.in_namespace(api, config.namespace or "kube-system")
    except NotFound:
        return  # it answers, and does not tell rights
    except CniError as error:
        yield Finding("api", str(path), f"{error.msg}. {error.why}".rstrip(), error.fix or "See the message.")
        return
    for (group, plural), verbs in _NEEDED.items():
        missing = rights.missing(group, plural, verbs)
        if missing:
            yield Finding(
                "rbac",
                str(path),
                f"the credential may not {', '.join(missing)} {plural}{f'.{group}' if group else ''}",
                "Bind it to a role that has these verbs.",
                "warning",
            )
