"""A small network with normalisation and dropout, and small data."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from condense.data import ArraySplit, DataSet, load

Build = Callable[..., nn.Module]


@pytest.fixture(scope="session")
def build() -> Build:
    """Builds a network for the digits; `seed` draws its weights."""

    def small(seed: int = 0, *, classes: int = 10) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1, bias=False),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.Dropout(0.1),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(128, classes),
            )

    return small


@pytest.fixture(scope="session")
def digits() -> DataSet:
    return load("digits")


@pytest.fixture(scope="session")
def few(digits: DataSet) -> DataSet:
    """100 training and 100 validation images."""
    return digits.limited(100)


@pytest.fixture(scope="session")
def shuffled(digits: DataSet) -> DataSet:
    """The digits with labels of training and validation images mixed up."""

    def mixed(split: ArraySplit) -> ArraySplit:
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(5))
        return ArraySplit(split.images, split.labels[order], is_flippable=False)

    return DataSet(
        "shuffled",
        mixed(digits.train),
        digits.validation,
        digits.test,
        digits.classes,
        digits.input_size,
    )
