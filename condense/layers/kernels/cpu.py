"""The fused CPU kernels over whole batches: planes shared out among threads.

Arrays are C-contiguous, float32 or float64: maps (N, C, H, W), weights (C, 4, 9) and biases (C, 4) of the
coefficients u, v, Dx, Dy. A plane is read once and written once; all between happens in cache. Sums over a
plane are float64 and kept per plane, so that no result depends on the number of threads.
"""

import threading
from typing import Any

import numba
import numpy as np
from numba import prange

from condense.layers.kernels.backward import Adjoint, pull_back, pull_back_convolutions
from condense.layers.kernels.forward import Physics, Workspace, advance, coefficients
from condense.layers.kernels.plane import (
    Array,
    Grid,
    clear_halo,
    index,
    kernel,
    load,
    parallel_kernel,
    relu,
    unload,
)

# Below this many cells a thread, waking one costs more than it saves.
CELLS_WORTH_A_THREAD = 8192
_one_call_at_a_time = threading.Lock()  # numba's fallback thread pool does not allow two


def parts_of(maps: Array, threads: int) -> int:
    """Into how many parts the planes of `maps` are worth dividing."""
    return max(1, min(threads, maps.size // CELLS_WORTH_A_THREAD, numba.config.NUMBA_NUM_THREADS))


def forward(parts: int, *arguments: Any) -> None:
    """out = max(scale h(K) + shift, floor); the arguments are those of `_forward`."""
    _share(_forward, _forward_parallel, parts, arguments)


def backward(parts: int, *arguments: Any) -> None:
    """Gradients of h(K); the arguments are those of `_backward`."""
    _share(_backward, _backward_parallel, parts, arguments)


def moments(parts: int, *arguments: Any) -> None:
    """Sums of the convolutions' results and of their squares; the arguments are those of `_moments`."""
    _share(_moments, _moments_parallel, parts, arguments)


def moments_backward(parts: int, *arguments: Any) -> None:
    """Gradients of the moments; the arguments are those of `_moments_backward`."""
    _share(_moments_backward, _moments_backward_parallel, parts, arguments)


def _share(serial: Any, parallel: Any, parts: int, arguments: tuple[Any, ...]) -> None:
    if parts == 1:
        planes = arguments[0].shape[0] * arguments[0].shape[1]
        serial(*arguments, 0, planes)
        return
    with _one_call_at_a_time:
        numba.set_num_threads(parts)
        parallel(*arguments, parts)


@kernel
def _forward(  # noqa: PLR0913 - numba takes no keyword-only arguments
    h: Array, f: Array, weight: Array, bias: Array, scale: Array, shift: Array, floor: float, out: Array,
    grid: Grid, physics: Physics, steps: int, start: int, stop: int,
) -> None:
    rows = np.zeros((6 + min(steps + 1, 3), grid.size), h.dtype)
    work = Workspace(rows[0], rows[1], rows[2:6], rows[6:])
    channels = h.shape[1]
    for plane in range(start, stop):
        n, c = plane // channels, plane % channels
        row = advance(h[n, c], f[n, c], weight[c], bias[c], work, grid, physics, steps)
        last = work.states[row]
        a, b = scale[c], shift[c]
        for k in range(index(grid.first), index(grid.first + grid.count)):
            last[k] = relu(a * last[k] + b, floor)
        unload(last, out[n, c], grid)


@kernel
def _backward(  # noqa: PLR0913
    h: Array, f: Array, weight: Array, bias: Array, grad: Array, to_h: Array, to_f: Array,
    to_weight: Array, to_bias: Array, grid: Grid, physics: Physics, steps: int, start: int, stop: int,
) -> None:
    rows = np.zeros((7 + steps, grid.size), h.dtype)
    work = Workspace(rows[0], rows[1], rows[2:6], rows[6:])
    more = np.zeros((19, grid.size), h.dtype)
    adjoint = Adjoint(more[0:3], more[3], more[4:8], more[8:14], more[14:18])
    incoming = more[18]
    channels = h.shape[1]
    for plane in range(start, stop):
        n, c = plane // channels, plane % channels
        advance(h[n, c], f[n, c], weight[c], bias[c], work, grid, physics, steps)
        load(grad[n, c], incoming, grid)
        clear_halo(incoming, grid)
        source = work.h if physics.same else work.f
        before = work.h if physics.at_rest else source
        pull_back(before, work.states, work.maps, incoming, adjoint, grid, physics)
        for i in range(4):
            _mask(adjoint.maps[i], work.maps[i], physics.zero)
            clear_halo(adjoint.maps[i], grid)
        _add(adjoint.h[1], adjoint.h[0] if physics.at_rest else adjoint.f)
        if physics.same:
            _add(adjoint.f, adjoint.h[0])
        else:
            unload(adjoint.f, to_f[n, c], grid)
        pull_back_convolutions(
            adjoint.maps, weight[c], work.h, adjoint.h[0], to_weight[n, c], to_bias[n, c], grid
        )
        unload(adjoint.h[0], to_h[n, c], grid)


@kernel
def _moments(
    h: Array, weight: Array, sums: Array, squares: Array, grid: Grid, start: int, stop: int
) -> None:
    rows = np.zeros((5, grid.size), h.dtype)
    bias = np.zeros(4, h.dtype)
    floor = h.dtype.type(-np.inf)
    channels = h.shape[1]
    for plane in range(start, stop):
        n, c = plane // channels, plane % channels
        load(h[n, c], rows[0], grid)
        clear_halo(rows[0], grid)
        coefficients(rows[0], weight[c], bias, rows[1:5], grid, floor)
        for i in range(4):
            clear_halo(rows[1 + i], grid)
            sums[n, c, i], squares[n, c, i] = _sum_and_square(rows[1 + i], grid)


@kernel
def _moments_backward(  # noqa: PLR0913
    h: Array, weight: Array, centre: Array, slope: Array, offset: Array, to_h: Array, to_weight: Array,
    grid: Grid, start: int, stop: int,
) -> None:
    rows = np.zeros((6, grid.size), h.dtype)
    to_bias = np.zeros(4, np.float64)
    floor = h.dtype.type(-np.inf)
    channels = h.shape[1]
    for plane in range(start, stop):
        n, c = plane // channels, plane % channels
        load(h[n, c], rows[0], grid)
        clear_halo(rows[0], grid)
        coefficients(rows[0], weight[c], centre[c], rows[1:5], grid, floor)
        for i in range(4):
            _scale_and_shift(rows[1 + i], slope[c, i], offset[c, i], grid)
            clear_halo(rows[1 + i], grid)
        rows[5, :] = 0
        pull_back_convolutions(rows[1:5], weight[c], rows[0], rows[5], to_weight[n, c], to_bias, grid)
        unload(rows[5], to_h[n, c], grid)


@parallel_kernel
def _forward_parallel(  # noqa: PLR0913
    h: Array, f: Array, weight: Array, bias: Array, scale: Array, shift: Array, floor: float, out: Array,
    grid: Grid, physics: Physics, steps: int, parts: int,
) -> None:
    planes = h.shape[0] * h.shape[1]
    for i in prange(parts):
        start, stop = i * planes // parts, (i + 1) * planes // parts
        _forward(
            h, f, weight, bias, scale, shift, floor, out, grid, physics, steps, start, stop
        )


@parallel_kernel
def _backward_parallel(  # noqa: PLR0913
    h: Array, f: Array, weight: Array, bias: Array, grad: Array, to_h: Array, to_f: Array,
    to_weight: Array, to_bias: Array, grid: Grid, physics: Physics, steps: int, parts: int,
) -> None:
    planes = h.shape[0] * h.shape[1]
    for i in prange(parts):
        start, stop = i * planes // parts, (i + 1) * planes // parts
        _backward(
            h, f, weight, bias, grad, to_h, to_f, to_weight, to_bias, grid, physics, steps, start, stop
        )


@parallel_kernel
def _moments_parallel(
    h: Array, weight: Array, sums: Array, squares: Array, grid: Grid, parts: int
) -> None:
    planes = h.shape[0] * h.shape[1]
    for i in prange(parts):
        start, stop = i * planes // parts, (i + 1) * planes // parts
        _moments(h, weight, sums, squares, grid, start, stop)


@parallel_kernel
def _moments_backward_parallel(  # noqa: PLR0913
    h: Array, weight: Array, centre: Array, slope: Array, offset: Array, to_h: Array, to_weight: Array,
    grid: Grid, parts: int,
) -> None:
    planes = h.shape[0] * h.shape[1]
    for i in prange(parts):
        start, stop = i * planes // parts, (i + 1) * planes // parts
        _moments_backward(
            h, weight, centre, slope, offset, to_h, to_weight, grid, start, stop
        )


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
    for k in range(index(grid.first), index(grid.first + grid.count)):
        values[k] = slope * values[k] + offset


@kernel
def _sum_and_square(values: Array, grid: Grid) -> tuple[float, float]:
    total, square = np.float64(0), np.float64(0)
    for k in range(index(grid.first), index(grid.first + grid.count)):
        value = np.float64(values[k])
        total += value
        square += value * value
    return total, square
