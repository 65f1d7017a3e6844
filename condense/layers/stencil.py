"""Neighbours on a grid of pixels, and what lies beyond its edge.

x runs along the rows (axis 2, H) and y along the columns (axis 3, W), as in the papers' code.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Boundary = Literal["periodic", "zero", "replicate"]
Axis = Literal[2, 3]

X: Axis = 2
Y: Axis = 3


@dataclass(frozen=True, slots=True)
class Grid:
    """Which pixels count as neighbours, how far apart they are, and what lies beyond the edge.

    Args:
        shift_x: Pixels from one neighbour to the next along x.
        shift_y: The same along y.
        dx: Distance between neighbours along x; a number, which a study of convergence refines.
        dy: The same along y.
        boundary: What fields are beyond the edge: themselves from the other side, zero, or their
            value at the edge.
    """

    shift_x: int = 1
    shift_y: int = 1
    dx: float = 1.0
    dy: float = 1.0
    boundary: Boundary = "periodic"

    def ahead(self, field: Tensor, axis: Axis) -> Tensor:
        """The value at the next neighbour: `T[i + shift]`."""
        return beyond(field, self._shift(axis), axis, self.boundary)

    def behind(self, field: Tensor, axis: Axis) -> Tensor:
        """The value at the previous neighbour: `T[i - shift]`."""
        return beyond(field, -self._shift(axis), axis, self.boundary)

    def _shift(self, axis: Axis) -> int:
        return self.shift_x if axis == X else self.shift_y


def beyond(field: Tensor, offset: int, axis: Axis, boundary: Boundary) -> Tensor:
    """The field as seen `offset` pixels further along an axis: `out[i] = field[i + offset]`.

    The map may be smaller than the offset: periodic wraps round more than once, zero is all zero,
    replicate is all edge.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """
    if boundary == "periodic":
        return torch.roll(field, -offset, dims=axis)
    low, high = max(-offset, 0), max(offset, 0)
    padding = (0, 0, low, high) if axis == X else (low, high, 0, 0)
    mode = "constant" if boundary == "zero" else "replicate"
    return F.pad(field, padding, mode=mode).narrow(axis, high, field.shape[axis])
