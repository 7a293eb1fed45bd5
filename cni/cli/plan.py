"""podrail plan: what a pod would get from a configuration on this node; nothing is changed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cni.cli.install import runtime
from cni.command import parser_of
from cni.protocol import gojson, registry
from cni.protocol.chain import Chain, put
from cni.protocol.errors import CniError, InvalidEnvironment
from cni.protocol.gojson import JsonObject
from cni.protocol.planning import Plan, Planning
from cni.protocol.request import Request

_CONTAINER_ID = "podrail-plan"


def parser() -> argparse.ArgumentParser:
    made = parser_of(
        "plan",
        "What a pod would get from a configuration on this node: networks, devices, addresses, sysctls, "
        "routes; nothing is changed. Options default to the CNI_ variables that a runtime would set.",
        statuses="0 an ADD would succeed as far as is known, 1 it would fail, 2 called wrongly",
        examples=(
            "podrail plan /etc/cni/net.d/10-rail.conflist",
            "podrail plan 00-multus.conf --pod jobs/train-0 --kubeconfig /etc/kubernetes/admin.conf",
            "podrail plan 00-multus.conf --pod jobs/new --networks rail-a,rail-b@fast0",
            "podrail plan - --json <10-rail.conflist",
        ),
    )
    made.add_argument("file", metavar="FILE", help="a configuration or a list of them; - is stdin")
    made.add_argument("--pod", metavar="NAMESPACE/NAME", help="which pod; its annotation counts in a cluster")
    made.add_argument(
        "--networks", metavar="TEXT", help="what its annotation would be; the pod need not exist then"
    )
    made.add_argument("--kubeconfig", metavar="FILE", help="the cluster, in place of the configuration's")
    made.add_argument("--netns", metavar="PATH", help="its sandbox; without one, one that is yet to be made")
    made.add_argument("--container-id", metavar="ID", help=f"default: {_CONTAINER_ID}")
    made.add_argument("--ifname", metavar="NAME", help="default: eth0 for multus, else net1")
    made.add_argument("--args", metavar="CNI_ARGS", help="such as IP=10.1.0.9/24;MAC=02:00:00:00:00:01")
    made.add_argument(
        "--capabilities",
        metavar="JSON",
        help='what the runtime asks for, such as {"mac": "02:00:00:00:00:01"}',
    )
    made.add_argument(
        "--bin-dir", metavar="DIR", help="where plugins are; default: CNI_PATH, or the runtime's"
    )
    made.add_argument("--json", action="store_true", help="print it as JSON")
    return made


def main(arguments: list[str]) -> int:
    """Print a plan; return 1 if an ADD would fail."""
    parsed = parser().parse_args(arguments)
    try:
        steps = _steps(parsed)
    except CniError as error:
        if parsed.json:
            sys.stdout.write(json.dumps({"error": error.to_json("1.1.0")}, indent=2) + "\n")
        else:
            sys.stderr.write(f"podrail plan: {error.msg}. {error.details}".rstrip() + "\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"podrail plan: {error.filename}: {error.strerror}\n")
        return 2
    sys.stdout.write(_as_json(steps) if parsed.json else "".join(_as_text(steps)))
    return int(any(step.would_fail for step in steps))


def _steps(parsed: argparse.Namespace) -> tuple[Plan, ...]:
    """Return what each plugin of the configuration would do."""
    text = sys.stdin.buffer.read() if parsed.file == "-" else Path(parsed.file).read_bytes()
    raw = gojson.loads_object(text, "stdin" if parsed.file == "-" else parsed.file)
    chain = Chain.parse(raw, "stdin" if parsed.file == "-" else parsed.file)
    if parsed.kubeconfig:
        named = {"kubeconfig": parsed.kubeconfig}
        chain = chain.with_each(lambda plugin: put(plugin, named) if _is_multus(plugin) else plugin)
    return chain.plan(_request(parsed, chain), _capabilities(parsed), Planning(parsed.networks))


def _request(parsed: argparse.Namespace, chain: Chain) -> Request:
    told = os.environ
    args = told.get("CNI_ARGS", "") if parsed.args is None else parsed.args
    if parsed.networks is not None and not parsed.pod:
        raise InvalidEnvironment("--networks needs --pod", fix="Its networks are those of a pod's namespace.")
    if parsed.pod:
        namespace, slash, name = parsed.pod.partition("/")
        if not slash or not namespace or not name:
            raise InvalidEnvironment(
                f'--pod "{parsed.pod}" is not NAMESPACE/NAME', fix="Such as jobs/train-0."
            )
        pod = f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}"
        args = ";".join(filter(None, (pod, args)))
    path = parsed.bin_dir or told.get("CNI_PATH") or str(runtime.directories().binaries)
    variables = {
        "CNI_CONTAINERID": parsed.container_id or told.get("CNI_CONTAINERID") or _CONTAINER_ID,
        "CNI_NETNS": parsed.netns or told.get("CNI_NETNS") or "",
        "CNI_IFNAME": parsed.ifname
        or told.get("CNI_IFNAME")
        or ("eth0" if _is_multus(chain.plugins[0]) else "net1"),
        "CNI_PATH": path,
        "CNI_ARGS": args,
    }
    return Request("ADD", {**told, **variables}, b"")


def _is_multus(plugin: JsonObject) -> bool:
    return registry.own_type(str(gojson.get(plugin, "type"))) == "multus"


def _capabilities(parsed: argparse.Namespace) -> dict[str, Any]:
    text = parsed.capabilities or os.environ.get("CAP_ARGS") or "{}"
    return gojson.loads_object(text.encode(), "--capabilities")


def _as_json(steps: tuple[Plan, ...]) -> str:
    return json.dumps({"steps": [step.to_json() for step in steps]}, indent=2) + "\n"


def _as_text(steps: tuple[Plan, ...], indent: str = "") -> Iterator[str]:
    for step in steps:
        where = f"{step.ifname}: {step.plugin} on network {step.network}"
        yield f"{indent}{where}\n"
        for line in _lines(step):
            yield f"{indent}  {line}\n"
        yield from _as_text(step.steps, indent + "  ")


def _lines(step: Plan) -> Iterator[str]:
    for name, value in step.facts.items():
        yield f"{name}: {value}"
    if not step.steps or step.settings or step.routes:
        yield from _answer(step)
    for route in step.routes:
        told = " ".join(f"{key} {value}" for key, value in route.items() if key not in ("network", "gateway"))
        via = f" via {route['gateway']}" if "gateway" in route else ""
        yield f"route: {route['network']}{via} {told}".rstrip()
    for path, value in step.settings.items():
        yield f"sysctl: {path} = {value}"
    for sentence in step.open:
        yield f"open: {sentence}"
    if step.error:
        yield f"ADD would fail: {step.error.msg} (code {int(step.error.code)}). {step.error.details}".rstrip()


def _answer(step: Plan) -> Iterator[str]:
    for link in step.result.interfaces:
        if link.mac:
            yield f"MAC of {link.name}: {link.mac}"
    for ip in step.result.ips:
        via = f", gateway {ip.gateway}" if ip.gateway else ""
        yield f"address: {ip.address}{via}"
