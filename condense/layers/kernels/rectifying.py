"""What follows h(K) in training: max(scale h + shift, 0) over flat maps, and its adjoint."""

from typing import NamedTuple

import numpy as np
from numba import prange

from condense.layers.kernels import LANES
from condense.layers.kernels.plane import Array, Grid, index, kernel, parallel_kernel
from condense.layers.kernels.stencils import CELLS_OF_A_SUM
from condense.layers.kernels.vectors import fma, load, splat, store, where_positive


class Rectified(NamedTuple):
    """Job: max(scale h + shift, 0), map by map, or what it lets pass of a gradient.

    Args:
        h: What went in.
        scale: (C,).
        shift: (C,).
        grad: Gradient of what came out; or empty.
        out: For what comes out; or empty.
        sums: (maps, 2), for the sums of g and of g h, where g is what the ReLU let pass.
    """

    h: Array
    scale: Array
    shift: Array
    grad: Array
    out: Array
    sums: Array


@kernel
def rectified(job: Rectified, grid: Grid, start: int, stop: int) -> None:
    """Of the maps from `start` to `stop`, one by one."""
    channels, area = job.scale.shape[0], grid.height * grid.width
    zero = job.h.dtype.type(0)
    parts = np.empty(2 * LANES, job.h.dtype)
    for i in range(start, stop):
        a, b, first = job.scale[i % channels], job.shift[i % channels], i * area
        if job.grad.shape[0] == 0:
            for k in range(index(first), index(first + area)):
                value = a * job.h[k] + b
                job.out[k] = zero if value < zero else value
        else:
            for k in range(first, first + area, LANES * CELLS_OF_A_SUM):
                end = min(k + LANES * CELLS_OF_A_SUM, first + area)
                _sum_what_passed(job, a, b, k, end, parts)
                job.sums[i, 0] += parts[:LANES].sum()
                job.sums[i, 1] += parts[LANES:].sum()


@kernel
def _sum_what_passed(
    job: Rectified, scale: float, shift: float, start: int, end: int, parts: Array
) -> None:
    """Sums of g and of g h over some cells, in `LANES` parts each."""
    whole = start + (end - start) // LANES * LANES
    zero = splat(job.h.dtype.type(0))
    a, b, total, product = splat(scale), splat(shift), zero, zero
    for k in range(index(start), index(whole), index(LANES)):
        h = load(job.h, k)
        g = where_positive(fma(a, h, b), load(job.grad, k))
        total += g
        product = fma(g, h, product)
    store(parts, index(0), total)
    store(parts, index(LANES), product)
    for k in range(index(whole), index(end)):
        if scale * job.h[k] + shift > 0:
            parts[0] += job.grad[k]
            parts[LANES] += job.grad[k] * job.h[k]


@parallel_kernel
def rectified_threaded(job: Rectified, grid: Grid, count: int, threads: int) -> None:
    """`rectified` of all, by threads."""
    for i in prange(threads):
        rectified(job, grid, i * count // threads, (i + 1) * count // threads)
