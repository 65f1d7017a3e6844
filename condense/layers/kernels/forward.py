"""The Global layer on one plane: the coefficients' maps and K time steps of either explicit scheme.

The formulas are those of `condense.layers.schemes`, which the tests hold these kernels against:
`reference` as the authors compute it, `conservative` as their paper states the equation.
"""

from typing import Any, NamedTuple

from condense.layers.kernels.plane import (
    Array,
    Grid,
    clear_halo,
    copy,
    fill_halo,
    index,
    kernel,
    load,
    relu,
)

REFERENCE, CONSERVATIVE = 0, 1
Patch = tuple[Any, ...]  # nine values


class Physics(NamedTuple):
    """Numbers of the update.

    Args:
        rate_x: dt / dx.
        rate_y: dt / dy.
        diffusion_x: dt / dx².
        diffusion_y: dt / dy².
        source: 2 dt, or 0 without the source term.
        one: 1 in the type of the maps, so that no wider type comes in; likewise below.
        half: 1/2.
        zero: 0.
        scheme: REFERENCE or CONSERVATIVE.
        same: Whether f and h(0) are one map, as they are without an init block.
        at_rest: Whether h(-1) is h(0), not f.
    """

    rate_x: float
    rate_y: float
    diffusion_x: float
    diffusion_y: float
    source: float
    one: float
    half: float
    zero: float
    scheme: int
    same: bool
    at_rest: bool


class Workspace(NamedTuple):
    """Buffers of one thread, each a flat padded map but `states`, which is several.

    Args:
        h: h(0) with zeros beyond the edge, as the coefficients' convolutions see it.
        f: The source.
        maps: u, v, Dx, Dy.
        states: h(k) with the boundary's values beyond the edge.
    """

    h: Array
    f: Array
    maps: Array
    states: Array


@kernel
def advance(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    work: Workspace,
    grid: Grid,
    physics: Physics,
    steps: int,
) -> int:
    """The row of `work.states` that holds h(K) of one plane, from h(0), f and the weights.

    Args:
        h: h(0), row by row (H W,).
        f: The source alike; not read if `physics.same`.
        weight: (4, 9), the convolutions of u, v, Dx, Dy with their BatchNorms folded in.
        bias: (4,).
        work: Buffers, their rubbish welcome.
        grid: Their layout.
        physics: The numbers of the update.
        steps: K.
    """
    load(h, work.h, grid)
    clear_halo(work.h, grid)
    copy(work.h, work.states[0])
    fill_halo(work.states[0], grid)
    if not physics.same:
        load(f, work.f, grid)
    maps = work.maps
    coefficients(work.h, weight, bias, maps, grid, physics.zero)
    for i in range(4 if physics.scheme == CONSERVATIVE else 2):
        fill_halo(maps[i], grid)
    source = work.h if physics.same else work.f
    before = work.h if physics.at_rest else source
    return evolve(before, work.states, source, maps, grid, steps, physics)


@kernel
def coefficients(
    h: Array, weight: Array, bias: Array, maps: Array, grid: Grid, floor: float
) -> None:
    """u, v, Dx, Dy = max(3x3 convolution of h + bias, floor); the halo of h holds zeros."""
    u, v, diff_x, diff_y = maps[0], maps[1], maps[2], maps[3]
    w, x, y, z = weight[0], weight[1], weight[2], weight[3]
    wu = (w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8])
    wv = (x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[8])
    wx = (y[0], y[1], y[2], y[3], y[4], y[5], y[6], y[7], y[8])
    wy = (z[0], z[1], z[2], z[3], z[4], z[5], z[6], z[7], z[8])
    bu, bv, bx, by = bias[0], bias[1], bias[2], bias[3]
    first, stride = index(grid.first), index(grid.stride)
    for k in range(first, first + index(grid.visited)):
        patch = neighbourhood(h, k, stride)
        u[k] = relu(bu + dot(wu, patch), floor)
        v[k] = relu(bv + dot(wv, patch), floor)
        diff_x[k] = relu(bx + dot(wx, patch), floor)
        diff_y[k] = relu(by + dot(wy, patch), floor)


@kernel
def neighbourhood(h: Array, k: Any, stride: Any) -> Patch:
    """The 3x3 values around element k, row by row."""
    above, below, one = k - stride, k + stride, index(1)
    return (
        *(h[above - one], h[above], h[above + one]),
        *(h[k - one], h[k], h[k + one]),
        *(h[below - one], h[below], h[below + one]),
    )


@kernel
def dot(a: Patch, b: Patch) -> Any:
    """Sum of the nine products."""
    return (
        (a[0] * b[0] + a[1] * b[1] + a[2] * b[2])
        + (a[3] * b[3] + a[4] * b[4] + a[5] * b[5])
        + (a[6] * b[6] + a[7] * b[7] + a[8] * b[8])
    )


@kernel
def evolve(
    before: Array, states: Array, f: Array, maps: Array, grid: Grid, steps: int, p: Physics
) -> int:
    """K steps from h(-1) = `before` and h(0) = `states[0]`. Returns the row that holds h(K).

    Rows are used in turn: three of them suffice, K + 1 keep every state.
    """
    rows: int = states.shape[0]
    for k in range(steps):
        old = states[(k - 1) % rows] if k > 0 else before
        now, after = states[k % rows], states[(k + 1) % rows]
        if p.scheme == REFERENCE:
            _step_reference(old, now, after, f, maps[0], maps[1], maps[2], maps[3], grid, p)
        else:
            _step_conservative(old, now, after, f, maps[0], maps[1], maps[2], maps[3], grid, p)
        if k + 1 < steps:
            fill_halo(after, grid)
    return steps % rows


@kernel
def _step_reference(
    before: Array,
    h: Array,
    after: Array,
    f: Array,
    u: Array,
    v: Array,
    diff_x: Array,
    diff_y: Array,
    grid: Grid,
    p: Physics,
) -> None:
    first, x, y = index(grid.first), index(grid.shift_x * grid.stride), index(grid.shift_y)
    two_x, two_y = p.diffusion_x + p.diffusion_x, p.diffusion_y + p.diffusion_y
    for k in range(first, first + index(grid.visited)):
        bx, by = two_x * diff_x[k], two_y * diff_y[k]
        ax, ay = p.rate_x * u[k], p.rate_y * v[k]
        e = p.rate_x * (u[k - x] - u[k + x]) + p.rate_y * (v[k - y] - v[k + y])
        s = bx + by
        total = (p.one - s) * before[k] - e * h[k] + p.source * f[k]
        total += (bx - ax) * h[k - x] + (bx + ax) * h[k + x]
        total += (by - ay) * h[k - y] + (by + ay) * h[k + y]
        after[k] = total / (p.one + s)


@kernel
def _step_conservative(
    before: Array,
    h: Array,
    after: Array,
    f: Array,
    u: Array,
    v: Array,
    diff_x: Array,
    diff_y: Array,
    grid: Grid,
    p: Physics,
) -> None:
    first, x, y = index(grid.first), index(grid.shift_x * grid.stride), index(grid.shift_y)
    for k in range(first, first + index(grid.visited)):
        up = p.diffusion_x * (diff_x[k] + diff_x[k - x])
        down = p.diffusion_x * (diff_x[k] + diff_x[k + x])
        left = p.diffusion_y * (diff_y[k] + diff_y[k - y])
        right = p.diffusion_y * (diff_y[k] + diff_y[k + y])
        s = p.half * (up + down + left + right)
        total = (p.one - s) * before[k] + p.source * f[k]
        total += (up + p.rate_x * u[k - x]) * h[k - x] + (down - p.rate_x * u[k + x]) * h[k + x]
        total += (left + p.rate_y * v[k - y]) * h[k - y] + (right - p.rate_y * v[k + y]) * h[k + y]
        after[k] = total / (p.one + s)
