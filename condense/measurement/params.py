"""Parameters: the scalars that training can change, each counted once however often it is used."""

from torch import nn


def count_params(model: nn.Module) -> int:
    """Learnable scalars, frozen ones included; buffers such as running statistics are not."""
    return sum(parameter.numel() for parameter in model.parameters())
