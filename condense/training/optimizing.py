"""What moves the weights: SGD or Adam, and a moving average of where it has been."""

from copy import deepcopy

import torch
from torch import nn

from condense.errors import ConfigError
from condense.training.config import TrainConfig


def optimizer_for(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with momentum, or Adam; vectors (biases, normalisation layers) have no weight decay.

    Raises:
        ConfigError: If all parameters are frozen.
    """
    learnt = [p for p in model.parameters() if p.requires_grad]
    if not learnt:
        raise ConfigError(
            "the model has no parameters to train",
            hint="set requires_grad on those that should learn",
        )
    groups = [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=config.lr)
    nesterov = config.momentum > 0
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)


class Average:
    """An exponential moving average of a model's weights and running statistics.

    Args:
        model: To begin with.
        decay: Share of the average that stays each step; less in the first steps: (1+t)/(10+t).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(requires_grad=False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the model after step `step`, from 0."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        news = model.state_dict()
        for name, kept in self.model.state_dict().items():
            if kept.is_floating_point():
                kept.lerp_(news[name], share)
            else:
                kept.copy_(news[name])


def precision(device: torch.device) -> torch.dtype:
    """The half precision that mixed precision uses on `device`."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16
