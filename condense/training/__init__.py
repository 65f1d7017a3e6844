"""Training: distillation, recovery and from scratch, by one loop that survives a kill."""

from condense.training.config import TrainConfig
from condense.training.finetuning import Result, finetune
from condense.training.from_scratch import settled_recipe, train
from condense.training.interrupts import Interrupted
from condense.training.networks import NetworkOptions
from condense.training.progress import EpochRecord, Progress
from condense.training.recipes import RECIPES, Recipe

__all__ = [
    "RECIPES",
    "EpochRecord",
    "Interrupted",
    "NetworkOptions",
    "Progress",
    "Recipe",
    "Result",
    "TrainConfig",
    "finetune",
    "settled_recipe",
    "train",
]
