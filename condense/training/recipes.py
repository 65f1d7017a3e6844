"""The papers' trainings as named options: a recipe is a `TrainConfig` that options can change.

`global-cifar` and `darts` are what the code of paper A does, `lowcost-cifar` is what paper B says;
`mnist` is ours, as paper A gives none. All choose the best epoch on held-out images, which the
authors of A do on the test set. Batch and weight decay of `darts` are those of the DARTS paper;
the weight decay of `global-cifar` is ours.

A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.
Low-Cost Parameterizations of Deep Convolutional Neural Networks, submitted to ICLR 2019.
H. Liu, K. Simonyan, Y. Yang: DARTS: Differentiable Architecture Search, ICLR 2019.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from condense.layers import GlobalLayer
from condense.registry import Registry
from condense.training.config import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a paper trains its networks.

    Args:
        config: The options.
        with_global: Options that differ for networks with Global layers.
        note: In words.
    """

    config: TrainConfig
    with_global: tuple[tuple[str, Any], ...] = ()
    note: str = ""


RECIPES: Registry[Recipe] = Registry("recipe")
DEFAULT = "global-cifar"

RECIPES.register("global-cifar")(
    Recipe(
        config=TrainConfig(
            epochs=300,
            batch_size=128,
            lr=0.1,
            weight_decay=5e-4,
            schedule="step",
            milestones=(0.5, 0.75),
            factor=0.1,
            warmup=0.0,
            teacher_weight=0.0,
        ),
        with_global=(("batch_size", 32),),
        note="SGD 0.1, x0.1 after 150 and 225 of 300 epochs; batch 32 with Global layers, else 128",
    )
)
RECIPES.register("lowcost-cifar")(
    Recipe(
        config=TrainConfig(
            epochs=300,
            batch_size=100,
            optimizer="adam",
            lr=0.01,
            weight_decay=0.0,
            schedule="step",
            milestones=(0.2, 0.4, 0.6, 0.8),
            factor=0.5,
            warmup=0.0,
            teacher_weight=0.0,
        ),
        note="Adam 0.01, halved every 60 of 300 epochs, batch 100, no weight decay",
    )
)
RECIPES.register("darts")(
    Recipe(
        config=TrainConfig(
            epochs=300,
            batch_size=96,
            lr=0.025,
            weight_decay=3e-4,
            schedule="cosine",
            warmup=0.0,
            clip=5.0,
            cutout=16,
            auxiliary_weight=0.4,
            drop_path=0.2,
            teacher_weight=0.0,
        ),
        note="SGD 0.025, cosine; cutout 16, auxiliary head 0.4, drop path 0.2 t/T, clip 5",
    )
)
RECIPES.register("mnist")(
    Recipe(
        config=TrainConfig(
            epochs=30,
            batch_size=128,
            optimizer="adam",
            lr=0.03,
            weight_decay=0.0,
            schedule="step",
            milestones=(0.5, 0.75),
            factor=0.1,
            warmup=0.05,
            augment=False,
            teacher_weight=0.0,
        ),
        note="Adam 0.03, x0.1 at half and three quarters of 30 epochs; images as they are",
    )
)


def config_for(recipe: str, model: nn.Module, options: dict[str, Any]) -> TrainConfig:
    """A recipe's options for a network, with some changed.

    The milestones are shares of the training: with other `epochs` they move in proportion. They go
    when the schedule becomes one that has none.

    Args:
        recipe: Its name.
        model: What is to be trained.
        options: Fields of `TrainConfig` that count more than the recipe's.

    Raises:
        UnknownNameError: If there is no such recipe.
        ConfigError: If an option does not exist or does not fit.
    """
    found = RECIPES[recipe]
    values = found.config.to_dict()
    if any(isinstance(module, GlobalLayer) for module in model.modules()):
        values |= dict(found.with_global)
    if options.get("schedule", "step") != "step":
        values["milestones"] = ()
    return TrainConfig.from_dict(values | options)
