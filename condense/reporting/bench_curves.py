"""Curves as SVG: how many times as fast as the full convolution, over each parameter.

Both axes are logarithmic, as in the paper's Figure 1; all panels have the same vertical one. Each
convolution has a marker of its own, so that the curves are told apart without colour; the thin
vertical lines are 95 % intervals.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, GAP, BOTTOM = 250, 260, 64, 64, 48, 84
STYLE = """
.curves { background: #fff; max-width: none; }
.curves text { fill: #1b1f24; font: 13px system-ui, sans-serif; }
.curves .title { font-weight: bold; } .curves .axis { stroke: #57606a; fill: none; }
.curves .grid { stroke: #d0d7de; } .curves .full { stroke: #1b1f24; stroke-dasharray: 5 4; }
.curves .curve { fill: none; stroke-width: 2; } .curves .interval { stroke-width: 1; }
"""
COLOURS = ("#0969da", "#1a7f37", "#bc4c00", "#8250df", "#cf222e")
MARKERS = (
    "M-4-4h8v8h-8z",
    "M0-5L5 4H-5z",
    "M0-6L5 0 0 6-5 0z",
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
)
FULL = "full"


@dataclass(frozen=True, slots=True)
class Scale:
    """From a number to a place on a logarithmic axis."""

    least: float
    most: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = math.log2(self.most / self.least) or 1.0
        share = math.log2(value / self.least) / span
        return self.start + share * (self.end - self.start)


def curves_svg(document: Mapping[str, Any]) -> str:
    """One panel for each parameter that was varied.

    Args:
        document: As `ConvBench.to_dict` made it.
    """
    figures = [item for item in document["figures"] if item["convolution"] != FULL]
    axes = list(dict.fromkeys(item["axis"] for item in figures))
    names = list(dict.fromkeys(item["convolution"] for item in figures))
    ends = [1 / end for item in figures for end in item["ratio"]] + [1.0]
    least, most = (2.0 ** step(math.log2(end)) for step, end in _ends(ends))
    rows = Scale(least, max(most, 2 * least), TOP + HEIGHT, TOP)
    parts = [
        *_legend(names),
        *(
            part
            for place, axis in enumerate(axes)
            for part in _panel(
                [item for item in figures if item["axis"] == axis],
                names,
                rows,
                LEFT + place * (WIDTH + GAP),
            )
        ),
        _vertical_title(),
        f'<text x="{LEFT}" y="{TOP + HEIGHT + 72}">{escape(_conditions(document))}</text>',
    ]
    width, height = LEFT + len(axes) * (WIDTH + GAP), TOP + HEIGHT + BOTTOM
    title = escape(str(document["subject"]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="curves" role="img" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f"<title>{title}</title><style>{STYLE}</style>{''.join(parts)}</svg>\n"
    )


def _ends(values: Sequence[float]) -> Iterator[tuple[Any, float]]:
    yield math.floor, min(values)
    yield math.ceil, max(values)


def _legend(names: Sequence[str]) -> Iterator[str]:
    for place, name in enumerate(names):
        x = LEFT + 110 * place
        yield (
            f'<path class="curve" stroke="{_colour(place)}" d="M{x} 20h28"/>'
            f"{_marker(place, x + 14, 20)}"
            f'<text x="{x + 34}" y="24">{escape(name)}</text>'
        )


def _panel(
    figures: Sequence[Mapping[str, Any]], names: Sequence[str], rows: Scale, left: float
) -> Iterator[str]:
    values = sorted({item["value"] for item in figures})
    columns = Scale(values[0], values[-1], left + 16, left + WIDTH - 16)
    axis = str(figures[0]["axis"])
    yield f'<text class="title" x="{left}" y="{TOP - 12}">by {escape(axis)}</text>'
    yield from _frame(values, columns, rows, left)
    fixed = str(figures[0]["place"]).partition("(")[2][:-1]
    for line, words in enumerate((axis, fixed)):
        yield (
            f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 34 + 16 * line}" '
            f'text-anchor="middle">{escape(words)}</text>'
        )
    for place, name in enumerate(names):
        own = sorted(
            (item for item in figures if item["convolution"] == name), key=lambda x: x["value"]
        )
        yield from _curve(name, own, place, columns, rows)


def _frame(values: Sequence[int], columns: Scale, rows: Scale, left: float) -> Iterator[str]:
    right = left + WIDTH
    for power in range(round(math.log2(rows.least)), round(math.log2(rows.most)) + 1):
        y = rows(2.0**power)
        kind = "full" if power == 0 else "grid"
        yield f'<line class="{kind}" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        yield f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_power(power)}</text>'
    yield f'<rect class="axis" x="{left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}"/>'
    for value in values:
        x = columns(value)
        yield f'<text x="{x:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{value}</text>'


def _power(exponent: int) -> str:
    return f"1/{2**-exponent}" if exponent < 0 else str(2**exponent)


def _curve(
    name: str, figures: Sequence[Mapping[str, Any]], place: int, columns: Scale, rows: Scale
) -> Iterator[str]:
    colour = _colour(place)
    points = [(columns(item["value"]), rows(1 / item["ratio"][1])) for item in figures]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    yield f'<path class="curve" stroke="{colour}" d="M{line}"><title>{escape(name)}</title></path>'
    for item, (x, y) in zip(figures, points, strict=True):
        low, _, high = (rows(1 / end) for end in item["ratio"])
        yield (
            f'<line class="interval" stroke="{colour}" x1="{x:.1f}" y1="{low:.1f}" '
            f'x2="{x:.1f}" y2="{high:.1f}"/>{_marker(place, x, y)}'
        )


def _marker(place: int, x: float, y: float) -> str:
    shape = MARKERS[place % len(MARKERS)]
    where = f"translate({x:.1f} {y:.1f})"
    return f'<path class="marker" fill="{_colour(place)}" transform="{where}" d="{shape}"/>'


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _vertical_title() -> str:
    middle = TOP + HEIGHT / 2
    words = "times as fast as the full convolution"
    return (
        f'<text text-anchor="middle" transform="translate(16 {middle}) rotate(-90)">{words}</text>'
    )


def _conditions(document: Mapping[str, Any]) -> str:
    first, machine = document["figures"][0], document["environment"]
    on_gpu = str(document["device"]).startswith("cuda")
    threads = f", {first['threads']} thread{'s' * (first['threads'] > 1)}"
    unit = machine["gpu"] if on_gpu else f"{machine['cpu']}{threads}"
    return f"batch {first['batch_size']}, {unit}"
