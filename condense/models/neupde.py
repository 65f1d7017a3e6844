"""NeuPDE: a partial differential equation whose right-hand side is a small network.

    ∂h/∂t = G(D(h)),    t from 0 to 1
    D(h)  = [y, ∂x y, ∂y y, ∂xx y, ∂xy y, ∂yy y, y ∂x y, y ∂y y],    y = GN(h)
    G(d)  = GN(W₂ s(GN(W₁ d)))

D is a dictionary of the state, its derivatives of first and second order, and the products that
make the equation nonlinear. G is a multilayer perceptron, the same for every pixel and every time:
W₁ and W₂ are 1x1 convolutions, so that pixels know of each other by their derivatives alone.

Y. Sun, L. Zhang, H. Schaeffer: NeuPDE: Neural Network Based Ordinary and Partial Differential
Equations for Modeling Time-Dependent Data, MSML 2020. A perceptron of a dictionary of derivatives
is theirs; the normalisations, the width of the perceptron and the steps are ours (docs/zoo.md).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.layers.stencil import Axis, Grid, X, Y
from condense.models.ode import GROUPS

TERMS = 8
"""Entries of the dictionary for each channel."""

_GRID = Grid(boundary="replicate")


class NeuPdeField(nn.Module):
    """G(D(h)); an autonomous equation, so that it takes no notice of the time.

    Args:
        channels: C, a multiple of 32.
        hidden: Width of the perceptron, a multiple of 16.

    Shape:
        t and (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.conv1 = nn.Conv2d(TERMS * channels, hidden, 1)
        self.norm2 = nn.GroupNorm(GROUPS // 2, hidden)
        self.conv2 = nn.Conv2d(hidden, channels, 1)
        self.norm3 = nn.GroupNorm(GROUPS, channels)

    def forward(self, t: float | Tensor, h: Tensor) -> Tensor:
        del t
        y = self.conv1(dictionary(self.norm1(h)))
        out: Tensor = self.norm3(self.conv2(F.relu(self.norm2(y))))
        return out


def dictionary(y: Tensor) -> Tensor:
    """D of a normalised state; the map goes on beyond its edge as it is there.

    Shape:
        (N, C, H, W) -> (N, 8 C, H, W).
    """
    along_x, along_y = _slope(y, X), _slope(y, Y)
    bends = (_bend(y, X), _slope(along_x, Y), _bend(y, Y))
    return torch.cat([y, along_x, along_y, *bends, y * along_x, y * along_y], dim=1)


def _slope(y: Tensor, axis: Axis) -> Tensor:
    return (_GRID.ahead(y, axis) - _GRID.behind(y, axis)) / 2


def _bend(y: Tensor, axis: Axis) -> Tensor:
    return _GRID.ahead(y, axis) - 2 * y + _GRID.behind(y, axis)
