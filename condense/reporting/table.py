"""A report in the terminal. All goes in as `Text`: rich takes brackets in a string for markup."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from condense.reporting.comparison import foremost
from condense.reporting.rows import environment_lines, report_rows


def to_table(report: Mapping[str, Any]) -> RenderableType:
    """A table with one column for each model; below it what matters most, and the environment.

    The other forms hold all verdicts.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for model in report["models"]:
        title = Text(model["role"].replace("_", " "), style="bold")
        table.add_column(title, justify="right")
    for name, values in report_rows(report):
        table.add_row(Text(name), *(Text(value) for value in values))
    notes: list[RenderableType] = [
        line for verdict in foremost(report["verdicts"]) for line in _verdict(verdict)
    ]
    notes += [Text(f"warning: {line}", style="yellow") for line in report["warnings"]]
    facts = [Text(f"{name}: {value}", style="dim") for name, value in environment_lines(report)]
    return Group(table, *notes, *facts)


def _verdict(verdict: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield Text(f"{verdict['role']} against {verdict['against']}", style="bold")
    for sentence in verdict["sentences"]:
        yield Padding(Text(sentence), (0, 0, 0, 2))
