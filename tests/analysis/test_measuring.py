"""What stages and their replacements take."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from condense.analysis import Stages, Trial, analyze, measure_stages
from condense.analysis.measuring import WHOLE, new_layers, split_steps, time_in_modules
from condense.errors import ConfigError
from condense.layers import GlobalLayer
from condense.measurement import count_params, interleave
from condense.models import create


@pytest.fixture(scope="module")
def measured() -> Stages:
    model = create("resnet20")
    return measure_stages(model, analyze(model, (3, 32, 32)), repeats=5)


def test_every_stage_takes_part_of_the_whole_time(measured: Stages) -> None:
    assert measured.totals.latency_ms is not None
    times = [stage.latency_ms for stage in measured]
    assert all(taken is not None and taken > 0 for taken in times)
    assert sum(time or 0 for time in times) < 1.5 * measured.totals.latency_ms


def test_a_replacement_is_counted_and_timed(measured: Stages) -> None:
    trial = measured["layer3"].replacement
    assert trial is not None
    assert trial.params == count_params(GlobalLayer(64))
    assert trial.removed_params == 2 * (2 * 64 * 64 * 9 + 2 * 2 * 64)
    assert trial.removed_macs == 4 * 64 * 64 * 9 * 64
    low, mid, high = trial.ratio
    assert 0 < low <= mid <= high
    assert trial.is_faster == (high < 1)
    shown = measured.to_dict()["stages"][2]["replacement"]
    assert {"params", "macs", "latency_ms"} <= set(shown)
    assert shown["latency_ratio"] == [low, mid, high]


def test_no_replacement_without_repeats_beyond_the_kept_ones() -> None:
    model = create("resnet20").train()
    stages = measure_stages(model, analyze(model, (3, 32, 32)), keep=3, repeats=1)
    assert [stage.replacement for stage in stages] == [None, None, None]
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Sleeping(nn.Module):
    """Takes at least 5 ms."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.005)
        return x


def test_time_in_modules_sums_a_group() -> None:
    slow = Sleeping()
    model = nn.Sequential(nn.Conv2d(3, 8, 1), slow, nn.ReLU(), slow)
    times = time_in_modules(model, {"slow": ["1"]}, (3, 8, 8), batch_size=2, repeats=3)
    assert times["slow"] >= 10  # both calls, and what sleeps cannot be faster
    assert times[WHOLE] >= 10


def test_new_layers_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    first, second = (new_layers("global", 4, count=2, seed=3).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_steps_is_the_number_of_layers_that_have_no_steps() -> None:
    assert split_steps("global", {"steps": 3}) == ({"steps": 3}, 1)
    assert split_steps("linear-mix", {"steps": 3}) == ({}, 3)
    with pytest.raises(ConfigError, match=r"number of linear-mix layers .* got 0"):
        split_steps("linear-mix", {"steps": 0})


def test_what_was_measured_before_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    timed = []

    def watched(*arguments: Any, **conditions: Any) -> Any:
        timed.append(list(arguments[0]))
        return interleave(*arguments, **conditions)

    monkeypatch.setattr("condense.analysis.measuring.interleave", watched)
    model = create("resnet20")
    stages = analyze(model, (3, 32, 32))
    first = measure_stages(model, stages, repeats=2)
    assert timed == [[WHOLE], *3 * [["new", "removed"]]]
    assert measure_stages(create("resnet20"), stages, repeats=2) == first
    assert len(timed) == 4
    measure_stages(model, stages, repeats=2, batch_size=2)
    assert len(timed) == 8
    measure_stages(model, stages, repeats=2, options={"steps": 2})
    assert len(timed) == 11  # the whole model's are known
    measure_stages(model, stages, repeats=2, fresh=True)
    assert len(timed) == 15


def test_a_trial_survives_json(measured: Stages) -> None:
    trial = measured["layer1"].replacement
    assert trial is not None
    assert Trial.from_dict(json.loads(json.dumps(trial.to_dict()))) == trial
    with pytest.raises(KeyError, match="macs"):
        Trial.from_dict({"layer": "global", "params": 1, "latency_ratio": [1, 1, 1]})
