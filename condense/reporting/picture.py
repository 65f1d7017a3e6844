"""Bars as inline SVG: one for each model, the number written beside it, readable without colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LABEL, BARS, NUMBER, ROW = 150, 330, 190, 30


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


def bars(title: str, items: Sequence[Bar], *, longest: float | None = None) -> str:
    """A figure with horizontal bars from a common zero.

    Args:
        title: What is shown, with its unit.
        items: The bars, from the top.
        longest: What a bar of full length stands for; the largest value by default.
    """
    full = longest or max((item.value for item in items), default=0) or 1
    height = ROW * len(items) + 6
    spoken = "; ".join(f"{item.label} {item.text}" for item in items)
    rows = "".join(_row(item, index, full) for index, item in enumerate(items))
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg role="img" aria-label="{escape(f"{title}: {spoken}")}" '
        f'viewBox="0 0 {LABEL + BARS + NUMBER} {height}">'
        f"<title>{escape(title)}</title>{rows}"
        f'<line class="zero" x1="{LABEL}" y1="0" x2="{LABEL}" y2="{height}"/></svg></figure>'
    )


def _row(item: Bar, index: int, full: float) -> str:
    top, width = ROW * index + 3, BARS * item.value / full
    kind = escape(item.label.replace(" ", "-"))
    middle = top + 17
    return (
        f'<text x="{LABEL - 8}" y="{middle}" text-anchor="end">{escape(item.label)}</text>'
        f'<rect class="bar {kind}" x="{LABEL}" y="{top}" width="{width:.1f}" height="{ROW - 6}"/>'
        f'<text x="{LABEL + width + 6:.1f}" y="{middle}">{escape(item.text)}</text>'
    )
