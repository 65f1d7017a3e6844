"""What stages and their replacements take."""

import pytest
import torch
from torch import nn

from condense.analysis import Stages, analyze, measure_stages
from condense.analysis.measuring import WHOLE, new_layers, split_steps, time_in_modules
from condense.errors import ConfigError
from condense.layers import GlobalLayer
from condense.measurement import count_params
from condense.models import create


@pytest.fixture(scope="module")
def measured() -> Stages:
    model = create("resnet20")
    return measure_stages(model, analyze(model, (3, 32, 32)), repeats=5)


def test_every_stage_takes_part_of_the_whole_time(measured: Stages) -> None:
    assert measured.totals.latency_ms is not None
    times = [stage.latency_ms for stage in measured]
    assert all(time is not None and time > 0 for time in times)
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


def test_time_in_modules_sums_a_group() -> None:
    slow = nn.Conv2d(8, 8, 7, padding=3)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), slow, nn.ReLU(), slow)
    times = time_in_modules(model, {"slow": ["1"]}, (3, 48, 48), batch_size=2, repeats=5)
    assert 0.3 * times[WHOLE] < times["slow"] < 1.3 * times[WHOLE]


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
