"""What is meant to differ between the Go plugins and ours: what each does, why, and how it is seen.

test_differential.py sees to it that both do what is written here; docs/compatibility.md tells users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.comparison import Side, Trace, by_default_route, conf, device
from tests.support.world import StubIpam, static

MAC = "02:00:00:00:00:0a"
DNS = {"nameservers": ["10.1.0.53"], "domain": "rail"}


@dataclass(frozen=True)
class Difference:
    """What the Go plugin does, what podrail does, why; and how both are seen to do it."""

    name: str  # the anchor in docs/compatibility.md
    plugin: str  # or "all", or "interfaces"
    go: str
    podrail: str
    reason: str
    see: Callable[[Side], Any]
    seen: tuple[Any, Any]  # of the Go plugin, of podrail

    @property
    def id(self) -> str:
        return f"{self.plugin}-{self.podrail}".replace(" ", "-")


def stub_of(side: Side) -> StubIpam:
    stub = StubIpam(side.world.state.with_name(f"{side.world.state.name}-stub"))
    side.world.path = f"{stub.folder}:{side.world.path}"
    return stub


def net1_after(side: Side, call: Trace) -> str:
    """How a call ended, and whether net1 is in the sandbox then."""
    return (
        f"{'error' if call.status else 'success'}, {'link' if 'net1' in call.sandbox['links'] else 'no link'}"
    )


def ended(call: Trace) -> str:
    return "error" if call.status else "success"


def add(side: Side, given: dict[str, Any], **variables: str) -> Trace:
    return side.call("ADD", given, given["type"], **variables)


def delete(side: Side, given: dict[str, Any], **variables: str) -> Trace:
    return side.call("DEL", given, given["type"], **variables)


def check(side: Side, given: dict[str, Any], **variables: str) -> Trace:
    return side.call("CHECK", given | {"prevResult": side.result}, given["type"], **variables)


def of_static(command: str, given: dict[str, Any], **variables: str) -> Callable[[Side], Any]:
    def see(side: Side) -> Any:
        call = side.call(command, given, "static", **variables)
        return call.result["ips"] if call.result and "ips" in call.result else ended(call)

    return see


def setting(name: str, given: dict[str, Any]) -> Callable[[Side], Any]:
    return lambda side: add(side, given).settings[name]


def route(given: dict[str, Any], *keys: str) -> Callable[[Side], Any]:
    """The route to 10.9.0.0/16, as far as these keys go."""

    def see(side: Side) -> Any:
        routes = [each for each in add(side, given).sandbox["routes"] if each["dst"] == "10.9.0.0/16"]
        return [tuple(each.get(key) for key in keys) for each in routes]

    return see


def check_after_add(given: dict[str, Any]) -> Callable[[Side], Any]:
    def see(side: Side) -> Any:
        assert add(side, given).status == 0
        return ended(check(side, given))

    return see


def refused_ipam(answer: dict[str, Any], *, fails: bool) -> Callable[[Side], Any]:
    def see(side: Side) -> Any:
        stub = stub_of(side)
        (stub.fails if fails else stub.answers)("ADD", answer)
        call = add(side, conf(ipam={"type": stub.type}))
        return net1_after(side, call), stub.calls()

    return see


def refused_route(side: Side) -> Any:
    return net1_after(
        side, add(side, conf(ipam=static("10.1.0.5/24", routes=[{"dst": "10.9.0.0/16", "gw": "10.77.0.1"}])))
    )


def check_with_addresses_of_eth0(side: Side) -> Any:
    assert add(side, conf()).status == 0
    side.result["interfaces"].append({"name": "eth0", "sandbox": side.world.sandbox.path})
    side.result["ips"].append({"interface": 1, "address": "10.77.0.5/24"})
    return ended(check(side, conf()))


def several_hops(side: Side) -> Any:
    by_default_route("default nexthop via 10.77.0.1 nexthop via 10.77.0.3")(side.world)
    return ended(add(side, conf(master="")))


def delete_foreign_link(side: Side) -> Any:
    side.world.sandbox.ip("link", "add", "net1", "type", "veth", "peer", "name", "far")
    assert add(side, conf()).status == 1
    return net1_after(side, delete(side, conf()))


def delete_while_ipam_fails(side: Side) -> Any:
    stub = stub_of(side)
    stub.answers("ADD", {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}]})
    stub.fails("DEL", {"code": 11, "msg": "later"})
    assert add(side, conf(ipam={"type": stub.type})).status == 0
    return net1_after(side, delete(side, conf(ipam={"type": stub.type})))


def delete_by_delegate_of_another_version(side: Side) -> Any:
    stub = stub_of(side)
    stub.answers("ADD", {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}]})
    stub.fails("DEL", {"code": 1, "msg": "incompatible CNI versions"})
    assert add(side, conf(ipam={"type": stub.type})).status == 0
    return ended(delete(side, conf(ipam={"type": stub.type})))


def delete_by_plain_file(side: Side) -> Any:
    assert add(side, conf()).status == 0
    leftover = side.world.state.with_name(f"{side.world.state.name}-leftover")
    leftover.touch()
    return ended(delete(side, conf(), CNI_NETNS=str(leftover)))


def delete_with_wrong_section(side: Side) -> Any:
    assert add(side, conf()).status == 0
    return net1_after(side, delete(side, conf(mtu="large")))


def without_address_under_020(side: Side) -> Any:
    return net1_after(side, add(side, conf(cniVersion="0.2.0", ipam={})))


def in_own_namespace(side: Side) -> Any:
    call = add(side, conf(), CNI_NETNS=side.world.host.path)
    return call.error["code"] if call.error else 0, "net1" in call.host["links"]


def silent_delegate(side: Side) -> Any:
    stub = stub_of(side)
    stub.fails("ADD", {})
    (stub.folder / "answer.ADD").write_text("")
    return add(side, conf(ipam={"type": stub.type})).error["code"]


def merged(side: Side) -> Any:
    earlier = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod"}]}
    return [link["name"] for link in add(side, conf(prevResult=earlier)).result["interfaces"]]


def returned(*keys: str, prepare: Callable[[Side], object] = lambda _: None) -> Callable[[Side], Any]:
    """What eth0 is like on the host after an attachment as host-device."""

    def see(side: Side) -> Any:
        side.world.host.ip("link", "set", "eth0", "alias", "the rail", "mtu", "1400")
        assert add(side, moved()).status == 0
        prepare(side)
        call = delete(side, moved())
        link = call.host["links"].get("eth0", {})
        return (
            ended(call),
            *("UP" in link["flags"] if key == "up" else link.get(key) for key in keys if link),
        )

    return see


def addr_gen_mode_of_returned(side: Side) -> Any:
    """How eth0 makes its IPv6 addresses after an attachment; it is down, so that it makes none meanwhile."""
    side.world.host.ip("link", "set", "eth0", "down")
    side.world.host.ip("link", "set", "eth0", "addrgenmode", "eui64")
    assert add(side, moved()).status == 0
    assert delete(side, moved()).status == 0
    return side.world.host.link("eth0")["inet6_addr_gen_mode"]


def moved(**keys: Any) -> dict[str, Any]:
    return device(cniVersion="1.0.0", **keys)


def change_in_the_pod(side: Side) -> None:
    side.world.sandbox.ip("link", "set", "net1", "mtu", "1300", "address", "02:00:00:00:00:99")


def by_long_altname(side: Side) -> Any:
    side.world.host.ip("link", "property", "add", "dev", "eth0", "altname", "rail-to-the-storage-network")
    return ended(add(side, moved(device="rail-to-the-storage-network")))


def rename_in_the_pod(side: Side) -> None:
    side.world.sandbox.ip("link", "set", "net1", "down", "name", "renamed")


def failed_move(side: Side) -> Any:
    stub = stub_of(side)
    stub.fails("ADD", {"code": 100, "msg": "none left"})
    call = add(side, moved(ipam={"type": stub.type}))
    return ended(call), "eth0" in call.host["links"]


def delete_device(sandbox: str) -> Callable[[Side], Any]:
    def see(side: Side) -> Any:
        stub = stub_of(side)
        stub.answers("ADD", {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}]})
        given = moved(ipam={"type": stub.type})
        assert add(side, given).status == 0
        path = side.world.sandbox.path
        if sandbox == "gone":
            path += "-gone"
        return ended(delete(side, given, CNI_NETNS="" if sandbox == "unknown" else path)), stub.calls()[1:]

    return see


def delete_device_twice(side: Side) -> Any:
    assert add(side, moved()).status == 0
    return ended(delete(side, moved())), ended(delete(side, moved()))


def twins_mac(side: Side) -> Any:
    """A passthru macvlan has the MAC of its master, and here comes before it in the kernel's list."""
    side.world.host.ip("link", "add", "low", "index", "500", "type", "veth", "peer", "name", "low-peer")
    side.world.host.ip("link", "set", "low", "address", MAC)
    side.world.host.ip(
        "link", "add", "link", "low", "name", "twin", "index", "400", "type", "macvlan", "mode", "passthru"
    )
    return sorted(
        name for name in add(side, moved(device="", hwaddr=MAC)).host["links"] if name in ("low", "twin")
    )


WITH_GATEWAY = {"dst": "10.9.0.0/16"}
EXTENDED = {"dst": "10.9.0.0/16", "mtu": 1300, "advmss": 1200, "priority": 7, "table": 100}
TWINS = [{"dst": "fd09::/16", "gw": "fd00::1"}, {"dst": "fd09::/16", "gw": "fd00::2"}]
LATER = "the Go plugins do so too since a later version than Debian's"

DIFFERENCES = [
    # All plugins.
    Difference(
        "error-codes",
        "all",
        "answer 999 to most failures",
        "answers with the spec's code or one of its own",
        "the code says what should happen next",
        lambda side: add(side, conf(mode="source")).error["code"],
        (999, 7),
    ),
    Difference(
        "error-version",
        "all",
        "leave cniVersion out of errors",
        "has cniVersion in errors",
        "the spec wants it",
        lambda side: add(side, conf(mode="source")).error.get("cniVersion"),
        (None, "1.0.0"),
    ),
    Difference(
        "own-namespace",
        "all",
        "act in the host's own namespace if that is called the sandbox; later versions refuse afterwards",
        "refuses the host's own namespace as the sandbox before it acts",
        "the host's interfaces are changed by then",
        in_own_namespace,
        ((0, True), (8, False)),
    ),
    Difference(
        "reserved-names",
        "all",
        "leave interface names that the kernel keeps for itself to the kernel",
        "refuses interface names that the kernel keeps for itself with code 4",
        "a sentence instead of EEXIST or EINVAL",
        lambda side: add(side, conf(), CNI_IFNAME="all").error["code"],
        (999, 4),
    ),
    Difference(
        "silent-delegate",
        "all",
        "answer code 0 if a delegate dies in silence",
        "answers code 103 if a delegate dies in silence",
        "0 means no error",
        silent_delegate,
        (0, 103),
    ),
    Difference(
        "empty-dns",
        "all",
        'have an empty "dns" in results of 1.0.0',
        'leaves an empty "dns" out of results of 1.0.0',
        LATER,
        lambda side: add(side, conf()).result.get("dns"),
        ({}, None),
    ),
    Difference(
        "cni-args",
        "all",
        "refuse the keys of CNI_ARGS that are for the other plugin of the same call",
        "knows MAC, IP and GATEWAY in CNI_ARGS everywhere",
        "the same environment reaches the interface plugin and the IPAM plugin",
        lambda side: ended(add(side, conf(), CNI_ARGS=f"MAC={MAC};IP=10.1.0.7/24")),
        ("error", "success"),
    ),
    Difference(
        "delete-without-section",
        "all",
        "want a valid plugin section for DEL",
        "wants only JSON, name and cniVersion for DEL",
        "what ADD did is in the journal",
        delete_with_wrong_section,
        ("error, link", "success, no link"),
    ),
    Difference(
        "delegate-of-another-version",
        "all",
        "fail DEL for ever if the delegate does not speak the configuration's version",
        "takes a delegate that does not speak the configuration's version for one that holds nothing on DEL",
        "it has served no ADD of that version either",
        delete_by_delegate_of_another_version,
        ("error", "success"),
    ),
    # Interface plugins.
    Difference(
        "prev-result",
        "interfaces",
        "ignore prevResult on ADD",
        "adds to prevResult on ADD",
        "the spec wants it",
        merged,
        (["net1"], ["eth0", "net1"]),
    ),
    Difference(
        "ipam-dns",
        "interfaces",
        "drop the IPAM plugin's DNS",
        "uses the IPAM plugin's DNS unless the configuration has its own",
        "it was configured to be used",
        lambda side: add(side, conf(ipam=static("10.1.0.5/24", dns=DNS))).result["dns"],
        ({}, DNS),
    ),
    Difference(
        "route-attributes",
        "interfaces",
        "ignore routes' mtu, advmss, priority and table",
        "programs routes' mtu, advmss, priority and table",
        "all but mtu and advmss are programmed by the Go plugins since a later version than Debian's",
        route(conf(ipam=static("10.1.0.5/24 via 10.1.0.1", routes=[EXTENDED])), "table", "metric", "metrics"),
        ([("main", None, None)], [("100", 7, [{"mtu": 1300, "advmss": 1200}])]),
    ),
    Difference(
        "on-link-routes",
        "interfaces",
        "send a route of scope link over the gateway",
        "makes a route of scope link on-link though there is a gateway",
        "that is what the scope means",
        route(
            conf(ipam=static("10.1.0.5/24 via 10.1.0.1", routes=[WITH_GATEWAY | {"scope": 253}])),
            "gateway",
            "scope",
        ),
        ([("10.1.0.1", "global")], [(None, "link")]),
    ),
    Difference(
        "address-twice",
        "interfaces",
        "take the same address twice as an error",
        "takes an address that is named twice as one",
        "the pod gets what was asked for",
        lambda side: ended(add(side, conf(ipam=static("10.1.0.5/24", "10.1.0.5/24")))),
        ("error", "success"),
    ),
    Difference(
        "route-twice",
        "interfaces",
        "take the same route twice as an error",
        "takes a route that is named twice as one",
        "the pod gets what was asked for",
        lambda side: ended(add(side, conf(ipam=static("10.1.0.5/24", routes=2 * [WITH_GATEWAY])))),
        ("error", "success"),
    ),
    Difference(
        "keep-addr-on-down",
        "interfaces",
        "leave keep_addr_on_down as it is",
        "sets keep_addr_on_down with IPv6 addresses",
        LATER,
        setting("ipv6/conf/net1/keep_addr_on_down", conf(ipam=static("fd00::5/64"))),
        ("0", "1"),
    ),
    Difference(
        "check-of-host-addresses",
        "interfaces",
        "fail CHECK of a host address",
        "is content with a host address on CHECK",
        "false alarm: there is no route to its own prefix in the main table",
        check_after_add(conf(ipam=static("10.1.0.5/32"))),
        ("error", "success"),
    ),
    Difference(
        "check-of-routes-by-gateway",
        "interfaces",
        "fail CHECK of a route that goes over the address's gateway",
        "is content with a route over the address's gateway on CHECK",
        "false alarm",
        check_after_add(conf(ipam=static("10.1.0.5/24 via 10.1.0.1", routes=[WITH_GATEWAY]))),
        ("error", "success"),
    ),
    Difference(
        "check-of-next-hops",
        "interfaces",
        "fail CHECK of an IPv6 route with several next hops",
        "knows the next hops of an IPv6 route on CHECK",
        "false alarm",
        check_after_add(conf(ipam=static("fd00::5/64", routes=TWINS))),
        ("error", "success"),
    ),
    Difference(
        "check-of-own-addresses",
        "interfaces",
        "look on CHECK for the addresses of all interfaces on their own",
        "looks on CHECK only for the addresses of its own interface",
        "false alarm in chains",
        check_with_addresses_of_eth0,
        ("error", "success"),
    ),
    # macvlan.
    Difference(
        "undo-when-ipam-fails",
        "macvlan",
        "leaves the link when the IPAM plugin fails",
        "deletes the link and calls the IPAM plugin's DEL when its ADD fails",
        "a failed ADD leaves nothing",
        refused_ipam({"code": 100, "msg": "none left"}, fails=True),
        (("error, link", ["ADD pod-1 net1"]), ("error, no link", ["ADD pod-1 net1", "DEL pod-1 net1"])),
    ),
    Difference(
        "undo-without-address",
        "macvlan",
        "leaves the link and the lease when the IPAM plugin gives no address",
        "undoes everything when the IPAM plugin gives no address",
        "a failed ADD leaves nothing",
        refused_ipam({"cniVersion": "1.0.0"}, fails=False),
        (("error, link", ["ADD pod-1 net1"]), ("error, no link", ["ADD pod-1 net1", "DEL pod-1 net1"])),
    ),
    Difference(
        "undo-when-a-route-is-refused",
        "macvlan",
        "leaves the link when a route is refused",
        "deletes the link when a route is refused",
        "a failed ADD leaves nothing",
        refused_route,
        ("error, link", "error, no link"),
    ),
    Difference(
        "without-address-under-0.2.0",
        "macvlan",
        "fails under 0.2.0 without addresses after the link is made",
        "fails under 0.2.0 without addresses before anything is made",
        "a failed ADD leaves nothing",
        without_address_under_020,
        ("error, link", "error, no link"),
    ),
    Difference(
        "default-route-of-several-hops",
        "macvlan",
        "fails on a default route with several next hops",
        "takes the first of several next hops",
        "the host has a default route",
        several_hops,
        ("error", "success"),
    ),
    Difference(
        "link-in-container",
        "macvlan",
        "knows no linkInContainer",
        "knows linkInContainer",
        LATER,
        lambda side: ended(add(side, conf(linkInContainer=True))),
        ("success", "error"),  # the sandbox has no eth0
    ),
    Difference(
        "transmit-queue",
        "macvlan",
        "gives the link a transmit queue of length 0",
        "leaves the transmit queue's length to the kernel",
        LATER,
        lambda side: add(side, conf()).sandbox["links"]["net1"].get("txqlen"),
        (None, 1000),
    ),
    Difference(
        "ndisc-notify",
        "macvlan",
        "leaves ndisc_notify as it is",
        "sets ndisc_notify",
        LATER,
        setting("ipv6/conf/net1/ndisc_notify", conf()),
        ("0", "1"),
    ),
    Difference(
        "delete-own-link-only",
        "macvlan",
        "deletes on DEL whatever link has the name",
        "deletes on DEL only the link that ADD made",
        "another's link is lost otherwise, after an ADD that its name refused",
        delete_foreign_link,
        ("success, no link", "success, link"),
    ),
    Difference(
        "delete-though-ipam-fails",
        "macvlan",
        "stops DEL at the IPAM plugin's error",
        "deletes the link on DEL though the IPAM plugin fails",
        "what can be given back is",
        delete_while_ipam_fails,
        ("error, link", "error, no link"),
    ),
    Difference(
        "delete-without-namespace",
        "macvlan",
        "fails DEL if the sandbox's path is no namespace",
        "is content on DEL if the sandbox's path is no namespace",
        "the sandbox is gone, and teardown would loop for ever",
        delete_by_plain_file,
        ("error", "success"),
    ),
    # host-device.
    Difference(
        "arp-notify",
        "host-device",
        "leaves arp_notify as it is",
        "sets arp_notify",
        "peers keep a stale entry otherwise, as with macvlan",
        setting("ipv4/conf/net1/arp_notify", moved(ipam=static("10.1.0.5/24"))),
        ("0", "1"),
    ),
    Difference(
        "home-when-ipam-fails",
        "host-device",
        "leaves the device in the sandbox when IPAM fails",
        "brings the device home when IPAM fails",
        "a failed ADD leaves nothing",
        failed_move,
        (("error", False), ("error", True)),
    ),
    Difference(
        "home-and-up",
        "host-device",
        "brings the device home down",
        "brings the device home up if it was",
        "it is as ADD found it",
        returned("up"),
        (("success", False), ("success", True)),
    ),
    Difference(
        "home-with-alias",
        "host-device",
        "leaves its own alias on the device",
        "gives the device its own alias back",
        "it is as ADD found it",
        returned("ifalias"),
        (("success", "eth0"), ("success", "the rail")),
    ),
    Difference(
        "home-with-mtu-and-mac",
        "host-device",
        "brings the device home with the MTU and MAC that the pod gave it",
        "gives the device its own MTU and MAC back",
        "it is as ADD found it",
        returned("mtu", "address", prepare=change_in_the_pod),
        (("success", 1300, "02:00:00:00:00:99"), ("success", 1400, "02:00:00:00:00:e0")),
    ),
    Difference(
        "home-with-addr-gen-mode",
        "host-device",
        "forgets how the device makes its IPv6 addresses",
        "gives the device its own way to make IPv6 addresses back",
        "it is as ADD found it",
        addr_gen_mode_of_returned,
        ("none", "eui64"),
    ),
    Difference(
        "home-though-renamed",
        "host-device",
        "cannot bring a device home that the pod renamed",
        "brings a device home that the pod renamed",
        "it is known by more than its name",
        returned("mtu", prepare=rename_in_the_pod),
        (("error",), ("success", 1400)),
    ),
    Difference(
        "release-without-sandbox",
        "host-device",
        "keeps the address if DEL does not tell the sandbox",
        "gives the address back though DEL does not tell the sandbox",
        "the address is lost otherwise",
        delete_device("unknown"),
        (("success", []), ("success", ["DEL pod-1 net1"])),
    ),
    Difference(
        "release-of-a-dead-sandbox",
        "host-device",
        "fails DEL if the sandbox is gone, and keeps the address",
        "gives the address back though the sandbox is gone",
        "teardown would loop for ever",
        delete_device("gone"),
        (("error", []), ("success", ["DEL pod-1 net1"])),
    ),
    Difference(
        "delete-twice",
        "host-device",
        "fails the second DEL",
        "is content with a second DEL",
        "the spec wants it",
        delete_device_twice,
        (("success", "error"), ("success", "success")),
    ),
    Difference(
        "hwaddr-of-several",
        "host-device",
        "takes the first interface that has hwaddr",
        "takes a plain interface before one that rides on another, where both have hwaddr",
        "VLANs, bonds and macvlans share MACs",
        twins_mac,
        (["low"], ["twin"]),
    ),
    Difference(
        "dpdkmode",
        "host-device",
        "moves nothing if the undocumented key DPDKMode is true",
        "ignores the key DPDKMode",
        "an accident of decoding; the device's driver decides",
        lambda side: "eth0" in add(side, moved(DPDKMode=True)).host["links"],
        (True, False),
    ),
    Difference(
        "long-alternative-names",
        "host-device",
        "finds no interface by an alternative name of over 15 bytes",
        "finds an interface by an alternative name of any length",
        "that is what long alternative names are for",
        by_long_altname,
        ("error", "success"),
    ),
    # static.
    Difference(
        "route-without-dst",
        "static",
        "takes a route without dst, and prints <nil> that no interface plugin can read",
        "refuses a route without dst",
        "the interface plugin cannot tell which key is missing",
        of_static("ADD", conf(ipam=static(routes=[{"gw": "10.1.0.1"}]))),
        ("success", "error"),
    ),
    Difference(
        "gateway-of-cni-args",
        "static",
        "gives GATEWAY of CNI_ARGS to addresses of CNI_ARGS only",
        "gives GATEWAY of CNI_ARGS to every address in whose subnet it lies",
        "a caller cannot know where an address is from",
        of_static("ADD", conf(ipam=static("10.1.0.5/24")), CNI_ARGS="GATEWAY=10.1.0.1"),
        ([{"address": "10.1.0.5/24"}], [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}]),
    ),
    Difference(
        "gateway-of-requested-addresses",
        "static",
        "gives addresses of args and runtimeConfig no gateway",
        "gives addresses of args and runtimeConfig the configured gateway of their subnet",
        "routes become on-link otherwise",
        of_static("ADD", conf(runtimeConfig={"ips": ["10.1.0.7/24"]})),
        ([{"address": "10.1.0.7/24"}], [{"address": "10.1.0.7/24", "gateway": "10.1.0.1"}]),
    ),
    Difference(
        "check-of-missing-addresses",
        "static",
        "passes CHECK though an address is not in prevResult",
        "fails CHECK if an address is not in prevResult",
        "the pod does not have what is configured",
        of_static("CHECK", conf(prevResult={"cniVersion": "1.0.0"})),
        ("success", "error"),
    ),
]
