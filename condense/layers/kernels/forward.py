"""The Global layer on one buffer: the coefficients and K time steps of either explicit scheme.

The formulas are those of `condense.layers.schemes`, which the tests hold these kernels against:
`reference` as the authors compute it, `conservative` as their paper states the equation.
"""

from typing import Any, NamedTuple

from condense.layers.kernels.plane import (
    Array,
    Grid,
    copy,
    fill_halo,
    index,
    kernel,
    load,
    relu,
)

REFERENCE, CONSERVATIVE = 0, 1
U, V, DIFF_X, DIFF_Y = 0, 1, 2, 3
"""Rows of `maps`."""
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
    start: int,
    apart: int,
    weight: Array,
    bias: Array,
    work: Workspace,
    grid: Grid,
    physics: Physics,
    steps: int,
) -> int:
    """The row of `work.states` that holds h(K) of some maps, from their h(0), f and weights.

    Args:
        h: h(0), maps as `load` takes them.
        f: The source alike; not read if `physics.same`.
        start: Element of the first map.
        apart: Elements from one map to the next.
        weight: (4, 9), the convolutions of u, v, Dx, Dy with their BatchNorms folded in.
        bias: (4,).
        work: Buffers; the halo of `work.h` holds zeros, the rest may hold rubbish.
        grid: Their layout.
        physics: The numbers of the update.
        steps: K.
    """
    load(h, start, apart, work.h, grid)
    copy(work.h, work.states[0])
    fill_halo(work.states[0], grid)
    if not physics.same:
        load(f, start, apart, work.f, grid)
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
    w = weight  # rows are not taken out: each would cost as much as ten cells
    wu = (w[0, 0], w[0, 1], w[0, 2], w[0, 3], w[0, 4], w[0, 5], w[0, 6], w[0, 7], w[0, 8])
    wv = (w[1, 0], w[1, 1], w[1, 2], w[1, 3], w[1, 4], w[1, 5], w[1, 6], w[1, 7], w[1, 8])
    wx = (w[2, 0], w[2, 1], w[2, 2], w[2, 3], w[2, 4], w[2, 5], w[2, 6], w[2, 7], w[2, 8])
    wy = (w[3, 0], w[3, 1], w[3, 2], w[3, 3], w[3, 4], w[3, 5], w[3, 6], w[3, 7], w[3, 8])
    bu, bv, bx, by = bias[0], bias[1], bias[2], bias[3]
    u, v, diff_x, diff_y = maps[U], maps[V], maps[DIFF_X], maps[DIFF_Y]
    first, stride, lanes = index(grid.first), index(grid.stride), index(grid.lanes)
    for k in range(first, first + index(grid.visited)):
        patch = neighbourhood(h, k, stride, lanes)
        u[k] = relu(bu + dot(wu, patch), floor)
        v[k] = relu(bv + dot(wv, patch), floor)
        diff_x[k] = relu(bx + dot(wx, patch), floor)
        diff_y[k] = relu(by + dot(wy, patch), floor)


@kernel
def neighbourhood(h: Array, k: Any, stride: Any, one: Any) -> Patch:
    """The 3x3 values around element k, row by row."""
    above, below = k - stride, k + stride
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
        now, after = k % rows, (k + 1) % rows
        old = states[(k - 1) % rows] if k > 0 else before
        if p.scheme == REFERENCE:
            _step_reference(old, states, now, after, f, maps, grid, p)
        else:
            _step_conservative(old, states, now, after, f, maps, grid, p)
        if k + 1 < steps:
            fill_halo(states[after], grid)
    return steps % rows


@kernel
def _step_reference(
    before: Array,
    h: Array,
    now: int,
    after: int,
    f: Array,
    maps: Array,
    grid: Grid,
    p: Physics,
) -> None:
    first, x, y = index(grid.first), index(grid.shift_x), index(grid.shift_y)
    i, o = index(now), index(after)
    two_x, two_y = p.diffusion_x + p.diffusion_x, p.diffusion_y + p.diffusion_y
    for k in range(first, first + index(grid.visited)):
        bx, by = two_x * maps[DIFF_X, k], two_y * maps[DIFF_Y, k]
        ax, ay = p.rate_x * maps[U, k], p.rate_y * maps[V, k]
        e = p.rate_x * (maps[U, k - x] - maps[U, k + x])
        e += p.rate_y * (maps[V, k - y] - maps[V, k + y])
        s = bx + by
        total = (p.one - s) * before[k] - e * h[i, k] + p.source * f[k]
        total += (bx - ax) * h[i, k - x] + (bx + ax) * h[i, k + x]
        total += (by - ay) * h[i, k - y] + (by + ay) * h[i, k + y]
        h[o, k] = total / (p.one + s)


@kernel
def _step_conservative(
    before: Array,
    h: Array,
    now: int,
    after: int,
    f: Array,
    maps: Array,
    grid: Grid,
    p: Physics,
) -> None:
    first, x, y = index(grid.first), index(grid.shift_x), index(grid.shift_y)
    i, o = index(now), index(after)
    for k in range(first, first + index(grid.visited)):
        up = p.diffusion_x * (maps[DIFF_X, k] + maps[DIFF_X, k - x])
        down = p.diffusion_x * (maps[DIFF_X, k] + maps[DIFF_X, k + x])
        left = p.diffusion_y * (maps[DIFF_Y, k] + maps[DIFF_Y, k - y])
        right = p.diffusion_y * (maps[DIFF_Y, k] + maps[DIFF_Y, k + y])
        s = p.half * (up + down + left + right)
        total = (p.one - s) * before[k] + p.source * f[k]
        total += (up + p.rate_x * maps[U, k - x]) * h[i, k - x]
        total += (down - p.rate_x * maps[U, k + x]) * h[i, k + x]
        total += (left + p.rate_y * maps[V, k - y]) * h[i, k - y]
        total += (right - p.rate_y * maps[V, k + y]) * h[i, k + y]
        h[o, k] = total / (p.one + s)
