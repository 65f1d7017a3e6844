"""Bars as inline SVG: one for each model, the number written beside it, readable without colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LABEL, BARS, NUMBER, ROW = 150, 330, 190, 30
TITLE = 30
SHEET_STYLE = """
svg { background: #fff; } text { fill: #1b1f24; font: 14px system-ui, sans-serif; }
.title { font-weight: bold; } .bar { fill: #0969da; } .zero { stroke: #57606a; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar.

    Args:
        label: What it stands for.
        value: Its length, at least 0.
        text: The number as written.
    """

    label: str
    value: float
    text: str


def bars(
    title: str, items: Sequence[Bar], *, longest: float | None = None, label: int = LABEL
) -> str:
    """A figure with horizontal bars from a common zero.

    Args:
        title: What is shown, with its unit.
        items: The bars, from the top.
        longest: What a bar of full length stands for; the largest value by default.
        label: Width that is kept for the labels.
    """
    spoken = "; ".join(f"{item.label} {item.text}" for item in items)
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg role="img" aria-label="{escape(f"{title}: {spoken}")}" '
        f'viewBox="0 0 {label + BARS + NUMBER} {_height(items)}">'
        f"<title>{escape(title)}</title>{_drawn(items, longest, label)}</svg></figure>"
    )


def sheet(figures: Sequence[tuple[str, Sequence[Bar]]], *, label: int = LABEL) -> str:
    """An SVG file with several figures, one below the other.

    Args:
        figures: Title and bars of each.
        label: Width that is kept for the labels.
    """
    parts, top = [], 0
    for title, items in figures:
        parts.append(
            f'<g transform="translate(0 {top})"><text class="title" x="8" y="20">{escape(title)}'
            f'</text><g transform="translate(0 {TITLE})">{_drawn(items, None, label)}</g></g>'
        )
        top += TITLE + _height(items) + ROW // 2
    width = label + BARS + NUMBER
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" '
        f'viewBox="0 0 {width} {top}"><style>{SHEET_STYLE}</style>{"".join(parts)}</svg>\n'
    )


def _drawn(items: Sequence[Bar], longest: float | None, label: int) -> str:
    full = longest or max((item.value for item in items), default=0) or 1
    rows = "".join(_row(item, index, full, label) for index, item in enumerate(items))
    return f'{rows}<line class="zero" x1="{label}" y1="0" x2="{label}" y2="{_height(items)}"/>'


def _height(items: Sequence[Bar]) -> int:
    return ROW * len(items) + 6


def _row(item: Bar, index: int, full: float, label: int) -> str:
    top, width = ROW * index + 3, BARS * item.value / full
    kind = escape(item.label.replace(" ", "-"))
    middle = top + 17
    return (
        f'<text x="{label - 8}" y="{middle}" text-anchor="end">{escape(item.label)}</text>'
        f'<rect class="bar {kind}" x="{label}" y="{top}" width="{width:.1f}" height="{ROW - 6}"/>'
        f'<text x="{label + width + 6:.1f}" y="{middle}">{escape(item.text)}</text>'
    )
