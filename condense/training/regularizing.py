"""What keeps a network from learning its images by heart: cutout, dropped paths, a second head.

T. DeVries, G. W. Taylor: Improved Regularization of Convolutional Neural Networks with Cutout,
2017.
G. Larsson, M. Maire, G. Shakhnarovich: FractalNet, ICLR 2017 (dropped paths).
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from condense.errors import ConfigError
from condense.layers import DartsCell
from condense.training.config import TrainConfig
from condense.training.inputs import Inputs


def cut_out(images: Tensor, side: int) -> Tensor:
    """Set a square of each image to 0, which is the mean of normalised pixels.

    Its centre is drawn from all pixels, so that a part of it may lie outside.

    Args:
        images: Normalised.
        side: Of the square, in pixels; an odd one is cut one pixel further down and right.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """
    _, _, height, width = images.shape
    draws = torch.rand(len(images), 2)  # on the CPU: the same squares on every device
    hidden = [
        _range(place, size, side).to(images.device)
        for place, size in zip(draws.unbind(1), (height, width), strict=True)
    ]
    squares = hidden[0][:, None, :, None] & hidden[1][:, None, None, :]
    return images.masked_fill(squares, 0)


def set_drop_path(model: nn.Module, rate: float) -> None:
    """Let all cells of a network drop this share of their paths."""
    for cell in _cells(model):
        cell.drop_path = rate


def check_regularizers(model: nn.Module, config: TrainConfig, inputs: Inputs) -> None:
    """Make sure that the network has what these options act on.

    Raises:
        ConfigError: If it has no cells to drop paths of, or no second head.
    """
    if config.drop_path > 0 and not _cells(model):
        raise ConfigError(
            f"drop_path is {config.drop_path}, but the network has no DARTS cells to drop paths of",
            hint="set it to 0, or take another recipe",
        )
    if config.auxiliary_weight > 0:
        _check_second_head(model, inputs)


def _check_second_head(model: nn.Module, inputs: Inputs) -> None:
    images = torch.zeros(2, *inputs.input_size, device=next(model.parameters()).device)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = deepcopy(model).train()(images)
    except (RuntimeError, ValueError) as error:  # the model's own code
        raise ConfigError(
            f"the second head does not take images of {inputs.input_size}: "
            f"{str(error).splitlines()[0]}",
            hint="that of DARTS is for 32x32; without it, auxiliary_weight is 0",
        ) from error
    if not isinstance(found, tuple):
        raise ConfigError(
            "auxiliary_weight is set, but the network has no second head in training",
            hint="set it to 0, or take another recipe",
        )


def _cells(model: nn.Module) -> list[DartsCell]:
    return [module for module in model.modules() if isinstance(module, DartsCell)]


def _range(place: Tensor, size: int, side: int) -> Tensor:
    """Which pixels of a row are within the square: (N, size)."""
    start = (place * size).long()[:, None] - side // 2
    pixels = torch.arange(size)
    return (pixels >= start) & (pixels < start + side)
