import csv
import io
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console, RenderableType

from condense.reporting import stages_table, to_csv, to_html, to_markdown, to_table
from condense.reporting.picture import Bar, bars

FIGURES = [
    "464,154",
    "80,442",
    "68.9 M",
    "69.5 M",
    "70.1 M",
    "1.05 M",
    "15",
    "6 (K=1)",
    "32",
    "11",
    "3.25 (IQR 0.12)",
    "1.75 (IQR 0.12)",
    "40.5 (IQR 0.12)",
    "92.8 % (91.0–94.2)",
    "90.1 % (88.1–91.8)",
    "1.89 MB",
]


def shown(item: RenderableType, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(item)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


class Page(HTMLParser):
    """Collects text and elements; knows whether every element was closed."""

    VOID = ("meta", "rect", "line")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_in_every_readable_form(invented: dict[str, Any], figure: str) -> None:
    assert figure in shown(to_table(invented))
    assert figure in to_markdown(invented)
    assert figure in " ".join(Page(to_html(invented)).words)


def test_the_terminal_loses_no_bracket_and_fits_eighty_columns(invented: dict[str, Any]) -> None:
    text = shown(to_table(invented))
    assert "a <b> & [blocks.3] | c" in text
    assert 'command: condense report --data "a,b" [x]' in text
    assert "warning: control.pt is stale, left out: converted <again>" in text
    assert "timed on: cpu, 2 threads, float32" in text
    assert "machine: Fast 9000, 2 cores, H200, Linux" in text
    assert "torchvision" not in text
    assert max(map(len, shown(to_table(invented), 80).splitlines())) <= 80


def test_csv_parses_back_to_the_numbers(invented: dict[str, Any]) -> None:
    original, finetuned = csv.DictReader(io.StringIO(to_csv(invented)))
    assert (original["role"], int(original["params"])) == ("original", 464_154)
    assert float(finetuned["top1"]) == 0.901
    assert float(finetuned["ci95_low"]) == 0.8809
    assert float(finetuned["torch_b64_median_ms"]) == 40.5
    assert original["torch_b64_median_ms"] == ""
    assert (original["torch_b1_threads"], original["torch_b1_device"]) == ("2", "cpu")
    assert original["command"] == 'condense report --data "a,b" [x]'
    assert (original["cpu"], original["input_size"]) == ("Fast 9000", "3x32x32")
    assert None not in original


def test_csv_leaves_an_unmeasured_accuracy_empty(invented: dict[str, Any]) -> None:
    invented["models"][0]["accuracy"] = None
    original = next(csv.DictReader(io.StringIO(to_csv(invented))))
    assert (original["top1"], original["ci95_low"], original["split"]) == ("", "", "")


def test_a_markdown_table_has_one_cell_per_model(invented: dict[str, Any]) -> None:
    lines = [line for line in to_markdown(invented).splitlines() if line.startswith("|")]
    assert lines[0] == "|  | original | finetuned |"
    assert lines[1] == "| --- | ---: | ---: |"
    assert {line.count("|") for line in lines} == {4}
    assert "- a \\<b\\> & \\[blocks.3\\] \\| c" in to_markdown(invented)
    assert "finetuned against original:" in to_markdown(invented)


def test_html_is_whole_and_needs_nothing_else(invented: dict[str, Any]) -> None:
    page = Page(to_html(invented, title="run <1>"))
    assert page.open == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not {"src", "href"} & {name for name, _ in page.attributes}
    text = " ".join(page.words)
    assert "a <b> & [blocks.3] | c" in text
    assert "Warning: control.pt is stale, left out: converted <again>" in text
    assert "run <1>" in text
    assert "prefers-color-scheme: dark" in text


def test_html_has_a_described_picture_of_each_kind(invented: dict[str, Any]) -> None:
    page = Page(to_html(invented))
    spoken = [value for name, value in page.attributes if name == "aria-label"]
    assert spoken == [
        "Multiply–accumulates for one image: original 68.9 M; finetuned 68.9 M",
        "Milliseconds per batch of 1, torch (median): original 3.25 (IQR 0.12); "
        "finetuned 1.75 (IQR 0.12)",
        "Milliseconds per batch of 64, torch (median): finetuned 40.5 (IQR 0.12)",
        "Top-1 accuracy (95 % interval): original 92.8 % (91.0–94.2); finetuned 90.1 % (88.1–91.8)",
    ]


def test_a_report_of_the_original_alone(invented: dict[str, Any]) -> None:
    invented |= {"verdicts": [], "warnings": [], "command": None}
    invented["models"] = [invented["models"][0] | {"accuracy": None, "latency": {}}]
    invented["environment"]["gpu"] = None
    for text in (shown(to_table(invented)), to_markdown(invented), to_html(invented)):
        assert "464,154" in text
        assert "against" not in text
        assert "top-1" in text
    assert "timed on: –" in shown(to_table(invented))
    assert Page(to_html(invented)).tags.count("svg") == 1


def test_bars_are_as_long_as_their_values() -> None:
    picture = bars("t", [Bar(label="a", value=4, text="4"), Bar(label="b", value=1, text="1")])
    assert 'width="330.0"' in picture
    assert 'width="82.5"' in picture
    assert 'width="165.0"' in bars("t", [Bar(label="a", value=0.5, text="")], longest=1)
    assert 'width="0.0"' in bars("t", [Bar(label="a", value=0, text="0")])


@pytest.fixture
def analysed() -> dict[str, Any]:
    trial = {
        "layer": "global",
        "params": 900,
        "macs": 600_000,
        "latency_ms": 1.5,
        "removed_params": 18_600,
        "removed_macs": 19_000_000,
        "removed_latency_ms": 3.0,
        "latency_ratio": [0.45, 0.5, 0.55],
    }
    stage = {
        "name": "layer1",
        "blocks": ["layer1.0", "layer1.1"],
        "repeats": ["layer1.1"],
        "in_shape": [16, 32, 32],
        "out_shape": [16, 32, 32],
        "params": 2_500,
        "macs": 2_000_000,
        "latency_ms": 2.0,
        "convertible": True,
        "reason": None,
        "replacement": trial,
    }
    other = stage | {
        "name": "[body].2",
        "convertible": False,
        "reason": "its input is used elsewhere",
        "repeats": [],
        "latency_ms": None,
        "replacement": None,
    }
    return {
        "architecture": "resnet20",
        "input_size": [3, 32, 32],
        "stages": [stage, other],
        "totals": {"params": 10_000, "macs": 8_000_000, "latency_ms": 8.0},
    }


def test_stages_show_shares_verdicts_and_reasons(analysed: dict[str, Any]) -> None:
    text = shown(stages_table(analysed))
    assert "resnet20 at 3x32x32" in text
    assert "16x32x32 to 16x32x32" in text
    assert text.count("2.50 k (25.0 %)") == 2
    assert "2.00 (25.0 %)" in text
    assert "whole model" in text
    assert "layer1: convertible\n" in text.replace(" \n", "\n")
    assert (
        "global instead of the repeats: params 18.6 k to 900, MACs 19.0 M to 600 k, "
        "ms 3.00 to 1.50 (faster here: 0.45 to 0.55 of the time, 95 % interval)" in text
    )
    assert "[body].2: not convertible, its input is used elsewhere" in text


@pytest.mark.parametrize(
    ("interval", "verdict"), [([1.1, 1.2, 1.3], "slower here"), ([0.9, 1, 1.1], "no difference")]
)
def test_a_replacement_that_is_not_faster_is_called_that(
    analysed: dict[str, Any], interval: list[float], verdict: str
) -> None:
    analysed["stages"][0]["replacement"]["latency_ratio"] = interval
    assert verdict in shown(stages_table(analysed))


def test_a_replacement_with_the_designs_keys_only(analysed: dict[str, Any]) -> None:
    stage = analysed["stages"][0]
    stage["replacement"] = {"params": 900, "macs": 600_000, "latency_ms": 1.5}
    analysed["architecture"] = None
    text = shown(stages_table(analysed))
    assert "a layer instead of the repeats: params 900, MACs 600 k, ms 1.50" in text
    assert "model at 3x32x32" in text


def test_a_convertible_stage_before_measuring(analysed: dict[str, Any]) -> None:
    analysed["stages"][0]["replacement"] = None
    assert "instead of" not in shown(stages_table(analysed))
