"""The four 3x3 depthwise convolutions of a buffer that make u, v, Dx and Dy, and their adjoint.

Two rows at a time, so that each weight is loaded once for both, and in several sums side by side,
because one would have to wait for each of its terms.
"""

from typing import Any

from condense.layers.kernels import LANES
from condense.layers.kernels.plane import Array, Grid, index, kernel, row
from condense.layers.kernels.vectors import at_least, fma, load, splat, store

U, V, DIFF_X, DIFF_Y = 0, 1, 2, 3
"""Rows of `maps`."""
Sums = tuple[tuple[Any, Any], ...]
"""Of two rows, for each map."""
STENCILS = 36
"""Numbers of a channel before its four biases, in a table of weights."""
# Sums in one register go over about so many cells before they are added up further, lest small
# numbers be lost in a large one.
CELLS_OF_A_SUM = 64


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
def pull_back_convolutions(
    grads: Array, table: Array, h: Array, to_h: Array, sums: Array, grid: Grid
) -> None:
    """Gradients of the state and the weights from those of the four convolutions' results.

    Args:
        grads: Gradients of the results, zeros in their halos.
        table: (36 or more, LANES), the weights.
        h: What was convolved, zeros in its halo.
        to_h: Buffer that the gradient of h is added to.
        sums: (40 LANES,), added to: of the weights and biases.
        grid: Layout.
    """
    _spread(grads, table.reshape(-1), to_h, grid)
    for m in range(4):
        _correlate(grads[m], h, sums, m, grid)


@kernel
def _spread(grads: Array, weights: Array, to: Array, grid: Grid) -> None:
    """The transposed convolutions, two rows at a time."""
    stride, zero = index(grid.stride), splat(to.dtype.type(0))
    u, v, diff_x, diff_y = grads[U], grads[V], grads[DIFF_X], grads[DIFF_Y]
    for i in range(0, grid.height, 2):
        k, apart = row(grid, i), second_row(grid, i)
        for _ in range(grid.width):
            # Four sums, because one would have to wait for each of its terms.
            of_u = of_v = of_x = of_y = (zero, zero)
            for j in range(3):
                at = k + index(LANES) - index(j * LANES)
                of_u = _turned(weights, j, column(u, at, stride), of_u)
                of_v = _turned(weights, j + 9, column(v, at, stride), of_v)
                of_x = _turned(weights, j + 18, column(diff_x, at, stride), of_x)
                of_y = _turned(weights, j + 27, column(diff_y, at, stride), of_y)
            first = load(to, k) + ((of_u[0] + of_v[0]) + (of_x[0] + of_y[0]))
            add_at(to, k + apart, (of_u[1] + of_v[1]) + (of_x[1] + of_y[1]))
            store(to, k, first)
            k += index(LANES)


@kernel
def _turned(weights: Array, t: int, x: tuple[Any, ...], both: tuple[Any, Any]) -> tuple[Any, Any]:
    """Add a column of a stencil turned round to the sums of two rows."""
    second, first = pair(weights, t, (x[3], x[2], x[1], x[0]), (both[1], both[0]))
    return first, second


@kernel
def _correlate(grad: Array, h: Array, sums: Array, m: int, grid: Grid) -> None:
    """Sums over each map of the gradient times h shifted by each of nine places; and its own."""
    zero, stride = splat(h.dtype.type(0)), index(grid.stride)
    rows = max(2, CELLS_OF_A_SUM // grid.width // 2 * 2)
    for top in range(0, grid.height, rows):
        left = middle = right = (zero, zero, zero)
        total = zero
        for i in range(top, min(top + rows, grid.height), 2):
            k = row(grid, i)
            for _ in range(grid.width):
                g = (load(grad, k), load(grad, k + stride))  # the second one zero beyond the map
                left = _products(g, column(h, k - index(LANES), stride), left)
                middle = _products(g, column(h, k, stride), middle)
                right = _products(g, column(h, k + index(LANES), stride), right)
                total += g[0] + g[1]
                k += index(LANES)
        for j, sums_of in enumerate((left, middle, right)):
            for t in range(3):
                accumulate(sums, 9 * m + 3 * t + j, sums_of[t])
        accumulate(sums, STENCILS + m, total)


@kernel
def _products(
    g: tuple[Any, Any], x: tuple[Any, ...], sums: tuple[Any, Any, Any]
) -> tuple[Any, Any, Any]:
    """Add those of two cells below each other to the sums for one column of the stencil."""
    return (
        fma(g[1], x[1], fma(g[0], x[0], sums[0])),
        fma(g[1], x[2], fma(g[0], x[1], sums[1])),
        fma(g[1], x[3], fma(g[0], x[2], sums[2])),
    )


@kernel
def accumulate(sums: Array, t: int, more: Any) -> None:
    """Add a vector to the t-th of `sums`."""
    add_at(sums, index(t * LANES), more)


@kernel
def add_at(values: Array, k: Any, more: Any) -> None:
    """Add a vector to the one at element k."""
    store(values, k, load(values, k) + more)
