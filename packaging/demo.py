#!/usr/bin/env python3
"""podrail in half a minute: two pods get a network interface, a third gets two, and nothing is left behind.

Everything happens in a network and a mount namespace of this process's own. They go with it however
it ends, so that the machine's own network is never touched. What is shown after `$` is what runs.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

BIN = Path(sys.executable).parent  # where pip put the executables
INSIDE = "--inside"  # says that the namespaces are made
STATE = Path("/run/podrail-demo")

HOST_LINK, PEER_ADDRESS = "eth0", "10.1.0.1"
PODS = {"pod-a": ("10.1.0.11", "fd00:1::11"), "pod-b": ("10.1.0.12", "fd00:1::12")}  # what they will get
TWO_RAILS = "pod-c"

IS_COLOURED = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def main() -> None:
    if sys.argv[1:] != [INSIDE]:
        move_to_own_namespaces()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever pipes this to `head` has seen enough
    began = time.monotonic()
    try:
        demonstrate()
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. Nothing is left: the namespaces went with the demo.")
    say(f"Done in {time.monotonic() - began:.1f} s, and gone with it are its namespaces.")


def demonstrate() -> None:
    make_host()
    before = snapshot()
    attach_both()
    ping_all()
    say("CHECK compares a sandbox with what ADD answered. All is well, so it says nothing.")
    call("CHECK", "pod-a", prev_result=results["pod-a"])
    say("Somebody takes the address away; CHECK tells what is different. (Exit status 1, one JSON object.)")
    shell(f"ip -n pod-a address del {PODS['pod-a'][0]}/24 dev net1")
    show_error(refused("CHECK", "pod-a", prev_result=results["pod-a"]))
    say("The journal knows what each attachment took, so that DEL can give it back after any crash.")
    shell("podrail attachments")
    say("And whereabouts knows who has which address: no two pods get the same one.")
    shell("podrail ipam show")
    say("A configuration with a mistake: the error says what, why and what to do. Nothing was changed.")
    show_error(refused("ADD", "pod-b", ifname="net2", conf=configuration(master="eth9")))
    say("DEL gives everything back. Called again it finds nothing to do, and that is fine.")
    for pod in (*PODS, "pod-b"):
        call("DEL", pod, prev_result=results[pod])
    say("Nothing is left: no link in the pod, none on the host but its wire, no record in the journal.")
    shell("ip -brief -n pod-a link")
    shell("ip -brief link")
    shell("podrail attachments")
    shell("podrail ipam show")
    attach_two_networks()
    if snapshot() != before:
        give_up(f"Something is left.\nBefore:\n{before}\nAfter:\n{snapshot()}")


def make_host() -> None:
    say(f"A host with a wire: {HOST_LINK}, with a neighbour at its other end. And two pods without network.")
    for pod in PODS:
        shell(f"ip netns add {pod}")
    shell("ip netns add peer")
    shell(f"ip link add {HOST_LINK} type veth peer name eth0 netns peer")
    # Without addresses of their own making, which come and settle when they like: see snapshot().
    shell(f"ip link set {HOST_LINK} addrgenmode none up")
    shell("ip -n peer link set eth0 addrgenmode none up")
    shell(f"ip -n peer address add {PEER_ADDRESS}/24 dev eth0")


def attach_both() -> None:
    say("What an administrator writes: a network, and the ranges that its addresses come from.")
    print(json.dumps(configuration(), indent=2))
    say("A container runtime calls the plugin: the verb in the environment, the network on stdin.")
    results["pod-a"] = call("ADD", "pod-a")
    say("It answers with the spec's result.")
    print(json.dumps(results["pod-a"], indent=2))
    say("And this is what the pod has now.")
    shell("ip -n pod-a address show dev net1")
    say("The second pod gets its interface the same way.")
    results["pod-b"] = call("ADD", "pod-b")


def ping_all() -> None:
    say("The pods reach each other, and the neighbour at the other end of the wire.")
    for address in (*PODS["pod-b"], PEER_ADDRESS):
        ping(address)


def ping(address: str) -> None:
    shell(f"ip netns exec pod-a ping -c 1 -w 5 {address}", shown=lambda text: text.splitlines()[1])


def attach_two_networks() -> None:
    say("Second act: a pod with two networks. multus calls a plugin for each, here in its own process.")
    shell(f"ip netns add {TWO_RAILS}")
    print(json.dumps(two_networks(), indent=2))
    result = call("ADD", TWO_RAILS, conf=two_networks())
    say("The first network's result is the answer; the second is there all the same.")
    print(json.dumps(result, indent=2))
    shell(f"ip -brief -n {TWO_RAILS} address")
    say("DEL asks nobody what the pod had: what ADD did is on disk.")
    call("DEL", TWO_RAILS, conf=two_networks())
    shell(f"ip -brief -n {TWO_RAILS} address")
    shell(f"ip netns del {TWO_RAILS}")


# -- calling a plugin as a runtime does --------------------------------------------------------------

results: dict[str, dict[str, Any]] = {}  # by pod; a runtime keeps what ADD answered


def configuration(master: str = HOST_LINK) -> dict[str, Any]:
    first_ipv4, first_ipv6 = PODS["pod-a"]
    ranges = [
        {"range": "10.1.0.0/24", "range_start": first_ipv4},
        {"range": "fd00:1::/64", "range_start": first_ipv6},
    ]
    return {
        "cniVersion": "1.1.0",
        "name": "rail",
        "type": "macvlan",
        "master": master,
        # Nobody else is on this wire, so the second that IPv6 takes to look for a duplicate is saved.
        "dad": "off",
        "ipam": {"type": "whereabouts", "datastore": "file", "ipRanges": ranges},
    }


def two_networks() -> dict[str, Any]:
    address = {"type": "static", "addresses": [{"address": "10.2.0.11/24"}]}
    second = {
        "cniVersion": "1.1.0",
        "name": "second",
        "type": "macvlan",
        "master": HOST_LINK,
        "ipam": address,
    }
    return {
        "cniVersion": "1.1.0",
        "name": "two-networks",
        "type": "multus",
        "cniDir": str(STATE / "multus"),
        "binDir": str(BIN),
        "delegates": [configuration(), second],
    }


def call(
    verb: str, pod: str, prev_result: dict[str, Any] | None = None, conf: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Call an executable; it must succeed."""
    conf = conf or configuration()
    # The default network's interface is called so; multus' others are net1, net2, and so on.
    ifname = "eth0" if conf["type"] == "multus" else "net1"
    done = execute(verb, pod, conf, prev_result, ifname)
    if done.returncode:
        give_up(f"{verb} failed: {done.stdout}{done.stderr}")
    return dict(json.loads(done.stdout or "{}"))


def refused(
    verb: str,
    pod: str,
    prev_result: dict[str, Any] | None = None,
    ifname: str = "net1",
    conf: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Call an executable; it must fail. Return its error object."""
    done = execute(verb, pod, conf or configuration(), prev_result, ifname)
    if not done.returncode:
        give_up(f"{verb} succeeded, but it should not have: {done.stdout}")
    return dict(json.loads(done.stdout))


def execute(
    verb: str, pod: str, conf: dict[str, Any], prev_result: dict[str, Any] | None, ifname: str = "net1"
) -> subprocess.CompletedProcess[str]:
    variables = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": pod,
        "CNI_NETNS": f"/run/netns/{pod}",
        "CNI_IFNAME": ifname,
        "CNI_PATH": str(BIN),
    }
    told = {**variables, "CNI_PATH": "…"}
    plugin, file = conf["type"], f"{conf['name']}.json"
    show_command(" ".join(f"{name}={value}" for name, value in told.items()) + f" {plugin} <{file}")
    stdin = json.dumps(conf | ({"prevResult": prev_result} if prev_result else {}))
    return subprocess.run(
        [plugin], input=stdin, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )


# -- namespaces, commands and what is seen -----------------------------------------------------------


def move_to_own_namespaces() -> NoReturn:
    """Start again in namespaces of our own: network, mounts, and users if this is not root."""
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    # `ip netns` keeps names below /run: one of our own hides them from everybody else.
    script = 'mount -t tmpfs tmpfs /run && exec "$@"'
    command = ["unshare", *users, "--net", "--mount", "sh", "-c", script, "sh"]
    os.execvp(command[0], [*command, sys.executable, __file__, INSIDE])


os.environ["PODRAIL_STATE_DIR"] = str(STATE / "state")
os.environ["PODRAIL_RUN_DIR"] = str(STATE / "run")
os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}:/usr/sbin:/sbin"


def snapshot() -> str:
    """Return all that an attachment could leave: links, addresses, routes, records."""
    seen = []
    for where in ([], *(["-n", pod] for pod in PODS)):
        for what in (["-d", "link"], ["address"], ["route", "show", "table", "all"]):
            done = subprocess.run(["ip", *where, *what], capture_output=True, text=True, check=True)
            seen.append(done.stdout)
    return "\n".join([*seen, *(str(path) for path in STATE.rglob("*") if path.is_file())])


def shell(command: str, shown: Any = str.rstrip) -> None:
    """Show a command and what it prints; it must succeed."""
    show_command(command)
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
    if done.returncode:
        give_up(f"It failed: {done.stdout}{done.stderr}")
    if done.stdout:
        print(shown(done.stdout))


def say(sentence: str) -> None:
    print("\n" + coloured("1", sentence), flush=True)


def show_command(command: str) -> None:
    print(coloured("36", f"$ {command}"), flush=True)


def show_error(error: dict[str, Any]) -> None:
    print(coloured("31", json.dumps(error, indent=2, ensure_ascii=False)))


def coloured(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if IS_COLOURED else text


def give_up(reason: str) -> NoReturn:
    sys.exit(f"\nThe demo failed. {reason}")


if __name__ == "__main__":
    main()
