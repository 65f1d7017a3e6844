"""The adjoint of `kernels.forward` on one plane, in closed form: only the K + 1 states are kept.

With q = g / (1 + s), where g is the gradient of h(k+1), one step of either scheme gives

    to h(k-1): (1 - s) q        to f: 2 dt q        to s: -q (h(k-1) + h(k+1))
    to h(k) and to the weight of each neighbour d: weight_d q at that neighbour, and q h(k)[d]

so that the gradients of all four coefficients follow from six sums over the steps (`Sums`).
"""

from typing import NamedTuple

import numpy as np

from condense.layers.kernels.forward import REFERENCE, Physics, neighbourhood
from condense.layers.kernels.plane import Array, Grid, clear_halo, copy, fold_halo, index, kernel


class Sums(NamedTuple):
    """Sums over the steps: q h(k) at each cell and its neighbours; q (h(k-1) + h(k+1))."""

    here: Array
    up: Array
    down: Array
    left: Array
    right: Array
    outer: Array


class Adjoint(NamedTuple):
    """Buffers of one thread.

    Args:
        h: Gradients of h(k+1), h(k) and h(k-1), in turn.
        f: Gradient of the source.
        to: What a step gives to its four neighbours.
        sums: The rows of `Sums`.
        maps: Gradients of u, v, Dx, Dy.
    """

    h: Array
    f: Array
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
    adjoint.f[:] = p.zero
    adjoint.h[:, :] = p.zero
    adjoint.sums[:, :] = p.zero
    copy(grad, adjoint.h[steps % 3])
    for k in range(steps - 1, -1, -1):
        old = states[k - 1] if k > 0 else before
        later, now, earlier = adjoint.h[(k + 1) % 3], adjoint.h[k % 3], adjoint.h[(k + 2) % 3]
        _weigh(later, now, earlier, old, states[k], states[k + 1], maps, adjoint, grid, p)
        for i in range(4):
            clear_halo(adjoint.to[i], grid)
        _gather(adjoint.to, now, grid)
        clear_halo(earlier, grid)
    for i in range(6):
        clear_halo(adjoint.sums[i], grid)
    if p.scheme == REFERENCE:
        _to_coefficients_reference(adjoint, grid, p)
    else:
        _to_coefficients_conservative(adjoint, grid, p)
    copy(adjoint.h[2], adjoint.h[1])


@kernel
def _weigh(
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
    u, v, diff_x, diff_y = maps[0], maps[1], maps[2], maps[3]
    s = adjoint.sums
    here, up, down, left, right, outer = s[0], s[1], s[2], s[3], s[4], s[5]
    to_up, to_down, to_left, to_right = adjoint.to[0], adjoint.to[1], adjoint.to[2], adjoint.to[3]
    f = adjoint.f
    first, x, y = index(grid.first), index(grid.shift_x * grid.stride), index(grid.shift_y)
    is_reference = p.scheme == REFERENCE
    for k in range(first, first + index(grid.visited)):
        if is_reference:
            bx, by = p.diffusion_x * diff_x[k], p.diffusion_y * diff_y[k]
            ax, ay = p.rate_x * u[k], p.rate_y * v[k]
            s_here = bx + bx + by + by
            w_here = p.rate_x * (u[k + x] - u[k - x]) + p.rate_y * (v[k + y] - v[k - y])
            w_up, w_down = bx + bx - ax, bx + bx + ax
            w_left, w_right = by + by - ay, by + by + ay
        else:
            b_up = p.diffusion_x * (diff_x[k] + diff_x[k - x])
            b_down = p.diffusion_x * (diff_x[k] + diff_x[k + x])
            b_left = p.diffusion_y * (diff_y[k] + diff_y[k - y])
            b_right = p.diffusion_y * (diff_y[k] + diff_y[k + y])
            s_here = p.half * (b_up + b_down + b_left + b_right)
            w_here = p.zero
            w_up, w_down = b_up + p.rate_x * u[k - x], b_down - p.rate_x * u[k + x]
            w_left, w_right = b_left + p.rate_y * v[k - y], b_right - p.rate_y * v[k + y]
        q = later[k] / (p.one + s_here)
        earlier[k] = (p.one - s_here) * q
        now[k] += w_here * q
        f[k] += p.source * q
        to_up[k] = w_up * q
        to_down[k] = w_down * q
        to_left[k] = w_left * q
        to_right[k] = w_right * q
        here[k] += q * h[k]
        up[k] += q * h[k - x]
        down[k] += q * h[k + x]
        left[k] += q * h[k - y]
        right[k] += q * h[k + y]
        outer[k] += q * (before[k] + after[k])


@kernel
def _gather(to: Array, now: Array, grid: Grid) -> None:
    """Add to each cell, those of the halo too, what its neighbours sent; then fold the halo."""
    clear_halo(now, grid)
    add_shifted(to[0], -grid.shift_x * grid.stride, now, grid)
    add_shifted(to[1], grid.shift_x * grid.stride, now, grid)
    add_shifted(to[2], -grid.shift_y, now, grid)
    add_shifted(to[3], grid.shift_y, now, grid)
    fold_halo(now, grid)
    clear_halo(now, grid)


@kernel
def add_shifted(source: Array, offset: int, to: Array, grid: Grid) -> None:
    """to[k + offset] += source[k] over the map and its halo; zeros beyond the map of `source`."""
    margin = grid.first - grid.pad_x * grid.stride - grid.pad_y
    start, stop = index(margin), index(grid.size - margin)
    for k in range(start, stop):
        to[k] += source[k - index(offset)]


@kernel
def _to_coefficients_reference(adjoint: Adjoint, grid: Grid, p: Physics) -> None:
    s, grads = adjoint.sums, adjoint.maps
    here, up, down, left, right, outer = s[0], s[1], s[2], s[3], s[4], s[5]
    start, stop = index(grid.first), index(grid.first + grid.visited)
    for k in range(start, stop):
        grads[0, k] = p.rate_x * (down[k] - up[k])
        grads[1, k] = p.rate_y * (right[k] - left[k])
        grads[2, k] = (p.diffusion_x + p.diffusion_x) * (up[k] + down[k] - outer[k])
        grads[3, k] = (p.diffusion_y + p.diffusion_y) * (left[k] + right[k] - outer[k])
    for i in range(4):
        clear_halo(grads[i], grid)
    # The divergence of the velocity weighs h(k) itself.
    _add_difference(here, p.rate_x, grid.shift_x * grid.stride, grads[0], grid)
    _add_difference(here, p.rate_y, grid.shift_y, grads[1], grid)
    for i in range(2):
        fold_halo(grads[i], grid)
        clear_halo(grads[i], grid)


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
