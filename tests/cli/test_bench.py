"""`condense bench`: what it prints and writes; what the times are is not for a test to judge."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from condense.layers import LAYERS

QUICK = ("--batch-size", "1", "--repeats", "2", "--steps", "1")
SMALL = ("bench", "layers", "--shape", "4x6x6", *QUICK, "--runtimes", "torch")
FIGURE = {"place", "case", "runtime", "kernel", "batch_size", "threads"} | {
    "median_ms",
    "iqr_ms",
    "ratio",
    "ratio_compiled",
}


def document_of(result: Any) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["schema"] == 1
    return found


def test_layers_by_kernel_against_the_block(condense: Any) -> None:
    found = document_of(condense(*SMALL, "--json"))
    assert found["kind"] == "layers"
    assert found["environment"]["cpu"]
    cases = {(figure["case"], figure["kernel"]) for figure in found["figures"]}
    assert {("residual block", None), ("global K=1", "readable"), ("global K=1", "cpu")} <= cases
    assert {case.partition(" K=")[0] for case, _ in cases} == {"residual block", *LAYERS}
    for figure in found["figures"]:
        assert set(figure) == FIGURE
        assert figure["median_ms"] > 0
        low, mid, high = figure["ratio"]
        assert 0 < low <= mid <= high
    assert found["figures"][0]["ratio"] == [1.0, 1.0, 1.0]
    assert found["sums"] == found["skipped"] == []


def test_several_shapes_batches_and_threads_are_added_up(condense: Any) -> None:
    words = ("bench", "layers", "--shape", "4x6x6,8x4x4", "--layer", "global", "--steps", "1,2")
    how = ("--batch-size", "1,2", "--thread-counts", "1,2", "--repeats", "2", "--runtimes", "torch")
    found = document_of(condense(*words, *how, "--json"))
    assert len(found["figures"]) == 2 * 2 * 2 * 5
    assert len(found["sums"]) == 2 * 2 * 5
    assert {figure["threads"] for figure in found["sums"]} == {1, 2}
    assert {figure["place"] for figure in found["sums"]} == {"all 2 shapes"}
    assert {figure["case"] for figure in found["sums"]} == {
        "residual block",
        "global K=1",
        "global K=2",
    }


def test_onnx_runtime_runs_one_form(condense: Any) -> None:
    words = (*SMALL[:-1], "onnxruntime", "--layer", "global", "--json")
    found = document_of(condense(*words))
    assert [(f["case"], f["kernel"]) for f in found["figures"]] == [
        ("residual block", None),
        ("global K=1", None),
    ]


def test_the_table_goes_to_stdout_and_the_rest_to_stderr(condense: Any) -> None:
    result = condense(*SMALL, "--layer", "global")
    assert result.exit_code == 0
    assert "4x6x6, batch 1" in result.stdout
    assert "residual block" in result.stdout
    assert "next: condense" in result.stderr


@pytest.mark.parametrize("name", ["bench.svg", "bench.html"])
def test_the_picture_is_written_and_not_over_another(
    condense: Any, tmp_path: Path, name: str
) -> None:
    words = (*SMALL, "--layer", "global", "-o", name)
    result = condense(*words)
    assert result.exit_code == 0, result.stderr
    assert f"written: {name}" in result.stderr
    text = (tmp_path / name).read_text()
    assert "global K=1, readable kernel, torch" in text
    if name.endswith("svg"):
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    again = condense(*words)
    assert (again.exit_code, again.stdout) == (3, "")
    assert f"{name} exists already" in again.stderr
    assert condense(*words, "--force").exit_code == 0


def test_stages_of_a_model(condense: Any) -> None:
    words = ("bench", "stages", "model.safetensors", *QUICK, "--runtimes", "torch")
    found = document_of(condense(*words, "--json"))
    assert found["kind"] == "stages"
    first = found["figures"][0]
    assert first["case"] == "removed repeats"
    assert first["ratio"] == [1.0, 1.0, 1.0]
    assert {figure["case"] for figure in found["figures"]} == {"removed repeats", "global K=1"}


def test_stages_without_anything_to_remove(condense: Any) -> None:
    words = ("bench", "stages", "model.safetensors", *QUICK, "--runtimes", "torch")
    result = condense(*words, "--keep", "99")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "no stage has repeats to hold a layer against" in result.stderr


CONVS = ("bench", "convs", "--at", "4x6x6", "--repeats", "2", "-b", "1")


def test_convolutions_by_size_kernel_and_channels(condense: Any, tmp_path: Path) -> None:
    values = ("--sizes", "4,6", "--kernel-sizes", "3,5", "--channels", "2,4")
    found = document_of(condense(*CONVS, *values, "--json", "-o", "convs.svg"))
    assert found["kind"] == "convs"
    assert len(found["figures"]) == 3 * 2 * 5
    for figure in found["figures"]:
        assert set(figure) >= FIGURE
        expected = {"image size": "size", "kernel size": "kernel_size", "channels": "channels"}
        assert figure[expected[figure["axis"]]] == figure["value"]
        assert (figure["ratio"] == [1.0, 1.0, 1.0]) >= (figure["convolution"] == "full")
    assert "by kernel size" in (tmp_path / "convs.svg").read_text()


def test_a_panel_may_be_left_out(condense: Any) -> None:
    words = ("--sizes", "none", "--kernel-sizes", "5", "--channels", "2")
    result = condense(*CONVS, *words, "-o", "convs.html")
    assert result.exit_code == 0, result.stderr
    assert "by channels (image size 6, kernel size 5), batch 1" in result.stdout
    assert "by image size" not in result.stdout
    assert "2: circulant" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--at", "4x6x8"), "--at is '4x6x8', expected square maps"),
        (("--at", "4"), "--at is '4', expected CxHxW"),
        (("--kernel-sizes", "3,4"), "kernel_size must be odd, got 4"),
        (("--sizes", "none", "--kernel-sizes", "3", "--channels", "none"), "nothing to vary"),
        (("--channels", "few"), "--channels is 'few'"),
        (("-o", "convs.png"), "convs.png does not say what to draw"),
    ],
)
def test_convolutions_that_cannot_be(condense: Any, words: tuple[str, ...], message: str) -> None:
    result = condense(*CONVS, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_the_loop_beside_bare_steps(condense: Any, tmp_path: Path) -> None:
    words = ("bench", "loop", "resnet20", "--batch-size", "4", "--steps", "2")
    found = document_of(condense(*words, "--json", "-o", "loop.html"))
    assert found["kind"] == "loop"
    assert (found["steps"], found["batch_size"]) == (2, 4)
    assert found["overhead"] == pytest.approx(found["ratio"][1] - 1)
    assert all(found[name]["median_ms"] > 0 for name in ("loop", "bare", "optimizer"))
    assert "the loop adds" in (tmp_path / "loop.html").read_text()


def test_the_loop_on_data_of_ones_own(condense: Any) -> None:
    words = ("bench", "loop", "resnet_digits", "--data", "digits", "--batch-size", "8")
    result = condense(*words, "--steps", "1")
    assert result.exit_code == 0, result.stderr
    assert "resnet_digits, converted: training on digits" in result.stdout
    assert "the optimizer's step" in result.stdout
    short = condense(*words, "--steps", "1000")
    assert short.exit_code == 2
    assert "training images, 8016 are needed" in short.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--runtimes", "tensorrt"), "no runtime named 'tensorrt'"),
        (("--batch-size", "1,many"), "--batch-size is '1,many'"),
        (("--thread-counts", "0"), "--thread-counts is '0'"),
        (("--shape", "16x32"), "--shape is '16x32'"),
        (("--layer", "globl"), "no layer named 'globl'"),
        (("-o", "bench.png"), "bench.png does not say what to draw"),
    ],
)
def test_wrong_options_are_named(condense: Any, words: tuple[str, ...], message: str) -> None:
    result = condense("bench", "layers", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_analyze_measures_once_unless_fresh_is_asked_for(
    condense: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    words = ("analyze", "model.safetensors", "--json")
    first = document_of(condense(*words))
    assert document_of(condense(*words)) == first
    assert "--fresh measures again" in condense(*words, "--verbose").stderr
    again = condense(*words, "--verbose", "--fresh")
    assert "--fresh measures again" not in again.stderr
    assert document_of(again) != first


def test_help_names_all_four(condense: Any) -> None:
    result = condense("bench", "--help")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ("layers", "stages", "convs", "loop"))
