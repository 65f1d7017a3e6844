"""Multiscale deep equilibrium networks: maps at several resolutions, solved for a fixed point.

    z* = f(z*, x),    z = (z₁ … zₙ),    zᵢ at 1 / 2^(i-1) of the resolution of x

x is the image after two convolutions, f is `MultiscaleBlock`, and `FixedPoint` solves. A head
gathers all scales at the coarsest.

S. Bai, V. Koltun, J. Z. Kolter: Multiscale Deep Equilibrium Models, NeurIPS 2020. Theirs also
normalise the weights of f and drop maps of it at random; these do not.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from condense.errors import ConfigError
from condense.models.cifar_resnet import initialised
from condense.models.fixed_point import FixedPoint, FixedPointSolver
from condense.models.multiscale import GROUPS, MultiscaleBlock
from condense.models.projection_resnet import register

RESNET_WIDTHS, LARGE_WIDTHS = (16, 32, 64), (32, 64, 128, 256)
HEAD_EXPANSION = 4


def mdeq(  # noqa: PLR0913 - the published configurations differ in all of them
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    widths: tuple[int, ...] = RESNET_WIDTHS,
    head_widths: tuple[int, ...] | None = None,
    final_width: int = 280,
    halvings: int = 0,
    solver: FixedPointSolver = "anderson",
    evaluations: int = 50,
    training_evaluations: int = 18,
) -> nn.Sequential:
    """A stem, the equilibrium, and a head that gathers all scales at the coarsest.

    Args:
        num_classes: Outputs.
        in_channels: Channels of the image.
        widths: Channels of each scale, from fine to coarse: two or more multiples of 8.
        head_widths: A quarter of the head's channels at each scale; by default the widths.
        final_width: Channels that the classifier reads.
        halvings: How often the stem halves the image before the first scale; 2 at most.
        solver: See `FixedPoint`.
        evaluations: Of f in eval mode; see `FixedPoint`.
        training_evaluations: The same in training.

    Shape:
        (N, in_channels, H, W) -> (N, num_classes).

    Raises:
        ConfigError: If an option has a value that it cannot take.
    """
    heads = widths if head_widths is None else head_widths
    _check(widths, heads, halvings)
    equilibrium = FixedPoint(
        MultiscaleBlock(widths),
        solver=solver,
        evaluations=evaluations,
        training_evaluations=training_evaluations,
    )
    stem = initialised(_stem(in_channels, widths[0], halvings))
    parts = OrderedDict[str, nn.Module](stem=stem, equilibrium=equilibrium)
    parts["head"] = MultiscaleHead(widths, heads, final_width)
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    parts["fc"] = nn.Linear(final_width, num_classes)
    return nn.Sequential(parts)


class MultiscaleHead(nn.Module):
    """A bottleneck at each scale, added up from fine to coarse, and one last 1x1 convolution.

    Shape:
        A list of maps, each half the size of the one before -> (N, final, H, W) of the last.
    """

    def __init__(self, widths: Sequence[int], heads: Sequence[int], final: int) -> None:
        super().__init__()
        wide = [HEAD_EXPANSION * head for head in heads]
        self.bottlenecks = nn.ModuleList(map(Bottleneck, widths, heads))
        self.downs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            )
            for before, after in pairwise(wide)
        )
        self.last = nn.Sequential(nn.Conv2d(wide[-1], final, 1), nn.BatchNorm2d(final), nn.ReLU())

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        total, *others = (part(y) for part, y in zip(self.bottlenecks, maps, strict=True))
        for down, other in zip(self.downs, others, strict=True):
            total = other + down(total)
        out: Tensor = self.last(total)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 to four times the head's width, around a projected shortcut.

    Shape:
        (N, width, H, W) -> (N, 4 head, H, W).
    """

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        wide = HEAD_EXPANSION * head
        self.conv1 = nn.Conv2d(width, head, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(head)
        self.conv2 = nn.Conv2d(head, head, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(head)
        self.conv3 = nn.Conv2d(head, wide, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(wide)
        self.shortcut = nn.Sequential(nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


def _stem(in_channels: int, width: int, halvings: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for place, before in enumerate((in_channels, width)):
        stride = 2 if halvings > place else 1
        layers.append(nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False))
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def _check(widths: Sequence[int], heads: Sequence[int], halvings: int) -> None:
    if len(widths) < 2 or any(width < 1 or width % GROUPS for width in widths):
        raise ConfigError(
            f"widths must be two or more multiples of {GROUPS}, got {tuple(widths)}",
            hint="for example (16, 32, 64)",
        )
    if len(heads) != len(widths):
        raise ConfigError(f"head_widths must have {len(widths)} entries, got {tuple(heads)}")
    if halvings not in {0, 1, 2}:
        raise ConfigError(f"halvings must be 0, 1 or 2, got {halvings}")


register("mdeq", mdeq, "MDEQ, by default with ResNet-32's maps: three scales of widths 16, 32, 64")
register(
    "mdeq_large",
    partial(mdeq, widths=LARGE_WIDTHS, head_widths=(14, 28, 56, 112), final_width=1680),
    "MDEQ for CIFAR, large: four scales of widths 32, 64, 128, 256",
)
