"""Benchmark cases: which there are, what a sum adds, what happens to those that cannot run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from condense.errors import ConfigError, SelfCheckError
from condense.layers import LAYERS
from condense.measurement import Timing
from condense.measurement.bench_cases import (
    Conditions,
    Figure,
    layer_cases,
    summed,
    time_cases,
)
from condense.measurement.bench_layers import bench_layers

QUICK = Conditions(batch_sizes=(1,), repeats=2, runtimes=("torch",))


def figure(place: str, case: str, *samples: float) -> Figure:
    return Figure(
        place=place,
        case=case,
        runtime="torch",
        kernel=None,
        batch_size=1,
        threads=1,
        timing=Timing(samples),
        ratio=(1.0, 1.0, 1.0),
    )


def test_every_registered_layer_is_a_case() -> None:
    names = {name.partition(" K=")[0] for name in layer_cases(4)}
    assert names == set(LAYERS)
    assert list(layer_cases(4, layers=["global"], steps=(1, 3))) == ["global K=1", "global K=3"]


def test_a_sum_adds_round_by_round() -> None:
    places = [
        figure("a", "block", 1.0, 3.0),
        figure("a", "new", 1.0, 1.0),
        figure("b", "block", 2.0, 4.0),
        figure("b", "new", 2.0, 3.0),
        figure("b", "only here", 9.0, 9.0),
    ]
    block, new = summed(places, "all")
    assert block.timing.samples == (3.0, 7.0)
    assert new.timing.samples == (3.0, 4.0)
    assert new.ratio[1] == pytest.approx(3.5 / 5.0)
    assert (new.place, new.case) == ("all", "new")


@pytest.mark.parametrize("is_baseline", [False, True])
def test_what_onnx_runtime_cannot_run_is_named(
    monkeypatch: pytest.MonkeyPatch, is_baseline: bool
) -> None:
    good, bad = nn.Identity(), nn.ReLU()
    first, second = (bad, good) if is_baseline else (good, bad)

    def export(module: nn.Module, path: Path, *_: Any, **__: Any) -> None:
        if module is bad:
            raise SelfCheckError("they disagree")

    class Session:
        def run(self, *_: Any) -> None: ...

    monkeypatch.setattr("condense.measurement.bench_cases.export_onnx", export)
    monkeypatch.setattr("condense.measurement.bench_cases.open_session", lambda _: Session())
    how = Conditions(batch_sizes=(1,), repeats=2, runtimes=("onnxruntime",))
    figures, skipped = time_cases("here", {"old": first}, {"new": second}, (3, 4, 4), how)
    assert [item.case for item in figures] == ([] if is_baseline else ["old"])
    assert [(item.case, item.reason) for item in skipped] == [
        ("old" if is_baseline else "new", "they disagree")
    ]


@pytest.mark.slow
def test_compiled_beside_uncompiled() -> None:
    how = Conditions(batch_sizes=(1,), repeats=2, runtimes=("torch_compile", "torch"))
    cases = layer_cases(4, layers=["global"], steps=(1,))
    figures, skipped = time_cases("here", {"old": nn.Conv2d(4, 4, 1)}, cases, (4, 5, 5), how)
    assert not skipped
    assert {(f.case, f.runtime, f.kernel) for f in figures} == {
        (case, runtime, kernel)
        for runtime in ("torch", "torch_compile")
        for case, kernel in (("old", None), ("global K=1", "readable"), ("global K=1", "cpu"))
    }
    old = {f.runtime: f for f in figures if f.case == "old"}
    assert old["torch_compile"].ratio_compiled == (1.0, 1.0, 1.0)
    mid = old["torch"].timing.median_ms / old["torch_compile"].timing.median_ms
    assert old["torch"].ratio_compiled is not None
    assert old["torch"].ratio_compiled[1] == pytest.approx(mid)


def test_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    how = Conditions(batch_sizes=(1,), threads=(before + 1,), repeats=2, runtimes=("torch",))
    found = bench_layers([(4, 5, 5)], layers=["linear-mix"], conditions=how)
    assert {item.threads for item in found.figures} == {before + 1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"runtimes": ("tvm",)}, "no runtime named 'tvm'; there are: torch, "),
        ({"runtimes": ()}, "at least one runtime"),
        ({"batch_sizes": (0,)}, "at least 1, got 0"),
    ],
)
def test_conditions_are_checked(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Conditions(**wrong)


def test_no_shapes_are_an_error() -> None:
    with pytest.raises(ConfigError, match="at least one shape"):
        bench_layers([], conditions=QUICK)
