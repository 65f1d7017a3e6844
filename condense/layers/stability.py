"""Is a Global layer's scheme stable on a batch? By von Neumann's condition, and by looking."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condense.layers.schemes import Coefficients, Scheme
from condense.layers.stencil import Grid


@dataclass(frozen=True, slots=True)
class Stability:
    """What a batch says about a layer's stability.

    Args:
        beyond: Share of the values beyond von Neumann's bound. Large shares are common and mostly
            harmless: where D is exactly zero along one axis only, any velocity along it crosses it.
        growth: rms of H after K steps, over that of h(0).
    """

    beyond: float
    growth: float


def is_beyond_bound(c: Coefficients, *, dt: float, grid: Grid, scheme: Scheme) -> Tensor:
    """Where a step is unstable by von Neumann's condition with frozen coefficients.

        Ax = dt/dx u    Ay = dt/dy v    Bx = dt/dx² Dx    By = dt/dy² Dy
        explicit schemes   (Bx + By) (Ax²/Bx + Ay²/By) <= 1;    without diffusion |Ax| + |Ay| <= 1
        implicit           |Ax| + |Ay| <= 1, whatever the diffusion

    Where A is zero, its quotient is zero. Negative D (which ReLU cannot make) is beyond it.

    Shape:
        Boolean, as the coefficients broadcast.
    """
    ax, ay = dt / grid.dx * c.u, dt / grid.dy * c.v
    bx, by = dt / grid.dx**2 * c.diff_x, dt / grid.dy**2 * c.diff_y
    pure_advection = ax.abs() + ay.abs() > 1
    is_negative = (bx < 0) | (by < 0)
    if scheme == "implicit":
        return pure_advection | is_negative
    quotients = torch.where(ax == 0, 0, ax**2 / bx) + torch.where(ay == 0, 0, ay**2 / by)
    mixed = (bx + by) * quotients > 1
    return torch.where((bx == 0) & (by == 0), pure_advection, mixed) | is_negative


def rms(field: Tensor) -> Tensor:
    """Root of the mean square over all values."""
    return field.square().mean().sqrt()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients for a while, then every module as it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode
