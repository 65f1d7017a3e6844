"""The Global layer on one buffer: the coefficients and K time steps of either explicit scheme.

The formulas are those of `condense.layers.schemes`, which the tests hold these kernels against:
`reference` as the authors compute it, `conservative` as their paper states the equation. Time step
and spacing are in the coefficients already (`rates`), whose weights were multiplied by them: a ReLU
lets a positive factor through.
"""

from typing import NamedTuple

from condense.layers.kernels import LANES
from condense.layers.kernels.plane import (
    Array,
    Grid,
    Group,
    clear_halo,
    fill_halo,
    gather,
    index,
    kernel,
    row,
)
from condense.layers.kernels.stencils import DIFF_X, DIFF_Y, U, V, convolve
from condense.layers.kernels.vectors import fma, load, splat, store

REFERENCE, CONSERVATIVE = 0, 1


class Physics(NamedTuple):
    """The equation as the steps see it.

    Args:
        source: 2 dt, or 0 without the source term, in the type of the maps.
        scheme: REFERENCE or CONSERVATIVE.
        same: Whether f and h(0) are one map, as they are without an init block.
        at_rest: Whether h(-1) is h(0), not f.
        steps: K.
    """

    source: float
    scheme: int
    same: bool
    at_rest: bool
    steps: int


def rates(scheme: int, dt: float, dx: int, dy: int) -> tuple[float, float, float, float]:
    """By what u, v, Dx and Dy are multiplied before the steps."""
    twice = 2 if scheme == REFERENCE else 1
    return dt / dx, dt / dy, twice * dt / dx**2, twice * dt / dy**2


class Workspace(NamedTuple):
    """Buffers of one thread.

    Args:
        h: h(0).
        f: The source.
        maps: u, v, Dx, Dy, times their rates.
        states: h(1), h(2) …: all of them, or two in turn.
    """

    h: Array
    f: Array
    maps: Array
    states: Array


@kernel
def advance(
    h: Array,
    f: Array,
    group: Group,
    cells: Array,
    table: Array,
    work: Workspace,
    grid: Grid,
    physics: Physics,
) -> Array:
    """The buffer that holds h(K) of some maps, from their h(0), f and weights.

    Args:
        h: h(0), all maps.
        f: The source alike; not read if `physics.same`.
        group: Which of them.
        cells: Places in a buffer.
        table: (40, LANES), weights and biases of the convolutions of u, v, Dx, Dy.
        work: Buffers.
        grid: Their layout.
        physics: Of the steps.
    """
    gather(h, group, work.h, cells)
    clear_halo(work.h, grid)
    if not physics.same:
        gather(f, group, work.f, cells)
    convolve(work.h, table, work.maps, grid, h.dtype.type(0))
    for i in range(4 if physics.scheme == CONSERVATIVE else 2):
        fill_halo(work.maps[i], grid)
    if physics.steps == 0:
        return work.h
    source = work.h if physics.same else work.f
    before = work.h if physics.at_rest else source
    return _evolve(before, work.h, source, work, grid, physics)


@kernel
def _evolve(
    before: Array,
    h: Array,
    f: Array,
    work: Workspace,
    grid: Grid,
    physics: Physics,
) -> Array:
    """K > 0 steps from h(-1) = `before` and h(0) = `h`.

    Where two buffers take turns, h(k+1) is written over h(k-1), cell by cell.
    """
    rows = work.states.shape[0]
    now = h
    for k in range(physics.steps):
        after = work.states[k % rows]
        old = before if k == 0 else h if k == 1 else work.states[(k - 2) % rows]
        fill_halo(now, grid)
        if physics.scheme == REFERENCE:
            _step_reference(old, now, after, f, work.maps, grid, physics)
        else:
            _step_conservative(old, now, after, f, work.maps, grid, physics)
        now = after
    return now


@kernel
def _step_reference(
    before: Array, h: Array, after: Array, f: Array, maps: Array, grid: Grid, physics: Physics
) -> None:
    u, v, diff_x, diff_y = maps[U], maps[V], maps[DIFF_X], maps[DIFF_Y]
    x, y = index(grid.dx * grid.stride), index(grid.dy * LANES)
    one, source = splat(h.dtype.type(1)), splat(physics.source)
    for i in range(grid.height):
        k = row(grid, i)
        for _ in range(grid.width):
            ax, ay, bx, by = load(u, k), load(v, k), load(diff_x, k), load(diff_y, k)
            e = (load(u, k - x) - load(u, k + x)) + (load(v, k - y) - load(v, k + y))
            s = bx + by
            total = fma(source, load(f, k), (one - s) * load(before, k)) - e * load(h, k)
            total = fma(bx - ax, load(h, k - x), total)
            total = fma(bx + ax, load(h, k + x), total)
            total = fma(by - ay, load(h, k - y), total)
            total = fma(by + ay, load(h, k + y), total)
            store(after, k, total / (one + s))
            k += index(LANES)


@kernel
def _step_conservative(
    before: Array, h: Array, after: Array, f: Array, maps: Array, grid: Grid, physics: Physics
) -> None:
    u, v, diff_x, diff_y = maps[U], maps[V], maps[DIFF_X], maps[DIFF_Y]
    x, y = index(grid.dx * grid.stride), index(grid.dy * LANES)
    one, half, source = splat(h.dtype.type(1)), splat(h.dtype.type(0.5)), splat(physics.source)
    for i in range(grid.height):
        k = row(grid, i)
        for _ in range(grid.width):
            bx, by = load(diff_x, k), load(diff_y, k)
            up, down = bx + load(diff_x, k - x), bx + load(diff_x, k + x)
            left, right = by + load(diff_y, k - y), by + load(diff_y, k + y)
            s = half * ((up + down) + (left + right))
            total = fma(source, load(f, k), (one - s) * load(before, k))
            total = fma(up + load(u, k - x), load(h, k - x), total)
            total = fma(down - load(u, k + x), load(h, k + x), total)
            total = fma(left + load(v, k - y), load(h, k - y), total)
            total = fma(right - load(v, k + y), load(h, k + y), total)
            store(after, k, total / (one + s))
            k += index(LANES)
