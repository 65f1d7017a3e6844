"""The adjoint of `kernels.forward` on one plane, in closed form: only the K + 1 states are kept.

With q = g / (1 + s), where g is the gradient of h(k+1), one step of either scheme gives

    to h(k-1): (1 - s) q        to f: 2 dt q        to s: -q (h(k-1) + h(k+1))
    to h(k) and to the weight of each neighbour d: weight_d q at that neighbour, and q h(k)[d]

so that the gradients of all four coefficients follow from six sums over the steps.
"""

from typing import NamedTuple

import numpy as np

from condense.layers.kernels.forward import DIFF_X, DIFF_Y, REFERENCE, Physics, U, V, neighbourhood
from condense.layers.kernels.plane import (
    Array,
    Grid,
    clear,
    clear_halo,
    copy,
    fold_halo,
    index,
    kernel,
)


class Adjoint(NamedTuple):
    """Buffers of one thread.

    Args:
        h: Gradients of h(k+1), h(k) and h(k-1), in turn.
        f: Gradient of the source.
        q: As above.
        to: What a step gives to its four neighbours.
        sums: Sums over the steps of q h(k), for each cell: h(k) there, at its neighbours up, down,
            left and right; and of q (h(k-1) + h(k+1)).
        maps: Gradients of u, v, Dx, Dy.
    """

    h: Array
    f: Array
    q: Array
    to: Array
    sums: Array
    maps: Array


@kernel
def pull_back(
    before: Array, states: Array, maps: Array, grad: Array, adjoint: Adjoint, grid: Grid, p: Physics
) -> None:
    """Gradients of h(0), h(-1), f and the coefficients from that of h(K).

    Args:
        before: h(-1).
        states: h(0) ... h(K), their halos filled.
        maps: u, v, Dx, Dy.
        grad: Gradient of h(K), a buffer with zeros in its halo.
        adjoint: Where the gradients go: `h[0]` that of h(0), `h[1]` that of h(-1), `f`, `maps`.
        grid: Layout.
        p: Numbers of the update.
    """
    steps = states.shape[0] - 1
    clear(adjoint.f)
    for i in range(3):
        clear(adjoint.h[i])
    for i in range(6):
        clear(adjoint.sums[i])
    copy(grad, adjoint.h[steps % 3])
    for k in range(steps - 1, -1, -1):
        old = states[k - 1] if k > 0 else before
        later, now, earlier = adjoint.h[(k + 1) % 3], adjoint.h[k % 3], adjoint.h[(k + 2) % 3]
        _step_back(later, now, earlier, old, states[k], states[k + 1], maps, adjoint, grid, p)
    if p.scheme == REFERENCE:
        clear_halo(adjoint.sums[0], grid)  # the only one that is read beyond its own cell
        _to_coefficients_reference(adjoint, grid, p)
    else:
        for i in range(6):
            clear_halo(adjoint.sums[i], grid)
        _to_coefficients_conservative(adjoint, grid, p)
    copy(adjoint.h[2], adjoint.h[1])


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

    Several short loops: one over as many arrays would not be vectorised. Gradients of states keep
    rubbish in their halos; what is gathered from neighbours, `to`, must not.
    """
    q, to, sums = adjoint.q, adjoint.to, adjoint.sums
    x, y = grid.shift_x * grid.stride, grid.shift_y
    if p.scheme == REFERENCE:
        _divide_reference(later, maps, q, earlier, grid, p)
        _add_divergence(q, maps, now, grid, p)
        _send_reference(q, maps[0], maps[2], p.rate_x, p.diffusion_x, to[0], to[1], grid)
        _send_reference(q, maps[1], maps[3], p.rate_y, p.diffusion_y, to[2], to[3], grid)
    else:
        _divide_conservative(later, maps, q, earlier, grid, p)
        _send_conservative(q, maps[0], maps[2], p.rate_x, p.diffusion_x, x, to[0], to[1], grid)
        _send_conservative(q, maps[1], maps[3], p.rate_y, p.diffusion_y, y, to[2], to[3], grid)
    _sum_up(q, h, x, sums[1], sums[2], grid)
    _sum_up(q, h, y, sums[3], sums[4], grid)
    _sum_up_here(q, h, before, after, sums[0], sums[5], adjoint.f, grid, p)
    for i in range(4):
        clear_halo(to[i], grid)
    _gather(to, now, grid)


@kernel
def _divide_reference(
    later: Array, maps: Array, q: Array, earlier: Array, grid: Grid, p: Physics
) -> None:
    two_x, two_y = p.diffusion_x + p.diffusion_x, p.diffusion_y + p.diffusion_y
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        s = two_x * maps[DIFF_X, k] + two_y * maps[DIFF_Y, k]
        q[k] = later[k] / (p.one + s)
        earlier[k] = (p.one - s) * q[k]


@kernel
def _divide_conservative(
    later: Array, maps: Array, q: Array, earlier: Array, grid: Grid, p: Physics
) -> None:
    x, y = index(grid.shift_x * grid.stride), index(grid.shift_y)
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        along_x = maps[DIFF_X, k] + p.half * (maps[DIFF_X, k - x] + maps[DIFF_X, k + x])
        along_y = maps[DIFF_Y, k] + p.half * (maps[DIFF_Y, k - y] + maps[DIFF_Y, k + y])
        s = p.diffusion_x * along_x + p.diffusion_y * along_y
        q[k] = later[k] / (p.one + s)
        earlier[k] = (p.one - s) * q[k]


@kernel
def _add_divergence(q: Array, maps: Array, now: Array, grid: Grid, p: Physics) -> None:
    x, y = index(grid.shift_x * grid.stride), index(grid.shift_y)
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        centre = p.rate_x * (maps[U, k + x] - maps[U, k - x])
        centre += p.rate_y * (maps[V, k + y] - maps[V, k - y])
        now[k] += centre * q[k]


@kernel
def _send_reference(
    q: Array,
    velocity: Array,
    diffusivity: Array,
    rate: float,
    diffusion: float,
    to_before: Array,
    to_after: Array,
    grid: Grid,
) -> None:
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        b, a = diffusion * diffusivity[k], rate * velocity[k]
        to_before[k] = (b + b - a) * q[k]
        to_after[k] = (b + b + a) * q[k]


@kernel
def _send_conservative(
    q: Array,
    velocity: Array,
    diffusivity: Array,
    rate: float,
    diffusion: float,
    offset: int,
    to_before: Array,
    to_after: Array,
    grid: Grid,
) -> None:
    o = index(offset)
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        b_before = diffusion * (diffusivity[k] + diffusivity[k - o])
        b_after = diffusion * (diffusivity[k] + diffusivity[k + o])
        to_before[k] = (b_before + rate * velocity[k - o]) * q[k]
        to_after[k] = (b_after - rate * velocity[k + o]) * q[k]


@kernel
def _sum_up(q: Array, h: Array, offset: int, before: Array, after: Array, grid: Grid) -> None:
    o = index(offset)
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        before[k] += q[k] * h[k - o]
        after[k] += q[k] * h[k + o]


@kernel
def _sum_up_here(
    q: Array,
    h: Array,
    before: Array,
    after: Array,
    here: Array,
    outer: Array,
    f: Array,
    grid: Grid,
    p: Physics,
) -> None:
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        here[k] += q[k] * h[k]
        outer[k] += q[k] * (before[k] + after[k])
        f[k] += p.source * q[k]


@kernel
def _gather(to: Array, now: Array, grid: Grid) -> None:
    """Add to each cell, those of the halo too, what its neighbours sent; then fold the halo."""
    clear_halo(now, grid)
    add_shifted(to[0], -grid.shift_x * grid.stride, now, grid)
    add_shifted(to[1], grid.shift_x * grid.stride, now, grid)
    add_shifted(to[2], -grid.shift_y, now, grid)
    add_shifted(to[3], grid.shift_y, now, grid)
    fold_halo(now, grid)


@kernel
def add_shifted(source: Array, offset: int, to: Array, grid: Grid) -> None:
    """to[k + offset] += source[k] over the map and its halo; zeros beyond the map of `source`."""
    margin = grid.first - grid.pad_x * grid.stride - grid.pad_y
    start, stop = index(margin), index(grid.size - margin)
    for k in range(start, stop):
        to[k] += source[k - index(offset)]


@kernel
def _to_coefficients_reference(adjoint: Adjoint, grid: Grid, p: Physics) -> None:
    sums, grads = adjoint.sums, adjoint.maps
    _along(sums[1], sums[2], sums[5], p.rate_x, p.diffusion_x, grads[U], grads[DIFF_X], grid)
    _along(sums[3], sums[4], sums[5], p.rate_y, p.diffusion_y, grads[V], grads[DIFF_Y], grid)
    for i in range(4):
        clear_halo(grads[i], grid)
    # The divergence of the velocity weighs h(k) itself.
    _add_difference(sums[0], p.rate_x, grid.shift_x * grid.stride, grads[U], grid)
    _add_difference(sums[0], p.rate_y, grid.shift_y, grads[V], grid)
    for i in range(2):
        fold_halo(grads[i], grid)
        clear_halo(grads[i], grid)


@kernel
def _along(
    before: Array,
    after: Array,
    outer: Array,
    rate: float,
    diffusion: float,
    to_velocity: Array,
    to_diffusivity: Array,
    grid: Grid,
) -> None:
    twice = diffusion + diffusion
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        to_velocity[k] = rate * (after[k] - before[k])
        to_diffusivity[k] = twice * (before[k] + after[k] - outer[k])


@kernel
def _add_difference(source: Array, rate: float, offset: int, to: Array, grid: Grid) -> None:
    margin = grid.first - grid.pad_x * grid.stride - grid.pad_y
    shift = index(offset)
    for k in range(index(margin), index(grid.size - margin)):
        to[k] += rate * (source[k - shift] - source[k + shift])


@kernel
def _to_coefficients_conservative(adjoint: Adjoint, grid: Grid, p: Physics) -> None:
    s, grads = adjoint.sums, adjoint.maps
    up, down, left, right, outer = s[1], s[2], s[3], s[4], s[5]
    for i in range(4):
        grads[i, :] = p.zero
    x, y = grid.shift_x * grid.stride, grid.shift_y
    margin = grid.first - grid.pad_x * grid.stride - grid.pad_y
    shift_x, shift_y = index(x), index(y)
    for k in range(index(margin), index(grid.size - margin)):
        grads[0, k] = p.rate_x * (up[k + shift_x] - down[k - shift_x])
        grads[1, k] = p.rate_y * (left[k + shift_y] - right[k - shift_y])
        mean = p.half * outer[k]
        b_x = up[k] - mean + down[k] - mean
        b_x += up[k + shift_x] - p.half * outer[k + shift_x]
        b_x += down[k - shift_x] - p.half * outer[k - shift_x]
        grads[2, k] = p.diffusion_x * b_x
        b_y = left[k] - mean + right[k] - mean
        b_y += left[k + shift_y] - p.half * outer[k + shift_y]
        b_y += right[k - shift_y] - p.half * outer[k - shift_y]
        grads[3, k] = p.diffusion_y * b_y
    for i in range(4):
        fold_halo(grads[i], grid)
        clear_halo(grads[i], grid)


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
    for i in range(4):
        _spread(grads[i], weight[i], to_h, grid)
        _correlate(grads[i], h, to_weight[i], grid)
        to_bias[i] += _total(grads[i], grid)


@kernel
def _spread(grad: Array, weight: Array, to: Array, grid: Grid) -> None:
    w0, w1, w2 = weight[8], weight[7], weight[6]
    w3, w4, w5 = weight[5], weight[4], weight[3]
    w6, w7, w8 = weight[2], weight[1], weight[0]
    first, stride = index(grid.first), index(grid.stride)
    for k in range(first, first + index(grid.visited)):
        g = neighbourhood(grad, k, stride)
        top = w0 * g[0] + w1 * g[1] + w2 * g[2]
        middle = w3 * g[3] + w4 * g[4] + w5 * g[5]
        to[k] += top + middle + (w6 * g[6] + w7 * g[7] + w8 * g[8])


@kernel
def _correlate(grad: Array, h: Array, to: Array, grid: Grid) -> None:
    zero = h[0] - h[0]
    s0, s1, s2, s3, s4, s5, s6, s7, s8 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    first, stride = index(grid.first), index(grid.stride)
    for k in range(first, first + index(grid.visited)):
        g, x = grad[k], neighbourhood(h, k, stride)
        s0 += g * x[0]
        s1 += g * x[1]
        s2 += g * x[2]
        s3 += g * x[3]
        s4 += g * x[4]
        s5 += g * x[5]
        s6 += g * x[6]
        s7 += g * x[7]
        s8 += g * x[8]
    sums = (s0, s1, s2, s3, s4, s5, s6, s7, s8)
    for i in range(9):
        to[i] += sums[i]


@kernel
def _total(values: Array, grid: Grid) -> float:
    total = np.float64(0)
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        total += values[k]
    return total
