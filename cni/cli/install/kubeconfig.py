"""A kubeconfig for plugins that run in a pod's daemon: the pod's own service account speaks for them.

It names the account's files instead of quoting them, so that a token that the kubelet renews counts at once.
"""

from __future__ import annotations

import json
from pathlib import Path

from cni import durable


def write(target: Path) -> str:
    """Write it in one step and return what was done.

    Raises:
        InvalidConfig: code 7; this is no pod, or one without a service account's token.
    """
    # 25 ms, which an installation outside of a cluster does without.
    from cni.kube.config import SERVICE_ACCOUNT, in_cluster

    cluster = {
        "server": in_cluster().server,
        "certificate-authority": str(SERVICE_ACCOUNT / "ca.crt"),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "podrail",
        "contexts": [{"name": "podrail", "context": {"cluster": "podrail", "user": "podrail"}}],
        "clusters": [{"name": "podrail", "cluster": cluster}],
        "users": [{"name": "podrail", "user": {"tokenFile": str(SERVICE_ACCOUNT / "token")}}],
    }
    data = json.dumps(document, indent=2).encode() + b"\n"
    if durable.read(target) == data:
        return "in place already"
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    durable.replace(target, data, target.parent, is_lasting=True)
    target.chmod(0o600)
    return "installed"
