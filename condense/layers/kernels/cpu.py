"""The fused CPU kernels over whole batches: maps shared out among threads.

Arrays are C-contiguous, float32 or float64: maps (N C H W,), weights (C, 4, 9) and biases (C, 4) of
the coefficients u, v, Dx, Dy. A map is read once and written once; all between happens in cache.
Sums are float64 from one buffer to the next and taken in one order, whatever the threads.
"""

import math
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numba import prange

from condense.layers.kernels.backward import Adjoint, pull_back, pull_back_convolutions
from condense.layers.kernels.forward import (
    CONSERVATIVE,
    REFERENCE,
    Physics,
    Workspace,
    advance,
    coefficients,
)
from condense.layers.kernels.plane import (
    PERIODIC,
    REPLICATE,
    ZERO,
    Array,
    Grid,
    fill_halo,
    index,
    kernel,
    load,
    make_grid,
    mark,
    parallel_kernel,
    relu,
    unload,
    with_lanes,
)

BOUNDARIES = {"periodic": PERIODIC, "zero": ZERO, "replicate": REPLICATE}
SCHEMES = {"reference": REFERENCE, "conservative": CONSERVATIVE}
# Below this many cells a thread, waking one costs more than it saves.
CELLS_WORTH_A_THREAD = 8192
# Small maps of one channel share a buffer of about so many cells, which fits in a core's cache.
CELLS_OF_A_BUFFER = 4096
_one_call_at_a_time = threading.Lock()  # numba's fallback thread pool does not allow two


class Layout(NamedTuple):
    """How a batch lies in memory and in the buffers.

    Args:
        images: N.
        channels: C.
        groups: Maps of one channel share a buffer; so many buffers make the batch.
        grid: Layout of a buffer.
    """

    images: int
    channels: int
    groups: int
    grid: Grid


def layout(shape: Sequence[int], dx: int = 1, dy: int = 1, boundary: str = "zero") -> Layout:
    """For maps of a shape (N, C, H, W)."""
    images, channels, height, width = shape
    most = max(1, min(images, CELLS_OF_A_BUFFER // (height * width)))
    grid = make_grid(height, width, most, dx, dy, BOUNDARIES[boundary])
    return Layout(images, channels, -(-images // most) * channels, grid)


def physics(
    kind: Any,
    same: bool,
    dt: float,
    dx: int,
    dy: int,
    scheme: str,
    source: bool,
    at_rest: bool,
) -> Physics:
    """The numbers of the update in the type of the maps, `kind`."""
    numbers = (dt / dx, dt / dy, dt / dx**2, dt / dy**2, 2 * dt if source else 0, 1, 0.5, 0)
    return Physics._make((*map(kind, numbers), SCHEMES[scheme], same, at_rest))


def fold(
    parameters: Array,
    channels: int,
    constants: list[float],
    has_bias: bool,
    coefficient_eps: float,
    out_eps: float,
) -> tuple[Array, Array, Array, Array]:
    """Weight (C, 4, 9), bias (C, 4), scale (C,), shift (C,) with the BatchNorms folded in.

    Where Dx and Dy are numbers, their convolutions are zero and their biases those numbers.
    """
    weight = np.zeros((channels, 4, 9), parameters.dtype)
    bias = np.zeros((channels, 4), parameters.dtype)
    scale = np.empty(channels, parameters.dtype)
    shift = np.empty(channels, parameters.dtype)
    for i, constant in enumerate(constants):
        bias[:, 2 + i] = constant
    learnt = 4 - len(constants)
    _fold(parameters, learnt, has_bias, coefficient_eps, out_eps, weight, bias, scale, shift)
    return weight, bias, scale, shift


def forward(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    scale: Array,
    shift: Array,
    floor: float,
    out: Array,
    layout: Layout,
    physics: Physics,
    steps: int,
) -> None:
    """Write max(scale h(K) + shift, floor) to `out`."""
    folded = (weight, bias, scale, shift, h.dtype.type(floor))
    _share(_forward, _forward_parallel, layout, h, f, *folded, out, physics, steps)


def backward(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    grad: Array,
    to_h: Array,
    to_f: Array,
    layout: Layout,
    physics: Physics,
    steps: int,
) -> tuple[Array, Array]:
    """From the gradient of h(K): those of h and f, written, of weight and bias, returned."""
    to_weight, to_bias = np.zeros((layout.groups, 4, 9)), np.zeros((layout.groups, 4))
    results = (to_h, to_f, to_weight, to_bias)
    given = (h, f, weight, bias, grad)
    _share(_backward, _backward_parallel, layout, *given, *results, physics, steps)
    return _of_channels(to_weight, layout), _of_channels(to_bias, layout)


def moments(h: Array, weight: Array, layout: Layout) -> tuple[Array, Array]:
    """Sums of the four convolutions' results and of their squares, (C, 4)."""
    sums, squares = np.zeros((layout.groups, 4)), np.zeros((layout.groups, 4))
    _share(_moments, _moments_parallel, layout, h, weight, sums, squares)
    return _of_channels(sums, layout), _of_channels(squares, layout)


def moments_backward(
    h: Array,
    weight: Array,
    centre: Array,
    slope: Array,
    offset: Array,
    to_h: Array,
    layout: Layout,
) -> Array:
    """Gradients of h, written, and weight if a result r has slope (r + centre) + offset."""
    to_weight = np.zeros((layout.groups, 4, 9))
    given = (h, weight, centre, slope, offset)
    _share(_moments_backward, _moments_backward_parallel, layout, *given, to_h, to_weight)
    return _of_channels(to_weight, layout)


def _of_channels(values: Array, layout: Layout) -> Array:
    """Sum the figures of the buffers (groups, …) over the images: (C, …)."""
    total: Array = values.reshape(-1, layout.channels, *values.shape[1:]).sum(axis=0)
    return total


def _share(serial: Any, parallel: Any, layout: Layout, *arguments: Any) -> None:
    """Divide the buffers among as many threads as they are worth and torch may use."""
    images, channels, groups, grid = layout
    worth = images * channels * grid.height * grid.width // CELLS_WORTH_A_THREAD
    parts = max(1, min(torch.get_num_threads(), worth, groups, _cores()))
    if parts == 1:
        serial(*arguments, grid, images, 0, groups)
        return
    with _one_call_at_a_time:
        numba.set_num_threads(parts)
        parallel(*arguments, grid, images, groups, parts)


def _cores() -> int:
    cores: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # set at run time
    return cores


@kernel
def _fold(
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
def _forward(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    scale: Array,
    shift: Array,
    floor: float,
    out: Array,
    physics: Physics,
    steps: int,
    grid: Grid,
    images: int,
    start: int,
    stop: int,
) -> None:
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
            last[k] = relu(a * last[k] + b, floor)
        unload(last, out, at.start, at.apart, grid)


@kernel
def _backward(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    grad: Array,
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
def _moments(
    h: Array,
    weight: Array,
    sums: Array,
    squares: Array,
    grid: Grid,
    images: int,
    start: int,
    stop: int,
) -> None:
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
def _moments_backward(
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
        rows[5, :] = 0
        pull_back_convolutions(rows[1:5], weight[c], rows[0], rows[5], to_weight[i], to_bias, grid)
        unload(rows[5], to_h, at.start, at.apart, grid)


@parallel_kernel
def _forward_parallel(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    scale: Array,
    shift: Array,
    floor: float,
    out: Array,
    physics: Physics,
    steps: int,
    grid: Grid,
    images: int,
    groups: int,
    parts: int,
) -> None:
    folded = (weight, bias, scale, shift, floor)
    for i in prange(parts):
        part = (i * groups // parts, (i + 1) * groups // parts)
        _forward(h, f, *folded, out, physics, steps, grid, images, *part)


@parallel_kernel
def _backward_parallel(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    grad: Array,
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
    given = (h, f, weight, bias, grad)
    results = (to_h, to_f, to_weight, to_bias)
    for i in prange(parts):
        part = (i * groups // parts, (i + 1) * groups // parts)
        _backward(*given, *results, physics, steps, grid, images, *part)


@parallel_kernel
def _moments_parallel(
    h: Array,
    weight: Array,
    sums: Array,
    squares: Array,
    grid: Grid,
    images: int,
    groups: int,
    parts: int,
) -> None:
    for i in prange(parts):
        part = (i * groups // parts, (i + 1) * groups // parts)
        _moments(h, weight, sums, squares, grid, images, *part)


@parallel_kernel
def _moments_backward_parallel(
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
    gradient = (centre, slope, offset)
    for i in prange(parts):
        part = (i * groups // parts, (i + 1) * groups // parts)
        _moments_backward(h, weight, *gradient, to_h, to_weight, grid, images, *part)


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
