"""The adjoint of `kernels.forward` on one buffer, in closed form: only the K + 1 states are kept.

With q = g / (1 + s), where g is the gradient of h(k+1), one step of either scheme gives

    to h(k-1): (1 - s) q        to f: 2 dt q        to s: -q (h(k-1) + h(k+1))
    to h(k) and to the weight of each neighbour d: weight_d q at that neighbour, and q h(k)[d]

Each cell gathers what its neighbours have for it. Beyond a periodic edge those are the cells of the
other side, so q is continued like the state; beyond the others there is nobody and q is zero, but
at a replicated edge the halo gathers too, and passes on to the cell that it is a copy of.
"""

from typing import NamedTuple

from condense.layers.kernels.forward import (
    DIFF_X,
    DIFF_Y,
    REFERENCE,
    Patch,
    Physics,
    U,
    V,
    dot,
    neighbourhood,
)
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
)


class Adjoint(NamedTuple):
    """Buffers of one thread.

    Args:
        h: Gradients of h(k+1), h(k) and h(k-1), in turn; that of h(k) is `h[k % 3]`.
        f: Gradient of the source.
        q: As above.
        outer: q (h(k-1) + h(k+1)).
        maps: Gradients of u, v, Dx, Dy.
    """

    h: Array
    f: Array
    q: Array
    outer: Array
    maps: Array


@kernel
def pull_back(
    before: Array, states: Array, maps: Array, adjoint: Adjoint, grid: Grid, p: Physics
) -> None:
    """Gradients of h(0), h(-1), f and the coefficients from that of h(K).

    Args:
        before: h(-1).
        states: h(0) ... h(K), their halos filled but the last one's.
        maps: u, v, Dx, Dy, their halos filled.
        adjoint: `h[K % 3]` holds the gradient of h(K); the others go to `h[0]` (that of h(0)),
            `h[2]` (that of h(-1)), `f` and `maps`, with rubbish beside the rows of the maps.
        grid: Layout.
        p: Numbers of the update.
    """
    steps = states.shape[0] - 1
    clear(adjoint.f)
    clear(adjoint.h[(steps + 1) % 3])
    clear(adjoint.h[(steps + 2) % 3])
    for i in range(4):
        clear(adjoint.maps[i])
    for k in range(steps - 1, -1, -1):
        old = states[k - 1] if k > 0 else before
        later, now, earlier = adjoint.h[(k + 1) % 3], adjoint.h[k % 3], adjoint.h[(k + 2) % 3]
        _step_back(later, now, earlier, old, states[k], states[k + 1], maps, adjoint, grid, p)
    if grid.boundary == REPLICATE:
        for i in range(4 if p.scheme != REFERENCE else 2):
            fold_halo(adjoint.maps[i], grid)
            clear_halo(adjoint.maps[i], grid)


@kernel
def _step_back(
    later: Array,
    now: Array,
    earlier: Array,
    before: Array,
    h: Array,
    after: Array,
    maps: Array,
    adjoint: Adjoint,
    grid: Grid,
    p: Physics,
) -> None:
    """One step: from the gradient of h(k+1), `later`, to those of all that it was made of.

    Several short loops: one over as many arrays would not be vectorised.
    """
    q, outer, grads = adjoint.q, adjoint.outer, adjoint.maps
    start, stop = _gathering(grid)
    if grid.boundary == REPLICATE:
        clear_halo(now, grid)
    if p.scheme == REFERENCE:
        _divide_reference(later, maps, before, after, q, outer, earlier, grid, p)
        _continue(q, grid)
        _gather_reference(q, maps, now, adjoint.f, start, stop, grid, p)
        _to_velocities_reference(q, h, grads, start, stop, grid, p)
        _to_diffusivities_reference(q, h, outer, grads, grid, p)
    else:
        _divide_conservative(later, maps, before, after, q, outer, earlier, grid, p)
        _continue(q, grid)
        _continue(outer, grid)
        _gather_conservative(q, maps, now, adjoint.f, start, stop, grid, p)
        _to_velocities_conservative(q, h, grads, start, stop, grid, p)
        _to_diffusivities_conservative(q, h, outer, grads, start, stop, grid, p)
    if grid.boundary == REPLICATE:
        fold_halo(now, grid)


@kernel
def _gathering(grid: Grid) -> tuple[int, int]:
    """From which element to which cells gather: the map's, at a replicated edge the halo's too."""
    if grid.boundary == REPLICATE:
        margin = grid.first - grid.pad_x * grid.stride - grid.pad_y * grid.lanes
        return margin, grid.size - margin
    return grid.first, grid.first + grid.visited


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
    q: Array,
    outer: Array,
    earlier: Array,
    grid: Grid,
    p: Physics,
) -> None:
    two_x, two_y = p.diffusion_x + p.diffusion_x, p.diffusion_y + p.diffusion_y
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        s = two_x * maps[DIFF_X, k] + two_y * maps[DIFF_Y, k]
        quotient = later[k] / (p.one + s)
        q[k] = quotient
        earlier[k] = (p.one - s) * quotient
        outer[k] = quotient * (before[k] + after[k])


@kernel
def _divide_conservative(
    later: Array,
    maps: Array,
    before: Array,
    after: Array,
    q: Array,
    outer: Array,
    earlier: Array,
    grid: Grid,
    p: Physics,
) -> None:
    x, y = index(grid.shift_x), index(grid.shift_y)
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        along_x = maps[DIFF_X, k] + p.half * (maps[DIFF_X, k - x] + maps[DIFF_X, k + x])
        along_y = maps[DIFF_Y, k] + p.half * (maps[DIFF_Y, k - y] + maps[DIFF_Y, k + y])
        s = p.diffusion_x * along_x + p.diffusion_y * along_y
        quotient = later[k] / (p.one + s)
        q[k] = quotient
        earlier[k] = (p.one - s) * quotient
        outer[k] = quotient * (before[k] + after[k])


@kernel
def _gather_reference(
    q: Array, maps: Array, now: Array, f: Array, start: int, stop: int, grid: Grid, p: Physics
) -> None:
    x, y = index(grid.shift_x), index(grid.shift_y)
    two_x, two_y = p.diffusion_x + p.diffusion_x, p.diffusion_y + p.diffusion_y
    for k in range(index(start), index(stop)):
        u_after, u_before = p.rate_x * maps[U, k + x], p.rate_x * maps[U, k - x]
        v_after, v_before = p.rate_y * maps[V, k + y], p.rate_y * maps[V, k - y]
        total = (two_x * maps[DIFF_X, k + x] - u_after) * q[k + x]
        total += (two_x * maps[DIFF_X, k - x] + u_before) * q[k - x]
        total += (two_y * maps[DIFF_Y, k + y] - v_after) * q[k + y]
        total += (two_y * maps[DIFF_Y, k - y] + v_before) * q[k - y]
        now[k] += total + (u_after - u_before + v_after - v_before) * q[k]
        f[k] += p.source * q[k]


@kernel
def _gather_conservative(
    q: Array, maps: Array, now: Array, f: Array, start: int, stop: int, grid: Grid, p: Physics
) -> None:
    x, y = index(grid.shift_x), index(grid.shift_y)
    for k in range(index(start), index(stop)):
        a, b = p.rate_x * maps[U, k], p.rate_y * maps[V, k]
        total = (p.diffusion_x * (maps[DIFF_X, k] + maps[DIFF_X, k + x]) + a) * q[k + x]
        total += (p.diffusion_x * (maps[DIFF_X, k] + maps[DIFF_X, k - x]) - a) * q[k - x]
        total += (p.diffusion_y * (maps[DIFF_Y, k] + maps[DIFF_Y, k + y]) + b) * q[k + y]
        total += (p.diffusion_y * (maps[DIFF_Y, k] + maps[DIFF_Y, k - y]) - b) * q[k - y]
        now[k] += total
        f[k] += p.source * q[k]


@kernel
def _to_velocities_reference(
    q: Array, h: Array, grads: Array, start: int, stop: int, grid: Grid, p: Physics
) -> None:
    x, y = index(grid.shift_x), index(grid.shift_y)
    for k in range(index(start), index(stop)):
        along_x = (q[k] - q[k + x]) * h[k + x] - (q[k] - q[k - x]) * h[k - x]
        along_y = (q[k] - q[k + y]) * h[k + y] - (q[k] - q[k - y]) * h[k - y]
        grads[U, k] += p.rate_x * along_x
        grads[V, k] += p.rate_y * along_y


@kernel
def _to_velocities_conservative(
    q: Array, h: Array, grads: Array, start: int, stop: int, grid: Grid, p: Physics
) -> None:
    x, y = index(grid.shift_x), index(grid.shift_y)
    for k in range(index(start), index(stop)):
        grads[U, k] += p.rate_x * h[k] * (q[k + x] - q[k - x])
        grads[V, k] += p.rate_y * h[k] * (q[k + y] - q[k - y])


@kernel
def _to_diffusivities_reference(
    q: Array, h: Array, outer: Array, grads: Array, grid: Grid, p: Physics
) -> None:
    x, y = index(grid.shift_x), index(grid.shift_y)
    two_x, two_y = p.diffusion_x + p.diffusion_x, p.diffusion_y + p.diffusion_y
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        grads[DIFF_X, k] += two_x * (q[k] * (h[k - x] + h[k + x]) - outer[k])
        grads[DIFF_Y, k] += two_y * (q[k] * (h[k - y] + h[k + y]) - outer[k])


@kernel
def _to_diffusivities_conservative(
    q: Array,
    h: Array,
    outer: Array,
    grads: Array,
    start: int,
    stop: int,
    grid: Grid,
    p: Physics,
) -> None:
    x, y = index(grid.shift_x), index(grid.shift_y)
    for k in range(index(start), index(stop)):
        along_x = q[k] * (h[k - x] + h[k + x]) + h[k] * (q[k - x] + q[k + x])
        along_y = q[k] * (h[k - y] + h[k + y]) + h[k] * (q[k - y] + q[k + y])
        outer_x = outer[k] + p.half * (outer[k - x] + outer[k + x])
        outer_y = outer[k] + p.half * (outer[k - y] + outer[k + y])
        grads[DIFF_X, k] += p.diffusion_x * (along_x - outer_x)
        grads[DIFF_Y, k] += p.diffusion_y * (along_y - outer_y)


@kernel
def pull_back_convolutions(
    grads: Array, weight: Array, h: Array, to_h: Array, to_weight: Array, to_bias: Array, grid: Grid
) -> None:
    """Gradients of the state and the weights from those of the four convolutions' results.

    Args:
        grads: Gradients of the results, zeros in their halos.
        weight: (4, 9).
        h: What was convolved, zeros in its halo.
        to_h: Buffer that the gradient of h is added to.
        to_weight: (4, 9), added to.
        to_bias: (4,), added to.
        grid: Layout.
    """
    _spread(grads, weight, to_h, grid)
    for i in range(4):
        _correlate(grads[i], h, to_weight[i], to_bias[i : i + 1], grid)


@kernel
def _spread(grads: Array, weight: Array, to: Array, grid: Grid) -> None:
    """The transposed convolutions: the kernels turned round."""
    wu, wv, wx, wy = turned(weight, 0), turned(weight, 1), turned(weight, 2), turned(weight, 3)
    u, v, diff_x, diff_y = grads[U], grads[V], grads[DIFF_X], grads[DIFF_Y]
    first, stride, lanes = index(grid.first), index(grid.stride), index(grid.lanes)
    for k in range(first, first + index(grid.visited)):
        total = dot(wu, neighbourhood(u, k, stride, lanes))
        total += dot(wv, neighbourhood(v, k, stride, lanes))
        total += dot(wx, neighbourhood(diff_x, k, stride, lanes))
        to[k] += total + dot(wy, neighbourhood(diff_y, k, stride, lanes))


@kernel
def turned(weight: Array, i: int) -> Patch:
    """The nine weights of map i, the last first."""
    w = weight
    return w[i, 8], w[i, 7], w[i, 6], w[i, 5], w[i, 4], w[i, 3], w[i, 2], w[i, 1], w[i, 0]


@kernel
def _correlate(grad: Array, h: Array, to_weight: Array, to_bias: Array, grid: Grid) -> None:
    zero = h[0] - h[0]
    s0, s1, s2, s3, s4, s5, s6, s7, s8 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    total = zero
    first, stride, lanes = index(grid.first), index(grid.stride), index(grid.lanes)
    for k in range(first, first + index(grid.visited)):
        g, x = grad[k], neighbourhood(h, k, stride, lanes)
        s0 += g * x[0]
        s1 += g * x[1]
        s2 += g * x[2]
        s3 += g * x[3]
        s4 += g * x[4]
        s5 += g * x[5]
        s6 += g * x[6]
        s7 += g * x[7]
        s8 += g * x[8]
        total += g
    sums = (s0, s1, s2, s3, s4, s5, s6, s7, s8)
    for i in range(9):
        to_weight[i] += sums[i]
    to_bias[0] += total
