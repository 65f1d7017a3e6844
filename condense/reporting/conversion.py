"""What a conversion did, in the terminal."""

from collections import Counter
from collections.abc import Iterator, Mapping
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
    is_by_stage = plan["scope"] == "stage"
    replaced = map(_replacement, plan["replacements"]) if is_by_stage else _mixed(plan)
    kept = _kept_stages(plan) if is_by_stage else _kept_convolutions(plan)
    lines = [*(Text(line) for line in replaced), *(Text(line, style="yellow") for line in kept)]
    return Group(*lines, *([_costs(document["models"])] if "models" in document else []))


def _kept_stages(plan: Mapping[str, Any]) -> Iterator[str]:
    for verdict in plan["verdicts"]:
        if not verdict["convert"]:
            yield f"{verdict['stage']}: kept; {verdict['reason']}"


def _mixed(plan: Mapping[str, Any]) -> Iterator[str]:
    """Stage by stage, as networks have many convolutions."""
    numbers = Counter((item["stage"], item["layer"]) for item in plan["replacements"])
    for (stage, layer), number in numbers.items():
        some = "1 convolution becomes" if number == 1 else f"{number} convolutions become"
        yield f"{stage}: {some} {layer}"


def _kept_convolutions(plan: Mapping[str, Any]) -> Iterator[str]:
    """Reason by reason."""
    names: dict[str, list[str]] = {}
    for verdict in plan["verdicts"]:
        if not verdict["convert"]:
            names.setdefault(verdict["reason"], []).append(verdict["convolution"])
    for reason, kept in names.items():
        more = f" and {len(kept) - 1} more" if kept[1:] else ""
        yield f"{kept[0]}{more}: kept; {reason}"


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
