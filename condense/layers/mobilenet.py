"""The MobileNet step, as the low-cost paper compares itself with it, and the layer between widths.

    z = s(N(Kdw y));  y⁺ = s(N(M z))        x -> avgpool2(N([x ; Kdw x]))

N is BatchNorm without affine parameters, s is ReLU, no convolution has a bias.

Low-Cost Parameterizations of Deep Convolutional Neural Networks, ICLR 2019 submission.
"""

import torch
from torch import Tensor, nn

from condense.errors import ConfigError
from condense.layers.blocks import same_conv
from condense.layers.options import check_whole
from condense.layers.tables import LAYERS


@LAYERS.register("mobilenet")
class MobileNetStep(nn.Module):
    """A depthwise and a 1x1 convolution, each normalised and cut off, without a skip.

    Args:
        channels: C. The layer has 9 C + C² parameters.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ConfigError: If `channels` is not a whole number >= 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_whole("channels", channels)
        self.depthwise = same_conv(channels, channels, 3, groups=channels)
        self.norm1 = nn.BatchNorm2d(channels, affine=False)
        self.pointwise = same_conv(channels, channels, 1)
        self.norm2 = nn.BatchNorm2d(channels, affine=False)
        self.relu = nn.ReLU()

    def forward(self, y: Tensor) -> Tensor:
        z = self.relu(self.norm1(self.depthwise(y)))
        after: Tensor = self.relu(self.norm2(self.pointwise(z)))
        return after


class Connect(nn.Module):
    """Between two blocks of the low-cost networks: twice the channels at half the resolution.

    Args:
        channels: C. The layer has 9 C parameters.

    Shape:
        (N, C, H, W) -> (N, 2 C, H / 2, W / 2).

    Raises:
        ConfigError: In `forward`, if the map is smaller than 2x2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_whole("channels", channels)
        self.depthwise = same_conv(channels, channels, 3, groups=channels)
        self.norm = nn.BatchNorm2d(2 * channels, affine=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] < 2 or x.shape[3] < 2:
            size = f"{x.shape[2]}x{x.shape[3]}"
            raise ConfigError(f"a map of {size} cannot be halved, expected at least 2x2")
        after: Tensor = self.pool(self.norm(torch.cat([x, self.depthwise(x)], dim=1)))
        return after
