"""Depthwise convolutions with fixed weights: the neighbours on a grid, and per-channel factors.

ONNX Runtime keeps maps in blocks of channels between convolutions, and `Slice`, `Pad`, `Concat` and
`Gather` would unpack them. So what lies beyond the edge of a periodic map comes from a convolution
too: with three ones, n pixels apart on a map of n pixels, of which exactly one is on the map
wherever the kernel stands.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.layers import Grid
from condense.layers.stencil import Axis, X

Taps = tuple[float, float, float]


class Stencils(nn.Module):
    """Stencils along one axis of one map, which is continued beyond its edge once for all of them.

        scale (behind T[i−shift] + here T[i] + ahead T[i+shift]) + level

    Args:
        axis: Along x or y.
        grid: How far apart, and what lies beyond the edge.
        taps: (behind, here, ahead) of each.
        scale: Of all, (C,).
        levels: Of each, (C,); by default zero.

    Shape:
        (N, C, H, W) -> as many of (N, C, H, W) as there are stencils.
    """

    weights: Tensor
    levels: Tensor | None
    ones: Tensor

    def __init__(
        self,
        axis: Axis,
        grid: Grid,
        *taps: Taps,
        scale: Tensor,
        levels: Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.axis: Axis = axis
        self.boundary = grid.boundary
        self.shift = grid.shift_x if axis == X else grid.shift_y
        weights = scale[:, None] * scale.new_tensor(taps)[:, None]  # (stencils, C, 3)
        kernel = (3, 1) if axis == X else (1, 3)
        weights = weights.reshape(*weights.shape[:2], 1, *kernel)
        self.register_buffer("weights", weights)
        self.register_buffer("levels", None if levels is None else torch.stack(list(levels)))
        self.register_buffer("ones", torch.ones_like(weights[0]))

    def forward(self, field: Tensor) -> tuple[Tensor, ...]:
        shift, padding = self.shift, 0
        if self.boundary == "periodic":
            size = field.shape[self.axis]
            shift = (shift - 1) % size + 1
            field = self._convolve(field, self.ones, None, size, size + shift)
        elif self.boundary == "replicate":
            sides = (0, 0, shift, shift) if self.axis == X else (shift, shift, 0, 0)
            field = F.pad(field, sides, mode="replicate")
        else:
            padding = shift
        levels = [None] * len(self.weights) if self.levels is None else list(self.levels)
        return tuple(
            self._convolve(field, weight, level, shift, padding)
            for weight, level in zip(self.weights, levels, strict=True)
        )

    def _convolve(
        self, field: Tensor, weight: Tensor, level: Tensor | None, dilation: int, padding: int
    ) -> Tensor:
        along_x = self.axis == X
        return F.conv2d(
            field,
            weight,
            level,
            padding=(padding, 0) if along_x else (0, padding),
            dilation=(dilation, 1) if along_x else (1, dilation),
            groups=len(weight),
        )


class Pointwise(nn.Module):
    """scale T + level: a 1x1 depthwise convolution, so that adding to it costs no further pass.

    Args:
        scale: (C,).
        level: (C,); by default zero.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    scale: Tensor
    level: Tensor | None

    def __init__(self, scale: Tensor, level: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("scale", scale.reshape(-1, 1, 1, 1))
        self.register_buffer("level", level)

    def forward(self, field: Tensor) -> Tensor:
        return F.conv2d(field, self.scale, self.level, groups=len(self.scale))
