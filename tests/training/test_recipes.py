"""The papers' recipes: the numbers that they print, and what options do to them."""

from typing import Any

import pytest
from torch import nn

from condense.errors import ConfigError, UnknownNameError
from condense.models import MODELS, create
from condense.training import RECIPES, TrainConfig
from condense.training.recipes import config_for
from condense.training.schedule import learning_rate

PLAIN = nn.Linear(1, 1)


def rates(config: TrainConfig, epochs: list[int], steps: int = 10) -> list[float]:
    """Learning rate at the first step of these epochs, from 1."""
    total = steps * config.epochs
    return [learning_rate(steps * (epoch - 1), total, config) for epoch in epochs]


def test_paper_a() -> None:
    config = config_for("global-cifar", PLAIN, {})
    assert (config.optimizer, config.momentum, config.batch_size) == ("sgd", 0.9, 128)
    assert config.augment
    found = rates(config, [1, 150, 151, 225, 226, 300])
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_paper_a_takes_small_batches_for_global_layers() -> None:
    assert config_for("global-cifar", create("resnet_tiny_global"), {}).batch_size == 32
    assert (
        config_for("global-cifar", create("resnet_tiny_global"), {"batch_size": 64}).batch_size
        == 64
    )


def test_paper_b() -> None:
    config = config_for("lowcost-cifar", PLAIN, {})
    assert (config.optimizer, config.batch_size, config.weight_decay) == ("adam", 100, 0)
    found = rates(config, [1, 60, 61, 121, 181, 241, 300])
    assert found == pytest.approx([0.01, 0.01, 0.005, 0.0025, 0.00125, 0.000625, 0.000625])


def test_darts() -> None:
    config = config_for("darts", PLAIN, {})
    assert (config.lr, config.schedule, config.clip, config.cutout) == (0.025, "cosine", 5, 16)
    assert (config.auxiliary_weight, config.drop_path) == (0.4, 0.2)
    assert rates(config, [1, 151]) == pytest.approx([0.025, 0.0125])


@pytest.mark.parametrize("epochs", [30, 4])
def test_other_epochs_move_the_milestones_in_proportion(epochs: int) -> None:
    config = config_for("global-cifar", PLAIN, {"epochs": epochs})
    turns = [epochs // 2, epochs // 2 + 1, epochs * 3 // 4 + 1]
    if epochs == 30:
        turns[2] = 24  # three quarters are within the 23rd epoch
    assert rates(config, turns) == pytest.approx([0.1, 0.01, 0.001])


def test_another_schedule_has_no_milestones() -> None:
    config = config_for("global-cifar", PLAIN, {"schedule": "cosine"})
    assert (config.milestones, config.schedule) == ((), "cosine")
    again = config_for("darts", PLAIN, {"schedule": "step", "milestones": (0.5,)})
    assert rates(again, [1, 151]) == pytest.approx([0.025, 0.0025])


def test_warmup_rises_to_the_rate_before_the_steps() -> None:
    config = TrainConfig(schedule="step", milestones=(0.5,), lr=0.4, warmup=0.4, epochs=10)
    found = [learning_rate(step, 10, config) for step in range(10)]
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.04, 0.04, 0.04, 0.04, 0.04])


def test_an_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="there are: darts, global-cifar, ") as caught:
        config_for("drats", PLAIN, {})
    assert caught.value.hint == "did you mean 'darts'?"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"epoch": 3}, "no training option 'epoch'"),
        ({"schedule": "steps"}, "schedule must be one of onecycle, cosine, step, got 'steps'"),
        ({"optimizer": "sdg"}, "optimizer must be one of sgd, adam, got 'sdg'"),
        ({"milestones": (0.5, 0.2)}, r"milestones must be rising shares"),
        ({"milestones": (150, 225)}, r"milestones must be rising shares of the training in \(0, 1"),
        ({"milestones": ()}, "milestones must be one or more for the schedule 'step'"),
        ({"schedule": "cosine", "milestones": (0.5,)}, "none for others, got"),
        ({"factor": 0}, r"factor must be in \(0, 1\]"),
        ({"cutout": -1}, "cutout must be at least 0"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\)"),
        ({"auxiliary_weight": -1.0}, "auxiliary_weight must be at least 0"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        config_for("global-cifar", PLAIN, options)


def test_options_survive_json() -> None:
    config = config_for("lowcost-cifar", PLAIN, {})
    plain = config.to_dict() | {"milestones": list(config.milestones)}
    assert TrainConfig.from_dict(plain) == config


def test_every_network_names_a_recipe_that_exists() -> None:
    assert {MODELS[name].recipe for name in MODELS} <= set(RECIPES)
    assert MODELS["mnist10_global"].recipe == "mnist"
    assert MODELS["darts_tiny"].recipe == "darts"
    assert MODELS["lowcost_rd_implicit_a"].recipe == "lowcost-cifar"
    assert MODELS["resnet32_global"].recipe == "global-cifar"
