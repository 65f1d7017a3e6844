"""A ResNet step whose full convolutions are a depthwise and a 1x1 convolution, added.

    y⁺ = y + K2 s(N(K1 y)),    K = Kdw + M

N is BatchNorm without affine parameters, s is ReLU, no convolution has a bias.

Low-Cost Parameterizations of Deep Convolutional Neural Networks, ICLR 2019 submission.
"""

import torch
from torch import Tensor, nn

from condense.layers.blocks import same_conv
from condense.layers.options import check_whole
from condense.layers.tables import LAYERS


@LAYERS.register("linear-mix")
class LinearMix(nn.Module):
    """A residual step at the cost of two depthwise and two 1x1 convolutions.

    Args:
        channels: C. The layer has 2 (9 C + C²) parameters.

    Shape:
        (N, C, H, W) -> (N, C, H, W).

    Raises:
        ConfigError: If `channels` is not a whole number >= 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_whole("channels", channels)
        self.conv1 = MixedConv(channels)
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.relu = nn.ReLU()
        self.conv2 = MixedConv(channels)

    def forward(self, y: Tensor) -> Tensor:
        step: Tensor = self.conv2(self.relu(self.norm(self.conv1(y))))
        return y + step


class MixedConv(nn.Module):
    """Kdw + M: a depthwise k x k and a 1x1 convolution of the same map, added.

    Args:
        channels: C.
        kernel_size: k.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.depthwise = same_conv(channels, channels, kernel_size, groups=channels)
        self.pointwise = same_conv(channels, channels, 1)

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = self.depthwise(y) + self.pointwise(y)
        return out

    def project(self, kernel: Tensor) -> None:
        """Take what fits of a full convolution's kernel.

        Kdw takes the stencils on the diagonal, M the centre taps off it; M's diagonal starts at
        zero, because the centre taps there are Kdw's already.

        Shape:
            `kernel` is (C, C, k, k).
        """
        channels, centre = kernel.shape[0], kernel.shape[2] // 2
        off_diagonal = 1 - torch.eye(channels, dtype=kernel.dtype, device=kernel.device)
        with torch.no_grad():
            self.depthwise.weight.copy_(kernel.diagonal().permute(2, 0, 1).unsqueeze(1))
            self.pointwise.weight[:, :, 0, 0] = kernel[:, :, centre, centre] * off_diagonal
