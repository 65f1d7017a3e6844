"""Reaction–diffusion layers that filter in Fourier space, as products with small matrices.

With ONNX Runtime's own DFT a layer took 3 to 6 times as long. Matrices and factors depend on the
weights and on the size of the map alone: they are computed here, in double precision, and not by
thousands of nodes that an optimiser of graphs would have to find and to fold.
"""

from copy import deepcopy
from itertools import combinations

import torch
from torch import Tensor, nn

from condense.layers.eigenbases import hartley
from condense.layers.reaction_diffusion import (
    CirculantReactionDiffusion,
    ImplicitReactionDiffusion,
)


class Filter(nn.Module):
    """Multiplies each Fourier mode of a map by a real factor, by products with Hartley's bases.

    With Z the coefficients of y, a factor that is even along every axis multiplies Z, and one that
    is odd along two axes multiplies −Z at the mode mirrored along both. Every real factor that is
    the same for opposite modes is a sum of such parts.

    Args:
        factors: The same for opposite modes, so that the result is real; for each mode that
            `torch.fft.rfftn` has along the axes, (C, H, W // 2 + 1).
        width: W.
        axes: Rows and columns, or (1, 2, 3), the channels too.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, factors: Tensor, width: int, axes: tuple[int, ...] = (2, 3)) -> None:
        super().__init__()
        whole = _completed(factors, width, axes)
        self.axes = axes
        self.pairs = tuple(combinations(axes, 2))
        self.register_buffer("even", _part(whole, axes, ()))
        for i, pair in enumerate(self.pairs):
            self.register_buffer(f"odd{i}", _part(whole, axes, pair))
        for axis in axes:
            self.register_buffer(f"basis{axis}", hartley(whole.shape[axis], whole))
            self.register_buffer(f"mirror{axis}", _mirror(whole.shape[axis]))

    def forward(self, y: Tensor) -> Tensor:
        modes = self._transformed(y)
        out = self.get_buffer("even") * modes
        for i, pair in enumerate(self.pairs):
            mirrored = modes
            for axis in pair:
                mirrored = mirrored.index_select(axis, self.get_buffer(f"mirror{axis}"))
            out = out - self.get_buffer(f"odd{i}") * mirrored
        return self._transformed(out)

    def _transformed(self, y: Tensor) -> Tensor:
        """Coefficients in Hartley's bases along the axes; twice is the identity."""
        if 1 in self.axes:
            y = (self.get_buffer("basis1") @ y.flatten(2)).view_as(y)
        return self.get_buffer("basis2") @ y @ self.get_buffer("basis3")


class LoweredImplicit(nn.Module):
    """What an implicit reaction–diffusion layer computes in eval mode on maps of one size.

    Args:
        layer: Copied.
        height: H.
        width: W.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, layer: ImplicitReactionDiffusion, height: int, width: int) -> None:
        super().__init__()
        precise = deepcopy(layer).double()
        self.dt = float(precise.dt())
        self.reaction = deepcopy(layer.reaction)
        self.solve = Filter(precise.factors(height, width), width).to(layer.diffusion.weight.dtype)

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = self.solve(y + self.dt * self.reaction(y))
        return out


class LoweredCirculant(nn.Module):
    """The same of a circulant one: y⁺ = F⁻¹( (1 − dt λ) F y ) + dt s(N(M y)).

    Args:
        layer: Copied.
        height: H.
        width: W.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, layer: CirculantReactionDiffusion, height: int, width: int) -> None:
        super().__init__()
        precise = deepcopy(layer).double()
        eigenvalues = precise.eigenvalues(height, width)
        self.dt = float(precise.dt(eigenvalues.amax()))
        self.reaction = deepcopy(layer.reaction)
        diffusion = Filter(1 - self.dt * eigenvalues, width, axes=(1, 2, 3))
        self.diffusion = diffusion.to(layer.stencils.dtype)

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = self.diffusion(y) + self.dt * self.reaction(y)
        return out


def _completed(factors: Tensor, width: int, axes: tuple[int, ...]) -> Tensor:
    """With the modes that `rfftn` leaves out, which are opposite to some that it has.

    Shape:
        (C, H, width // 2 + 1) -> (1, C, H, width).
    """
    missing = factors[None, :, :, 1 : (width + 1) // 2].flip(3)
    return torch.cat([factors[None], _mirrored(missing, axes[:-1])], 3)


def _part(factors: Tensor, axes: tuple[int, ...], odd: tuple[int, ...]) -> Tensor:
    """The part that is odd along some of the axes and even along the others."""
    for axis in axes:
        sign = -1 if axis in odd else 1
        factors = (factors + sign * _mirrored(factors, (axis,))) / 2
    return factors


def _mirrored(field: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Mode −k in the place of mode k, along each axis."""
    for axis in axes:
        field = field.index_select(axis, _mirror(field.shape[axis]))
    return field


def _mirror(size: int) -> Tensor:
    return -torch.arange(size) % size
