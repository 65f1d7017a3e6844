"""ResNets with 1x1 projections as shortcuts, as the Global-layer paper trains them.

Post-activation BasicBlocks; where channels or resolution change, the shortcut is a 1x1 convolution
and a BatchNorm. A Global layer can follow the blocks of a stage. Modules are named as in the
authors' code (`layer1.0.conv1`, `layer2.0.downsample.0`, `global1`, `fc`).

A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from condense.models.cifar_resnet import DEPTHS, initialised, stem
from condense.models.spec import MODELS, NORMALIZATIONS, ModelSpec


def projection_resnet(  # noqa: PLR0913 - a row of the paper's table each
    blocks: int,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    widths: tuple[int, ...] = (16, 32, 64),
    after_stage: Callable[[int], nn.Module] | None = None,
    followed: int = 0,
    separable: bool = False,
) -> nn.Sequential:
    """A stem, one stage for each width, and a linear classifier.

    Args:
        blocks: m, the blocks of each stage.
        num_classes: Outputs.
        in_channels: Channels of the image.
        widths: Channels of each stage; every stage but the first halves the resolution.
        after_stage: Makes the layer that follows a stage of so many channels.
        followed: How many stages it follows, from the first on.
        separable: Each 3x3 of a block is a depthwise 3x3 and a 1x1 in a row.

    Shape:
        (N, in_channels, H, W) -> (N, num_classes).
    """
    parts = stem(in_channels, widths[0])
    before = widths[0]
    for number, width in enumerate(widths, start=1):
        first = ProjectionBlock(before, width, min(number, 2), separable=separable)
        others = (ProjectionBlock(width, width, 1, separable=separable) for _ in range(1, blocks))
        parts[f"layer{number}"] = nn.Sequential(first, *others)
        if after_stage is not None and number <= followed:
            parts[f"global{number}"] = after_stage(width)
        before = width
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    parts["fc"] = nn.Linear(before, num_classes)
    return initialised(nn.Sequential(parts))


class ProjectionBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is projected where the shape changes.

    Shape:
        (N, before, H, W) -> (N, after, H / stride, W / stride).
    """

    def __init__(self, before: int, after: int, stride: int, *, separable: bool = False) -> None:
        super().__init__()
        three = _separable3x3 if separable else _conv3x3
        self.conv1 = three(before, after, stride)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = three(after, after, 1)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            projection = nn.Conv2d(before, after, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


def register(
    name: str, build: Callable[..., nn.Module], note: str, recipe: str = "global-cifar"
) -> None:
    """Add one of the paper's networks for CIFAR."""
    spec = ModelSpec(build, (3, 32, 32), *NORMALIZATIONS["cifar10"], note, recipe)
    MODELS.register(name)(spec)


def _conv3x3(before: int, after: int, stride: int) -> nn.Module:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)


def _separable3x3(before: int, after: int, stride: int) -> nn.Module:
    spatial = nn.Conv2d(before, before, 3, stride=stride, padding=1, groups=before, bias=False)
    point = nn.Conv2d(before, after, 1, bias=False)
    return nn.Sequential(OrderedDict(spatial=spatial, point=point))


for _depth in DEPTHS:
    _blocks = (_depth - 2) // 6
    register(
        f"resnet{_depth}_projection",
        partial(projection_resnet, _blocks),
        f"ResNet-{_depth} with 1x1 projections, m={_blocks} (paper A's baseline)",
    )
register(
    "resnet14_projection",
    partial(projection_resnet, 2),
    "ResNet-14, m=2: a control for ResNet32-Global that is shallow without Global layers",
)
register(
    "resnet_tiny",
    partial(projection_resnet, 3, widths=(6, 8, 8, 8)),
    "the tiny ResNet: 4 stages of widths 6, 8, 8, 8, m=3",
)
