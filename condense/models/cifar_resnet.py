"""ResNets for CIFAR, with shortcuts that have no parameters ("option A").

6m + 2 weighted layers in three stages of m BasicBlocks, 16, 32 and 64 channels wide. Where a stage
halves the resolution, its shortcut takes every second pixel and pads the new channels with zeros.

K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016,
section 4.2.
Modules are named as in the widespread checkpoints (`layer1.0.conv1`, `linear`).
"""

from collections import OrderedDict
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from condense.models.spec import MODELS, NORMALIZATIONS, ModelSpec

DEPTHS = (20, 32, 44, 56, 110)


def cifar_resnet(
    blocks: int,
    num_classes: int = 10,
    in_channels: int = 3,
    widths: tuple[int, ...] = (16, 32, 64),
) -> nn.Sequential:
    """A stem, one stage of BasicBlocks for each width, and a linear classifier.

    Args:
        blocks: m, the blocks of each stage.
        num_classes: Outputs.
        in_channels: Channels of the image.
        widths: Channels of each stage; every stage but the first halves the resolution.

    Shape:
        (N, in_channels, H, W) -> (N, num_classes).
    """
    parts = stem(in_channels, widths[0])
    before = widths[0]
    for number, width in enumerate(widths, start=1):
        parts[f"layer{number}"] = stage(before, width, stride=min(number, 2), blocks=blocks)
        before = width
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    parts["linear"] = nn.Linear(before, num_classes)
    return initialised(nn.Sequential(parts))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut without parameters.

    Shape:
        (N, before, H, W) -> (N, after, H / stride, W / stride).
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        same = stride == 1 and before == after
        self.shortcut = nn.Identity() if same else PaddedShortcut(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class PaddedShortcut(nn.Module):
    """Every `stride`-th pixel; zeros for the channels that are new, half of them on either side."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.before, self.after, self.stride = before, after, stride
        self.below = (after - before) // 2
        self.above = after - before - self.below

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.below, self.above))


def stage(before: int, after: int, *, stride: int, blocks: int) -> nn.Sequential:
    """`blocks` BasicBlocks, the first of which changes the shape."""
    first = BasicBlock(before, after, stride)
    return nn.Sequential(first, *(BasicBlock(after, after, 1) for _ in range(blocks - 1)))


def stem(before: int, after: int) -> OrderedDict[str, nn.Module]:
    """The convolution, normalisation and ReLU that every network for CIFAR opens with."""
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
    return OrderedDict(conv1=convolution, bn1=nn.BatchNorm2d(after), relu=nn.ReLU())


def initialised(network: nn.Sequential) -> nn.Sequential:
    """The network, its convolutions and linears drawn from He's normal distribution."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return network


def _register() -> None:
    mean, std = NORMALIZATIONS["imagenet"]
    for depth in DEPTHS:
        note = f"ResNet-{depth} for CIFAR, option-A shortcuts (He et al., CVPR 2016)"
        build = partial(cifar_resnet, (depth - 2) // 6)
        MODELS.register(f"resnet{depth}")(ModelSpec(build, (3, 32, 32), mean, std, note))


_register()
