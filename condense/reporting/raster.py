"""Maps of numbers as pictures inside SVG: pixels as an embedded PNG, vectors as arrows."""

import base64
import io
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor

PANEL, GAP, HEAD, FOOT = 168, 20, 22, 30
"""Side of a panel, the space between two, and the height of its title and of its legend."""

LARGE = 2 * PANEL + HEAD + FOOT
"""Side of a panel as high as two rows."""

MARGIN = 12
LINE = 20
SHORTEST = 0.04  # of the longest arrow: shorter ones are not drawn
MOST_ARROWS = 28  # along a side
BLUE, WHITE, RED = (33, 102, 172), (247, 247, 247), (178, 24, 43)
STYLE = (
    "svg.maps{max-width:none;background:#fff}svg.maps text{font:13px system-ui,sans-serif;"
    "fill:#1b1f24}svg.maps .head{font-weight:bold}svg.maps .soft{font-size:12px;fill:#57606a}"
    "svg.maps image{image-rendering:pixelated}svg.maps .frame{fill:none;stroke:#d0d7de}"
    "svg.maps .arrows{fill:none;stroke:#bc4c00;stroke-linecap:round;stroke-linejoin:round}"
)
"""Named, so that they touch nothing else on a page that holds the picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One map with a title.

    Args:
        title: What is shown.
        values: (H, W).
        is_signed: Blue for less than 0, red for more; else white to black from the least value.
        arrows: Vectors over it, (2, H, W): down, and to the right.
        legend: What to say below it; by default the range of the values.
        ink: Of the darkest pixel of an unsigned map, at most 1.
    """

    title: str
    values: Tensor
    is_signed: bool = True
    arrows: Tensor | None = None
    legend: str | None = None
    ink: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """Panels that belong together.

    Args:
        title: Above them.
        rows: Panels from left to right, in rows from the top.
        large: A panel to the left of all of them, as high as two rows.
    """

    title: str
    rows: list[list[Panel]]
    large: Panel | None = None

    @property
    def panels(self) -> list[Panel]:
        """All of them, in the order in which they are read."""
        first = [] if self.large is None else [self.large]
        return first + [panel for row in self.rows for panel in row]


def maps_svg(sections: list[Section], *, notes: str = "") -> str:
    """A picture that needs nothing else: sections from the top, with a line of notes below.

    Args:
        sections: At least one.
        notes: What the reader must know to read the maps.
    """
    parts, top, right = [], MARGIN, 0
    for section in sections:
        title = escape(section.title)
        parts.append(f'<text class="head" x="{MARGIN}" y="{top + 12}">{title}</text>')
        top, left, begin = top + LINE + 4, MARGIN, top + LINE + 4
        if section.large is not None:
            parts.append(_drawn(section.large, left, top, LARGE))
            left += LARGE + GAP
        for row in section.rows:
            for place, panel in enumerate(row):
                parts.append(_drawn(panel, left + place * (PANEL + GAP), top, PANEL))
            top += HEAD + PANEL + FOOT
            right = max(right, left + len(row) * (PANEL + GAP) - GAP)
        if section.large is not None:
            top = max(top, begin + HEAD + LARGE + FOOT)
    width = right + MARGIN
    if notes:
        parts.append(f'<text class="soft" x="{MARGIN}" y="{top + 8}">{escape(notes)}</text>')
        top += LINE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="maps" role="img" width="{width}" '
        f'height="{top}" viewBox="0 0 {width} {top}" aria-label="{escape(_spoken(sections))}">'
        f'<style>{STYLE}</style><rect width="{width}" height="{top}" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n"
    )


def colours(values: Tensor, *, is_signed: bool, ink: float = 1.0) -> Tensor:
    """Each value's colour.

    Shape:
        (H, W) -> uint8 (H, W, 3).
    """
    values = values.detach().double().cpu().nan_to_num()
    if not is_signed:
        low, high = values.min(), values.max()
        dark = ink * (values - low) / (high - low).clamp_min(1e-12)
        return ((1 - dark) * 247 + 8 * dark).round().byte()[..., None].repeat(1, 1, 3)
    share = values / values.abs().max().clamp_min(1e-12)
    white = torch.tensor(WHITE).double()
    ends = [torch.tensor(end).double() - white for end in (RED, BLUE)]
    parts = (share.clamp_min(0), (-share).clamp_min(0))
    mixed = white + sum(part[..., None] * end for part, end in zip(parts, ends, strict=True))
    return mixed.round().clamp(0, 255).byte()


def _spoken(sections: list[Section]) -> str:
    told = []
    for section in sections:
        panels = ", ".join(f"{panel.title} {_legend(panel)}".strip() for panel in section.panels)
        told.append(f"{section.title}: {panels}")
    return "; ".join(told)


def _drawn(panel: Panel, left: int, top: int, side: int) -> str:
    height, width = panel.values.shape
    cell = side / max(height, width)
    place = f'x="{left}" y="{top + HEAD}" width="{cell * width:g}" height="{cell * height:g}"'
    parts = [
        f'<text x="{left}" y="{top + 14}">{escape(panel.title)}</text>',
        f'<image {place} preserveAspectRatio="none" href="{_png(panel)}"/>',
        f'<rect class="frame" {place}/>',
    ]
    if panel.arrows is not None:
        shift = f'transform="translate({left} {top + HEAD})"'
        stroke = min(max(cell / 10, 0.9), 2.5)
        path = _arrows(panel.arrows, cell)
        parts.append(f'<path class="arrows" stroke-width="{stroke:.2g}" {shift} d="{path}"/>')
    foot = top + HEAD + cell * height + 15
    parts.append(f'<text class="soft" x="{left}" y="{foot:g}">{escape(_legend(panel))}</text>')
    return "".join(parts)


def _png(panel: Panel) -> str:
    from PIL import Image  # noqa: PLC0415 - only pictures need it

    buffer = io.BytesIO()
    pixels = colours(panel.values, is_signed=panel.is_signed, ink=panel.ink).numpy()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _legend(panel: Panel) -> str:
    if panel.legend is not None:
        return panel.legend
    low, high = float(panel.values.min()), float(panel.values.max())
    if low == high:
        return f"{_number(low)} everywhere"
    return f"{_number(low)} … {_number(high)}"


def _number(value: float) -> str:
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}"
    return text.replace("-", "−")


def _arrows(vectors: Tensor, cell: float) -> str:
    """One path of all arrows; the longest is as long as its place allows, with head."""
    vectors = vectors.detach().double().cpu().nan_to_num()
    lengths = vectors.square().sum(0).sqrt()
    longest = float(lengths.max())
    if longest == 0:
        return ""
    every = -(-max(lengths.shape) // MOST_ARROWS)
    scale = 1.5 * cell * every / longest
    parts = []
    for i in range(every // 2, lengths.shape[0], every):
        for j in range(every // 2, lengths.shape[1], every):
            if lengths[i, j] >= SHORTEST * longest:
                down, right = (vectors[:, i, j] * scale).tolist()
                parts.append(_arrow((j + 0.5) * cell, (i + 0.5) * cell, right, down))
    return "".join(parts)


def _arrow(x: float, y: float, right: float, down: float) -> str:
    """An arrow with its middle at (x, y); its head has a third of its length."""
    tip_x, tip_y = x + right / 2, y + down / 2
    wings = [
        (tip_x - 0.3 * right + side * 0.2 * down, tip_y - 0.3 * down - side * 0.2 * right)
        for side in (1, -1)
    ]
    (ax, ay), (bx, by) = wings
    return (
        f"M{x - right / 2:.1f} {y - down / 2:.1f}L{tip_x:.1f} {tip_y:.1f}"
        f"M{ax:.1f} {ay:.1f}L{tip_x:.1f} {tip_y:.1f}L{bx:.1f} {by:.1f}"
    )
