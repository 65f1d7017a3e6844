"""Eight maps in a padded buffer: how they get there, and what lies beyond their edges.

A buffer holds eight maps that follow each other in memory, whatever their images and channels.
Cell (i, j) of all of them is one vector, at element `first + i * stride + LANES * j`. So each
neighbour of a vector is a vector, a map needs no width that suits the processor, and a batch of one
image fills the lanes as well as one of many. The weights are vectors too: one channel's in each
lane.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from condense.layers.kernels import LANES
from condense.layers.kernels.vectors import at_least, fma, load, splat, store, transpose

Array = NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])

PERIODIC, ZERO, REPLICATE = 0, 1, 2
# NaN and infinity must come out as they do from the readable form: no nnan, no ninf.
FAST = {"contract", "nsz", "arcp"}


index = np.uint64  # never negative: spares each access the check for one counted from the end


def kernel(function: F) -> F:
    """Compile on first use; the machine code is cached on disk for the next process."""
    compiled: Any = numba.njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")(function)
    return cast(F, compiled)


def parallel_kernel(function: F) -> F:
    """As `kernel`, with `prange` over several threads."""
    compiled: Any = numba.njit(nogil=True, cache=True, error_model="numpy", parallel=True)(function)
    return cast(F, compiled)


class Grid(NamedTuple):
    """Layout of a buffer; lengths in elements but where cells are named.

    Args:
        height: H.
        width: W, in cells.
        dx: Rows to a neighbour.
        dy: Columns to a neighbour.
        boundary: PERIODIC, ZERO or REPLICATE.
        stride: From one row to the next.
        first: Element of cell (0, 0).
        size: Elements of a buffer.
    """

    height: int
    width: int
    dx: int
    dy: int
    boundary: int
    stride: int
    first: int
    size: int


def make_grid(height: int, width: int, dx: int, dy: int, boundary: int) -> Grid:
    """The layout of maps whose neighbours are dx rows and dy columns away."""
    stride = LANES * (width + 2 * dy)
    # Around the halo another, so that what visits the halo itself may look one shift further; and
    # a row, for what goes by two rows at a time.
    margin = 2 * (dx * stride + LANES * dy)
    size = 2 * margin + (height + 1) * stride
    return Grid(height, width, dx, dy, boundary, stride, margin, size)


def places(grid: Grid) -> Array:
    """Element of each cell, (H W,)."""
    rows = grid.first + grid.stride * np.arange(grid.height)
    return (rows[:, None] + LANES * np.arange(grid.width)).reshape(-1)


class Group(NamedTuple):
    """Maps that share a buffer.

    Args:
        first: Number of the first.
        lanes: How many, at most eight; the other lanes hold rubbish.
        channels: 0 if maps lie one after the other; C if images lie pixel by pixel
            (channels_last), where C is a multiple of eight, so that there are eight.
    """

    first: int
    lanes: int
    channels: int


@kernel
def gather(maps: Array, group: Group, buffer: Array, cells: Array) -> None:
    """Copy maps into a buffer, its halo left as it is.

    Args:
        maps: All of them.
        group: Which.
        buffer: Where they go.
        cells: `places` in it.
    """
    area = cells.shape[0]
    if group.channels:
        k = _pixel(group, area)
        for t in range(area):
            store(buffer, index(cells[t]), load(maps, k))
            k += index(group.channels)
        return
    apart, start = index(area), index(group.first * area)
    whole = area - area % LANES if group.lanes == LANES else 0
    for t in range(0, whole, LANES):
        columns = transpose(_eight(maps, start + index(t), apart))
        for q in range(LANES):
            store(buffer, index(cells[t + q]), columns[q])
    for m in range(group.lanes):
        for t in range(whole, area):
            buffer[index(cells[t]) + index(m)] = maps[start + index(m) * apart + index(t)]


@kernel
def scatter(buffer: Array, maps: Array, group: Group, cells: Array) -> None:
    """Copy the maps in a buffer out, the other way round than `gather`."""
    area = cells.shape[0]
    if group.channels:
        k = _pixel(group, area)
        for t in range(area):
            store(maps, k, load(buffer, index(cells[t])))
            k += index(group.channels)
        return
    apart, start = index(area), index(group.first * area)
    whole = area - area % LANES if group.lanes == LANES else 0
    for t in range(0, whole, LANES):
        rows = transpose(_eight_cells(buffer, cells, t))
        for m in range(LANES):
            store(maps, start + index(m) * apart + index(t), rows[m])
    for m in range(group.lanes):
        for t in range(whole, area):
            maps[start + index(m) * apart + index(t)] = buffer[index(cells[t]) + index(m)]


@kernel
def _pixel(group: Group, area: int) -> Any:
    """Element of the group's first channel in the first pixel."""
    image, channel = group.first // group.channels, group.first % group.channels
    return index(image * area * group.channels + channel)


@kernel
def _eight(maps: Array, k: Any, apart: Any) -> tuple[Any, ...]:
    k2, k4, k6 = k + apart + apart, k + index(4) * apart, k + index(6) * apart
    return (
        *(load(maps, k), load(maps, k + apart), load(maps, k2), load(maps, k2 + apart)),
        *(load(maps, k4), load(maps, k4 + apart), load(maps, k6), load(maps, k6 + apart)),
    )


@kernel
def _eight_cells(buffer: Array, cells: Array, t: int) -> tuple[Any, ...]:
    return (
        *(load(buffer, index(cells[t])), load(buffer, index(cells[t + 1]))),
        *(load(buffer, index(cells[t + 2])), load(buffer, index(cells[t + 3]))),
        *(load(buffer, index(cells[t + 4])), load(buffer, index(cells[t + 5]))),
        *(load(buffer, index(cells[t + 6])), load(buffer, index(cells[t + 7]))),
    )


@kernel
def row(grid: Grid, i: int) -> Any:
    """Element of cell (i, 0); i may lie in the halo."""
    return index(grid.first + i * grid.stride)


@kernel
def rectify(buffer: Array, scale: Any, shift: Any, grid: Grid) -> None:
    """max(scale x + shift, 0) in place; scale and shift are vectors."""
    zero = splat(buffer.dtype.type(0))
    for i in range(grid.height):
        k = row(grid, i)
        for _ in range(grid.width):
            store(buffer, k, at_least(fma(scale, load(buffer, k), shift), zero))
            k += index(LANES)


@kernel
def clear(buffer: Array) -> None:
    """Zeros everywhere."""
    for k in range(buffer.shape[0]):
        buffer[k] = 0


@kernel
def clear_halo(buffer: Array, grid: Grid) -> None:
    """Zeros wherever no cell of a map is."""
    gap, zero = index(2 * LANES * grid.dy), buffer.dtype.type(0)
    for k in range(row(grid, 0)):
        buffer[k] = zero
    for i in range(grid.height):
        end = row(grid, i + 1)
        for k in range(end - gap, end):
            buffer[k] = zero
    for k in range(row(grid, grid.height), index(grid.size)):
        buffer[k] = zero


@kernel
def fill_halo(buffer: Array, grid: Grid) -> None:
    """Values beyond the edge, as the boundary condition says; a corner is nobody's neighbour."""
    for d in range(1, grid.dy + 1):
        _fill_column(buffer, -d, beyond(-d, grid.width, grid.boundary), grid)
        right = grid.width - 1 + d
        _fill_column(buffer, right, beyond(right, grid.width, grid.boundary), grid)
    for d in range(1, grid.dx + 1):
        _fill_row(buffer, -d, beyond(-d, grid.height, grid.boundary), grid)
        below = grid.height - 1 + d
        _fill_row(buffer, below, beyond(below, grid.height, grid.boundary), grid)


@kernel
def _fill_column(buffer: Array, to: int, source: int, grid: Grid) -> None:
    zero = splat(buffer.dtype.type(0))
    for i in range(grid.height):
        k = row(grid, i)
        value = load(buffer, k + index(LANES * source)) if source >= 0 else zero
        store(buffer, k + index(LANES * to), value)


@kernel
def _fill_row(buffer: Array, to: int, source: int, grid: Grid) -> None:
    k, k_source, zero = row(grid, to), row(grid, source), splat(buffer.dtype.type(0))
    for j in range(index(0), index(LANES * grid.width), index(LANES)):
        store(buffer, k + j, load(buffer, k_source + j) if source >= 0 else zero)


@kernel
def fold_halo(buffer: Array, grid: Grid) -> None:
    """The adjoint of `fill_halo`: what arrived in the halo goes back to where it came from."""
    for d in range(1, grid.dx + 1):
        _fold_row(buffer, -d, beyond(-d, grid.height, grid.boundary), grid)
        below = grid.height - 1 + d
        _fold_row(buffer, below, beyond(below, grid.height, grid.boundary), grid)
    for d in range(1, grid.dy + 1):
        _fold_column(buffer, -d, beyond(-d, grid.width, grid.boundary), grid)
        right = grid.width - 1 + d
        _fold_column(buffer, right, beyond(right, grid.width, grid.boundary), grid)


@kernel
def _fold_row(buffer: Array, of: int, to: int, grid: Grid) -> None:
    if to >= 0:
        k, k_to = row(grid, of), row(grid, to)
        for j in range(index(0), index(LANES * grid.width), index(LANES)):
            store(buffer, k_to + j, load(buffer, k_to + j) + load(buffer, k + j))


@kernel
def _fold_column(buffer: Array, of: int, to: int, grid: Grid) -> None:
    if to >= 0:
        for i in range(grid.height):
            k = row(grid, i)
            k_to = k + index(LANES * to)
            store(buffer, k_to, load(buffer, k_to) + load(buffer, k + index(LANES * of)))


@kernel
def beyond(index: int, length: int, boundary: int) -> int:
    """The index whose value stands at `index`, or -1 where the value is zero."""
    if 0 <= index < length:
        return index
    if boundary == PERIODIC:
        return index % length
    if boundary == REPLICATE:
        return 0 if index < 0 else length - 1
    return -1
