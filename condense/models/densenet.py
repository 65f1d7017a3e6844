"""DenseNet-BC for CIFAR, and the same with Global layers after its transitions.

G. Huang, Z. Liu, L. van der Maaten, K. Weinberger: Densely Connected Convolutional Networks,
CVPR 2017.
A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.

Modules are named as in the latter's code (`features.denseblock1.denselayer1.conv1`, `classifier`).
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.errors import ConfigError
from condense.layers import GlobalLayer
from condense.models.cifar_resnet import initialised
from condense.models.projection_resnet import register

GROWTH, BOTTLENECK, START = 12, 4, 24
"""New maps of each layer, maps inside it per new one, and maps before the first block."""


def densenet(
    layers: tuple[int, ...],
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    growth: int = GROWTH,
    after_transition: Callable[[int], nn.Module] | None = None,
) -> nn.Sequential:
    """Blocks of layers that see all maps before them; between two, half the maps and pixels.

    Args:
        layers: How many each block has.
        num_classes: Outputs.
        in_channels: Channels of the image.
        growth: Maps that each layer adds.
        after_transition: Makes the layer that follows a transition to so many channels.

    Shape:
        (N, in_channels, H, W) -> (N, num_classes).
    """
    features: OrderedDict[str, nn.Module] = OrderedDict(
        conv0=nn.Conv2d(in_channels, START, 3, padding=1, bias=False)
    )
    channels = START
    for number, count in enumerate(layers, start=1):
        features[f"denseblock{number}"] = _block(channels, count, growth)
        channels += count * growth
        if number < len(layers):
            features[f"transition{number}"] = Transition(channels, channels // 2)
            channels //= 2
            if after_transition is not None:
                features[f"global{number}"] = after_transition(channels)
    features["norm_final"] = nn.BatchNorm2d(channels)
    parts: OrderedDict[str, nn.Module] = OrderedDict(features=nn.Sequential(features))
    parts |= {"relu": nn.ReLU(), "pool": MeanOfMap()}
    parts["classifier"] = nn.Linear(channels, num_classes)
    return initialised(nn.Sequential(parts))


def densenet_global(  # noqa: PLR0913 - a row of the paper's table each
    layers: tuple[int, ...],
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    growth: int = GROWTH,
    steps: int = 1,
    bias: bool = False,
) -> nn.Sequential:
    """A DenseNet with a Global layer after each transition, its init block a dense layer.

    Args:
        layers: How many each block has.
        num_classes: Outputs.
        in_channels: Channels of the image.
        growth: Maps that each layer adds.
        steps: K of every Global layer.
        bias: Whether the coefficients' convolutions have one.

    Shape:
        (N, in_channels, H, W) -> (N, num_classes).
    """
    after = partial(GlobalLayer, steps=steps, init="dense", coefficients={"bias": bias})
    return densenet(layers, num_classes, in_channels, growth=growth, after_transition=after)


class DenseLayer(nn.Module):
    """Adds maps to those that it is given: BN-ReLU-1x1-BN-ReLU-3x3.

    Shape:
        (N, channels, H, W) -> (N, channels + growth, H, W).
    """

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        inside = BOTTLENECK * growth
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, inside, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(y)))], dim=1)


class Transition(nn.Module):
    """Fewer maps at half the resolution: BN-ReLU-1x1, 2x2 average pooling.

    Shape:
        (N, before, H, W) -> (N, after, H / 2, W / 2).

    Raises:
        ConfigError: In `forward`, if a side is odd.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(before)
        self.conv = nn.Conv2d(before, after, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] % 2 or x.shape[3] % 2:
            size = f"{x.shape[2]}x{x.shape[3]}"
            odd = x.shape[2] if x.shape[2] % 2 else x.shape[3]
            raise ConfigError(
                f"a DenseNet's transition needs a map with even sides, got {size}: "
                f"{odd} cannot be halved",
                hint="every transition halves the map: two of them need multiples of 4",
            )
        y: Tensor = self.pool(self.conv(F.relu(self.norm(x))))
        return y


class MeanOfMap(nn.Module):
    """The mean of each channel; no count of the papers sees it, as they have it in a function.

    Shape:
        (N, C, H, W) -> (N, C).
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def _block(channels: int, count: int, growth: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for place in range(count):
        layers[f"denselayer{place + 1}"] = DenseLayer(channels + place * growth, growth)
    return nn.Sequential(layers)


register(
    "densenet_bc",
    partial(densenet, (16, 16, 16)),
    "DenseNet-BC: growth 12, three blocks of 16 layers, compression 0.5",
)
register(
    "densenet_global",
    partial(densenet_global, (8, 8, 8)),
    "DenseNet-Global: three blocks of 8 layers, a Global layer after each transition, K=1",
)
register(
    "densenet_global_large",
    partial(densenet_global, (12, 12, 12), bias=True),
    "DenseNet-Global large: three blocks of 12 layers, K=1, biased coefficients",
)
