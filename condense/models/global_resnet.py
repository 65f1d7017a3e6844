"""ResNets whose stages end in a Global layer, and the controls: the same networks without it.

One block of each resolution is kept; the others have become one Global layer after it.

A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from condense.layers import GlobalLayer
from condense.models.projection_resnet import projection_resnet, register

FOUR_STAGES = (16, 32, 64, 64)


def global_resnet(  # noqa: PLR0913 - as projection_resnet
    blocks: int,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    widths: tuple[int, ...] = FOUR_STAGES,
    steps: int = 1,
    bias: bool = False,
    init: str = "identity",
) -> nn.Sequential:
    """A ResNet with Global layers after its first three stages.

    Args:
        blocks: m, the blocks that are kept of each stage.
        num_classes: Outputs.
        in_channels: Channels of the image.
        widths: Channels of each stage.
        steps: K of every Global layer.
        bias: Whether the coefficients' convolutions have one.
        init: Their init block, by its name.

    Shape:
        (N, in_channels, H, W) -> (N, num_classes).
    """
    return projection_resnet(
        blocks,
        num_classes,
        in_channels,
        widths=widths,
        after_stage=partial(GlobalLayer, steps=steps, init=init, coefficients={"bias": bias}),
        followed=3,
    )


_NETWORKS: dict[str, tuple[Callable[..., nn.Module], str]] = {
    "resnet32_global": (
        partial(global_resnet, 1, bias=True),
        "ResNet32-Global as published: four stages, m=1, K=1, biased coefficients",
    ),
    "resnet32_global3": (
        partial(global_resnet, 1, widths=(16, 32, 64)),
        "ResNet32-Global as the paper's text has it: three stages, m=1, K=1",
    ),
    "resnet32_global3_bias": (
        partial(global_resnet, 1, widths=(16, 32, 64), bias=True),
        "resnet32_global3 with biased coefficients, as in the published four-stage network",
    ),
    "resnet32_global_control": (
        partial(projection_resnet, 1, widths=FOUR_STAGES),
        "resnet32_global without its Global layers",
    ),
    "resnet32_global3_control": (
        partial(projection_resnet, 1),
        "resnet32_global3 without its Global layers",
    ),
    "resnet56_global": (
        partial(global_resnet, 2),
        "ResNet56-Global: four stages, m=2, K=1",
    ),
    "resnet_global_large": (
        partial(global_resnet, 2, widths=(32, 64, 128, 128), bias=True),
        "ResNet-Global large: four stages of widths 32, 64, 128, 128, m=2, biased coefficients",
    ),
    "resnet_tiny_global": (
        partial(global_resnet, 1, widths=(10, 9, 16, 16)),
        "the tiny ResNet-Global: four stages of widths 10, 9, 16, 16, m=1, K=1",
    ),
}

for _name, (_build, _note) in _NETWORKS.items():
    register(_name, _build, _note)
