"""The stages of a model in the terminal: what they cost, which can be replaced, and why not."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from condense.reporting.figures import large, milliseconds, percent, shape

LEFT = ("stage", "shape")


def stages_table(document: Mapping[str, Any]) -> RenderableType:
    """What `condense analyze` shows: a table of the stages, and a verdict on each.

    Args:
        document: By the design's keys: `architecture`, `input_size`, `stages`, `totals`.
    """
    totals = document["totals"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("stage", "blocks", "repeats", "shape", "params", "MACs", "ms"):
        table.add_column(title, justify="left" if title in LEFT else "right")
    for stage in document["stages"]:
        table.add_row(*(Text(cell) for cell in _cells(stage, totals)))
    table.add_section()
    table.add_row(*(Text(cell) for cell in _total_cells(totals)))
    name = document.get("architecture") or "model"
    head = Text(f"{name} at {shape(document['input_size'])}", style="bold")
    return Group(head, table, *(_verdict(stage) for stage in document["stages"]))


def _cells(stage: Mapping[str, Any], totals: Mapping[str, Any]) -> list[str]:
    time = stage.get("latency_ms")
    return [
        stage["name"],
        str(len(stage["blocks"])),
        str(len(stage["repeats"])),
        f"{shape(stage['in_shape'])} to {shape(stage['out_shape'])}",
        _share(large(stage["params"]), stage["params"], totals.get("params")),
        _share(large(stage["macs"]), stage["macs"], totals.get("macs")),
        _share(milliseconds(time), time, totals.get("latency_ms")),
    ]


def _share(written: str, part: float | None, whole: float | None) -> str:
    return f"{written} ({percent(part / whole)})" if part is not None and whole else written


def _total_cells(totals: Mapping[str, Any]) -> list[str]:
    numbers = [large(totals.get("params")), large(totals.get("macs"))]
    return ["whole model", "", "", "", *numbers, milliseconds(totals.get("latency_ms"))]


def _verdict(stage: Mapping[str, Any]) -> RenderableType:
    if not stage["convertible"]:
        return Text(f"{stage['name']}: not convertible, {stage['reason']}", style="yellow")
    head = Text(f"{stage['name']}: convertible", style="green")
    trial = stage.get("replacement")
    return Group(head, Padding(Text(_trial(trial)), (0, 0, 0, 2))) if trial else head


def _trial(trial: Mapping[str, Any]) -> str:
    """`global instead of the repeats: params 18.6 k to 432, MACs …, ms 3.1 to 1.2 (…)`."""
    numbers = (("params", "params", large), ("macs", "MACs", large))
    changes = [
        f"{title} {_from(trial, key, written)}{written(trial[key])}"
        for key, title, written in numbers
    ]
    changes.append(f"ms {_from(trial, 'latency_ms', milliseconds)}{_time(trial)}")
    return f"{trial.get('layer', 'a layer')} instead of the repeats: {', '.join(changes)}"


def _from(trial: Mapping[str, Any], key: str, written: Any) -> str:
    removed = trial.get(f"removed_{key}")
    return "" if removed is None else f"{written(removed)} to "


def _time(trial: Mapping[str, Any]) -> str:
    time = milliseconds(trial["latency_ms"])
    if not trial.get("latency_ratio"):
        return time
    low, _, high = trial["latency_ratio"]
    verdict = "faster" if high < 1 else "slower" if low > 1 else "no difference shown"
    return f"{time} ({verdict} here: {low:.2f} to {high:.2f} of the time, 95 % interval)"
