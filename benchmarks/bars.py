"""Pairs of times as bars, in SVG."""

from __future__ import annotations

from collections.abc import Sequence

OURS, THEIRS = "#2a6f97", "#adb5bd"


def svg(title: str, pairs: Sequence[tuple[str, float, float]]) -> str:
    """Draw pairs, each to a scale of its own: what it is of, our time and that of others, in milliseconds."""
    longest = max(max(ours / theirs, 1.0) for _, ours, theirs in pairs)
    lines = [f'<text x="10" y="12">{title}</text>']
    for index, (what, ours, theirs) in enumerate(pairs):
        top = 30 + index * 46
        lines.append(f'<text x="10" y="{top}">{what}</text>')
        for row, (ms, colour) in enumerate(((ours, OURS), (theirs, THEIRS))):
            width = 560 * ms / theirs / longest
            y = top + 5 + row * 14
            lines.append(f'<rect x="10" y="{y}" width="{width:.1f}" height="12" fill="{colour}"/>')
            lines.append(f'<text x="{width + 16:.1f}" y="{y + 10}">{ms:.1f} ms</text>')
    height = 40 + len(pairs) * 46
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="700" height="{height}" font-family="sans-serif"'
    return "\n".join([head + ' font-size="11">', *lines, "</svg>"]) + "\n"
