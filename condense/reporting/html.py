"""A report as one HTML page that needs nothing else: no script, style sheet, font or image file."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from condense.reporting.comparison import foremost
from condense.reporting.figures import accuracy, large, milliseconds
from condense.reporting.picture import Bar, bars
from condense.reporting.rows import conditions_of, environment_lines, report_rows

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #57606a; --line: #d0d7de;
        --bar: #0969da; --plain: #8c959f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --soft: #9198a1; --line: #3d444d;
          --bar: #4493f8; --plain: #7d8590; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child { text-align: left; font-weight: normal; }
caption, figcaption { text-align: left; font-weight: bold; padding: .5rem 0; }
figure { margin: 1.5rem 0; }
svg { width: 100%; max-width: 42rem; height: auto; }
svg text { fill: var(--ink); font-size: 14px; }
.bar { fill: var(--bar); }
.bar.original, .bar.control, .bar.control-finetuned { fill: var(--plain); }
.zero { stroke: var(--soft); }
.warning { border-left: .25rem solid #bf8700; padding-left: .75rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
"""


def to_html(
    report: Mapping[str, Any],
    *,
    title: str = "condense report",
    pictures: Mapping[str, str] | None = None,
) -> str:
    """A page with the verdicts, pictures, every figure in a table, and the environment.

    Args:
        report: As `build_report` made it.
        title: Of the page.
        pictures: Further ones, as SVG by title.
    """
    parts = [
        f"<h1>{escape(title)}</h1>",
        *_warnings(report),
        *_verdicts(report),
        "<h2>Pictures</h2>",
        *_pictures(report["models"]),
        *(_figure(caption, svg) for caption, svg in (pictures or {}).items()),
        "<h2>Figures</h2>",
        _table(report),
        "<h2>Measured with</h2>",
        _environment(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _warnings(report: Mapping[str, Any]) -> Iterator[str]:
    for warning in report["warnings"]:
        yield f'<p class="warning">Warning: {escape(warning)}</p>'


def _verdicts(report: Mapping[str, Any]) -> Iterator[str]:
    first = foremost(report["verdicts"])
    rest = [verdict for verdict in report["verdicts"] if verdict not in first]
    if first:
        yield "<h2>What it amounts to</h2>"
    for verdict in first:
        yield from _verdict(verdict)
    if rest:
        yield "<details><summary>All other comparisons</summary>"
        for verdict in rest:
            yield from _verdict(verdict)
        yield "</details>"


def _verdict(verdict: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h3>{escape(verdict['role'])} against {escape(verdict['against'])}</h3>"
    yield "<ul>"
    yield from (f"<li>{escape(sentence)}</li>" for sentence in verdict["sentences"])
    yield "</ul>"


def _pictures(models: list[dict[str, Any]]) -> Iterator[str]:
    yield bars(
        "Multiply–accumulates for one image",
        [_bar(model, model["macs"], large(model["macs"])) for model in models],
    )
    tables = [(model, dict(conditions_of(model))) for model in models]
    for runtime, batch in dict.fromkeys(key for _, table in tables for key in table):
        timed = [
            (model, table[runtime, batch]) for model, table in tables if (runtime, batch) in table
        ]
        yield bars(
            f"Milliseconds per batch of {batch}, {runtime} (median)",
            [_bar(model, record["median_ms"], _time(record)) for model, record in timed],
        )
    scored = [model for model in models if model["accuracy"]]
    if scored:
        yield bars(
            "Top-1 accuracy (95 % interval)",
            [
                _bar(model, model["accuracy"]["top1"], accuracy(model["accuracy"]))
                for model in scored
            ],
            longest=1.0,
        )


def _figure(caption: str, svg: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"


def _time(record: Mapping[str, Any]) -> str:
    return milliseconds(record["median_ms"], record["iqr_ms"])


def _bar(model: Mapping[str, Any], value: float, text: str) -> Bar:
    return Bar(label=model["role"].replace("_", " "), value=value, text=text)


def _table(report: Mapping[str, Any]) -> str:
    heads = "".join(
        f'<th scope="col">{escape(model["role"].replace("_", " "))}</th>'
        for model in report["models"]
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(value)}</td>" for value in values)
        + "</tr>\n"
        for name, values in report_rows(report)
    )
    return (
        '<div class="wide" tabindex="0"><table><caption>Counts are for one image, times in '
        "milliseconds per batch</caption>\n"
        f"<thead><tr><td></td>{heads}</tr></thead>\n<tbody>{rows}</tbody></table></div>"
    )


def _environment(report: Mapping[str, Any]) -> str:
    facts = (
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        for name, value in environment_lines(report)
    )
    return f"<dl>{''.join(facts)}</dl>"
