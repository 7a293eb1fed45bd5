"""podrail report: a page that a browser shows, that people can use, and that says what the node has."""

from __future__ import annotations

import io
import itertools
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cni.cli.attached import Attachment
from cni.cli.bundle import main as bundle
from cni.cli.devices import devices, distance
from cni.cli.doctor.main import main as doctor
from cni.cli.finding import Finding
from cni.cli.pools import Entry, Pool
from cni.cli.report.main import main as report
from cni.cli.report.page import page
from cni.cli.show import main as show
from cni.cli.snapshot import Snapshot, of_bundle, of_json
from cni.cli.trace import main as trace
from cni.cli.verify.main import main as verify
from cni.protocol.errors import DecodingFailure
from tests.support.browser import Page, browser
from tests.support.command import called
from tests.support.sysfs_tree import SysfsTree
from tests.support.world import WarmWorld, World, rail

HOSTILE = "<script>document.title='taken'</script>\"'&<img src=x onerror=document.title='taken'>"


def attachment(pod: str, device: str, **changes: Any) -> Attachment:
    made = Attachment(
        pod=pod,
        network="rail",
        ifname="net1",
        plugin="sriov",
        device=device,
        addresses=("10.1.0.5/24", "fd00:1:2:3:4:5:6:7/64"),
        mac="02:00:00:00:00:01",
        container_id="a" * 64,
        created="2026-01-01T00:00:00+00:00",
        health="ok",
    )
    return replace(made, **changes)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two sockets, a GPU and a card with virtual functions on the first, a card on the second."""
    tree = SysfsTree(tmp_path / "sys")
    tree.add_pf("0000:18:00.0", "rail0", driver="mlx5_core")
    tree.write("pci", "0000:18:00.0", {"numa_node": 0, "vendor": "0x15b3", "mtu": 1})
    tree.write("pci", "0000:18:00.0", {"speed": 400000, "mtu": 9000, "operstate": "up"}, "rail0")
    for number in range(4):
        tree.add_vf("0000:18:00.0", f"0000:18:0{number + 1}.0", f"rail0v{number}", driver="mlx5_core")
        tree.write("pci", f"0000:18:0{number + 1}.0", {"numa_node": 0, "class": "0x020000"})
    tree.add_pf("0000:98:00.0", "rail1", driver="mlx5_core", total=0)
    tree.write("pci", "0000:98:00.0", {"numa_node": 1, "vendor": "0x15b3"})
    tree.add_pci("0000:19:00.0", driver="nvidia")
    tree.write("pci", "0000:19:00.0", {"class": "0x030200", "vendor": "0x10de", "numa_node": 0})
    return tmp_path / "sys"


@pytest.fixture
def snapshot(tree: Path) -> Snapshot:
    entry = Entry("10.1.0.5", HOSTILE, "net1", state="alive")
    files = "/var/lib/cni/podrail/ipam"
    full = Pool("file", files, "10.1.0.0-24", "10.1.0.0/24", held=230, size=254, allocations=(entry,))
    return Snapshot(
        node=f"node-a {HOSTILE}",
        time="2026-01-01T00:00:00+00:00",
        podrail="0.1.0",
        kernel="6.1.0",
        python="3.11.2",
        attachments=(
            attachment("jobs/train-0", "0000:18:01.0"),
            attachment(HOSTILE, "rail1", health="sandbox gone", plugin="macvlan"),
            attachment("jobs/" + "a-very-long-name-" * 8, "0000:18:02.0"),
        ),
        pools=(full, Pool("kubernetes", "/etc/kubeconfig", error="nobody answers")),
        findings=(Finding("mtu", HOSTILE, "too large", "Lower it.", "warning"),),
        drift=(Finding("mac", "jobs/train-0 net1", "its MAC is another", "Recreate the pod."),),
        devices=devices(tree),
    )


# -- what it says ----------------------------------------------------------------------------------


class Outline(HTMLParser):
    """The elements of a page, with their attributes and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_is_whole_and_names_everything_a_screen_reader_needs(snapshot: Snapshot) -> None:
    outline = Outline(page(snapshot))
    for landmark in ("header", "nav", "main", "footer"):
        assert len(outline.named(landmark)) == 1, landmark
    assert outline.named("html") == [{"lang": "en"}]
    tables = outline.named("table")
    assert len(outline.named("caption")) == len(tables) >= 8
    assert all(cell.get("scope") in ("col", "row") for cell in outline.named("th"))
    regions = [each for each in outline.named("div") if each.get("class") == "scroll"]
    assert all(
        each["role"] == "region" and each["aria-label"] and each["tabindex"] == "0" for each in regions
    )
    ids = {attributes["id"] for _, attributes in outline.elements if "id" in attributes}
    assert {str(link["href"])[1:] for link in outline.named("a")} <= ids
    levels = [int(name[1]) for name, _ in outline.elements if name in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_nothing_of_a_pods_name_becomes_an_element(snapshot: Snapshot) -> None:
    text = page(snapshot)
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text


def test_the_page_needs_no_other_file(snapshot: Snapshot) -> None:
    outline = Outline(page(snapshot))
    assert not any({"src", "href"} & set(attributes) for name, attributes in outline.elements if name != "a")
    assert not outline.named("link")
    assert "url(" not in page(snapshot)
    assert "@import" not in page(snapshot)


def test_the_page_says_which_pod_has_which_function_and_how_near_the_gpu_is(snapshot: Snapshot) -> None:
    text = page(snapshot)
    assert "rail0: 4 virtual functions, 2 in pods" in text
    assert "NUMA node 0" in text
    assert "NUMA node 1" in text
    assert "230 of 254" in text
    assert "nobody answers" in text
    assert "1 error, 1 warning" in text
    assert "2 of 3 well" in text


@pytest.mark.parametrize(
    ("card", "gpu", "told"),
    [
        pytest.param(
            "0000:00:01.0/0000:01:00.0/0000:02:00.0",
            "0000:00:01.0/0000:01:00.0/0000:02:01.0",
            "PIX",
            id="one-switch",
        ),
        pytest.param(
            "0000:00:01.0/0000:01:00.0/0000:02:00.0/0000:03:00.0",
            "0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:04:00.0",
            "PXB",
            id="several-bridges",
        ),
        pytest.param(
            "0000:00:01.0/0000:01:00.0", "0000:00:02.0/0000:02:00.0", "PHB", id="the-same-host-bridge"
        ),
    ],
)
def test_distances_below_one_host_bridge(tmp_path: Path, card: str, gpu: str, told: str) -> None:
    root = tmp_path / "sys/devices/pci0000:00"
    assert distance(root / card, root / gpu) == told


@pytest.mark.parametrize(("numa", "told"), [(0, "NODE"), (1, "SYS"), (-1, "SYS")])
def test_distances_between_host_bridges(tmp_path: Path, numa: int, told: str) -> None:
    card, gpu = (tmp_path / f"sys/devices/pci0000:{bus}0/0000:{bus}0:00.0" for bus in (1, 2))
    for folder, node in ((card, 0 if numa >= 0 else -1), (gpu, numa)):
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text(f"{node}\n")
    assert distance(card, gpu) == told


# -- in a browser ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.fixture
def file(snapshot: Snapshot, tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(page(snapshot), encoding="utf-8")
    return path


# For each text: how it stands out from what is behind it, as WCAG 2.2 computes it.
_CONTRASTS = """
(() => {
  const light = ([r, g, b]) => {
    const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = numbers(getComputedStyle(each).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    if (!node.textContent.trim()) continue;
    const element = node.parentElement;
    const [a, b] = [light(numbers(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([contrast, element.tagName, node.textContent.slice(0, 30)]);
  }
  return found.sort((x, y) => x[0] - y[0]);
})()
"""


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_shows_the_page(chromium: Page, file: Path, width: int, is_dark: bool) -> None:
    chromium.show(file, width=width, is_dark=is_dark)
    chromium.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert chromium.complaints == []
    assert chromium.evaluate("document.title").startswith("podrail: networks of node-a <script>")
    page_width, screen = chromium.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert page_width <= screen == width, "it is wider than the screen"
    assert chromium.evaluate("performance.getEntriesByType('resource').length") == 0
    contrasts = chromium.evaluate(_CONTRASTS)
    assert len(contrasts) > 100
    assert contrasts[0][0] >= 4.5, contrasts[:3]
    background = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(13, 17, 23)" if is_dark else "rgb(255, 255, 255)")


def test_the_page_can_be_used_with_the_keyboard_alone(chromium: Page, file: Path) -> None:
    chromium.show(file, width=1280)
    chromium.press("Tab")
    assert chromium.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert chromium.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    seen = set()
    for _ in range(60):
        chromium.press("Tab")
        seen.add(chromium.evaluate("document.activeElement.tagName"))
    assert {"A", "DIV", "SUMMARY"} <= seen, "links, tables that scroll, and what opens"


# -- of a node, and of its bundle ------------------------------------------------------------------


def test_a_bundle_shows_what_the_node_showed(world: World, tmp_path: Path) -> None:
    world = WarmWorld(world.host, world.sandbox, world.state)
    world.host.add_veth("eth0")
    world.add(rail(ipam={"type": "whereabouts", "range": "10.1.0.0/24"}))
    world.sandbox.ip("link", "set", "net1", "mtu", "1400")
    path = tmp_path / "bundle.tar.gz"
    made = called(world, bundle, "--output", str(path), "--no-journal", NODENAME="node-a")
    assert (made.returncode, made.stderr) == (0, "")
    assert path.stat().st_mode & 0o777 == 0o600
    for command in (show, verify, doctor):
        here = called(world, command, "--json")
        world_of_another = WarmWorld(world.sandbox, world.host, tmp_path / "elsewhere")
        there = called(world_of_another, command, "--json", "--bundle", str(path))
        assert (there.returncode, there.stderr) == (here.returncode, "")
        assert json.loads(there.stdout) == json.loads(here.stdout)
    elsewhere = called(world_of_another, report, "--bundle", str(path))
    assert elsewhere.returncode == 0
    assert elsewhere.stdout == page(of_bundle(path))
    assert "podrail: networks of node-a" in elsewhere.stdout
    assert "its MTU is 1400, it should be 1500" in elsewhere.stdout


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each value of a document lies."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in parts:
        yield from _paths(each, (*path, key))


def test_a_snapshot_from_anywhere_is_shown_or_refused(snapshot: Snapshot) -> None:
    whole = json.loads(json.dumps(snapshot.to_json()))
    assert of_json(json.dumps(whole).encode()) == snapshot
    refused = 0
    for path in list(_paths(whole))[1:]:
        for other in (None, -1, "1e9", [], {}, "</table>"):
            changed = json.loads(json.dumps(whole))
            holder = changed
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = other
            try:
                text = page(of_json(json.dumps(changed).encode()))
            except DecodingFailure:
                refused += 1
            else:
                assert text.count("</table>") == text.count("<table>")
    assert refused > 100


def test_what_is_no_bundle_is_said_to_be_none(world: World, tmp_path: Path) -> None:
    for content in (b"", b"no archive", os.urandom(300), b"\x1f\x8b\x08\x00junk"):
        (tmp_path / "file").write_bytes(content)
        for command in (show, verify, doctor, report):
            done = called(world, command, "--bundle", str(tmp_path / "file"))
            assert done.returncode in (1, 2)
            assert "is no bundle" in done.stderr, (content, done)
    gone = called(world, show, "--bundle", str(tmp_path / "gone"))
    assert (gone.returncode, "No such file" in gone.stderr) == (2, True)


def test_a_bundle_of_strangers_cannot_command_a_terminal(
    world: World, snapshot: Snapshot, tmp_path: Path
) -> None:
    evil = "\x1b]0;taken\x07\x1b[2J"
    strange = replace(
        snapshot,
        attachments=(attachment(f"jobs/{evil}", "eth0"),),
        findings=(Finding(evil, evil, evil, evil, "warning"),),
        drift=(),
    )
    path = tmp_path / "bundle.tar.gz"
    line = {"event": "call", "attachment": "jobs/web net1", "msg": evil, "notes": evil, "time": evil}
    contents = {"snapshot.json": strange.to_json(), "log/journal.jsonl": line}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"podrail-x/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    for command, arguments in ((show, ()), (doctor, ()), (trace, ("jobs/web",))):
        done = called(world, command, *arguments, "--bundle", str(path))
        assert "taken" in done.stdout, done
        assert not set("\x1b\x07") & set(done.stdout)
