"""HTML that cannot be got wrong: whatever is no `Html` already is escaped (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_VOID = ("meta", "br")


class Html(str):
    """A text that is HTML already."""

    __slots__ = ()


def inner(content: Iterable[object]) -> Html:
    """Return contents one after another, escaped where they are plain text."""
    return Html("".join(each if isinstance(each, Html) else escape(str(each)) for each in content))


def tag(name: str, /, *content: object, **attributes: str) -> Html:
    """Return an element; `class_` is `class`, `aria_label` is `aria-label`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value, quote=True)}"'
        for key, value in attributes.items()
    )
    if name in _VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{inner(content)}</{name}>")


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """Return a table that scrolls by itself where it is too wide; each row's first cell heads it."""
    head = tag("tr", *(tag("th", each, scope="col") for each in heads))
    body = [
        tag("tr", tag("th", first, scope="row"), *(tag("td", each) for each in others))
        for first, *others in rows
    ]
    made = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", made, class_="scroll", role="region", aria_label=caption, tabindex="0")
