"""The adjoint of `kernels.forward` on one buffer, in closed form: only the K + 1 states are kept.

With q = g / (1 + s), where g is the gradient of h(k+1), one step of either scheme gives

    to h(k-1): (1 - s) q        to f: 2 dt q        to s: -q (h(k-1) + h(k+1))
    to h(k) and to the weight of each neighbour d: weight_d q at that neighbour, and q h(k)[d]

Each cell gathers what its neighbours have for it. Beyond a periodic edge those are the cells of the
other side, so q is continued like the state; beyond the others there is nobody and q is zero, but
at a replicated edge the halo gathers too, and passes on to the cell that it is a copy of.
"""

from typing import NamedTuple

from condense.layers.kernels import LANES
from condense.layers.kernels.forward import REFERENCE, Physics
from condense.layers.kernels.plane import (
    PERIODIC,
    REPLICATE,
    Array,
    Grid,
    clear,
    clear_halo,
    fill_halo,
    fold_halo,
    index,
    kernel,
    row,
)
from condense.layers.kernels.stencils import DIFF_X, DIFF_Y, U, V, add_at
from condense.layers.kernels.vectors import fma, load, splat, store, where_positive


class Adjoint(NamedTuple):
    """Buffers of one thread.

    Args:
        h: Gradients of h(k+1), h(k) and h(k-1), in turn; that of h(k) is `h[k % 3]`.
        f: Gradient of the source.
        q: As above.
        outer: q (h(k-1) + h(k+1)).
        maps: Gradients of u, v, Dx, Dy, times their rates.
    """

    h: Array
    f: Array
    q: Array
    outer: Array
    maps: Array


@kernel
def pull_back(
    before: Array,
    h: Array,
    states: Array,
    maps: Array,
    adjoint: Adjoint,
    grid: Grid,
    physics: Physics,
) -> None:
    """Gradients of h(0), h(-1), f and the coefficients from that of h(K).

    Args:
        before: h(-1).
        h: h(0).
        states: h(1) ... h(K), their halos filled but the last one's; so is that of h(0).
        maps: u, v, Dx, Dy, their halos filled.
        adjoint: `h[K % 3]` holds the gradient of h(K); the others go to `h[0]` (that of h(0)),
            `h[2]` (that of h(-1)), `f` and `maps`, whose halos hold zeros.
        grid: Layout.
        physics: Of the steps.
    """
    steps = physics.steps
    clear(adjoint.f)
    clear(adjoint.h[(steps + 1) % 3])
    clear(adjoint.h[(steps + 2) % 3])
    for i in range(4):
        clear(adjoint.maps[i])
    for k in range(steps - 1, -1, -1):
        now = states[k - 1] if k > 0 else h
        old = before if k == 0 else h if k == 1 else states[k - 2]
        _step_back(k, old, now, states[k], maps, adjoint, grid, physics)
    if grid.boundary == REPLICATE:
        for i in range(4):
            fold_halo(adjoint.maps[i], grid)
            clear_halo(adjoint.maps[i], grid)


@kernel
def _step_back(
    k: int,
    before: Array,
    h: Array,
    after: Array,
    maps: Array,
    adjoint: Adjoint,
    grid: Grid,
    physics: Physics,
) -> None:
    """One step: from the gradient of h(k+1) to those of all that it was made of."""
    later, now, earlier = adjoint.h[(k + 1) % 3], adjoint.h[k % 3], adjoint.h[(k + 2) % 3]
    if grid.boundary == REPLICATE:
        clear_halo(now, grid)
    if physics.scheme == REFERENCE:
        _divide_reference(later, maps, before, after, earlier, adjoint, grid)
    else:
        _divide_conservative(later, maps, before, after, earlier, adjoint, grid)
    _continue(adjoint.q, grid)
    _continue(adjoint.outer, grid)
    if physics.scheme == REFERENCE:
        _gather_reference(h, maps, now, adjoint, grid, physics)
    else:
        _gather_conservative(h, maps, now, adjoint, grid, physics)
    if grid.boundary == REPLICATE:
        fold_halo(now, grid)


@kernel
def _continue(values: Array, grid: Grid) -> None:
    if grid.boundary == PERIODIC:
        fill_halo(values, grid)
    else:
        clear_halo(values, grid)


@kernel
def _divide_reference(
    later: Array,
    maps: Array,
    before: Array,
    after: Array,
    earlier: Array,
    adjoint: Adjoint,
    grid: Grid,
) -> None:
    one, diff_x, diff_y = splat(later.dtype.type(1)), maps[DIFF_X], maps[DIFF_Y]
    for i in range(grid.height):
        k = row(grid, i)
        for _ in range(grid.width):
            s = load(diff_x, k) + load(diff_y, k)
            q = load(later, k) / (one + s)
            store(adjoint.q, k, q)
            store(earlier, k, (one - s) * q)
            store(adjoint.outer, k, q * (load(before, k) + load(after, k)))
            k += index(LANES)


@kernel
def _divide_conservative(
    later: Array,
    maps: Array,
    before: Array,
    after: Array,
    earlier: Array,
    adjoint: Adjoint,
    grid: Grid,
) -> None:
    one, half = splat(later.dtype.type(1)), splat(later.dtype.type(0.5))
    diff_x, diff_y = maps[DIFF_X], maps[DIFF_Y]
    x, y = index(grid.dx * grid.stride), index(grid.dy * LANES)
    for i in range(grid.height):
        k = row(grid, i)
        for _ in range(grid.width):
            s = fma(half, load(diff_x, k - x) + load(diff_x, k + x), load(diff_x, k))
            s += fma(half, load(diff_y, k - y) + load(diff_y, k + y), load(diff_y, k))
            q = load(later, k) / (one + s)
            store(adjoint.q, k, q)
            store(earlier, k, (one - s) * q)
            store(adjoint.outer, k, q * (load(before, k) + load(after, k)))
            k += index(LANES)


@kernel
def _gather_reference(
    h: Array, maps: Array, now: Array, adjoint: Adjoint, grid: Grid, physics: Physics
) -> None:
    u, v, diff_x, diff_y = maps[U], maps[V], maps[DIFF_X], maps[DIFF_Y]
    grads, q_of = adjoint.maps, adjoint.q
    to_u, to_v, to_x, to_y = grads[U], grads[V], grads[DIFF_X], grads[DIFF_Y]
    x, y = index(grid.dx * grid.stride), index(grid.dy * LANES)
    source = splat(physics.source)
    above, beside = _reach(grid)
    for i in range(-above, grid.height + above):
        k = row(grid, i) - index(beside * LANES)
        for _ in range(grid.width + 2 * beside):
            q, outer = load(q_of, k), load(adjoint.outer, k)
            q_up, q_down = load(q_of, k - x), load(q_of, k + x)
            q_left, q_right = load(q_of, k - y), load(q_of, k + y)
            u_up, u_down = load(u, k - x), load(u, k + x)
            v_left, v_right = load(v, k - y), load(v, k + y)
            total = fma((u_down - u_up) + (v_right - v_left), q, load(now, k))
            total = fma(load(diff_x, k + x) - u_down, q_down, total)
            total = fma(load(diff_x, k - x) + u_up, q_up, total)
            total = fma(load(diff_y, k + y) - v_right, q_right, total)
            store(now, k, fma(load(diff_y, k - y) + v_left, q_left, total))
            h_up, h_down = load(h, k - x), load(h, k + x)
            h_left, h_right = load(h, k - y), load(h, k + y)
            add_at(to_u, k, (q - q_down) * h_down - (q - q_up) * h_up)
            add_at(to_v, k, (q - q_right) * h_right - (q - q_left) * h_left)
            add_at(to_x, k, q * (h_up + h_down) - outer)
            add_at(to_y, k, q * (h_left + h_right) - outer)
            add_at(adjoint.f, k, source * q)
            k += index(LANES)


@kernel
def _gather_conservative(
    h: Array, maps: Array, now: Array, adjoint: Adjoint, grid: Grid, physics: Physics
) -> None:
    u, v, diff_x, diff_y = maps[U], maps[V], maps[DIFF_X], maps[DIFF_Y]
    grads, q_of, outer = adjoint.maps, adjoint.q, adjoint.outer
    to_u, to_v, to_x, to_y = grads[U], grads[V], grads[DIFF_X], grads[DIFF_Y]
    x, y = index(grid.dx * grid.stride), index(grid.dy * LANES)
    half, source = splat(h.dtype.type(0.5)), splat(physics.source)
    above, beside = _reach(grid)
    for i in range(-above, grid.height + above):
        k = row(grid, i) - index(beside * LANES)
        for _ in range(grid.width + 2 * beside):
            q, here = load(q_of, k), load(h, k)
            q_up, q_down = load(q_of, k - x), load(q_of, k + x)
            q_left, q_right = load(q_of, k - y), load(q_of, k + y)
            a, b, bx, by = load(u, k), load(v, k), load(diff_x, k), load(diff_y, k)
            total = fma((bx + load(diff_x, k + x)) + a, q_down, load(now, k))
            total = fma((bx + load(diff_x, k - x)) - a, q_up, total)
            total = fma((by + load(diff_y, k + y)) + b, q_right, total)
            store(now, k, fma((by + load(diff_y, k - y)) - b, q_left, total))
            add_at(to_u, k, here * (q_down - q_up))
            add_at(to_v, k, here * (q_right - q_left))
            along = fma(q, load(h, k - x) + load(h, k + x), here * (q_up + q_down))
            spread = fma(half, load(outer, k - x) + load(outer, k + x), load(outer, k))
            add_at(to_x, k, along - spread)
            along = fma(q, load(h, k - y) + load(h, k + y), here * (q_left + q_right))
            spread = fma(half, load(outer, k - y) + load(outer, k + y), load(outer, k))
            add_at(to_y, k, along - spread)
            add_at(adjoint.f, k, source * q)
            k += index(LANES)


@kernel
def _reach(grid: Grid) -> tuple[int, int]:
    """How far beyond the edge cells gather: at a replicated edge the halo does."""
    if grid.boundary == REPLICATE:
        return grid.dx, grid.dy
    return 0, 0


@kernel
def through_relu(grad: Array, out: Array, grid: Grid) -> None:
    """The gradient where `out`, which came out of a ReLU, is above zero; written over `out`.

    Written over the gradient, it would become a masked store, which some processors are slow at.
    """
    for i in range(grid.height):
        k = row(grid, i)
        for _ in range(grid.width):
            store(out, k, where_positive(load(out, k), load(grad, k)))
            k += index(LANES)
    clear_halo(out, grid)
