import json
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from condense.errors import ConfigError
from condense.measurement import Accuracy
from condense.reporting import ROLES, Entry, build_report

SIZE = (3, 6, 6)
Build = Callable[[int], nn.Module]
HALF = Accuracy(0.5, 10, (0.24, 0.76))


def test_the_designs_keys(tiny: Build, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(b"x" * 12)
    entries = [
        Entry(role="finetuned", model=tiny(1)),
        Entry(role="original", model=tiny(2), file=file, accuracy=HALF, split="validation"),
    ]
    report = build_report(entries, SIZE, batch_sizes=(1, 2), repeats=2, command="condense report")
    json.dumps(report, allow_nan=False)
    original, finetuned = report["models"]
    assert (original["role"], finetuned["role"]) == ("original", "finetuned")
    assert {
        "params",
        "macs",
        "macs_paper",
        "macs_thop",
        "elementwise_ops",
        "depth_blocks",
        "depth_layers",
        "latency",
        "accuracy",
        "file_bytes",
    } <= set(original)
    assert list(original["latency"]) == ["torch", "onnxruntime"]
    assert [entry["batch_size"] for entry in original["latency"]["torch"]] == [1, 2]
    assert original["accuracy"] == {
        "split": "validation",
        "top1": 0.5,
        "n": 10,
        "ci95": [0.24, 0.76],
    }
    assert (original["file_bytes"], finetuned["file_bytes"]) == (12, None)
    assert finetuned["accuracy"] is None
    assert (report["schema"], report["input_size"]) == (1, [3, 6, 6])
    assert report["command"] == "condense report"
    assert report["environment"]["torch"]


def test_everything_is_held_against_the_original_and_its_control(tiny: Build) -> None:
    entries = [Entry(role=role, model=tiny(1)) for role in reversed(ROLES)]
    report = build_report(entries, SIZE, runtimes=())
    assert [model["role"] for model in report["models"]] == list(ROLES)
    assert [(verdict["role"], verdict["against"]) for verdict in report["verdicts"]] == [
        ("converted", "original"),
        ("control", "original"),
        ("finetuned", "original"),
        ("control_finetuned", "original"),
        ("converted", "control"),
        ("finetuned", "control_finetuned"),
    ]
    assert report["models"][0]["latency"] == {}


def test_what_a_reader_must_know_is_a_warning(tiny: Build) -> None:
    entries = [Entry(role=role, model=tiny(1)) for role in ("original", "converted", "finetuned")]
    report = build_report(entries, SIZE, runtimes=(), warnings=["x.pt is stale"])
    assert report["warnings"] == [
        "x.pt is stale",
        "in no count, as there is no rule for them: mean",
        "no control to hold converted against: whether the PDE layers help is not shown",
        "no control_finetuned to hold finetuned against: whether the PDE layers help is not shown",
    ]


def test_all_counted_and_controlled_needs_no_warning() -> None:
    report = build_report([Entry(role="original", model=nn.Conv2d(3, 1, 1))], SIZE, runtimes=())
    assert (report["warnings"], report["verdicts"]) == ([], [])


def test_nothing_to_report_on_says_how_to_begin() -> None:
    with pytest.raises(ConfigError, match="nothing to report on yet") as caught:
        build_report([], SIZE)
    assert caught.value.hint == "start with: condense analyze MODEL"


def test_a_role_twice_is_an_error(tiny: Build) -> None:
    entries = [Entry(role="original", model=tiny(0))] * 2
    with pytest.raises(ConfigError, match=r"each of these roles once.*got original, original"):
        build_report(entries, SIZE)
