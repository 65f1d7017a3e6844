"""A benchmark's table, page and picture."""

from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from condense.reporting import bench_html, bench_svg, bench_table


@pytest.fixture
def document() -> dict[str, Any]:
    figure = {
        "place": "16x32x32",
        "case": "residual block",
        "runtime": "torch",
        "kernel": None,
        "batch_size": 64,
        "threads": 2,
        "median_ms": 4.0,
        "iqr_ms": 0.1,
        "ratio": [1.0, 1.0, 1.0],
        "ratio_compiled": None,
    }
    new = {"case": "global K=1", "kernel": "cpu", "median_ms": 1.0, "ratio": [0.2, 0.25, 0.3]}
    machine = {
        "cpu": "A <fast> one",
        "cores": 8,
        "gpu": "and this",
        "os": "Linux",
        "python": "3.11",
        "torch": "2.15",
        "onnxruntime": None,
        "condense": "0.1.0",
        "date": "2026-11-20",
    }
    lost = {"place": "16x32x32", "case": "odd", "runtime": "onnxruntime", "reason": "no [operator]"}
    return {
        "kind": "layers",
        "subject": "layers against the residual block",
        "figures": [figure, figure | new],
        "sums": [],
        "skipped": [lost],
        "notes": ["a note"],
        "environment": machine,
    }


def shown(document: dict[str, Any]) -> str:
    console = Console(width=150)
    with console.capture() as capture:
        console.print(bench_table(document))
    return capture.get()


def test_the_table_says_what_took_how_long(document: dict[str, Any]) -> None:
    text = shown(document)
    assert "16x32x32, batch 64, 2 threads" in text
    assert "0.25 (0.20 to 0.30)" in text
    assert "odd in onnxruntime left out: no [operator]" in text
    assert "a note" in text
    assert "A <fast> one, 8 cores, and this, Linux" in text
    assert "compiled" not in text


def test_the_compiled_baseline_has_a_column_where_it_was_measured(document: dict[str, Any]) -> None:
    for figure in document["figures"]:
        figure["ratio_compiled"] = [0.4, 0.5, 0.6]
    assert "of the compiled baseline" in shown(document)
    assert "0.50 (0.40 to 0.60)" in shown(document)
    assert "of the compiled baseline" in bench_html(document)


def test_the_longest_bar_is_the_slowest(document: dict[str, Any]) -> None:
    root = ElementTree.fromstring(bench_svg(document))
    widths = [float(bar.attrib["width"]) for bar in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[0] == pytest.approx(4 * widths[1], abs=0.5)
    words = "".join(root.itertext())
    assert "Milliseconds per batch (median): 16x32x32, batch 64, 2 threads" in words


def test_the_page_needs_nothing_else_and_escapes(document: dict[str, Any]) -> None:
    page = bench_html(document)
    assert "A &lt;fast&gt; one" in page
    assert "<script" not in page
    assert "http" not in page
    assert page.count("<figure>") == 1
