"""What a conversion did, in the terminal."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from condense.reporting.figures import count, large


def conversion_table(document: Mapping[str, Any]) -> RenderableType:
    """What `condense convert` shows: what replaces what, what stays and why, what it saves.

    Args:
        document: With `plan` and, unless it was a dry run, `models`.
    """
    plan = document["plan"]
    lines = [Text(_replacement(item)) for item in plan["replacements"]]
    lines += [
        Text(f"{verdict['stage']}: kept; {verdict['reason']}", style="yellow")
        for verdict in plan["verdicts"]
        if not verdict["convert"]
    ]
    return Group(*lines, *([_costs(document["models"])] if "models" in document else []))


def _replacement(item: Mapping[str, Any]) -> str:
    number = len(item["blocks"])
    blocks = f"{number} block{'s' if number > 1 else ''}"
    layers = item["layer"] if item["count"] == 1 else f"{item['count']} x {item['layer']}"
    options = ", ".join(f"{key} {value}" for key, value in item["options"].items())
    return f"{item['stage']}: {blocks} become {layers}{f' ({options})' if options else ''}"


def _costs(models: list[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model")
    for title in ("params", "MACs"):
        table.add_column(title, justify="right")
    for model in models:
        table.add_row(model["role"], count(model["params"]), large(model["macs"]))
    return table
