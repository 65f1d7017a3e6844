"""The table of networks, and what is known of each beside its code."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from torch import nn

from condense.errors import ConfigError
from condense.registry import Registry

NORMALIZATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "digits": ((0.3053,), (0.3761,)),
    "mnist": ((0.1307,), (0.3081,)),
    "none": ((0.0,), (1.0,)),
}
"""Mean and standard deviation of each channel, of pixels in [0, 1]; one value is for all."""


@dataclass(frozen=True)
class ModelSpec:
    """A network and what its weights expect.

    Args:
        build: Makes the network; takes `num_classes` and the network's own options by keyword.
        input_size: (C, H, W) of one image.
        mean: Of each channel, subtracted from pixels in [0, 1].
        std: Of each channel, divided by afterwards.
        note: Where the network comes from.
        recipe: How it is trained from scratch, by its name in `condense.training.RECIPES`.
    """

    build: Callable[..., nn.Module]
    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    note: str
    recipe: str = "global-cifar"


MODELS: Registry[ModelSpec] = Registry("model", group="condense.models")


def create(name: str, *, num_classes: int = 10, **options: Any) -> nn.Module:
    """Make a network by name, with random weights.

    Args:
        name: One of `names()`.
        num_classes: Outputs of the classifier.
        options: The network's own, for example `in_channels`.

    Raises:
        UnknownNameError: If there is no such network.
        ConfigError: If it has no such option.
    """
    spec = MODELS[name]
    known = inspect.signature(spec.build).parameters
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, n=1)
            raise ConfigError(
                f"{name} has no option {option!r}; it has: {', '.join(known)}",
                hint=f"did you mean {near[0]!r}?" if near else None,
            )
    return spec.build(num_classes=num_classes, **options)


def names() -> tuple[str, ...]:
    """Every network's name, in alphabetical order."""
    return tuple(MODELS)
