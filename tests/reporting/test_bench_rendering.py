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


@pytest.fixture
def convs(document: dict[str, Any]) -> dict[str, Any]:
    """Two panels; ratios are of time, the picture shows their inverse."""
    figures = [
        document["figures"][0]
        | {"place": f"by {axis} (channels 8)", "case": f"{value}: {name}", "axis": axis}
        | {"value": value, "convolution": name, "ratio": [0.8 * ratio, ratio, 1.25 * ratio]}
        for axis, value in (("image size", 8), ("image size", 16), ("kernel size", 3))
        for name, ratio in (("full", 1.0), ("implicit", 4 / value), ("explicit", 2.0))
    ]
    return document | {"kind": "convs", "figures": figures, "device": "cpu"}


SVG = "{http://www.w3.org/2000/svg}"


def curves(document: dict[str, Any]) -> dict[str, list[list[tuple[float, float]]]]:
    """The points of every curve by its convolution, panel after panel."""
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for path in ElementTree.fromstring(bench_svg(document)).iter(f"{SVG}path"):
        for title in path.iter(f"{SVG}title"):
            points = [point.split() for point in path.attrib["d"][1:].split("L")]
            found.setdefault(str(title.text), []).append([(float(x), float(y)) for x, y in points])
    return found


def test_faster_is_higher_on_a_logarithmic_axis(convs: dict[str, Any]) -> None:
    found = curves(convs)
    assert found.keys() == {"implicit", "explicit"}
    (x8, y8), (x16, y16) = found["implicit"][0]
    ((_, slow), (_, alike)) = found["explicit"][0]
    assert x8 < x16
    assert slow == alike
    assert y8 - y16 == pytest.approx((slow - y16) / 3, abs=0.2)  # 1/2, 2 and 4 times as fast
    assert len(found["implicit"]) == 2


def test_the_curves_depend_on_the_numbers(convs: dict[str, Any]) -> None:
    before = curves(convs)
    convs["figures"][1]["ratio"] = [0.9, 1.0, 1.1]
    after = curves(convs)
    assert after["implicit"][0][0][1] > before["implicit"][0][0][1]
    assert after["explicit"] == before["explicit"]


def test_the_panels_say_what_is_fixed_and_where(convs: dict[str, Any]) -> None:
    root = ElementTree.fromstring(bench_svg(convs))
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert {"by image size", "by kernel size", "channels 8", "implicit", "16"} <= set(words)
    assert "batch 64, A <fast> one, 2 threads" in words
    assert "times as fast as the full convolution" in words
    convs["device"] = "cuda"
    assert "batch 64, and this" in bench_svg(convs)


def test_the_page_and_the_table_of_convolutions(convs: dict[str, Any]) -> None:
    page = bench_html(convs)
    assert page.count("<figure><svg") == 1
    assert "by image size (channels 8), batch 64, 2 threads" in page
    assert "2.00 (1.60 to 2.50)" in shown(convs)
