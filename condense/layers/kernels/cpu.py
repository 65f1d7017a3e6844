"""The fused CPU kernels over whole batches: maps shared out among threads.

Arrays are C-contiguous, float32 or float64: maps (N C H W,), weights (C, 4, 9) and biases (C, 4) of
the coefficients u, v, Dx, Dy. A map is read once and written once; all between happens in cache.
Sums are float64 from one buffer to the next and taken in one order, whatever the threads.
"""

import threading
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
import torch

from condense.layers.kernels import batches
from condense.layers.kernels.forward import CONSERVATIVE, REFERENCE, Physics
from condense.layers.kernels.plane import PERIODIC, REPLICATE, ZERO, Array, Grid, make_grid

BOUNDARIES = {"periodic": PERIODIC, "zero": ZERO, "replicate": REPLICATE}
SCHEMES = {"reference": REFERENCE, "conservative": CONSERVATIVE}
# Below this many cells a thread, waking one costs more than it saves.
CELLS_WORTH_A_THREAD = 8192
# Small maps of one channel share a buffer, which fits in a core's cache.
CELLS_OF_A_BUFFER = 4096
MOST_LANES = 16
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


@lru_cache
def layout(shape: tuple[int, ...], dx: int = 1, dy: int = 1, boundary: str = "zero") -> Layout:
    """For maps of a shape (N, C, H, W)."""
    images, channels, height, width = shape
    most = max(1, min(images, MOST_LANES, CELLS_OF_A_BUFFER // (height * width)))
    grid = make_grid(height, width, most, dx, dy, BOUNDARIES[boundary])
    return Layout(images, channels, -(-images // most) * channels, grid)


@lru_cache
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
    batches.fold(parameters, learnt, has_bias, coefficient_eps, out_eps, weight, bias, scale, shift)
    return weight, bias, scale, shift


def forward(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    scale: Array,
    shift: Array,
    out: Array,
    layout: Layout,
    physics: Physics,
    steps: int,
) -> None:
    """Write max(scale h(K) + shift, 0) to `out`."""
    folded = (weight, bias, scale, shift)
    loops = (batches.forward, batches.forward_parallel)
    _share(loops, layout, h, f, *folded, out, physics, steps)


def evolve(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    out: Array,
    layout: Layout,
    physics: Physics,
    steps: int,
) -> Array:
    """Write h(K) to `out`. Returns its sum and that of its squares, (C, 2)."""
    sums = np.zeros((layout.groups, 2))
    loops = (batches.evolve, batches.evolve_parallel)
    _share(loops, layout, h, f, weight, bias, out, sums, physics, steps)
    return _of_channels(sums, layout)


def rectify(h: Array, scale: Array, shift: Array, out: Array, layout: Layout) -> None:
    """Write max(scale h + shift, 0) to `out`; scale and shift are (C,)."""
    loops = (batches.rectify, batches.rectify_parallel)
    _share_maps(loops, layout, h, scale, shift, out)


def rectify_backward(
    h: Array, scale: Array, shift: Array, grad: Array, layout: Layout
) -> tuple[Array, Array]:
    """Sums of g and of g h, both (C,); g is `grad` where the ReLU let it pass."""
    sums = np.zeros((layout.images * layout.channels, 2))
    loops = (batches.rectify_backward, batches.rectify_backward_parallel)
    _share_maps(loops, layout, h, scale, shift, grad, sums)
    total = _of_channels(sums, layout)
    return total[:, 0], total[:, 1]


def backward(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    grad: Array,
    norm: Array,
    to_h: Array,
    to_f: Array,
    layout: Layout,
    physics: Physics,
    steps: int,
) -> tuple[Array, Array]:
    """From the gradient of h(K): those of h and f, written, of weight and bias, returned.

    Args:
        h: h(0); so are the others as in `evolve`.
        f: The source.
        weight: Of the convolutions.
        bias: Of the convolutions.
        grad: Gradient of h(K), or of max(scale h(K) + shift, 0) if there is a `norm`.
        norm: (C, 5) or (0, 5). Each row is scale, shift and three numbers that make the gradient of
            h(K): the first times what the ReLU let pass, plus the second times h(K), plus the last.
        to_h: Where the gradient of h goes.
        to_f: Where that of f goes, if f is not h.
        layout: Of the batch.
        physics: The numbers of the update.
        steps: K.
    """
    to_weight, to_bias = np.zeros((layout.groups, 4, 9)), np.zeros((layout.groups, 4))
    given = (h, f, weight, bias, grad, norm)
    results = (to_h, to_f, to_weight, to_bias)
    loops = (batches.backward, batches.backward_parallel)
    _share(loops, layout, *given, *results, physics, steps)
    return _of_channels(to_weight, layout), _of_channels(to_bias, layout)


def moments(h: Array, weight: Array, layout: Layout) -> tuple[Array, Array]:
    """Sums of the four convolutions' results and of their squares, (C, 4)."""
    sums, squares = np.zeros((layout.groups, 4)), np.zeros((layout.groups, 4))
    loops = (batches.moments, batches.moments_parallel)
    _share(loops, layout, h, weight, sums, squares)
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
    """Gradients of h, added to `to_h`, and weight if a result r has slope (r + centre) + offset."""
    to_weight = np.zeros((layout.groups, 4, 9))
    given = (h, weight, centre, slope, offset)
    loops = (batches.moments_backward, batches.moments_backward_parallel)
    _share(loops, layout, *given, to_h, to_weight)
    return _of_channels(to_weight, layout)


def _of_channels(values: Array, layout: Layout) -> Array:
    """Sum the figures of the buffers (groups, …) over the images: (C, …)."""
    total: Array = values.reshape(-1, layout.channels, *values.shape[1:]).sum(axis=0)
    return total


def _share(loops: tuple[Any, Any], layout: Layout, *arguments: Any) -> None:
    """Divide the buffers among threads."""
    given = (*arguments, layout.grid, layout.images)
    _call(loops, layout.groups, layout, *given)


def _share_maps(loops: tuple[Any, Any], layout: Layout, *arguments: Any) -> None:
    """Divide the maps among threads."""
    grid = layout.grid
    area = grid.height * grid.width
    _call(loops, layout.images * layout.channels, layout, *arguments, area)


def _call(loops: tuple[Any, Any], count: int, layout: Layout, *arguments: Any) -> None:
    """With as many threads as the batch is worth and torch may use."""
    grid = layout.grid
    worth = layout.images * layout.channels * grid.height * grid.width // CELLS_WORTH_A_THREAD
    parts = max(1, min(torch.get_num_threads(), worth, count, _cores()))
    serial, parallel = loops
    if parts == 1:
        serial(*arguments, 0, count)
        return
    with _one_call_at_a_time:
        numba.set_num_threads(parts)
        parallel(*arguments, count, parts)


def _cores() -> int:
    cores: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # set at run time
    return cores
