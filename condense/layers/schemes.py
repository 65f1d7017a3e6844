"""The advection–diffusion equation of the Global layer, and three ways to advance it in time.

    ∂H/∂t = ∂(Dx ∂H/∂x)/∂x + ∂(Dy ∂H/∂y)/∂y − ∂(u H)/∂x − ∂(v H)/∂y + f

Every field is (N, C, H, W); the arithmetic is per channel and per pixel. The coefficients u, v, Dx,
Dy and the source f stay frozen over the K steps. All schemes have three time levels and leapfrog
for advection and source. Diffusion is explicit (DuFort–Frankel) in two of them and implicit in the
third, which is the only one that sees the whole map in one step.

A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.
E. C. Du Fort, S. P. Frankel: Stability Conditions in the Numerical Treatment of Parabolic
Differential Equations, Mathematical Tables and Other Aids to Computation, 1953.
P. Concus, G. H. Golub: Use of Fast Direct Methods for the Efficient Numerical Solution of
Nonseparable Elliptic Equations, SIAM Journal on Numerical Analysis, 1973.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from torch import Tensor

from condense.layers.eigenbases import eigenbasis
from condense.layers.stencil import Grid, X, Y

Scheme = Literal["reference", "conservative", "implicit"]

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
    b = _couplings(c, dt=dt, grid=grid)
    s = _total(b)

    def step(before: Tensor, h: Tensor) -> Tensor:
        outflow_x, outflow_y = _outflow(h, c, dt=dt, grid=grid)
        after = (1 - s) * before + 2 * _from_neighbours(h, b, grid) - outflow_x - outflow_y
        return (after if f is None else after + 2 * dt * f) / (1 + s)

    return step


def implicit(c: Coefficients, f: Tensor | None, *, dt: float, grid: Grid) -> Step:
    """A step of the same equation in which diffusion couples the whole map, whatever dt.

        (A h)[i, j] = the sum of b (h[i, j] − h[neighbour]) over the four neighbours, b as above
        Ā: the same with D̄x = (min Dx + max Dx) / 2 in place of Dx, and D̄y, per image and channel
        (I + 2 Ā) (h(k+1) − h(k−1)) = −2 A h(k−1) − dt/dx [ (u h)[i+1] − (u h)[i−1] ]
                                      − dt/dy [ (v h)[j+1] − (v h)[j−1] ] + 2 dt f

    Without advection and source that is h(k+1) = (I + 2 Ā)⁻¹ (I + 2 Ā − 2 A) h(k−1): the mean of D
    is solved for and the rest is explicit. Where D is constant, Ā = A under the periodic and the
    replicate boundary, and it is h(k+1) = (I + 2 A)⁻¹ h(k−1), backward Euler over 2 dt.

    Ā is diagonal in a basis known in closed form along each axis, so that solving is four products
    with small matrices: nothing that a counter or ONNX does not know.

    * Why the midrange and not the mean: 2 Ā − A must not be negative for the rest to be stable, for
      which D̄ >= max D / 2 is enough; the midrange is the D̄ nearest to all values. With the mean the
      state exploded from dt = 2 on (maps of ReLU of noise); line solves in alternating directions
      are stable too and closer to the equation where dt D is large and varies, but two to six times
      slower, and their factors are not the inverse for constant D either. See docs/layers.md.
    * Stable where dt/dx |u| + dt/dy |v| <= 1 (frozen coefficients), for every D >= 0.
    * First order in time. With the periodic boundary and without a source the means of h(k+1) and
      h(k−1) are equal to rounding, for every D; so they are under replicate without velocity.
    * Under the zero boundary D is zero beyond the edge too, which halves b there, so that A ≠ Ā at
      the edge even for constant D.
    """
    b = _couplings(c, dt=dt, grid=grid)
    s = _total(b)
    solve = _solver(c, dt=dt, grid=grid)

    def step(before: Tensor, h: Tensor) -> Tensor:
        outflow_x, outflow_y = _outflow(h, c, dt=dt, grid=grid)
        change = 2 * (_from_neighbours(before, b, grid) - s * before) - outflow_x - outflow_y
        return before + solve(change if f is None else change + 2 * dt * f)

    return step


SCHEMES: Mapping[Scheme, Callable[..., Step]] = {
    "reference": reference,
    "conservative": conservative,
    "implicit": implicit,
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


class _Couplings(NamedTuple):
    """dt/dx² D halfway to each of the four neighbours."""

    ahead_x: Tensor
    behind_x: Tensor
    ahead_y: Tensor
    behind_y: Tensor


def _couplings(c: Coefficients, *, dt: float, grid: Grid) -> _Couplings:
    scale_x, scale_y = dt / (2 * grid.dx**2), dt / (2 * grid.dy**2)
    return _Couplings(
        scale_x * (c.diff_x + grid.ahead(c.diff_x, X)),
        scale_x * (c.diff_x + grid.behind(c.diff_x, X)),
        scale_y * (c.diff_y + grid.ahead(c.diff_y, Y)),
        scale_y * (c.diff_y + grid.behind(c.diff_y, Y)),
    )


def _total(b: _Couplings) -> Tensor:
    return b.ahead_x + b.behind_x + b.ahead_y + b.behind_y


def _from_neighbours(h: Tensor, b: _Couplings, grid: Grid) -> Tensor:
    return (
        b.ahead_x * grid.ahead(h, X)
        + b.behind_x * grid.behind(h, X)
        + b.ahead_y * grid.ahead(h, Y)
        + b.behind_y * grid.behind(h, Y)
    )


def _outflow(h: Tensor, c: Coefficients, *, dt: float, grid: Grid) -> tuple[Tensor, Tensor]:
    """dt/dx [ (u h)[i+1] − (u h)[i−1] ] and the same along y: advection over 2 dt."""
    uh, vh = c.u * h, c.v * h
    return (
        dt / grid.dx * (grid.ahead(uh, X) - grid.behind(uh, X)),
        dt / grid.dy * (grid.ahead(vh, Y) - grid.behind(vh, Y)),
    )


def _solver(c: Coefficients, *, dt: float, grid: Grid) -> Callable[[Tensor], Tensor]:
    """(I + 2 Ā)⁻¹, by the eigenvectors of Ā along the rows and along the columns."""
    rows, modes_x = eigenbasis(c.diff_x, X, grid)
    columns, modes_y = eigenbasis(c.diff_y, Y, grid)
    eigenvalues = dt / grid.dx**2 * _midrange(c.diff_x) * modes_x[:, None]
    eigenvalues = eigenvalues + dt / grid.dy**2 * _midrange(c.diff_y) * modes_y
    factors = 1 / (1 + 2 * eigenvalues)

    def solve(right: Tensor) -> Tensor:
        return rows @ (factors * (rows.mT @ right @ columns)) @ columns.mT

    return solve


def _midrange(field: Tensor) -> Tensor:
    return (field.amin((2, 3), keepdim=True) + field.amax((2, 3), keepdim=True)) / 2
