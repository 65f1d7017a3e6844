"""The advection–diffusion equation of the Global layer, and two ways to advance it in time.

    ∂H/∂t = ∂(Dx ∂H/∂x)/∂x + ∂(Dy ∂H/∂y)/∂y − ∂(u H)/∂x − ∂(v H)/∂y + f

Every field is (N, C, H, W); the arithmetic is per channel and per pixel. The coefficients u, v, Dx,
Dy and the source f stay frozen over the K steps. Both schemes are explicit, with three time levels:
leapfrog for advection and source, DuFort–Frankel for diffusion.

A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.
E. C. Du Fort, S. P. Frankel: Stability Conditions in the Numerical Treatment of Parabolic
Differential Equations, Mathematical Tables and Other Aids to Computation, 1953.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from torch import Tensor

from condense.layers.stencil import Grid, X, Y

Scheme = Literal["reference", "conservative"]

Step = Callable[[Tensor, Tensor], Tensor]
"""h(k−1), h(k) -> h(k+1)."""


class Coefficients(NamedTuple):
    """What drives the equation: velocity along x and y, diffusion along x and y.

    Each is a field that broadcasts against h in its first two axes.
    """

    u: Tensor
    v: Tensor
    diff_x: Tensor
    diff_y: Tensor


def reference(c: Coefficients, f: Tensor | None, *, dt: float, grid: Grid) -> Step:
    """A step of the authors' published code.

        Ax = dt/dx u    Ay = dt/dy v    Bx = dt/dx² Dx    By = dt/dy² Dy
        E  = dt (u[i−1] − u[i+1]) / (2 dx) + dt (v[j−1] − v[j+1]) / (2 dy)
        D  = 1 / (1 + 2 Bx + 2 By)
        h(k+1) = D [ (1 − 2 Bx − 2 By) h(k−1) − 2 E h(k)
                     + (2 Bx − Ax) h(k)[i−1] + (2 Bx + Ax) h(k)[i+1]
                     + (2 By − Ay) h(k)[j−1] + (2 By + Ay) h(k)[j+1] ] + 2 dt D f

    Its faults are kept, so that the authors' weights give the authors' numbers:

    * It solves the mirrored advection, +∂(uH)/∂x + ∂(vH)/∂y: what u > 0 should carry towards larger
      x moves towards smaller x. Both signs are flipped alike, so flipping one alone would be wrong.
    * Diffusion is Dx ∂²H/∂x², not in flux form: where D varies, the mass is not conserved.
    * Under the periodic boundary the fields wrap round, while the convolutions that made the
      coefficients saw zeros beyond the edge.
    * A layer whose init block is not the identity starts from h(−1) = f ≠ h(0), which sets off an
      odd–even oscillation.
    """
    ax, ay = dt / grid.dx * c.u, dt / grid.dy * c.v
    bx, by = dt / grid.dx**2 * c.diff_x, dt / grid.dy**2 * c.diff_y
    ux = (grid.behind(c.u, X) - grid.ahead(c.u, X)) / (2 * grid.dx)
    vy = (grid.behind(c.v, Y) - grid.ahead(c.v, Y)) / (2 * grid.dy)
    e = dt * (ux + vy)
    d = 1 / (1 + 2 * bx + 2 * by)

    def step(before: Tensor, h: Tensor) -> Tensor:
        after = d * (
            (1 - 2 * bx - 2 * by) * before
            - 2 * e * h
            + (2 * bx - ax) * grid.behind(h, X)
            + (2 * bx + ax) * grid.ahead(h, X)
            + (2 * by - ay) * grid.behind(h, Y)
            + (2 * by + ay) * grid.ahead(h, Y)
        )
        return after if f is None else after + 2 * dt * d * f

    return step


def conservative(c: Coefficients, f: Tensor | None, *, dt: float, grid: Grid) -> Step:
    """A step of the equation as the paper states it, in flux form.

        b(i+½) = dt/dx² (Dx[i] + Dx[i+1]) / 2 and so on;    S = the sum of the four b
        (1 + S) h(k+1) = (1 − S) h(k−1)
                         + 2 [ b(i+½) h[i+1] + b(i−½) h[i−1] + b(j+½) h[j+1] + b(j−½) h[j−1] ]
                         − dt/dx [ (u h)[i+1] − (u h)[i−1] ]
                         − dt/dy [ (v h)[j+1] − (v h)[j−1] ] + 2 dt f

    Second order when dt shrinks with dx²; DuFort–Frankel is consistent only as dt/dx -> 0. With the
    periodic boundary, without a source, with constant D and h(−1) = h(0) the mean is conserved to
    rounding. Where D varies it drifts, because S, which weighs h(k−1) and h(k+1), differs from
    pixel to pixel: measured on noise, by up to 6e-5 of the mean within ten steps.
    """
    scale_x, scale_y = dt / (2 * grid.dx**2), dt / (2 * grid.dy**2)
    b_ahead_x = scale_x * (c.diff_x + grid.ahead(c.diff_x, X))
    b_behind_x = scale_x * (c.diff_x + grid.behind(c.diff_x, X))
    b_ahead_y = scale_y * (c.diff_y + grid.ahead(c.diff_y, Y))
    b_behind_y = scale_y * (c.diff_y + grid.behind(c.diff_y, Y))
    s = b_ahead_x + b_behind_x + b_ahead_y + b_behind_y

    def step(before: Tensor, h: Tensor) -> Tensor:
        diffusion = (
            b_ahead_x * grid.ahead(h, X)
            + b_behind_x * grid.behind(h, X)
            + b_ahead_y * grid.ahead(h, Y)
            + b_behind_y * grid.behind(h, Y)
        )
        uh, vh = c.u * h, c.v * h
        advection_x = dt / grid.dx * (grid.ahead(uh, X) - grid.behind(uh, X))
        advection_y = dt / grid.dy * (grid.ahead(vh, Y) - grid.behind(vh, Y))
        after = (1 - s) * before + 2 * diffusion - advection_x - advection_y
        return (after if f is None else after + 2 * dt * f) / (1 + s)

    return step


SCHEMES: Mapping[Scheme, Callable[..., Step]] = {
    "reference": reference,
    "conservative": conservative,
}


def evolve(  # noqa: PLR0913 - the terms of the equation, by their names
    h: Tensor,
    f: Tensor | None,
    c: Coefficients,
    *,
    before: Tensor,
    dt: float,
    steps: int,
    grid: Grid,
    scheme: Scheme,
) -> Tensor:
    """Advance h by K steps.

    Args:
        h: h(0).
        f: The source, or None for an equation without one.
        c: The coefficients, frozen.
        before: h(−1).
        dt: Time step.
        steps: K; with 0 the state comes back as it is.
        grid: Spacing and boundary.
        scheme: Which difference scheme.

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """
    step = SCHEMES[scheme](c, f, dt=dt, grid=grid)
    for _ in range(steps):
        before, h = h, step(before, h)
    return h
