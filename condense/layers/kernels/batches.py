"""The loops of the fused CPU kernels over a batch, eight maps at a time, or over a thread's share.

A loop takes a job, which holds all that it needs, and the numbers of the first group of maps and of
the first that is no longer its own. Each has a twin that shares them out among threads; made by one
function for all of them, the twins would be compiled anew in every process.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from condense.layers.kernels import LANES
from condense.layers.kernels.backward import Adjoint, pull_back, through_relu
from condense.layers.kernels.forward import REFERENCE, Physics, Workspace, advance
from condense.layers.kernels.plane import (
    Array,
    Grid,
    Group,
    clear_halo,
    fill_halo,
    gather,
    index,
    kernel,
    parallel_kernel,
    rectify,
    row,
    scatter,
)
from condense.layers.kernels.stencils import accumulate, convolve, pull_back_convolutions
from condense.layers.kernels.vectors import fma, load, splat, store, where_positive


class Forward(NamedTuple):
    """Job: h(K), and what follows it.

    Args:
        h: h(0).
        f: The source; h where they are one.
        table: (patterns, 42, LANES): 36 weights, 4 biases, scale and shift of the last BatchNorm.
        out: For max(scale h(K) + shift, 0), or, with `sums`, for h(K).
        sums: (groups, 2 LANES), for the sums of h(K) over each map and of the squares of what
            differs from its mean; or (0, 2 LANES).
        maps: N C.
        channels_last: Of `Group`.
        cells: `places` in a buffer.
        source: Of `Physics`, and so are the others.
        scheme: REFERENCE or CONSERVATIVE.
        same: Whether f is h.
        at_rest: Whether h(-1) is h(0).
        steps: K.
    """

    h: Array
    f: Array
    table: Array
    out: Array
    sums: Array
    maps: int
    channels_last: int
    cells: Array
    source: float
    scheme: int
    same: bool
    at_rest: bool
    steps: int


class Backward(NamedTuple):
    """Job: from the gradient of h(K), or of what follows it, to all other gradients.

    Args:
        h: h(0).
        f: The source; h where they are one.
        table: (patterns, 45, LANES): 36 weights, 4 biases, and five numbers of a channel for
            `norm`.
        grad: Gradient of h(K), or, if `has_norm`, of relu(BN(h(K))).
        has_norm: Whether the five are scale, shift and what makes the gradient of h(K): the third
            times what the ReLU let pass, plus the fourth times h(K), plus the fifth.
        to_h: For the gradient of h.
        to_f: For that of f, if f is not h.
        sums: (groups, 40 LANES), for those of weights and biases.
        maps: As in `Forward`; so is all that follows.
    """

    h: Array
    f: Array
    table: Array
    grad: Array
    has_norm: bool
    to_h: Array
    to_f: Array
    sums: Array
    maps: int
    cells: Array
    source: float
    scheme: int
    same: bool
    at_rest: bool
    steps: int


class Convolutions(NamedTuple):
    """Job: the four convolutions alone.

    Args:
        h: What is convolved.
        table: (patterns, 40, LANES): weights and biases.
        transposed: (patterns, 36, LANES): weights of the transposed convolutions, if `to_h` is.
        to_h: Added to: the transposed convolutions of the results; or empty.
        sums: (groups, 8 LANES) without `to_h`: the sums of each result over each map, then of the
            squares of what differs from its mean. (groups, 40 LANES) with it: the correlations of
            each result with h, and its sum.
        maps: N C.
        cells: `places` in a buffer.
    """

    h: Array
    table: Array
    transposed: Array
    to_h: Array
    sums: Array
    maps: int
    cells: Array


@kernel
def forward(job: Forward, grid: Grid, start: int, stop: int) -> None:
    """Of the groups from `start` to `stop`; so are the others."""
    physics = Physics(job.source, job.scheme, job.same, job.at_rest, job.steps)
    rows = np.zeros((6 + min(job.steps, 2), grid.size), job.h.dtype)
    work = Workspace(rows[0], rows[1], rows[2:6], rows[6:])
    for i in range(start, stop):
        group = Group(i * LANES, min(LANES, job.maps - i * LANES), job.channels_last)
        table = job.table[i % job.table.shape[0]]
        last = advance(job.h, job.f, group, job.cells, table, work, grid, physics)
        if job.sums.shape[0] > 0:
            _moments(last, job.sums[i], 0, 1, grid)
        else:
            scale, shift = load(table[40], index(0)), load(table[41], index(0))
            rectify(last, scale, shift, grid)
        scatter(last, job.out, group, job.cells)


@kernel
def backward(job: Backward, grid: Grid, start: int, stop: int) -> None:
    """As the job says."""
    physics = Physics(job.source, job.scheme, job.same, job.at_rest, job.steps)
    rows = np.zeros((16 + job.steps, grid.size), job.h.dtype)
    work = Workspace(rows[0], rows[1], rows[2:6], rows[16:])
    adjoint = Adjoint(rows[6:9], rows[9], rows[10], rows[11], rows[12:16])
    source = work.h if physics.same else work.f
    before = work.h if physics.at_rest else source
    for i in range(start, stop):
        group = Group(i * LANES, min(LANES, job.maps - i * LANES), 0)
        table = job.table[i % job.table.shape[0]]
        last = advance(job.h, job.f, group, job.cells, table, work, grid, physics)
        if physics.scheme == REFERENCE:
            fill_halo(work.maps[2], grid)
            fill_halo(work.maps[3], grid)
        grad = adjoint.h[job.steps % 3]
        gather(job.grad, group, grad, job.cells)
        if job.has_norm:
            _pull_back_norm(grad, last, table[40:], grid)
        pull_back(before, work.h, work.states, work.maps, adjoint, grid, physics)
        for j in range(4):
            through_relu(adjoint.maps[j], work.maps[j], grid)
        _add(adjoint.h[2], adjoint.h[0] if physics.at_rest else adjoint.f, grid)
        if physics.same:
            _add(adjoint.f, adjoint.h[0], grid)
        else:
            scatter(adjoint.f, job.to_f, group, job.cells)
        clear_halo(work.h, grid)
        pull_back_convolutions(work.maps, table, work.h, adjoint.h[0], job.sums[i], grid)
        scatter(adjoint.h[0], job.to_h, group, job.cells)


@kernel
def convolutions(job: Convolutions, grid: Grid, start: int, stop: int) -> None:
    """As the job says."""
    rows = np.zeros((6, grid.size), job.h.dtype)
    h, to_h, results = rows[0], rows[1], rows[2:6]
    lowest = h.dtype.type(-np.inf)
    for i in range(start, stop):
        group = Group(i * LANES, min(LANES, job.maps - i * LANES), 0)
        gather(job.h, group, h, job.cells)
        convolve(h, job.table[i % job.table.shape[0]], results, grid, lowest)
        if job.to_h.shape[0] == 0:
            for j in range(4):
                _moments(results[j], job.sums[i], j, 4 + j, grid)
        else:
            gather(job.to_h, group, to_h, job.cells)
            stencils = job.transposed[i % job.transposed.shape[0]]
            pull_back_convolutions(results, stencils, h, to_h, job.sums[i], grid)
            scatter(to_h, job.to_h, group, job.cells)


@parallel_kernel
def forward_threaded(job: Forward, grid: Grid, count: int, threads: int) -> None:
    """`forward` of all, by threads."""
    for i in prange(threads):
        forward(job, grid, i * count // threads, (i + 1) * count // threads)


@parallel_kernel
def backward_threaded(job: Backward, grid: Grid, count: int, threads: int) -> None:
    """`backward` of all, by threads."""
    for i in prange(threads):
        backward(job, grid, i * count // threads, (i + 1) * count // threads)


@parallel_kernel
def convolutions_threaded(job: Convolutions, grid: Grid, count: int, threads: int) -> None:
    """`convolutions` of all, by threads."""
    for i in prange(threads):
        convolutions(job, grid, i * count // threads, (i + 1) * count // threads)


@kernel
def _moments(values: Array, sums: Array, t: int, t_square: int, grid: Grid) -> None:
    """Over each map, the sum, and that of the squares of what differs from the mean."""
    zero = splat(values.dtype.type(0))
    total = zero
    for i in range(grid.height):
        k, of_row = row(grid, i), zero
        for _ in range(grid.width):
            of_row += load(values, k)
            k += index(LANES)
        total += of_row
    mean = total / splat(values.dtype.type(grid.height * grid.width))
    square = zero
    for i in range(grid.height):
        k, of_row = row(grid, i), zero
        for _ in range(grid.width):
            difference = load(values, k) - mean
            of_row = fma(difference, difference, of_row)
            k += index(LANES)
        square += of_row
    accumulate(sums, t, total)
    accumulate(sums, t_square, square)


@kernel
def _pull_back_norm(grad: Array, h: Array, norm: Array, grid: Grid) -> None:
    """From the gradient of relu(BN(h)) to that of h, in place: see `Backward`."""
    scale, shift = load(norm[0], index(0)), load(norm[1], index(0))
    slope, at_h, at_one = load(norm[2], index(0)), load(norm[3], index(0)), load(norm[4], index(0))
    for i in range(grid.height):
        k = row(grid, i)
        for _ in range(grid.width):
            here = load(h, k)
            passed = where_positive(fma(scale, here, shift), load(grad, k))
            store(grad, k, fma(slope, passed, fma(at_h, here, at_one)))
            k += index(LANES)


@kernel
def _add(values: Array, to: Array, grid: Grid) -> None:
    for i in range(grid.height):
        k = row(grid, i)
        for _ in range(grid.width):
            store(to, k, load(to, k) + load(values, k))
            k += index(LANES)
