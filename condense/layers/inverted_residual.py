"""The inverted residual of MobileNetV2/V3 and EfficientNet, as the init block of a Global layer.

M. Sandler et al.: MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from condense.errors import ConfigError
from condense.layers.blocks import same_conv
from condense.layers.options import check_known, check_number, check_whole
from condense.layers.tables import ACTIVATIONS, BLOCKS


@dataclass(frozen=True, slots=True, kw_only=True)
class SqueezeOptions:
    """Squeeze-and-excitation.

    Args:
        channels: Width of the squeezed vector.
        activation: Between the two 1x1 convolutions.
        gate: What makes a factor of the second one's output.
    """

    channels: int
    activation: str = "relu"
    gate: str = "sigmoid"

    def __post_init__(self) -> None:
        check_whole("squeeze channels", self.channels)


@BLOCKS.register("inverted-residual")
class InvertedResidual(nn.Module):
    """1x1-BN-s-depthwise k x k-BN-s-[squeeze-excite]-1x1-BN, plus its input where the shapes agree.

    Args:
        channels: Channels out.
        in_channels: Channels in; the same by default.
        stride: Of the depthwise convolution.
        kernel_size: Of the depthwise convolution.
        expand_kernel: Kernel size of the first convolution.
        project_kernel: Kernel size of the last convolution.
        dilation: Of the depthwise convolution.
        expansion: Channels in the middle per channel in; rounded to a multiple of 8.
        activation: s, by its name.
        squeeze: `SqueezeOptions`, or the same as a mapping; None leaves it out.
        skip: Whether the input is added, where it can be.
        drop_path: Share of images for which, in training, the branch is dropped and only the input
            is passed on.

    Shape:
        (N, in_channels, H, W) -> (N, C, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(  # noqa: PLR0913 - the options of a published block
        self,
        channels: int,
        *,
        in_channels: int | None = None,
        stride: int = 1,
        kernel_size: int = 3,
        expand_kernel: int = 1,
        project_kernel: int = 1,
        dilation: int = 1,
        expansion: float = 6.0,
        activation: str = "relu6",
        squeeze: SqueezeOptions | Mapping[str, Any] | None = None,
        skip: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        in_channels = channels if in_channels is None else in_channels
        _check(in_channels, stride, expansion, drop_path)
        middle = round_channels(in_channels * expansion)
        self.keeps_shape = stride == 1 and in_channels == channels
        self.has_skip = skip and self.keeps_shape
        self.drop_path = drop_path
        self.conv_pw = same_conv(in_channels, middle, expand_kernel)
        self.bn1 = nn.BatchNorm2d(middle)
        self.act1 = ACTIVATIONS[activation]()
        self.conv_dw = same_conv(
            middle, middle, kernel_size, stride=stride, dilation=dilation, groups=middle
        )
        self.bn2 = nn.BatchNorm2d(middle)
        self.act2 = ACTIVATIONS[activation]()
        self.se = nn.Identity() if squeeze is None else SqueezeExcite(middle, _squeeze(squeeze))
        self.conv_pwl = same_conv(middle, channels, project_kernel)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act1(self.bn1(self.conv_pw(x)))
        out = self.act2(self.bn2(self.conv_dw(out)))
        out = self.bn3(self.conv_pwl(self.se(out)))
        if not self.has_skip:
            return out
        return x + (drop_path(out, self.drop_path) if self.training else out)


class SqueezeExcite(nn.Module):
    """A factor per channel: spatial mean, 1x1, activation, 1x1, gate.

    Args:
        channels: C.
        options: Its width, activation and gate.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int, options: SqueezeOptions) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, options.channels, 1)
        self.act = ACTIVATIONS[options.activation]()
        self.conv_expand = nn.Conv2d(options.channels, channels, 1)
        self.gate = ACTIVATIONS[options.gate]()

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        factor: Tensor = self.gate(self.conv_expand(self.act(self.conv_reduce(mean))))
        return x * factor


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and never below 90 % of `channels`.

    Example:
        >>> round_channels(12), round_channels(24), round_channels(10)
        (16, 24, 16)
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def drop_path(x: Tensor, share: float) -> Tensor:
    """Zero whole images at random and scale up the others, so that the mean stays.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """
    if share == 0:
        return x
    kept = torch.rand(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device) >= share
    return x * kept / (1 - share)


def _squeeze(options: SqueezeOptions | Mapping[str, Any]) -> SqueezeOptions:
    if isinstance(options, SqueezeOptions):
        return options
    check_known(options, asdict(SqueezeOptions(channels=1)), "squeeze")
    if "channels" not in options:
        raise ConfigError("squeeze needs the number of its channels, got none")
    return SqueezeOptions(**options)


def _check(in_channels: int, stride: int, expansion: float, drop_path: float) -> None:
    check_whole("in_channels", in_channels)
    check_whole("stride", stride)
    check_number("expansion", expansion)
    check_number("drop_path", drop_path, is_strict=False)
    if drop_path >= 1:
        raise ConfigError(f"drop_path must lie below 1, got {drop_path}")
