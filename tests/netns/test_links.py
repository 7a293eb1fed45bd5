"""Links and sysctls as the kernel tells them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni.host import netns, sysctl
from cni.host.links import Links
from tests.support.world import Namespace


@pytest.fixture
def links(host: Namespace) -> Iterator[Links]:
    """A host with two links that have addresses and routes of both families."""
    host.without_link_local()
    for number in (0, 1):
        host.add_veth(f"dev{number}")
        for address in (f"10.{number}.0.1/24", f"fd0{number}::1/64"):
            host.ip("addr", "add", address, "dev", f"dev{number}", "nodad")
        host.ip("route", "add", f"10.9{number}.0.0/16", "via", f"10.{number}.0.254")
    with netns.opened(host.path) as opened, Links(opened, "on the host") as links:
        yield links


def test_addresses_are_those_of_one_link(links: Links) -> None:
    link = links.find("dev1")
    assert link
    told = {str(each.cidr) for each in links.addresses(link.index)}
    assert told == {"10.1.0.1/24", "fd01::1/64"}


def test_routes_are_those_through_one_link_or_all(links: Links) -> None:
    link = links.find("dev1")
    assert link
    through = [path for path in links.routes() if link.index in path.indices]
    assert {"10.91.0.0/16", "fd01::/64"} <= {str(path.network) for path in through}
    assert 0 < len(links.raw_routes(link.index)) < len(links.raw_routes())


def test_a_link_that_is_gone_has_nothing(host: Namespace, links: Links) -> None:
    link = links.find("dev1")
    assert link
    host.ip("link", "del", "dev1")
    assert links.addresses(link.index) == []
    assert links.raw_routes(link.index) == []


def test_own_namespace_is_the_thread_s(host: Namespace) -> None:
    """A thread in another namespace than its process has that as its own."""
    host.add_veth("dev0")
    found = []

    def look() -> None:
        with netns.own() as own, Links(own, "here") as links:
            found.append((own.identity(), links.find("dev0") is not None))

    with netns.opened(host.path) as opened:
        thread = threading.Thread(target=lambda: opened.run(look))
        thread.start()
        thread.join()
        assert found == [(opened.identity(), True)]


def test_own_settings_are_those_that_differ_and_can_be_written(host: Namespace, links: Links) -> None:
    """Where a namespace has no usual values for neighbours, all of a link's are its own."""
    changed = {
        "ipv4/conf/default/rp_filter": "1",
        "ipv4/conf/dev0/rp_filter": "2",
        "ipv6/conf/default/accept_ra": "0",
        "ipv6/conf/dev0/accept_ra": "1",
        "ipv6/conf/default/hop_limit": "44",
        "ipv6/conf/dev0/hop_limit": "44",
    }

    def change() -> None:
        for name, value in changed.items():
            (Path("/proc/sys/net") / name).write_text(value)

    links.netns.run(change)
    found = links.netns.run(lambda: sysctl.own_settings("dev0"))
    assert {key: value for key, value in found.items() if "/neigh/" not in key} == {
        "ipv4/conf/rp_filter": "2",
        "ipv6/conf/accept_ra": "1",
        "ipv6/conf/addr_gen_mode": "1",
    }
    assert {"ipv4/neigh/unres_qlen_bytes", "ipv6/neigh/retrans_time_ms"} <= set(found)
