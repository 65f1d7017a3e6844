"""Eigenvalues of periodic convolutions with small stencils, and what is done with them.

A periodic convolution is diagonal in the Fourier basis. Its eigenvalue at the angles (α, β) is

    K̂(α, β) = Σ k[a, b] exp(i (α (a − r) + β (b − r))),    r the radius of the stencil

which holds for a map of any size, smaller than the stencil too. Of KᵀK it is |K̂|².
"""

import math
from itertools import combinations

import torch
from torch import Tensor

from condense.layers.eigenbases import hartley

_ANGLES = 32
_DEGREE = 2  # of |K̂|² along each axis, for a 3x3 stencil


def spectrum(stencils: Tensor, height: int, width: int) -> Tensor:
    """Eigenvalues of the convolutions with some stencils on a periodic map.

    Shape:
        (C, k, k) -> complex (C, height, width // 2 + 1): as `torch.fft.rfft2` orders them.
    """
    rows = _waves(height, height, stencils)
    columns = _waves(width, width // 2 + 1, stencils)
    return rows @ stencils.to(rows.dtype) @ columns.mT


def largest_squared(stencils: Tensor) -> Tensor:
    """An upper bound of |K̂|² over all angles and stencils: holds on every map, at most 4 % high.

    A trigonometric polynomial of degree d is at most 1 / cos(π d / n) times its largest value at n
    equally spaced angles, along each axis (H. Ehlich, K. Zeller, 1964). A zero-padded convolution
    is a part of a periodic one on a larger map, so the bound holds for it as well.

    Shape:
        (C, 3, 3) -> ().
    """
    values = spectrum(stencils, _ANGLES, _ANGLES)
    return squared(values).amax((0, 1, 2)) / math.cos(math.pi * _DEGREE / _ANGLES) ** 2


def squared(values: Tensor) -> Tensor:
    """|z|², with a gradient at zero."""
    return values.real.square() + values.imag.square()


def filtered(y: Tensor, factors: Tensor, *, axes: tuple[int, ...] = (2, 3)) -> Tensor:
    """Multiply each Fourier mode by a real factor.

    In a graph that is exported, by `filtered_by_products`: with ONNX Runtime's own DFT a layer took
    3 to 6 times as long. In PyTorch the fast transform is faster, on the smallest maps too.

    Args:
        y: The maps.
        factors: The same for opposite modes, so that the result is real; for each mode that
            `torch.fft.rfftn` has along the axes.
        axes: Rows and columns, or (1, 2, 3), the channels too.

    Shape:
        (N, C, H, W), factors (C, H, W // 2 + 1) -> (N, C, H, W).
    """
    if torch.compiler.is_exporting():
        return filtered_by_products(y, factors, axes=axes)
    sizes = [y.shape[axis] for axis in axes]
    out: Tensor = torch.fft.irfftn(factors * torch.fft.rfftn(y, dim=axes), s=sizes, dim=axes)
    return out


def filtered_by_products(y: Tensor, factors: Tensor, *, axes: tuple[int, ...] = (2, 3)) -> Tensor:
    """The same by products with Hartley's bases, real throughout.

    With Z the coefficients of y, a factor that is even along every axis multiplies Z, and one that
    is odd along two axes multiplies −Z at the mode mirrored along both. Every real factor that is
    the same for opposite modes is a sum of such parts.
    """
    factors = _completed(factors, y.shape[3], axes)
    modes = _transformed(y, axes)
    out = _part(factors, axes, ()) * modes
    for odd in combinations(axes, 2):
        out = out - _part(factors, axes, odd) * _mirrored(modes, odd)
    return _transformed(out, axes)


def _waves(size: int, count: int, stencils: Tensor) -> Tensor:
    """exp(i α (a − r)) for the first `count` of `size` angles and every place in the stencil."""
    reach = stencils.shape[-1] // 2
    angles = 2 * math.pi / size * torch.arange(count).to(stencils)
    phases = torch.outer(angles, torch.arange(-reach, reach + 1).to(stencils))
    return torch.complex(phases.cos(), phases.sin())


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
        size = field.shape[axis]
        places = -torch.arange(size, device=field.device) % size
        field = field.index_select(axis, places)
    return field


def _transformed(y: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Coefficients in Hartley's basis along the axes; twice is the identity."""
    if 1 in axes:
        y = (hartley(y.shape[1], y) @ y.flatten(2)).view_as(y)
    return hartley(y.shape[2], y) @ y @ hartley(y.shape[3], y)
