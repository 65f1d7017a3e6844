"""PDE layers whose state grows are named."""

import logging

import pytest
import torch
from torch import nn

from condense.data import DataSet
from condense.layers import GlobalLayer
from condense.training import finetune
from condense.training.steadiness import growing_layers

IMAGES = torch.rand(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def layer(eps: float, steps: int, dt: float = 0.2) -> GlobalLayer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GlobalLayer(4, steps=steps, coefficient_eps=eps, dt=dt)


def test_the_default_layer_is_steady() -> None:
    assert growing_layers(nn.Sequential(layer(4, 10)), IMAGES) == {}


def test_a_growing_layer_is_named_and_all_modes_stay() -> None:
    model = nn.Sequential(nn.BatchNorm2d(4), nn.Sequential(layer(4, 20, dt=3.0)))
    model[0].eval()
    modes = [module.training for module in model.modules()]
    growth = growing_layers(model, IMAGES)
    assert list(growth) == ["1.0"]
    assert growth["1.0"] > 100
    assert [module.training for module in model.modules()] == modes


def test_models_without_such_layers_are_not_even_run() -> None:
    assert growing_layers(nn.Linear(3, 3), IMAGES) == {}


def test_finetune_warns_once_a_layer(few: DataSet, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), layer(4, 20, dt=3.0), nn.Flatten(), nn.Linear(256, 10)
    )
    with caplog.at_level(logging.WARNING, logger="condense"):
        result = finetune(model, teacher=None, data=few, epochs=1, batch_size=20, lr=1e-9)
    assert list(result.unstable) == ["1"]
    assert len(caplog.messages) == 1
    assert "layer 1: its state grows" in caplog.text
