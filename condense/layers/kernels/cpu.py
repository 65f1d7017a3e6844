"""The fused CPU kernels over whole batches: planes shared out among threads.

Arrays are C-contiguous, float32 or float64: planes (N C, H W), weights (C, 4, 9) and biases
(C, 4) of the coefficients u, v, Dx, Dy. A plane is read once and written once; all between happens
in cache. Sums over a plane are float64 and kept apart, so that no result depends on the threads.
"""

import math
import threading
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
    clear_halo,
    index,
    kernel,
    load,
    make_grid,
    parallel_kernel,
    relu,
    unload,
)

BOUNDARIES = {"periodic": PERIODIC, "zero": ZERO, "replicate": REPLICATE}
SCHEMES = {"reference": REFERENCE, "conservative": CONSERVATIVE}
# Below this many cells a thread, waking one costs more than it saves.
CELLS_WORTH_A_THREAD = 8192
_one_call_at_a_time = threading.Lock()  # numba's fallback thread pool does not allow two


class Layout(NamedTuple):
    """How planes lie in their buffers, and the numbers of the update."""

    grid: Grid
    physics: Physics


def layout(
    planes: Array,
    size: tuple[int, int],
    same: bool,
    dt: float,
    dx: int,
    dy: int,
    scheme: str,
    boundary: str,
    source: bool,
    at_rest: bool,
) -> Layout:
    """For maps of `size` (H, W); the numbers come in the type of the planes."""
    kind = planes.dtype.type
    numbers = (dt / dx, dt / dy, dt / dx**2, dt / dy**2, 2 * dt if source else 0, 1, 0.5, 0)
    rates = tuple(map(kind, numbers))
    physics = Physics._make((*rates, SCHEMES[scheme], same, at_rest))
    return Layout(make_grid(*size, dx, dy, BOUNDARIES[boundary]), physics)


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
    steps: int,
) -> None:
    """Write max(scale h(K) + shift, floor) to `out`."""
    folded = (weight, bias, scale, shift, h.dtype.type(floor))
    _share(_forward, _forward_parallel, h, f, *folded, out, *layout, steps)


def backward(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    grad: Array,
    to_h: Array,
    to_f: Array,
    to_weight: Array,
    to_bias: Array,
    layout: Layout,
    steps: int,
) -> None:
    """From the gradient of h(K): those of h, f and, per plane, of weight and bias."""
    results = (to_h, to_f, to_weight, to_bias)
    _share(_backward, _backward_parallel, h, f, weight, bias, grad, *results, *layout, steps)


def moments(h: Array, weight: Array, sums: Array, squares: Array, size: tuple[int, int]) -> None:
    """Per plane, the sums of the four convolutions' results and of their squares, (N C, 4)."""
    _share(_moments, _moments_parallel, h, weight, sums, squares, make_grid(*size, 1, 1, ZERO))


def moments_backward(
    h: Array,
    weight: Array,
    centre: Array,
    slope: Array,
    offset: Array,
    to_h: Array,
    to_weight: Array,
    size: tuple[int, int],
) -> None:
    """Gradients of h and, per plane, weight if a result r has slope (r + centre) + offset."""
    gradient = (centre, slope, offset)
    _share(
        _moments_backward,
        _moments_backward_parallel,
        h,
        weight,
        *gradient,
        to_h,
        to_weight,
        make_grid(*size, 1, 1, ZERO),
    )


def _share(serial: Any, parallel: Any, planes: Array, *arguments: Any) -> None:
    """Divide the planes among as many threads as they are worth and torch may use."""
    worth = planes.size // CELLS_WORTH_A_THREAD
    parts = max(1, min(torch.get_num_threads(), worth, _cores()))
    if parts == 1:
        serial(planes, *arguments, 0, len(planes))
        return
    with _one_call_at_a_time:
        numba.set_num_threads(parts)
        parallel(planes, *arguments, parts)


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
    grid: Grid,
    physics: Physics,
    steps: int,
    start: int,
    stop: int,
) -> None:
    rows = np.zeros((6 + min(steps + 1, 3), grid.size), h.dtype)
    work = Workspace(rows[0], rows[1], rows[2:6], rows[6:])
    channels = weight.shape[0]
    for plane in range(start, stop):
        c = plane % channels
        row = advance(h[plane], f[plane], weight[c], bias[c], work, grid, physics, steps)
        last = work.states[row]
        a, b = scale[c], shift[c]
        for k in range(index(grid.first), index(grid.first + grid.visited)):
            last[k] = relu(a * last[k] + b, floor)
        unload(last, out[plane], grid)


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
    grid: Grid,
    physics: Physics,
    steps: int,
    start: int,
    stop: int,
) -> None:
    rows = np.zeros((7 + steps, grid.size), h.dtype)
    work = Workspace(rows[0], rows[1], rows[2:6], rows[6:])
    more = np.zeros((20, grid.size), h.dtype)
    adjoint = Adjoint(more[0:3], more[3], more[4], more[5:9], more[9:15], more[15:19])
    incoming = more[19]
    channels = weight.shape[0]
    for plane in range(start, stop):
        c = plane % channels
        advance(h[plane], f[plane], weight[c], bias[c], work, grid, physics, steps)
        load(grad[plane], incoming, grid)
        clear_halo(incoming, grid)
        source = work.h if physics.same else work.f
        before = work.h if physics.at_rest else source
        pull_back(before, work.states, work.maps, incoming, adjoint, grid, physics)
        for i in range(4):
            _mask(adjoint.maps[i], work.maps[i], physics.zero)
        _add(adjoint.h[1], adjoint.h[0] if physics.at_rest else adjoint.f)
        if physics.same:
            _add(adjoint.f, adjoint.h[0])
        else:
            unload(adjoint.f, to_f[plane], grid)
        pull_back_convolutions(
            adjoint.maps, weight[c], work.h, adjoint.h[0], to_weight[plane], to_bias[plane], grid
        )
        unload(adjoint.h[0], to_h[plane], grid)


@kernel
def _moments(
    h: Array, weight: Array, sums: Array, squares: Array, grid: Grid, start: int, stop: int
) -> None:
    rows = np.zeros((5, grid.size), h.dtype)
    bias = np.zeros(4, h.dtype)
    floor = h.dtype.type(-np.inf)
    channels = weight.shape[0]
    for plane in range(start, stop):
        c = plane % channels
        load(h[plane], rows[0], grid)
        clear_halo(rows[0], grid)
        coefficients(rows[0], weight[c], bias, rows[1:5], grid, floor)
        for i in range(4):
            clear_halo(rows[1 + i], grid)
            sums[plane, i], squares[plane, i] = _sum_and_square(rows[1 + i], grid)


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
    start: int,
    stop: int,
) -> None:
    rows = np.zeros((6, grid.size), h.dtype)
    to_bias = np.zeros(4, np.float64)
    floor = h.dtype.type(-np.inf)
    channels = weight.shape[0]
    for plane in range(start, stop):
        c = plane % channels
        load(h[plane], rows[0], grid)
        clear_halo(rows[0], grid)
        coefficients(rows[0], weight[c], centre[c], rows[1:5], grid, floor)
        for i in range(4):
            _scale_and_shift(rows[1 + i], slope[c, i], offset[c, i], grid)
            clear_halo(rows[1 + i], grid)
        rows[5, :] = 0
        pull_back_convolutions(
            rows[1:5], weight[c], rows[0], rows[5], to_weight[plane], to_bias, grid
        )
        unload(rows[5], to_h[plane], grid)


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
    grid: Grid,
    physics: Physics,
    steps: int,
    parts: int,
) -> None:
    planes = h.shape[0]
    for i in prange(parts):
        start, stop = i * planes // parts, (i + 1) * planes // parts
        _forward(h, f, weight, bias, scale, shift, floor, out, grid, physics, steps, start, stop)


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
    grid: Grid,
    physics: Physics,
    steps: int,
    parts: int,
) -> None:
    planes = h.shape[0]
    for i in prange(parts):
        start, stop = i * planes // parts, (i + 1) * planes // parts
        _backward(
            h,
            f,
            weight,
            bias,
            grad,
            to_h,
            to_f,
            to_weight,
            to_bias,
            grid,
            physics,
            steps,
            start,
            stop,
        )


@parallel_kernel
def _moments_parallel(
    h: Array, weight: Array, sums: Array, squares: Array, grid: Grid, parts: int
) -> None:
    planes = h.shape[0]
    for i in prange(parts):
        start, stop = i * planes // parts, (i + 1) * planes // parts
        _moments(h, weight, sums, squares, grid, start, stop)


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
    parts: int,
) -> None:
    planes = h.shape[0]
    for i in prange(parts):
        start, stop = i * planes // parts, (i + 1) * planes // parts
        _moments_backward(h, weight, centre, slope, offset, to_h, to_weight, grid, start, stop)


@kernel
def _mask(values: Array, by: Array, zero: float) -> None:
    """Zero where `by` is not above zero: the derivative of the ReLU that `by` came out of."""
    for k in range(values.shape[0]):
        values[k] = zero if by[k] <= zero else values[k]


@kernel
def _add(values: Array, to: Array) -> None:
    for k in range(values.shape[0]):
        to[k] += values[k]


@kernel
def _scale_and_shift(values: Array, slope: float, offset: float, grid: Grid) -> None:
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        values[k] = slope * values[k] + offset


@kernel
def _sum_and_square(values: Array, grid: Grid) -> tuple[float, float]:
    total, square = np.float64(0), np.float64(0)
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        value = np.float64(values[k])
        total += value
        square += value * value
    return total, square
