"""The fused CPU kernels over whole batches: maps shared out among threads.

Arrays are C-contiguous, float32 or float64: maps (N C H W,), weights (C, 4, 9) and biases (C, 4) of
the coefficients u, v, Dx, Dy. A map is read once and written once; all between happens in cache.
Sums are float64 from one map to the next and taken in one order, whatever the threads.
"""

import math
import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import torch

from condense.layers.kernels import LANES, batches, per_channel, rectifying
from condense.layers.kernels.forward import CONSERVATIVE, REFERENCE, Physics, rates
from condense.layers.kernels.plane import (
    PERIODIC,
    REPLICATE,
    ZERO,
    Array,
    Grid,
    make_grid,
    places,
)

BOUNDARIES = {"periodic": PERIODIC, "zero": ZERO, "replicate": REPLICATE}
SCHEMES = {"reference": REFERENCE, "conservative": CONSERVATIVE}
# Below this many cells a thread, waking one costs more than it saves.
CELLS_WORTH_A_THREAD = 16384
_one_call_at_a_time = threading.Lock()  # numba's fallback thread pool does not allow two


def forget_stale_code(folder: Path, sources: Iterable[Path]) -> None:
    """Remove indices of machine code that are older than the newest of the sources.

    Numba compiles a function anew where its own file has changed, but not where that of a function
    that it calls has, as after an upgrade.
    """
    newest = max(source.stat().st_mtime_ns for source in sources)
    for index in folder.glob("*.nbi"):
        if index.stat().st_mtime_ns < newest:
            index.unlink(missing_ok=True)


_compiled: Any = batches.forward
forget_stale_code(Path(_compiled.stats.cache_path), Path(__file__).parent.glob("*.py"))


class Layout(NamedTuple):
    """How a batch lies in memory and in the buffers.

    Args:
        channels: C.
        groups: So many buffers make the batch.
        patterns: After so many groups, the lanes hold the same channels again.
        maps: N C.
        grid: Layout of a buffer.
        cells: Places in it.
    """

    channels: int
    groups: int
    patterns: int
    maps: int
    grid: Grid
    cells: Array


class Evolution(NamedTuple):
    """What the steps compute.

    Args:
        physics: The equation as they see it.
        factors: (45,): what weights and biases are multiplied by for it, then ones.
    """

    physics: Physics
    factors: Array


@lru_cache
def layout(shape: tuple[int, ...], dx: int = 1, dy: int = 1, boundary: str = "zero") -> Layout:
    """For maps of a shape (N, C, H, W)."""
    images, channels, height, width = shape
    grid = make_grid(height, width, dx, dy, BOUNDARIES[boundary])
    maps = images * channels
    patterns = channels // math.gcd(channels, LANES)
    return Layout(channels, -(-maps // LANES), patterns, maps, grid, places(grid))


@lru_cache
def evolution(
    kind: Any,
    same: bool,
    steps: int,
    dt: float,
    dx: int,
    dy: int,
    scheme: str,
    source: bool,
    at_rest: bool,
) -> Evolution:
    """The numbers of the steps in the type of the maps, `kind`."""
    code = SCHEMES[scheme]
    factors = np.ones(45, kind)
    factors[:40] = [*np.repeat(rates(code, dt, dx, dy), 9), *rates(code, dt, dx, dy)]
    twice = kind(2 * dt if source else 0)
    return Evolution(Physics(twice, code, same, at_rest, steps), factors)


def evolve(
    h: Array, f: Array, weight: Array, bias: Array, out: Array, layout: Layout, evolution: Evolution
) -> tuple[Array, Array]:
    """Write h(K) to `out`. Returns its mean and its (biased) variance over each channel, (C,)."""
    sums = np.zeros((layout.groups, 2 * LANES), h.dtype)
    table = _table(_values(weight, bias), evolution.factors, layout)
    given = (h, f, table, out, sums, layout.maps, 0, layout.cells)
    job = batches.Forward(*given, *evolution.physics)
    _share((batches.forward, batches.forward_threaded), job, layout.groups, layout)
    mean, variance = _moments(sums, 1, layout)
    return mean[:, 0], variance[:, 0]


def rectify(h: Array, scale: Array, shift: Array, out: Array, layout: Layout) -> None:
    """Write max(scale h + shift, 0) to `out`; scale and shift are (C,)."""
    _rectify(h, scale, shift, h[:0], out, layout)


def rectify_backward(
    h: Array, scale: Array, shift: Array, grad: Array, layout: Layout
) -> tuple[Array, Array]:
    """Sums of g and of g h, both (C,); g is `grad` where the ReLU let it pass."""
    sums = _rectify(h, scale, shift, grad, h[:0], layout)
    total = sums.reshape(-1, layout.channels, 2).sum(axis=0)
    return total[:, 0], total[:, 1]


def backward(
    h: Array,
    f: Array,
    weight: Array,
    bias: Array,
    grad: Array,
    norm: Array | None,
    to_h: Array,
    to_f: Array,
    layout: Layout,
    evolution: Evolution,
) -> tuple[Array, Array]:
    """From the gradient of h(K): those of h and f, written, of weight and bias, returned.

    Args:
        h: h(0); so are the others as in `evolve`.
        f: The source.
        weight: Of the convolutions.
        bias: Of the convolutions.
        grad: Gradient of h(K), or of max(scale h(K) + shift, 0) if there is a `norm`.
        norm: (C, 5). Each row is scale, shift and three numbers that make the gradient of
            h(K): the first times what the ReLU let pass, plus the second times h(K), plus the last.
        to_h: Where the gradient of h goes.
        to_f: Where that of f goes, if f is not h.
        layout: Of the batch.
        evolution: Of the state.
    """
    sums = np.zeros((layout.groups, 40 * LANES), h.dtype)
    numbers = np.zeros((len(bias), 5), h.dtype) if norm is None else norm
    table = _table(_values(weight, bias, numbers), evolution.factors, layout)
    given = (h, f, table, grad, norm is not None, to_h, to_f, sums)
    job = batches.Backward(*given, layout.maps, layout.cells, *evolution.physics)
    _share((batches.backward, batches.backward_threaded), job, layout.groups, layout)
    return _split(_of_channels(sums, layout) * evolution.factors[:40])


def moments(h: Array, weight: Array, layout: Layout) -> tuple[Array, Array]:
    """Mean and (biased) variance of the four convolutions' results over each channel, (C, 4)."""
    sums = np.zeros((layout.groups, 8 * LANES), h.dtype)
    nothing = np.zeros((len(weight), 4), h.dtype)
    _convolve(h, _values(weight, nothing), weight, h[:0], sums, layout)
    return _moments(sums, 4, layout)


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
    sums = np.zeros((layout.groups, 40 * LANES), h.dtype)
    values = _values(weight * slope[..., None], slope * centre + offset)
    _convolve(h, values, weight, to_h, sums, layout)
    return _split(_of_channels(sums, layout))[0]


def _convolve(
    h: Array, values: Array, transposed: Array, to_h: Array, sums: Array, layout: Layout
) -> None:
    ones = np.ones(40, h.dtype)
    tables = (
        _table(values, ones, layout),
        _table(transposed.reshape(-1, 36), ones, layout),
    )
    job = batches.Convolutions(h, *tables, to_h, sums, layout.maps, layout.cells)
    _share((batches.convolutions, batches.convolutions_threaded), job, layout.groups, layout)


def _rectify(
    h: Array, scale: Array, shift: Array, grad: Array, out: Array, layout: Layout
) -> Array:
    sums = np.zeros((layout.maps, 2))
    job = rectifying.Rectified(h, scale, shift, grad, out, sums)
    _share((rectifying.rectified, rectifying.rectified_threaded), job, layout.maps, layout)
    return sums


def _values(weight: Array, *more: Array) -> Array:
    """All numbers of a channel in a row."""
    return np.concatenate([weight.reshape(len(weight), -1), *more], axis=1)


def _table(values: Array, factors: Array, layout: Layout) -> Array:
    table = np.empty((layout.patterns, values.shape[1], LANES), values.dtype)
    per_channel.table_of(values, factors, table)
    return table


def _of_channels(sums: Array, layout: Layout) -> Array:
    total = np.zeros((layout.channels, sums.shape[1] // LANES))
    per_channel.of_channels(sums, layout.maps, total)
    return total


def _moments(sums: Array, kinds: int, layout: Layout) -> tuple[Array, Array]:
    mean, variance = np.zeros((2, layout.channels, kinds))
    area = len(layout.cells)
    per_channel.moments_of_channels(sums, layout.maps, area, mean, variance)
    return mean, variance


def _split(values: Array) -> tuple[Array, Array]:
    """Weights (C, 4, 9) and biases (C, 4)."""
    return values[:, :36].reshape(-1, 4, 9), values[:, 36:]


def threads_for(layout: Layout) -> int:
    """As many as the batch is worth and torch may use."""
    cells = layout.maps * len(layout.cells)
    worth = min(cells // CELLS_WORTH_A_THREAD, layout.groups)
    return max(1, min(worth, torch.get_num_threads(), _cores())) if worth > 1 else 1


def run_threaded(loop: Any, job: Any, grid: Grid, count: int, threads: int) -> None:
    """The twin of a loop, from 0 to `count`, by more than one thread."""
    with _one_call_at_a_time:
        numba.set_num_threads(threads)
        loop(job, grid, count, threads)


def _share(loops: tuple[Any, Any], job: Any, count: int, layout: Layout) -> None:
    """Divide the groups, or the maps, among threads."""
    serial, threaded = loops
    threads = threads_for(layout)
    if threads == 1:
        serial(job, layout.grid, 0, count)
    else:
        run_threaded(threaded, job, layout.grid, count, threads)


def _cores() -> int:
    cores: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # set at run time
    return cores
