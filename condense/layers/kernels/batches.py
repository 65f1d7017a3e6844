"""The loops of the fused CPU kernels: over the buffers of a batch, or over one thread's share.

Every loop is there twice: over the buffers from `start` to `stop`, and over all of them by threads.
Arguments are spelt out each time: numba lets no `*arguments` of mixed kinds into a parallel loop.
See `kernels.cpu` for the arrays.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from condense.layers.kernels.backward import Adjoint, pull_back, pull_back_convolutions
from condense.layers.kernels.forward import REFERENCE, Physics, Workspace, advance, coefficients
from condense.layers.kernels.plane import (
    Array,
    Grid,
    fill_halo,
    index,
    kernel,
    load,
    mark,
    parallel_kernel,
    relu,
    unload,
    with_lanes,
)


class Group(NamedTuple):
    """Maps of one channel that share a buffer.

    Args:
        channel: Which.
        lanes: How many maps.
        start: Element of the first.
        apart: Elements from one to the next.
    """

    channel: int
    lanes: int
    start: int
    apart: int


@kernel
def _group(i: int, images: int, channels: int, grid: Grid) -> Group:
    channel, first = i % channels, i // channels * grid.most
    area = grid.height * grid.width
    lanes = min(grid.most, images - first)
    return Group(channel, lanes, (first * channels + channel) * area, channels * area)


@kernel
def forward(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    scale: Array,
    shift: Array,
    out: Array,
    physics: Physics,
    steps: int,
    grid: Grid,
    images: int,
    start: int,
    stop: int,
) -> None:
    """max(scale h(K) + shift, 0)."""
    rows = np.zeros((6 + min(steps + 1, 3), grid.size), h.dtype)
    work = Workspace(rows[0], rows[1], rows[2:6], rows[6:])
    for i in range(start, stop):
        at = _group(i, images, weight.shape[0], grid)
        if at.lanes != grid.lanes:
            grid = with_lanes(grid, at.lanes)
            rows[0, :] = 0
        c = at.channel
        row = advance(h, f, at.start, at.apart, weight[c], bias[c], work, grid, physics, steps)
        last = work.states[row]
        a, b = scale[c], shift[c]
        for k in range(index(grid.first), index(grid.first + grid.visited)):
            last[k] = relu(a * last[k] + b, physics.zero)
        unload(last, out, at.start, at.apart, grid)


@kernel
def evolve(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    out: Array,
    sums: Array,
    physics: Physics,
    steps: int,
    grid: Grid,
    images: int,
    start: int,
    stop: int,
) -> None:
    """h(K); per buffer, its sum and that of its squares, (groups, 2)."""
    rows = np.zeros((7 + min(steps + 1, 3), grid.size), h.dtype)
    work = Workspace(rows[0], rows[1], rows[2:6], rows[7:])
    mark(rows[6], grid)
    for i in range(start, stop):
        at = _group(i, images, weight.shape[0], grid)
        if at.lanes != grid.lanes:
            grid = with_lanes(grid, at.lanes)
            rows[:] = 0
            mark(rows[6], grid)
        c = at.channel
        row = advance(h, f, at.start, at.apart, weight[c], bias[c], work, grid, physics, steps)
        last = work.states[row]
        sums[i, 0], sums[i, 1] = _sum_and_square(last, rows[6], grid)
        unload(last, out, at.start, at.apart, grid)


@kernel
def rectify(
    h: Array, scale: Array, shift: Array, out: Array, area: int, start: int, stop: int
) -> None:
    """max(scale h + shift, 0), map by map."""
    zero = h.dtype.type(0)
    for i in range(start, stop):
        a, b = scale[i % scale.shape[0]], shift[i % scale.shape[0]]
        for k in range(index(i * area), index((i + 1) * area)):
            out[k] = relu(a * h[k] + b, zero)


@kernel
def rectify_backward(
    h: Array,
    scale: Array,
    shift: Array,
    grad: Array,
    sums: Array,
    area: int,
    start: int,
    stop: int,
) -> None:
    """Per map, the sum of g and of g h, (N C, 2); g is the gradient where the ReLU let it pass."""
    zero = h.dtype.type(0)
    for i in range(start, stop):
        a, b = scale[i % scale.shape[0]], shift[i % scale.shape[0]]
        total, product = np.float64(0), np.float64(0)
        for k in range(index(i * area), index((i + 1) * area)):
            g = np.float64(grad[k] if a * h[k] + b > zero else zero)
            total += g
            product += g * np.float64(h[k])
        sums[i, 0], sums[i, 1] = total, product


@kernel
def backward(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    grad: Array,
    norm: Array,
    to_h: Array,
    to_f: Array,
    to_weight: Array,
    to_bias: Array,
    physics: Physics,
    steps: int,
    grid: Grid,
    images: int,
    start: int,
    stop: int,
) -> None:
    """Gradients of h, f and, per buffer, weight and bias.

    `grad` is that of h(K), or, if `norm` (C, 5) is not empty, that of relu(BN(h(K))).
    """
    rows = np.zeros((17 + steps, grid.size), h.dtype)
    work = Workspace(rows[0], rows[1], rows[2:6], rows[16:])
    adjoint = Adjoint(rows[6:9], rows[9], rows[10], rows[11], rows[12:16])
    inside = np.zeros(grid.size, h.dtype)
    mark(inside, grid)
    for i in range(start, stop):
        at = _group(i, images, weight.shape[0], grid)
        if at.lanes != grid.lanes:
            grid = with_lanes(grid, at.lanes)
            rows[:] = 0
            inside[:] = 0
            mark(inside, grid)
        c = at.channel
        advance(h, f, at.start, at.apart, weight[c], bias[c], work, grid, physics, steps)
        if physics.scheme == REFERENCE:
            fill_halo(work.maps[2], grid)
            fill_halo(work.maps[3], grid)
        load(grad, at.start, at.apart, adjoint.h[steps % 3], grid)
        if norm.shape[0] > 0:
            _pull_back_norm(adjoint.h[steps % 3], work.states[steps], norm[c], physics.zero, grid)
        source = work.h if physics.same else work.f
        before = work.h if physics.at_rest else source
        pull_back(before, work.states, work.maps, adjoint, grid, physics)
        for j in range(4):
            _mask(adjoint.maps[j], work.maps[j], inside, physics.zero, grid)
        _add(adjoint.h[2], adjoint.h[0] if physics.at_rest else adjoint.f, grid)
        if physics.same:
            _add(adjoint.f, adjoint.h[0], grid)
        else:
            unload(adjoint.f, to_f, at.start, at.apart, grid)
        pull_back_convolutions(
            adjoint.maps, weight[c], work.h, adjoint.h[0], to_weight[i], to_bias[i], grid
        )
        unload(adjoint.h[0], to_h, at.start, at.apart, grid)


@kernel
def moments(
    h: Array,
    weight: Array,
    sums: Array,
    squares: Array,
    grid: Grid,
    images: int,
    start: int,
    stop: int,
) -> None:
    """Per buffer, sums of the convolutions' results and of their squares, (groups, 4)."""
    rows = np.zeros((6, grid.size), h.dtype)
    bias = np.zeros(4, h.dtype)
    floor = h.dtype.type(-np.inf)
    mark(rows[5], grid)
    for i in range(start, stop):
        at = _group(i, images, weight.shape[0], grid)
        if at.lanes != grid.lanes:
            grid = with_lanes(grid, at.lanes)
            rows[:] = 0
            mark(rows[5], grid)
        load(h, at.start, at.apart, rows[0], grid)
        coefficients(rows[0], weight[at.channel], bias, rows[1:5], grid, floor)
        for j in range(4):
            sums[i, j], squares[i, j] = _sum_and_square(rows[1 + j], rows[5], grid)


@kernel
def moments_backward(
    h: Array,
    weight: Array,
    centre: Array,
    slope: Array,
    offset: Array,
    to_h: Array,
    to_weight: Array,
    grid: Grid,
    images: int,
    start: int,
    stop: int,
) -> None:
    """Add the gradient of h to `to_h`; per buffer, that of weight: see `cpu.moments_backward`."""
    rows = np.zeros((7, grid.size), h.dtype)
    to_bias = np.zeros(4, np.float64)
    floor, zero = h.dtype.type(-np.inf), h.dtype.type(0)
    mark(rows[6], grid)
    for i in range(start, stop):
        at = _group(i, images, weight.shape[0], grid)
        if at.lanes != grid.lanes:
            grid = with_lanes(grid, at.lanes)
            rows[:] = 0
            mark(rows[6], grid)
        c = at.channel
        load(h, at.start, at.apart, rows[0], grid)
        coefficients(rows[0], weight[c], centre[c], rows[1:5], grid, floor)
        for j in range(4):
            _scale_and_shift(rows[1 + j], slope[c, j], offset[c, j], rows[6], zero, grid)
        load(to_h, at.start, at.apart, rows[5], grid)
        pull_back_convolutions(rows[1:5], weight[c], rows[0], rows[5], to_weight[i], to_bias, grid)
        unload(rows[5], to_h, at.start, at.apart, grid)


@parallel_kernel
def forward_parallel(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    scale: Array,
    shift: Array,
    out: Array,
    physics: Physics,
    steps: int,
    grid: Grid,
    images: int,
    groups: int,
    parts: int,
) -> None:
    """`forward` with `parts` threads."""
    folded = (weight, bias, scale, shift)
    for i in prange(parts):
        part = (i * groups // parts, (i + 1) * groups // parts)
        forward(h, f, *folded, out, physics, steps, grid, images, *part)


@parallel_kernel
def evolve_parallel(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    out: Array,
    sums: Array,
    physics: Physics,
    steps: int,
    grid: Grid,
    images: int,
    groups: int,
    parts: int,
) -> None:
    """`evolve` with `parts` threads."""
    for i in prange(parts):
        part = (i * groups // parts, (i + 1) * groups // parts)
        evolve(h, f, weight, bias, out, sums, physics, steps, grid, images, *part)


@parallel_kernel
def rectify_parallel(
    h: Array, scale: Array, shift: Array, out: Array, area: int, maps: int, parts: int
) -> None:
    """`rectify` with `parts` threads."""
    for i in prange(parts):
        rectify(h, scale, shift, out, area, i * maps // parts, (i + 1) * maps // parts)


@parallel_kernel
def rectify_backward_parallel(
    h: Array,
    scale: Array,
    shift: Array,
    grad: Array,
    sums: Array,
    area: int,
    maps: int,
    parts: int,
) -> None:
    """`rectify_backward` with `parts` threads."""
    for i in prange(parts):
        part = (i * maps // parts, (i + 1) * maps // parts)
        rectify_backward(h, scale, shift, grad, sums, area, *part)


@parallel_kernel
def backward_parallel(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    grad: Array,
    norm: Array,
    to_h: Array,
    to_f: Array,
    to_weight: Array,
    to_bias: Array,
    physics: Physics,
    steps: int,
    grid: Grid,
    images: int,
    groups: int,
    parts: int,
) -> None:
    """`backward` with `parts` threads."""
    given = (h, f, weight, bias, grad, norm)
    results = (to_h, to_f, to_weight, to_bias)
    for i in prange(parts):
        part = (i * groups // parts, (i + 1) * groups // parts)
        backward(*given, *results, physics, steps, grid, images, *part)


@parallel_kernel
def moments_parallel(
    h: Array,
    weight: Array,
    sums: Array,
    squares: Array,
    grid: Grid,
    images: int,
    groups: int,
    parts: int,
) -> None:
    """`moments` with `parts` threads."""
    for i in prange(parts):
        part = (i * groups // parts, (i + 1) * groups // parts)
        moments(h, weight, sums, squares, grid, images, *part)


@parallel_kernel
def moments_backward_parallel(
    h: Array,
    weight: Array,
    centre: Array,
    slope: Array,
    offset: Array,
    to_h: Array,
    to_weight: Array,
    grid: Grid,
    images: int,
    groups: int,
    parts: int,
) -> None:
    """`moments_backward` with `parts` threads."""
    gradient = (centre, slope, offset)
    for i in prange(parts):
        part = (i * groups // parts, (i + 1) * groups // parts)
        moments_backward(h, weight, *gradient, to_h, to_weight, grid, images, *part)


@kernel
def _pull_back_norm(grad: Array, h: Array, norm: Array, zero: float, grid: Grid) -> None:
    """From the gradient of relu(BN(h)) to that of h, in place: see `cpu.backward` for `norm`."""
    scale, shift, slope, at_h, at_one = norm[0], norm[1], norm[2], norm[3], norm[4]
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        passed = grad[k] if scale * h[k] + shift > zero else zero
        grad[k] = slope * passed + at_h * h[k] + at_one


@kernel
def _mask(values: Array, by: Array, inside: Array, zero: float, grid: Grid) -> None:
    """Zero in the halo and where `by`, which came out of a ReLU, is not above zero."""
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        is_zero = (by[k] <= zero) | (inside[k] <= zero)
        values[k] = zero if is_zero else values[k]


@kernel
def _add(values: Array, to: Array, grid: Grid) -> None:
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        to[k] += values[k]


@kernel
def _scale_and_shift(
    values: Array, slope: float, offset: float, inside: Array, zero: float, grid: Grid
) -> None:
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        values[k] = slope * values[k] + offset if inside[k] > zero else zero


@kernel
def _sum_and_square(values: Array, inside: Array, grid: Grid) -> tuple[float, float]:
    total, square = np.float64(0), np.float64(0)
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        value = np.float64(values[k]) if inside[k] > 0 else np.float64(0)
        total += value
        square += value * value
    return total, square


@kernel
def fold(
    parameters: Array,
    learnt: int,
    has_bias: bool,
    coefficient_eps: float,
    out_eps: float,
    weight: Array,
    bias: Array,
    scale: Array,
    shift: Array,
) -> None:
    """Fold BatchNorms into weight, bias, scale and shift: see `cpu.fold`."""
    n = scale.shape[0]
    place = 0
    for i in range(learnt):
        norm = place + (10 * n if has_bias else 9 * n)
        for c in range(n):
            variance = parameters[norm + 3 * n + c]
            slope = parameters[norm + c] / math.sqrt(variance + coefficient_eps)
            own = parameters[place + 9 * n + c] if has_bias else 0.0
            for k in range(9):
                weight[c, i, k] = slope * parameters[place + 9 * c + k]
            bias[c, i] = parameters[norm + n + c] + slope * (own - parameters[norm + 2 * n + c])
        place = norm + 4 * n
    for c in range(n):
        slope = parameters[place + c] / math.sqrt(parameters[place + 3 * n + c] + out_eps)
        scale[c] = slope
        shift[c] = parameters[place + n + c] - slope * parameters[place + 2 * n + c]
