"""A benchmark for people: a table, an HTML page with a picture, the picture alone as SVG."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from condense.reporting.bench_curves import curves_svg
from condense.reporting.figures import milliseconds, percent
from condense.reporting.html import STYLE
from condense.reporting.picture import Bar, bars, sheet

LABEL = 310
HEADS = ("case", "runtime", "kernel", "ms (IQR)", "of the baseline (95 % interval)")
COMPILED = "of the compiled baseline"
Section = tuple[str, list[Mapping[str, Any]]]


def bench_table(document: Mapping[str, Any]) -> RenderableType:
    """What `condense bench` shows.

    Args:
        document: As `Bench.to_dict` or `LoopBench.to_dict` made it.
    """
    parts: list[RenderableType] = [Text(document["subject"], style="bold")]
    for title, figures in _sections(document):
        table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
        for head in _heads(figures):
            table.add_column(head, justify="left" if head in HEADS[:3] else "right")
        for figure in figures:
            table.add_row(*(Text(cell) for cell in _cells(figure)))
        parts.append(table)
    parts += [Text(line) for line in _lines(document)]
    parts += [Text(f"{name}: {value}", style="dim") for name, value in _machine(document)]
    return Group(*parts)


def bench_html(document: Mapping[str, Any]) -> str:
    """One page that needs nothing else."""
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _machine(document)
    )
    parts = [
        f"<h1>{escape(document['subject'])}</h1>",
        *_drawn(document),
        *(f"<p>{escape(line)}</p>" for line in _lines(document)),
        *(_html_table(title, figures) for title, figures in _sections(document)),
        f"<h2>Measured with</h2><dl>{facts}</dl>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>condense bench</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def bench_svg(document: Mapping[str, Any]) -> str:
    """The bars or curves alone, as a file."""
    if document["kind"] == "convs":
        return curves_svg(document)
    return sheet(list(_pictures(document)), label=LABEL)


def _drawn(document: Mapping[str, Any]) -> Iterator[str]:
    if document["kind"] == "convs":
        yield f"<figure>{curves_svg(document)}</figure>"
        return
    for title, items in _pictures(document):
        yield bars(title, items, label=LABEL)


def _sections(document: Mapping[str, Any]) -> Iterator[Section]:
    """Title and figures of each comparison: what took turns, or is a sum of what did."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for figure in (*document.get("figures", ()), *document.get("sums", ())):
        threads = f"{figure['threads']} thread{'s' * (figure['threads'] > 1)}"
        title = f"{figure['place']}, batch {figure['batch_size']}, {threads}"
        found.setdefault(title, []).append(figure)
    yield from found.items()


def _pictures(document: Mapping[str, Any]) -> Iterator[tuple[str, list[Bar]]]:
    for title, figures in _sections(document):
        items = [
            Bar(label=_label(figure), value=figure["median_ms"], text=_time(figure))
            for figure in figures
        ]
        yield f"Milliseconds per batch (median): {title}", items
    if document["kind"] == "loop":
        names = {"loop": "the loop's step", "bare": "forward and backward alone"}
        items = [
            Bar(label=label, value=document[name]["median_ms"], text=_time(document[name]))
            for name, label in names.items()
        ]
        yield f"Milliseconds per step (median): batch {document['batch_size']}", items


def _label(figure: Mapping[str, Any]) -> str:
    kernel = f", {figure['kernel']} kernel" if figure["kernel"] else ""
    return f"{figure['case']}{kernel}, {figure['runtime']}"


def _cells(figure: Mapping[str, Any]) -> list[str]:
    ratios = [figure[key] for key in ("ratio", "ratio_compiled") if figure[key]]
    return [
        *(figure["case"], figure["runtime"], figure["kernel"] or "", _time(figure)),
        *(f"{mid:.2f} ({low:.2f} to {high:.2f})" for low, mid, high in ratios),
    ]


def _heads(figures: list[Mapping[str, Any]]) -> tuple[str, ...]:
    is_compiled = any(figure["ratio_compiled"] for figure in figures)
    return (*HEADS, COMPILED) if is_compiled else HEADS


def _time(figure: Mapping[str, Any]) -> str:
    return milliseconds(figure["median_ms"], figure["iqr_ms"])


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    """What is said in words."""
    if document["kind"] == "loop":
        low, mid, high = (percent(end - 1) for end in document["ratio"])
        yield f"a step of the loop: {_time(document['loop'])} ms"
        yield f"teacher forward, student forward and backward alone: {_time(document['bare'])} ms"
        yield f"the loop adds {mid} (95 % interval {low} to {high})"
        optimizer = document["optimizer"]
        share = percent(optimizer["median_ms"] / document["bare"]["median_ms"])
        yield f"of which the optimizer's step: {_time(optimizer)} ms, {share}"
    for item in document.get("skipped", ()):
        yield f"{item['place']}: {item['case']} in {item['runtime']} left out: {item['reason']}"
    yield from document.get("notes", ())


def _machine(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    machine = document["environment"]
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    software = ", ".join(
        f"{name} {machine[name]}" for name in ("python", "torch", "onnxruntime", "condense")
    )
    facts = [("machine", f"{machine['cpu']}, {machine['cores']} cores{gpu}, {machine['os']}")]
    if document["kind"] == "loop":
        where = f"{document['device']}, threads {document['threads']}"
        facts.append(("steps", f"{document['steps']} of {document['batch_size']} images, {where}"))
    return [*facts, ("software", software), ("date", str(machine["date"]))]


def _html_table(title: str, figures: list[Mapping[str, Any]]) -> str:
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in _heads(figures))
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(figure)) + "</tr>\n"
        for figure in figures
    )
    return (
        f'<div class="wide" tabindex="0"><table><caption>{escape(title)}</caption>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table></div>"
    )
