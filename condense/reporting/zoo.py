"""The papers' networks, counted here, beside what the papers print about them."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from condense.checkpoint import architectures
from condense.errors import UnknownNameError
from condense.measurement import (
    count_elementwise,
    count_macs,
    count_macs_paper,
    count_params,
    depth_blocks,
)
from condense.models import MODELS, PUBLISHED, Figures, PublishedRow
from condense.reporting.figures import NOTHING, count, large, shape

ROUNDING = 0.05
"""How far off a figure of two digits may be."""


def zoo_rows(name: str | None = None) -> tuple[PublishedRow, ...]:
    """All rows, or those of one network.

    Raises:
        UnknownNameError: If the papers have no such network.
    """
    if name is None:
        return PUBLISHED
    rows = tuple(row for row in PUBLISHED if name in {row.name, _plain(row.name)})
    if not rows:
        known = list(dict.fromkeys(row.name for row in PUBLISHED))
        near = get_close_matches(name, [_plain(each) for each in known], n=1)
        raise UnknownNameError(
            f"the papers have no network {name!r}; there are: {', '.join(known)}",
            hint=f"did you mean {near[0]!r}?" if near else None,
        )
    return rows


def build_zoo(rows: Iterable[PublishedRow]) -> dict[str, Any]:
    """Count each row's network, by the design's keys; no figure but the published is typed in."""
    return {"networks": [_counted(row) for row in rows]}


def zoo_table(document: Mapping[str, Any]) -> RenderableType:
    """What `condense zoo` shows: ours, below it the papers', and what to know of some rows."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("network", "params", "MACs,\npapers'", "MACs", "elem.\nops", "depth"):
        left = title == "network"
        table.add_column(title, justify="left" if left else "right", no_wrap=True)
    for network in document["networks"]:
        table.add_row(*(Text(cell) for cell in _cells(network)))
    remarks = dict.fromkeys(
        f"{network['name']}, {network['dataset']}: {network['remark']}"
        for network in document["networks"]
        if network["remark"]
    )
    legend = Text("second lines: as printed, and how far ours is from it", style="dim")
    return Group(table, legend, *(Text(remark, style="yellow") for remark in remarks))


def zoo_details(document: Mapping[str, Any]) -> RenderableType:
    """What `condense zoo NAME` adds: where its figures come from, and its note."""
    lines: list[RenderableType] = []
    for network in document["networks"]:
        head = f"{network['name']}, {network['dataset']}, one image of {_size(network)}"
        lines.append(Text(head, style="bold"))
        note = network["note"].removesuffix(f"; {network['remark']}")  # it is below the table
        lines.append(Padding(Text(note), (0, 0, 0, 2)))
        if options := network["options"]:
            built = ", ".join(f"{key}={value!r}" for key, value in options.items())
            lines.append(Padding(Text(f"counted with {built}"), (0, 0, 0, 2)))
        if source := network["published"]["source"]:
            lines.append(Padding(Text(_printed(network["published"], source)), (0, 0, 0, 2)))
    return Group(*lines)


def _counted(row: PublishedRow) -> dict[str, Any]:
    full_name = row.name if ":" in row.name else f"condense:{row.name}"
    found = architectures.find(full_name, dict(row.options))
    network = found.build(num_classes=row.num_classes).eval()
    size = row.input_size or found.describe(network).input_size
    if size is None:
        raise ValueError(f"{row.name} does not say its input size")
    macs = count_macs(network, size)
    counts = {
        "params": count_params(network),
        "macs_paper": count_macs_paper(network, size),
        "macs": macs.total,
        "elementwise_ops": count_elementwise(network, size),
        "depth_blocks": depth_blocks(network, size),
    }
    return {
        "name": row.name,
        "dataset": row.dataset,
        "num_classes": row.num_classes,
        "input_size": list(size),
        "options": dict(row.options),
        **counts,
        "uncounted": macs.uncounted,
        "published": _published(row.figures),
        "difference": _difference(counts, row.figures),
        "reproduced": _is_reproduced(counts, row.figures),
        "note": f"{_note(row)}; {row.remark}" if row.remark else _note(row),
        "remark": row.remark,
    }


def _published(figures: Figures | None) -> dict[str, Any]:
    """`top1` becomes a fraction, as everywhere in JSON."""
    values = asdict(figures or Figures(source=""))
    top1 = values["top1"]
    return values | {"top1": None if top1 is None else round(top1 / 100, 6)}


def _difference(counts: Mapping[str, int], figures: Figures | None) -> dict[str, float | None]:
    """Ours over the printed one, less 1."""
    printed = _pairs(counts, figures)
    return {
        key: None if value is None else ours / value - 1 for key, (ours, value) in printed.items()
    }


def _is_reproduced(counts: Mapping[str, int], figures: Figures | None) -> bool | None:
    """Whether every printed count is ours within 5 %, as figures are rounded; None without any."""
    found = [abs(x) for x in _difference(counts, figures).values() if x is not None]
    if not found:
        return None
    depth = figures.depth if figures else None
    return max(found) <= ROUNDING and depth in {None, counts["depth_blocks"]}


def _pairs(
    counts: Mapping[str, int], figures: Figures | None
) -> dict[str, tuple[int, float | None]]:
    params, macs = (figures.params, figures.macs) if figures else (None, None)
    return {"params": (counts["params"], params), "macs_paper": (counts["macs_paper"], macs)}


def _note(row: PublishedRow) -> str:
    plain = _plain(row.name)
    return MODELS[plain].note if plain in MODELS else f"{plain} as torchvision has it"


def _plain(name: str) -> str:
    return name.rpartition(":")[2]


def _cells(network: Mapping[str, Any]) -> list[str]:
    printed, difference = network["published"], network["difference"]
    return [
        f"{_plain(network['name'])}\n{network['dataset']}",
        f"{count(network['params'])}\n{_printed_beside(printed['params'], difference['params'])}",
        f"{large(network['macs_paper'])}\n"
        f"{_printed_beside(printed['macs'], difference['macs_paper'])}",
        large(network["macs"]),
        large(network["elementwise_ops"]),
        f"{network['depth_blocks']}\n{printed['depth'] or NOTHING}",
    ]


def _printed_beside(printed: float | None, difference: float | None) -> str:
    """`162 k -0.1 %`."""
    if printed is None or difference is None:
        return NOTHING
    digits = 1 if abs(difference) < 0.1 else 0
    return f"{large(printed)} {100 * difference:+.{digits}f} %"


def _size(network: Mapping[str, Any]) -> str:
    return shape(network["input_size"])


def _printed(published: Mapping[str, Any], source: str) -> str:
    top1 = published["top1"]
    accuracy = NOTHING if top1 is None else f"{100 * top1:.2f} %"
    return (
        f"{source}: params {large(published['params'])}, MACs {large(published['macs'])}, "
        f"depth {published['depth'] or NOTHING}, top-1 {accuracy}"
    )
