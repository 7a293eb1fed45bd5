"""A node of a cluster, on which whereabouts is called as a runtime calls it."""

from __future__ import annotations

import io
import json
import os
import subprocess
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from cni.protocol.plugin import run
from cni.protocol.request import Request
from cni.protocol.signals import again_in_time
from tests.support.stores import Cluster
from tests.support.world import BIN, Answer

POD = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};K8S_POD_UID=1-2"


class Node:
    """whereabouts on a node with a state of its own; its calls run in this process, which spares a start."""

    def __init__(self, cluster: Cluster, state: Path, name: str = "node-a") -> None:
        self.cluster = cluster
        self.name = name
        self.state = state
        self.kubeconfig = str(cluster.server.kubeconfig(context={"namespace": cluster.namespace}))

    def conf(self, **keys: Any) -> dict[str, Any]:
        ipam = {"type": "whereabouts", "range": "10.0.0.0/24", "kubernetes": {"kubeconfig": self.kubeconfig}}
        return {"cniVersion": "1.0.0", "name": "rail", "type": "macvlan", "ipam": ipam | keys}

    def environment(self, command: str, **variables: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PODRAIL_STATE_DIR": str(self.state),
            "PODRAIL_RUN_DIR": str(self.state / "run"),
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "sandbox-1",
            "CNI_NETNS": "/run/netns/none",
            "CNI_IFNAME": "net1",
            "CNI_PATH": str(BIN),
            "CNI_ARGS": POD.format("web-1"),
            "NODENAME": self.name,
            **variables,
        }

    def call(self, command: str, conf: dict[str, Any] | None = None, **variables: str) -> Answer:
        stdin = json.dumps(self.conf() if conf is None else conf).encode()
        stderr = io.StringIO()
        with redirect_stderr(stderr), again_in_time():
            reply = run("whereabouts", Request(command, self.environment(command, **variables), stdin))
        return Answer(reply.exit_status, reply.stdout.decode(), stderr.getvalue())

    def execute(self, command: str, conf: dict[str, Any] | None = None, **variables: str) -> Answer:
        """Call the executable."""
        stdin = json.dumps(self.conf() if conf is None else conf).encode()
        environment = self.environment(command, **variables)
        done = subprocess.run(
            [BIN / "whereabouts"], input=stdin, env=environment, capture_output=True, check=False
        )
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    def add(self, conf: dict[str, Any] | None = None, **variables: str) -> list[str]:
        answer = self.call("ADD", conf, **variables)
        assert answer.status == 0, answer
        return [ip["address"] for ip in answer.json["ips"]]

    def delete(self, conf: dict[str, Any] | None = None, **variables: str) -> None:
        answer = self.call("DEL", conf, **variables)
        assert (answer.status, answer.stdout) == (0, ""), answer

    def refused(self, command: str, conf: dict[str, Any] | None = None, **variables: str) -> dict[str, Any]:
        answer = self.call(command, conf, **variables)
        assert answer.status == 1, answer
        assert "Traceback" not in answer.stderr
        return answer.json

    def records(self) -> list[Path]:
        return [path for path in self.state.rglob("*.json") if path.is_file()]
