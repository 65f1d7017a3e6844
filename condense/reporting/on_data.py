"""A model of a run met with the run's data."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from condense.data import DataSet, Split, batches, load
from condense.measurement import Accuracy, accuracy
from condense.training.inputs import Inputs, known_inputs
from condense.training.steadiness import growing_layers

BATCH = 256
DOUBTFUL = 0.7


def data_for(model: nn.Module, spec: str, *, seed: int = 0) -> DataSet:
    """The data set, in the size that the model takes and with labels that it knows.

    Raises:
        DataError: If it cannot be used.
    """
    known = known_inputs(model)
    origin = getattr(model, "origin", None)
    return load(
        spec,
        input_size=known.get("input_size"),
        num_classes=getattr(origin, "num_classes", None),
        seed=seed,
    )


def test_accuracy(model: nn.Module, data: DataSet) -> Accuracy:
    """Top-1 on the whole test split, normalised as the model expects."""
    return accuracy(model, batches(data.test, BATCH, **_inputs(model, data)))


def judge(model: nn.Module, data: DataSet) -> tuple[Accuracy, str | None]:
    """The original's test accuracy, and a word of doubt if it is too low to be right.

    A wrong normalisation, or labels in another order, shows in nothing else.
    """
    score = test_accuracy(model, data)
    if score.top1 >= DOUBTFUL:
        return score, None
    return score, (
        f"the original is right on {score.top1:.1%} of the test images only: check --normalization "
        f"(or --mean and --std), and that the labels are numbered as it learnt them"
    )


def stability_warnings(model: nn.Module, data: DataSet) -> list[str]:
    """One sentence for each PDE layer whose state grows on a batch of held-out images."""
    return growth_warnings(growing_layers(model, images_of(model, data, data.validation, 64)))


def growth_warnings(growths: Mapping[str, float]) -> list[str]:
    """A sentence for each layer in `growths`."""
    return [
        f"{name}: H grows {growth:.3g} times over its steps; a smaller dt or a larger "
        f"coefficient_eps tames it"
        for name, growth in growths.items()
    ]


def images_of(model: nn.Module, data: DataSet, part: Split, count: int) -> Tensor:
    """The first images of a part as the model takes them, (n, C, H, W)."""
    first = part.take(torch.arange(min(count, len(part))))
    like = next(model.parameters())
    images, _ = next(batches(first, len(first), device=like.device, **_inputs(model, data)))
    return images


def _inputs(model: nn.Module, data: DataSet) -> dict[str, Any]:
    return Inputs(**{"input_size": data.input_size, **known_inputs(model)}).to_dict()
