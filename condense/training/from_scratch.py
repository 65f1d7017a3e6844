"""Training a network from scratch: a recipe's options, then the loop that every training runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from condense.checkpoint.origin import origin_of
from condense.data import DataSet, load
from condense.training.finetuning import Result, finetune
from condense.training.networks import (
    NetworkOptions,
    architecture_of,
    network_for,
    recipe_of,
    without_second_head,
)
from condense.training.progress import Progress
from condense.training.recipes import RECIPES, config_for


def train(  # noqa: PLR0913
    model: nn.Module | str,
    *,
    data: DataSet | str,
    recipe: str | None = None,
    network: NetworkOptions | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    test: bool = True,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Train a network from the labels alone, by a recipe of the papers.

    Args:
        model: An architecture's name, built for the data with weights drawn from `seed`; or a
            module, of which a copy goes on from the weights that it has.
        data: A data set or its spec.
        recipe: One of `RECIPES`; by default the network's own.
        network: What of a network that is named is not to follow from the data.
        folder: As of `finetune`, and so are the next ones.
        resume: Go on from `last.pt`, if there is one.
        force: Start over where a training was begun before.
        test: Measure the result on the test split, once, at the end.
        device: To train on.
        progress: Who watches.
        options: Fields of `TrainConfig` that count more than the recipe's; `epochs` moves the
            milestones in proportion.

    Returns:
        As `finetune`; a second head, which only training needs, is taken off the model.

    Raises:
        UnknownNameError: If there is no such architecture or recipe.
        ConfigError: If an option does not exist or does not fit.
        DataError: If the data cannot be used.
        CondenseError: If the state belongs to another training, or the loss diverges.
        Interrupted: If Ctrl-C or SIGTERM came; `resume` goes on from there.

    Example:
        >>> result = train("mnist10_global", data="MNIST/raw", epochs=10)  # doctest: +SKIP
    """
    chosen = settled_recipe(model, recipe)
    weight = options.get("auxiliary_weight", RECIPES[chosen].config.auxiliary_weight)
    if isinstance(model, str):
        seed, wanted = int(options.get("seed", 0)), network or NetworkOptions()
        size = wanted.preprocessing.input_size
        data = load(data, input_size=size, seed=seed) if isinstance(data, str) else data
        model = network_for(model, data, wanted, seed=seed, auxiliary=weight > 0)
    config = config_for(chosen, model, options)
    result = finetune(
        model,
        teacher=None,
        data=data,
        config=config,
        folder=folder,
        resume=resume,
        force=force,
        test=test,
        device=device,
        progress=progress,
    )
    return replace(result, model=without_second_head(result.model))


def settled_recipe(model: nn.Module | str, recipe: str | None = None) -> str:
    """The recipe that `train` takes.

    Args:
        model: As of `train`.
        recipe: What is asked for; by default the network's own.

    Raises:
        UnknownNameError: If there is no such architecture or recipe.
    """
    if isinstance(model, str):
        architecture: str | None = architecture_of(model).name
    else:
        origin = origin_of(model)
        architecture = origin.architecture if origin else None
    if recipe is None:
        return recipe_of(architecture)
    _ = RECIPES[recipe]
    return recipe
