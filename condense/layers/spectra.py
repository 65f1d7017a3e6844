"""Eigenvalues of periodic convolutions with small stencils, and what is done with them.

A periodic convolution is diagonal in the Fourier basis. Its eigenvalue at the angles (α, β) is

    K̂(α, β) = Σ k[a, b] exp(i (α (a − r) + β (b − r))),    r the radius of the stencil

which holds for a map of any size, smaller than the stencil too. Of KᵀK it is |K̂|².
"""

import math

import torch
from torch import Tensor

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

    Args:
        y: The maps.
        factors: The same for opposite modes, so that the result is real; for each mode that
            `torch.fft.rfftn` has along the axes.
        axes: Rows and columns, or (1, 2, 3), the channels too.

    Shape:
        (N, C, H, W), factors (C, H, W // 2 + 1) -> (N, C, H, W).
    """
    sizes = [y.shape[axis] for axis in axes]
    out: Tensor = torch.fft.irfftn(factors * torch.fft.rfftn(y, dim=axes), s=sizes, dim=axes)
    return out


def _waves(size: int, count: int, stencils: Tensor) -> Tensor:
    """exp(i α (a − r)) for the first `count` of `size` angles and every place in the stencil."""
    reach = stencils.shape[-1] // 2
    angles = 2 * math.pi / size * torch.arange(count).to(stencils)
    phases = torch.outer(angles, torch.arange(-reach, reach + 1).to(stencils))
    return torch.complex(phases.cos(), phases.sin())
