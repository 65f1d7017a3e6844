"""A report as Markdown, for a README or a pull request."""

from collections.abc import Mapping
from typing import Any

from condense.reporting.rows import environment_lines, report_rows


def to_markdown(report: Mapping[str, Any]) -> str:
    """A table with one column for each model, then verdicts, warnings and the environment."""
    roles = [model["role"] for model in report["models"]]
    lines = [_row(["", *roles]), _row(["---", *("---:" for _ in roles)])]
    lines += [_row([name, *values]) for name, values in report_rows(report)]
    for verdict in report["verdicts"]:
        lines += ["", f"{_plain(verdict['role'])} against {_plain(verdict['against'])}:", ""]
        lines += [f"- {_plain(sentence)}" for sentence in verdict["sentences"]]
    lines.append("")
    lines += [f"- **warning**: {_plain(warning)}" for warning in report["warnings"]]
    lines += ["", *(f"- {name}: {_fact(name, value)}" for name, value in environment_lines(report))]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _fact(name: str, value: str) -> str:
    return f"`{value}`" if name == "command" else _plain(value)


def _plain(text: str) -> str:
    """Without what Markdown would take for its own."""
    for character in "\\|*_`[]<>":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
