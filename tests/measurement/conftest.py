"""Little networks whose numbers can be worked out by hand."""

from collections.abc import Callable

import pytest
from torch import Tensor, nn


class Block(nn.Module):
    """conv3-BN-ReLU-conv3-BN, + x (or a 1x1 convolution of it), ReLU; no biases."""

    def __init__(self, channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(h + self.shortcut(x))


def cifar_resnet(
    repeats: int, widths: tuple[int, ...], layer: type[nn.Module] | None = None
) -> nn.Module:
    """A CIFAR ResNet with projection shortcuts; `layer` after each of the first three stages."""
    channels = widths[0]
    parts: list[nn.Module] = [
        nn.Conv2d(3, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    ]
    for stage, width in enumerate(widths):
        blocks: list[nn.Module] = []
        for index in range(repeats):
            blocks.append(Block(channels, width, 2 if stage and not index else 1))
            channels = width
        parts += [nn.Sequential(*blocks), *([layer(channels)] if layer and stage < 3 else [])]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


@pytest.fixture
def resnet() -> Callable[..., nn.Module]:
    return cifar_resnet


@pytest.fixture
def small() -> nn.Module:
    return cifar_resnet(2, (4, 8))
