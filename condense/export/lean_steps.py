"""Steps of the explicit schemes, sorted by what ONNX Runtime does in one pass.

It keeps maps in blocks of channels as long as only convolutions, `Add`, `Mul` and ReLU touch them,
and `conv(x) + y`, with or without ReLU, is one pass: so there is nothing else, but one division.
"""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.export.stencils import Pointwise, Stencils
from condense.layers import GlobalLayer, Scheme
from condense.layers.stencil import X, Y


class Maps(NamedTuple):
    """The frozen coefficients, with the time step and the grid's spacing in them.

    Args:
        ax: dt/dx u.
        ay: dt/dy v.
        bx: `diffusion_factor` dt/dx² Dx; None where D is a number.
        by: The same along y.
    """

    ax: Tensor
    ay: Tensor
    bx: Tensor | None
    by: Tensor | None


class Place(NamedTuple):
    """Where a step stands.

    Args:
        h_is_before: Its h(k−1) is h(k).
        h_is_f: Its h(k) is f.
        is_last: s follows: it gives s(scale h(k+1) + shift).
        scale: Of the BatchNorm that follows, (C,); ones if it is not the last.
        shift: The same; zeros if it is not the last.
    """

    h_is_before: bool
    h_is_f: bool
    is_last: bool
    scale: Tensor
    shift: Tensor


class ReferenceStep(nn.Module):
    """A step of `schemes.reference`.

        a = dt/dx u    b = 2 dt/dx² Dx    the same along y    den = 1 + bx + by
        rest = 1 − bx − by
        num = bx (h[i−1] + h[i+1]) + ax (h[i+1] − h[i−1]) + the same along y
              + (ax[i+1] − ax[i−1] + ay[j+1] − ay[j−1]) h + rest h⁻ + 2 dt f
        h⁺ = num / den,    s(scale h⁺ + shift) = s(scale num + shift den) / den

    The last because den >= 1. Where h⁻ or f are h itself, their terms are in the weights; with
    constant D, b and den are. Terms that do not change from step to step are the same nodes in each
    step, which ONNX Runtime computes once.

    Args:
        layer: Whose step it is.
        place: Where it stands.

    Shape:
        Four of (N, C, H, W), or fewer, -> (N, C, H, W).
    """

    diffusion_factor = 2.0

    def __init__(self, layer: GlobalLayer, place: Place) -> None:
        super().__init__()
        self.h_is_before, self.h_is_f, self.is_last = place[:3]
        self.has_source = layer.has_source
        dt, grid = layer.dt, layer.grid
        constant = layer.coefficients.options.constant_diffusion
        if constant is None:
            bx, by, scale, level = 1.0, 1.0, place.scale, place.shift
        else:
            bx, by = 2 * dt / grid.dx**2 * constant[0], 2 * dt / grid.dy**2 * constant[1]
            scale, level = place.scale / (1 + bx + by), torch.zeros_like(place.shift)
        one, zero = torch.ones_like(scale), torch.zeros_like(scale)
        minus = -1.0 if place.h_is_before else 0.0
        slope = (-1.0, 0.0, 1.0)
        gain = -minus + (2 * dt if place.h_is_f and layer.has_source else 0.0)
        spread_x, spread_y = (bx, minus * bx, bx), (by, minus * by, by)
        self.along_x = Stencils(X, grid, spread_x, slope, scale=scale, levels=[level, zero])
        self.along_y = Stencils(Y, grid, spread_y, slope, scale=scale, levels=[level, zero])
        self.slope_x = Stencils(X, grid, slope, scale=scale, levels=[gain * scale])
        self.slope_y = Stencils(Y, grid, slope, scale=scale)
        self.rest_x, self.rest_y = Pointwise(-scale, scale), Pointwise(-scale)
        self.keep = Pointwise((1 - bx - by) * scale)
        self.source = Pointwise(2 * dt * scale)
        self.raised = Pointwise(one, place.shift)
        self.one_more = Pointwise(one, one)
        self.over = _Over(one, is_shared=not place.is_last)

    def forward(self, before: Tensor, h: Tensor, f: Tensor, maps: Maps) -> Tensor:
        (spread_x, slope_x), (spread_y, slope_y) = self.along_x(h), self.along_y(h)
        total = _times(spread_x, maps.bx) + _times(spread_y, maps.by)
        total = total + slope_x * maps.ax
        total = total + slope_y * maps.ay
        if not self.h_is_before:
            total = self._kept(before, maps) + total
        if self.has_source and not self.h_is_f:
            total = self.source(f) + total
        (divergence_x,), (divergence_y,) = self.slope_x(maps.ax), self.slope_y(maps.ay)
        total = self.raised((divergence_x + divergence_y) * h) + total
        total = F.relu(total) if self.is_last else total
        if maps.bx is None or maps.by is None:
            return total
        return cast(Tensor, self.over(total, self.one_more(maps.bx) + maps.by))

    def _kept(self, before: Tensor, maps: Maps) -> Tensor:
        if maps.bx is None or maps.by is None:
            return cast(Tensor, self.keep(before))
        rest: Tensor = self.rest_x(maps.bx) + self.rest_y(maps.by)
        return rest * before


class ConservativeStep(nn.Module):
    """A step of `schemes.conservative`.

        a = dt/dx u    b = dt/dx² Dx    the same along y
        rest = 1 − S = 1 − b − (b[i−1] + b[i+1]) / 2 − the same along y    den = 1 + S = 2 − rest
        num = rest h⁻ + b (h[i−1] + h[i+1]) + (b h)[i−1] + (b h)[i+1] + (a h)[i−1] − (a h)[i+1]
              + the same along y + 2 dt f
        h⁺ = num / den,    s(scale h⁺ + shift) = s(scale num + shift den) / den

    where scale rest h⁻ + shift den = rest (scale h⁻ − shift) + 2 shift.

    Args:
        layer: Whose step it is, with learnt D.
        place: Where it stands.

    Shape:
        Four of (N, C, H, W) -> (N, C, H, W).
    """

    diffusion_factor = 1.0

    def __init__(self, layer: GlobalLayer, place: Place) -> None:
        super().__init__()
        self.is_last = place.is_last
        self.has_source = layer.has_source
        grid, scale, shift = layer.grid, place.scale, place.shift
        one = torch.ones_like(scale)
        both, against, mean = (1.0, 0.0, 1.0), (1.0, 0.0, -1.0), (-0.5, -1.0, -0.5)
        self.along_x = Stencils(X, grid, both, scale=scale)
        self.along_y = Stencils(Y, grid, both, scale=scale)
        self.against_x = Stencils(X, grid, against, scale=scale)
        self.against_y = Stencils(Y, grid, against, scale=scale, levels=[2 * shift])
        self.rest_x = Stencils(X, grid, mean, scale=one, levels=[one])
        self.rest_y = Stencils(Y, grid, mean, scale=one)
        self.keep = Pointwise(scale, -shift)
        self.source = Pointwise(2 * layer.dt * scale)
        self.denominator = Pointwise(-one, 2 * one)
        self.over = _Over(one, is_shared=not place.is_last)

    def forward(self, before: Tensor, h: Tensor, f: Tensor, maps: Maps) -> Tensor:
        bx, by = cast(Tensor, maps.bx), cast(Tensor, maps.by)
        rest = _only(self.rest_x, bx) + _only(self.rest_y, by)
        total = self.keep(before) * rest
        total = total + _only(self.along_x, h) * bx
        total = total + _only(self.along_y, h) * by
        total = _only(self.along_x, bx * h) + total
        total = _only(self.along_y, by * h) + total
        if self.has_source:
            total = self.source(f) + total
        total = _only(self.against_x, maps.ax * h) + total
        total = _only(self.against_y, maps.ay * h) + total
        total = F.relu(total) if self.is_last else total
        return cast(Tensor, self.over(total, self.denominator(rest)))


LEAN_STEPS: dict[Scheme, type[ReferenceStep] | type[ConservativeStep]] = {
    "reference": ReferenceStep,
    "conservative": ConservativeStep,
}


class _Over(nn.Module):
    """Division, which unpacks the blocked layout: steps that share a denominator share its inverse.

    A convolution with ones packs the inverse again; a product alone would stay unpacked.
    """

    def __init__(self, one: Tensor, *, is_shared: bool) -> None:
        super().__init__()
        self.packed = Pointwise(one) if is_shared else None

    def forward(self, total: Tensor, denominator: Tensor) -> Tensor:
        if self.packed is None:
            return total / denominator
        inverse: Tensor = self.packed(denominator.reciprocal())
        return total * inverse


def _times(field: Tensor, weight: Tensor | None) -> Tensor:
    return field if weight is None else field * weight


def _only(stencil: nn.Module, field: Tensor) -> Tensor:
    (result,) = stencil(field)
    return cast(Tensor, result)
