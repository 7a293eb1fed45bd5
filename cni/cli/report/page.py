"""The page: what a snapshot says, problems first (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from cni.cli.attached import Attachment
from cni.cli.devices import Card, Gpu
from cni.cli.finding import Finding, counted
from cni.cli.pools import Pool
from cni.cli.report.html import Html, inner, table, tag
from cni.cli.report.style import CSS
from cni.cli.snapshot import Snapshot

_NO_SCRIPT = "default-src 'none'; style-src 'unsafe-inline'"
_DISTANCES = (
    "PIX: at most one bridge between card and GPU; PXB: several bridges; PHB: the same host bridge; "
    "NODE: the same NUMA node; SYS: across sockets."
)


def page(snapshot: Snapshot) -> str:
    """Return the page as one file that needs no other."""
    sections = {
        "problems": ("Problems", _problems(snapshot)),
        "pods": ("Pods", _pods(snapshot.attachments)),
        "rails": ("Rails", _rails(snapshot)),
        "devices": ("Cards and GPUs", _devices(snapshot)),
        "pools": ("Address pools", _pools(snapshot)),
    }
    title = f"podrail: networks of {snapshot.node}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_NO_SCRIPT),
        tag("title", title),
        tag("style", Html(CSS)),
    )
    links = [tag("li", tag("a", name, href=f"#{key}")) for key, (name, _) in sections.items()]
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#content", class_="skip"),
        tag("header", tag("h1", title), _tiles(snapshot)),
        tag("nav", tag("ul", *links), aria_label="Sections"),
        tag("main", *(_section(key, *told) for key, told in sections.items()), id="content"),
        tag(
            "footer",
            f"Made {snapshot.time} by podrail {snapshot.podrail}; Linux {snapshot.kernel}, "
            f"Python {snapshot.python}.",
        ),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _section(key: str, name: str, content: Html) -> Html:
    return tag("section", tag("h2", name, id=key), content, aria_labelledby=key)


def _tiles(snapshot: Snapshot) -> Html:
    found = [*snapshot.drift, *snapshot.findings]
    well = sum(each.is_well for each in snapshot.attachments)
    fullest = max((each.held / each.size for each in snapshot.pools if each.size > 0), default=None)
    told = {
        "Problems": counted(found),
        "Attachments": f"{well} of {len(snapshot.attachments)} well",
        "Network cards": f"{sum(not card.pf for card in snapshot.devices.cards if card.address)}",
        "GPUs": str(len(snapshot.devices.gpus)),
        "Fullest pool": "none" if fullest is None else f"{100 * fullest:.0f} %",
    }
    tiles = (tag("div", tag("dt", name), tag("dd", value)) for name, value in told.items())
    return tag("dl", *tiles, class_="tiles")


def _problems(snapshot: Snapshot) -> Html:
    found = sorted([*snapshot.drift, *snapshot.findings], key=lambda each: each.severity)
    if not found:
        return tag("p", tag("span", "✓ Nothing was found.", class_="good"))
    return tag("ul", *map(_problem, found), class_="problems")


def _problem(finding: Finding) -> Html:
    mark = "bad" if finding.severity == "error" else "warn"
    return tag(
        "li",
        tag("strong", f"{finding.severity.capitalize()}: ", class_=mark),
        tag("strong", finding.about),
        f": {finding.message} ",
        tag("span", f"[{finding.check}]", class_="soft"),
        tag("br"),
        finding.fix,
        class_=finding.severity,
    )


def _pods(attachments: Sequence[Attachment]) -> Html:
    if not attachments:
        return tag("p", "Nothing is attached.")
    rows = [
        (
            each.pod,
            each.ifname,
            each.network,
            each.plugin,
            _code(each.device),
            _code(*each.addresses),
            _code(each.mac),
            each.created,
            _health(each),
        )
        for each in attachments
    ]
    heads = ("Pod", "Interface", "Network", "Plugin", "Device", "Addresses", "MAC", "Since", "Health")
    return table("Attachments of this node, by pod", heads, rows)


def _health(attachment: Attachment) -> Html:
    mark, class_ = ("✓", "good") if attachment.is_well else ("✗", "bad")
    return tag("span", f"{mark} {attachment.health}", class_=class_)


def _rails(snapshot: Snapshot) -> Html:
    """Each interface of the host by which pods are reached, and what rides on it."""
    riding: dict[str, list[Attachment]] = defaultdict(list)
    by_address = {card.address: card for card in snapshot.devices.cards if card.address}
    for each in snapshot.attachments:
        card = by_address.get(each.device)
        pf = by_address.get(card.pf) if card and card.pf else card
        riding[(pf.name or pf.address) if pf else each.device or each.plugin].append(each)
    if not riding:
        return tag("p", "No rail is in use.")
    cards = {card.name: card for card in snapshot.devices.cards if card.name}
    rows = []
    for name, attached in sorted(riding.items()):
        card = cards.get(name)
        networks = ", ".join(sorted({each.network for each in attached}))
        state = (_speed(card), card.state or "-", _numa(card.numa)) if card else ("-", "-", "-")
        rows.append((name, networks, len(attached), *state))
    heads = ("Rail", "Networks", "Attachments", "Speed", "State", "NUMA node")
    return table("Interfaces of the host that pods are attached by", heads, rows)


def _devices(snapshot: Snapshot) -> Html:
    cards, gpus = snapshot.devices.cards, snapshot.devices.gpus
    if not cards and not gpus:
        return tag("p", "There are no network cards.")
    nodes = sorted({card.numa for card in cards if not card.pf} | {gpu.numa for gpu in gpus})
    names = {gpu.address: f"GPU {number}" for number, gpu in enumerate(gpus)}
    parts: list[Html] = [tag("p", _DISTANCES, class_="soft")] if gpus else []
    for node in nodes:
        title = f"NUMA node {node}" if node >= 0 else "Without a NUMA node"
        parts.append(tag("h3", title))
        here = [gpu for gpu in gpus if gpu.numa == node]
        if here:
            parts.append(_gpus(title, here, names))
        near = [card for card in cards if card.numa == node and not card.pf]
        if near:
            parts.append(_cards(title, near, names))
            parts += [_functions(card, snapshot) for card in near if card.vfs]
    return inner(parts)


def _gpus(title: str, gpus: Sequence[Gpu], names: dict[str, str]) -> Html:
    rows = [(names[gpu.address], gpu.vendor, _code(gpu.address)) for gpu in gpus]
    return table(f"GPUs: {title}", ("GPU", "Vendor", "PCI address"), rows)


def _cards(title: str, cards: Sequence[Card], names: dict[str, str]) -> Html:
    heads = ["Card", "PCI address", "Driver", "Speed", "State", "MTU", "VFs", "RDMA", *names.values()]
    rows = [
        (
            card.name or card.address,
            _code(card.address),
            card.driver or "-",
            _speed(card),
            card.state or "-",
            card.mtu or "-",
            f"{len(card.vfs)} of {card.total_vfs}" if card.total_vfs else "-",
            ", ".join(card.rdma) or "-",
            *(card.distances.get(address, "-") for address in names),
        )
        for card in cards
    ]
    return table(f"Network cards: {title}", heads, rows)


def _functions(card: Card, snapshot: Snapshot) -> Html:
    """The virtual functions of a card, and which pod has each."""
    functions = {each.address: each for each in snapshot.devices.cards if each.pf == card.address}
    holders = {each.device: each for each in snapshot.attachments}
    rows = []
    for number, address in enumerate(card.vfs):
        function, holder = functions.get(address), holders.get(address)
        rows.append(
            (
                number,
                _code(address),
                function.name if function and function.name else "-",
                function.driver if function and function.driver else "-",
                f"{holder.pod} {holder.ifname}" if holder else "-",
            )
        )
    used = sum(address in holders for address in card.vfs)
    name = card.name or card.address
    summary = f"{name}: {len(card.vfs)} virtual functions, {used} in pods"
    heads = ("VF", "PCI address", "Interface", "Driver", "Pod")
    return tag("details", tag("summary", summary), table(f"Virtual functions of {name}", heads, rows))


def _pools(snapshot: Snapshot) -> Html:
    if not snapshot.pools:
        return tag("p", "No pool is known.")
    parts = [table("Pools and their fill", ("Pool", "Store", "Held", "Fill"), map(_pool, snapshot.pools))]
    for pool in snapshot.pools:
        if pool.allocations:
            rows = list(_entries(pool))
            heads = ("Address", "Pod or container", "Interface", "Since", "State")
            summary = tag("summary", f"{pool.name}: who holds what")
            parts.append(tag("details", summary, table(f"Addresses of {pool.name}", heads, rows)))
    return inner(parts)


def _pool(pool: Pool) -> tuple[object, ...]:
    where = f"{pool.store} {pool.path}"
    if pool.error:
        return where, _code(where), tag("span", f"✗ {pool.error}", class_="bad"), "-"
    size = max(pool.size, 1)
    percent = f"{100 * pool.held / size:.0f} %"
    meter = tag(
        "meter",
        percent,
        min="0",
        max=str(size),
        value=str(pool.held),
        high=str(0.9 * size),
        aria_label=f"{pool.name}: {percent} held",
    )
    return pool.name, _code(where), f"{pool.held} of {pool.size}", inner([meter, f" {percent}"])


def _entries(pool: Pool) -> Iterator[tuple[object, ...]]:
    for each in pool.allocations:
        yield each.address, each.holder or "?", each.ifname, each.since or "-", each.state


def _code(*values: str) -> Html:
    told = [tag("code", value) for value in values if value]
    return Html(", ".join(told)) if told else Html("-")


def _speed(card: Card) -> str:
    return f"{card.speed / 1000:g} Gbit/s" if card.speed else "-"


def _numa(node: int) -> str:
    return str(node) if node >= 0 else "-"
