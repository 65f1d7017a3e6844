"""The map of a multiscale deep equilibrium network: what its fixed point is a fixed point of.

    ẑᵢ = GN(s(zᵢ + GN(conv(s(GN(conv(zᵢ)))) + [i = 1] x)))     a residual block at each scale
    fᵢ = GN(conv1x1(s(Σⱼ Fᵢⱼ(ẑⱼ))))                            Fᵢᵢ = 1; up or down otherwise

Fᵢⱼ goes down by strided 3x3 convolutions and up by a 1x1 convolution and copies of the pixels.

S. Bai, V. Koltun, J. Z. Kolter: Multiscale Deep Equilibrium Models, NeurIPS 2020.
"""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from condense.errors import ConfigError

GROUPS, EXPANSION = 8, 5
"""Of the normalisations; of the maps inside a residual block."""
END_GAIN, COARSE_GAIN, FINE_GAIN = 0.25, 0.2, 0.1
"""Gains to start from: the finest scale, which x drives, leads, and the others follow.

Where all are 1, as usual, f is no contraction, and no solver finds the fixed point of a new
network. They are those of all that z ends in, of what a coarse scale adds to any, and of the
convolution beside x. All are learnt.
"""


class MultiscaleBlock(nn.Module):
    """f of the equation, which the equilibrium solves.

    Args:
        widths: Channels of each scale, from fine to coarse.

    Shape:
        A list of (N, widths[i], H / 2^i, W / 2^i) and x as the first of them -> such a list.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        scales = range(len(widths))
        self.blocks = nn.ModuleList(InjectedBlock(width) for width in widths)
        self.paths = nn.ModuleList(
            nn.ModuleList(_path(widths, start, end) for start in scales) for end in scales
        )
        self.ends = nn.ModuleList(_end(width) for width in widths)
        fine, *coarse = cast(list[InjectedBlock], list(self.blocks))
        fine.conv2.weight.data.mul_(FINE_GAIN)
        for block in coarse:
            nn.init.constant_(block.norm3.weight, COARSE_GAIN)

    def start(self, x: Tensor) -> list[Tensor]:
        """Zeros at every scale.

        Raises:
            ConfigError: If a side cannot be halved often enough.
        """
        n, _, height, width = x.shape
        self._check_size(height, width)
        shapes = [(c, height >> i, width >> i) for i, c in enumerate(self.widths)]
        return [x.new_zeros(n, *shape) for shape in shapes]

    def forward(self, z: Sequence[Tensor], x: Tensor) -> list[Tensor]:
        injected = [x, *([None] * (len(z) - 1))]
        inner = [block(*of) for block, *of in zip(self.blocks, z, injected, strict=True)]
        results = []
        for end, ways in zip(self.ends, self.paths, strict=True):
            arrived = (way(y) for way, y in zip(cast(nn.ModuleList, ways), inner, strict=True))
            results.append(end(reduce(add, arrived)))
        return results

    def _check_size(self, height: int, width: int) -> None:
        halvings = len(self.widths) - 1
        for side in (height, width):
            if side % 2**halvings:
                raise ConfigError(
                    f"MDEQ with {halvings + 1} scales halves its maps {halvings} times, "
                    f"and of {height}x{width} the side {side} cannot be halved so often",
                    hint=f"both sides must be multiples of {2**halvings}",
                )


class InjectedBlock(nn.Module):
    """The residual block of one scale, with x added inside it at the finest.

    Shape:
        (N, C, H, W), twice or once -> (N, C, H, W).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inside = EXPANSION * width
        self.conv1 = nn.Conv2d(width, inside, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(GROUPS, inside)
        self.conv2 = nn.Conv2d(inside, width, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, width)
        self.norm3 = nn.GroupNorm(GROUPS, width)

    def forward(self, z: Tensor, x: Tensor | None) -> Tensor:
        y = self.conv2(F.relu(self.norm1(self.conv1(z))))
        y = self.norm2(y if x is None else y + x)
        out: Tensor = self.norm3(F.relu(y + z))
        return out


def _path(widths: Sequence[int], start: int, end: int) -> nn.Module:
    """From scale `start` to scale `end`."""
    if start == end:
        return nn.Identity()
    before, after = widths[start], widths[end]
    gain = COARSE_GAIN if start else 1.0
    if start > end:
        up = nn.Upsample(scale_factor=2 ** (start - end), mode="nearest")
        return nn.Sequential(nn.Conv2d(before, after, 1, bias=False), _norm(after, gain), up)
    layers: list[nn.Module] = []
    for _ in range(start, end - 1):
        layers += [_halving(before, before), nn.GroupNorm(GROUPS, before), nn.ReLU()]
    return nn.Sequential(*layers, _halving(before, after), _norm(after, gain))


def _halving(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)


def _end(width: int) -> nn.Sequential:
    convolution = nn.Conv2d(width, width, 1, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, _norm(width, END_GAIN, GROUPS // 2))


def _norm(width: int, gain: float, groups: int = GROUPS) -> nn.GroupNorm:
    norm = nn.GroupNorm(groups, width)
    nn.init.constant_(norm.weight, gain)
    return norm
