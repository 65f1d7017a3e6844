"""Reaction–diffusion layers that filter in Fourier space, as products with small matrices.

With ONNX Runtime's own DFT a layer took 2 to 6 times as long. Matrices and factors depend on the
weights and on the size of the map alone: they are computed here, in double precision, and not by
thousands of nodes that an optimiser of graphs would have to find and to fold.
"""

from copy import deepcopy
from itertools import combinations
from typing import cast

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


class LoweredStep(nn.Module):
    """A reaction–diffusion step in eval mode on maps of one size, r = s(N(M y)).

    Args:
        reaction: Gives r; copied.
        dt: Time step.
        operator: What y is filtered by.
        filters_reaction: filter(y + dt r), or filter(y) + dt r.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(
        self, reaction: nn.Module, dt: float, operator: Filter, *, filters_reaction: bool
    ) -> None:
        super().__init__()
        self.reaction = deepcopy(reaction)
        self.dt = dt
        self.operator = operator
        self.filters_reaction = filters_reaction

    def forward(self, y: Tensor) -> Tensor:
        change: Tensor = self.dt * self.reaction(y)
        if self.filters_reaction:
            return cast(Tensor, self.operator(y + change))
        return cast(Tensor, self.operator(y)) + change


def lowered_implicit(layer: ImplicitReactionDiffusion, height: int, width: int) -> LoweredStep:
    """y⁺ = F⁻¹( F (y + dt r) / (1 + dt |K̂|²) ) for maps of that size."""
    precise = deepcopy(layer).double()
    operator = Filter(precise.factors(height, width), width).to(layer.diffusion.weight.dtype)
    return LoweredStep(layer.reaction, float(precise.dt()), operator, filters_reaction=True)


def lowered_circulant(layer: CirculantReactionDiffusion, height: int, width: int) -> LoweredStep:
    """y⁺ = F⁻¹( (1 − dt λ) F y ) + dt r for maps of that size."""
    precise = deepcopy(layer).double()
    eigenvalues = precise.eigenvalues(height, width)
    dt = float(precise.dt(eigenvalues.amax()))
    operator = Filter(1 - dt * eigenvalues, width, axes=(1, 2, 3)).to(layer.stencils.dtype)
    return LoweredStep(layer.reaction, dt, operator, filters_reaction=False)


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
