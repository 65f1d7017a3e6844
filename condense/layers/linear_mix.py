"""Convolutions whose kernel is the sum of a depthwise and a 1x1 one, and a ResNet step of them.

    y⁺ = y + K2 s(N(K1 y)),    K = Kdw + M

N is BatchNorm without affine parameters, s is ReLU, no convolution of the step has a bias. K is the
part of a full kernel that a mask leaves: the stencils on the diagonal and the centre taps off it.

Low-Cost Parameterizations of Deep Convolutional Neural Networks, ICLR 2019 submission.
"""

from typing import Literal, Self

import torch
from torch import Tensor, nn

from condense.errors import ConfigError
from condense.layers.options import check_whole
from condense.layers.tables import LAYERS

Pair = tuple[int, int]
"""Along rows (H) and columns (W)."""
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


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

    M stands where the centre of Kdw's stencils does, whatever the stride and the padding are: with
    less padding than keeps the map's size it takes the inner part of the map, with more of it M is
    padded too.

    Args:
        channels: C.
        kernel_size: k, odd.
        stride: Of both.
        padding: Of Kdw; by default what keeps the map's size at stride 1.
        dilation: Of Kdw.
        padding_mode: As `nn.Conv2d` has it.
        bias: Whether there is one, which is Kdw's.

    Shape:
        (N, C, H, W) -> (N, C, H', W'), H' and W' as `nn.Conv2d` has them.

    Raises:
        ConfigError: If the kernel has no centre.
    """

    def __init__(  # noqa: PLR0913 - what a convolution takes
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        stride: Pair = (1, 1),
        padding: Pair | None = None,
        dilation: Pair = (1, 1),
        padding_mode: PaddingMode = "zeros",
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_whole("kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise ConfigError(f"kernel_size must be odd, got {kernel_size}")
        reach = [side * (kernel_size - 1) // 2 for side in dilation]
        pad = reach if padding is None else padding
        beyond = [outer - inner for outer, inner in zip(pad, reach, strict=True)]
        self.crop: Pair = (max(-beyond[0], 0), max(-beyond[1], 0))
        self.depthwise = nn.Conv2d(
            channels,
            channels,
            kernel_size,
            stride=stride,
            padding=(pad[0], pad[1]),
            dilation=dilation,
            groups=channels,
            bias=bias,
            padding_mode=padding_mode,
        )
        self.pointwise = nn.Conv2d(
            channels,
            channels,
            1,
            stride=stride,
            padding=(max(beyond[0], 0), max(beyond[1], 0)),
            bias=False,
            padding_mode=padding_mode,
        )

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Self:
        """What fits of a full convolution: its stride, padding, dilation, bias, type and device.

        Args:
            conv: With as many outputs as inputs, no groups and an odd square kernel.
        """
        mixed = cls(
            conv.in_channels,
            conv.kernel_size[0],
            stride=_pair(conv.stride),
            padding=_padding(conv),
            dilation=_pair(conv.dilation),
            padding_mode=conv.padding_mode,
            bias=conv.bias is not None,
        ).to(conv.weight)
        mixed.project(conv.weight)
        if conv.bias is not None and mixed.depthwise.bias is not None:
            with torch.no_grad():
                mixed.depthwise.bias.copy_(conv.bias)
        return mixed

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = self.depthwise(y) + self.pointwise(self._inner(y) if any(self.crop) else y)
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

    def _inner(self, y: Tensor) -> Tensor:
        """The part of a map that the centres of the stencils pass over."""
        rows, columns = self.crop
        return y[..., rows : y.shape[-2] - rows, columns : y.shape[-1] - columns]


def _padding(conv: nn.Conv2d) -> Pair | None:
    """In pixels; None for what keeps the map's size."""
    if isinstance(conv.padding, str):
        return None if conv.padding == "same" else (0, 0)
    return _pair(conv.padding)


def _pair(sides: tuple[int, ...]) -> Pair:
    rows, columns = sides
    return rows, columns
