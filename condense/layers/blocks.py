"""Blocks that a Global layer can use for its coefficients, or as its init block.

Each is built as `BLOCKS[name](channels, **options)` and keeps channels and resolution. Their
parameters have the names of the papers' code, where it names them readably.
"""

from torch import Tensor, nn

from condense.errors import ConfigError
from condense.layers.options import check_whole
from condense.layers.tables import BLOCKS


@BLOCKS.register("identity")
def identity(channels: int) -> nn.Module:
    """The map itself."""
    return nn.Identity()


@BLOCKS.register("depthwise")
def depthwise(
    channels: int, *, kernel_size: int = 3, dilation: int = 1, bias: bool = False
) -> nn.Conv2d:
    """One k x k stencil per channel, zero-padded."""
    return same_conv(channels, channels, kernel_size, dilation=dilation, groups=channels, bias=bias)


@BLOCKS.register("full")
def full(channels: int, *, kernel_size: int = 3, bias: bool = True) -> nn.Conv2d:
    """A k x k convolution over all channels, zero-padded."""
    return same_conv(channels, channels, kernel_size, bias=bias)


@BLOCKS.register("pointwise")
def pointwise(channels: int, *, bias: bool = True) -> nn.Conv2d:
    """A 1 x 1 convolution over all channels."""
    return same_conv(channels, channels, 1, bias=bias)


@BLOCKS.register("basic")
class BasicBlock(nn.Module):
    """ResNet's basic block: 3x3-BN-ReLU-3x3-BN, + x, ReLU.

    Args:
        channels: C.
        separable: Each 3x3 is a depthwise 3x3 and a 1x1 in a row.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int, *, separable: bool = False) -> None:
        super().__init__()
        three = SeparableConv if separable else _conv3x3
        self.conv1 = three(channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = three(channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.relu(self.bn2(self.conv2(inner)) + x)
        return out


@BLOCKS.register("bottleneck")
class Bottleneck(nn.Module):
    """ResNet's bottleneck, as wide as its ends: 1x1-BN-ReLU-3x3-BN-ReLU-1x1-BN, + x, ReLU.

    Args:
        channels: C, everywhere.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = same_conv(channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = same_conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = same_conv(channels, channels, 1)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(x)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        out: Tensor = self.relu(self.bn3(self.conv3(inner)) + x)
        return out


@BLOCKS.register("dense")
class BasicDense(nn.Module):
    """A dense layer that keeps C: BN-ReLU-1x1 (C to 2C)-BN-ReLU-3x3 (2C to C), no skip.

    Args:
        channels: C.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = same_conv(channels, 2 * channels, 1)
        self.norm2 = nn.BatchNorm2d(2 * channels)
        self.conv2 = same_conv(2 * channels, channels, 3)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(self.relu(self.norm1(x)))
        out: Tensor = self.conv2(self.relu(self.norm2(inner)))
        return out


class SeparableConv(nn.Module):
    """A depthwise 3x3 and a 1x1 in a row, with nothing between.

    Args:
        channels: C.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = same_conv(channels, channels, 3, groups=channels)
        self.point = same_conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.point(self.spatial(x))
        return out


def same_conv(  # noqa: PLR0913 - what a convolution takes
    channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """A convolution whose zero padding keeps the resolution (at stride 1).

    Raises:
        ConfigError: If the kernel has no centre.
    """
    check_whole("kernel_size", kernel_size)
    check_whole("dilation", dilation)
    if kernel_size % 2 == 0:
        raise ConfigError(f"kernel_size must be odd, got {kernel_size}")
    return nn.Conv2d(
        channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=dilation * (kernel_size - 1) // 2,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )


def is_depthwise3x3(block: nn.Module) -> bool:
    """Whether a block is one plain 3x3 stencil per channel."""
    return (
        isinstance(block, nn.Conv2d)
        and block.groups == block.in_channels == block.out_channels
        and (block.kernel_size, block.dilation) == ((3, 3), (1, 1))
    )


def _conv3x3(channels: int) -> nn.Module:
    return same_conv(channels, channels, 3)
