"""The Global layer on one buffer: the coefficients and K time steps of either explicit scheme.

The formulas are those of `condense.layers.schemes`, which the tests hold these kernels against:
`reference` as the authors compute it, `conservative` as their paper states the equation. Time step
and spacing are in the coefficients already (`rates`), whose weights were multiplied by them: a ReLU
lets a positive factor through.
"""

from typing import Any, NamedTuple

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
from condense.layers.kernels.vectors import at_least, fma, load, splat, store

REFERENCE, CONSERVATIVE = 0, 1
U, V, DIFF_X, DIFF_Y = 0, 1, 2, 3
"""Rows of `maps`."""
Sums = tuple[tuple[Any, Any], ...]
"""Of two rows, for each map."""
STENCILS = 36
"""Numbers of a channel before its four biases, in a table of weights."""


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
def convolve(h: Array, table: Array, maps: Array, grid: Grid, floor: float) -> None:
    """max(four 3x3 convolutions of h, biases added; floor); the halo of h holds zeros.

    Two rows at a time, so that each weight is loaded once for both.
    """
    u, v, diff_x, diff_y = maps[U], maps[V], maps[DIFF_X], maps[DIFF_Y]
    flat, stride, least = table.reshape(-1), index(grid.stride), splat(floor)
    for i in range(0, grid.height, 2):
        k, apart = row(grid, i), second_row(grid, i)
        for _ in range(grid.width):
            sums = _biases(flat)
            for j in range(3):
                x = column(h, k + index(j * LANES) - index(LANES), stride)
                sums = _add_column(flat, j, x, sums)
            _store_pair(u, k, apart, sums[U], least)
            _store_pair(v, k, apart, sums[V], least)
            _store_pair(diff_x, k, apart, sums[DIFF_X], least)
            _store_pair(diff_y, k, apart, sums[DIFF_Y], least)
            k += index(LANES)


@kernel
def second_row(grid: Grid, i: int) -> Any:
    """How far it is from row i to where the next one is written: nowhere, if i is the last.

    What is written there is then written over. A branch instead would have the compiler move the
    arithmetic of the second row into it, and spill all that it shares with the first.
    """
    return index(grid.stride if i + 1 < grid.height else 0)


@kernel
def _biases(weights: Array) -> Sums:
    """Of two rows."""
    u, v = load(weights, index(STENCILS * LANES)), load(weights, index((STENCILS + 1) * LANES))
    x, y = (
        load(weights, index((STENCILS + 2) * LANES)),
        load(weights, index((STENCILS + 3) * LANES)),
    )
    return (u, u), (v, v), (x, x), (y, y)


@kernel
def _add_column(weights: Array, t: int, x: tuple[Any, ...], sums: Sums) -> Sums:
    """Add a column of the stencils to the sums of all maps."""
    u, v, diff_x, diff_y = sums
    return (
        pair(weights, t, x, u),
        pair(weights, t + 9, x, v),
        pair(weights, t + 18, x, diff_x),
        pair(weights, t + 27, x, diff_y),
    )


@kernel
def _store_pair(to: Array, k: Any, apart: Any, both: tuple[Any, Any], floor: Any) -> None:
    store(to, k + apart, at_least(both[1], floor))
    store(to, k, at_least(both[0], floor))


@kernel
def column(h: Array, k: Any, stride: Any) -> tuple[Any, ...]:
    """Four cells below each other, the first above element k."""
    return load(h, k - stride), load(h, k), load(h, k + stride), load(h, k + stride + stride)


@kernel
def pair(weights: Array, t: int, x: tuple[Any, ...], sums: tuple[Any, Any]) -> tuple[Any, Any]:
    """Add one column of a 3x3 stencil, weights t, t + 3 and t + 6, to the sums of two rows."""
    k = index(t * LANES)
    a = load(weights, k)
    b, c = load(weights, k + index(3 * LANES)), load(weights, k + index(6 * LANES))
    first = fma(c, x[2], fma(b, x[1], fma(a, x[0], sums[0])))
    return first, fma(c, x[3], fma(b, x[2], fma(a, x[1], sums[1])))


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
