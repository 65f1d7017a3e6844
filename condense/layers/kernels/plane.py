"""Maps in a flat, padded buffer: how they get there, and what lies beyond their edges.

A buffer holds `lanes` (H, W) maps of one channel, cell by cell: cell (i, j) of map m is element
`first + i * stride + j * lanes + m`. Small maps share a buffer, so that what each row and each edge
costs is paid once for all of them. Rows follow each other with the halo's columns between them, so
that a stencil over the maps is one loop over `visited` elements, and vectorises whatever the width
of a map. What such a loop writes into the halo is rubbish and is replaced before it is read.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])

PERIODIC, ZERO, REPLICATE = 0, 1, 2
BLOCK = 32  # loops run over a multiple of it: no scalar remainder of a vector loop
# NaN and infinity must come out as they do from the readable form: no nnan, no ninf.
FAST = {"contract", "nsz", "arcp", "reassoc", "afn"}


index = np.uint64  # never negative: spares each access the check for one counted from the end


def kernel(function: F) -> F:
    """Compile on first use; the machine code is cached on disk for the next process."""
    compiled: Any = numba.njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")(function)
    return cast(F, compiled)


def parallel_kernel(function: F) -> F:
    """As `kernel`, with `prange` over several threads."""
    compiled: Any = numba.njit(
        nogil=True, cache=True, fastmath=FAST, error_model="numpy", parallel=True
    )(function)
    return cast(F, compiled)


class Grid(NamedTuple):
    """Layout of a padded buffer; lengths in elements but where cells are named.

    Args:
        height: H.
        width: W, in cells.
        lanes: Maps in the buffer.
        most: Lanes that a buffer has room for.
        dx: Rows to a neighbour.
        dy: Columns to a neighbour.
        shift_x: From a cell to its neighbour along x.
        shift_y: From a cell to its neighbour along y.
        boundary: PERIODIC, ZERO or REPLICATE.
        pad_x: Halo rows above and below.
        pad_y: Halo columns left and right, in cells.
        stride: From one row to the next.
        first: Element of cell (0, 0).
        visited: Elements that a loop over the maps visits.
        size: Elements of a buffer.
    """

    height: int
    width: int
    lanes: int
    most: int
    dx: int
    dy: int
    shift_x: int
    shift_y: int
    boundary: int
    pad_x: int
    pad_y: int
    stride: int
    first: int
    visited: int
    size: int


@kernel
def make_grid(height: int, width: int, lanes: int, dx: int, dy: int, boundary: int) -> Grid:
    """The layout of `lanes` maps whose neighbours are dx rows and dy columns away."""
    pad_x, pad_y = max(1, dx), max(1, dy)
    stride = (width + 2 * pad_y) * lanes
    # Room for a loop that visits the halo itself to look one shift further.
    margin = pad_x * stride + pad_y * lanes
    first = margin + pad_x * stride + pad_y * lanes
    visited = (height * stride - 2 * pad_y * lanes + BLOCK - 1) // BLOCK * BLOCK
    size = first + visited + 2 * margin + BLOCK
    space = (pad_x, pad_y, stride, first, visited, size)
    return Grid(height, width, lanes, lanes, dx, dy, dx * stride, dy * lanes, boundary, *space)


@kernel
def with_lanes(grid: Grid, lanes: int) -> Grid:
    """The same with fewer maps in the buffer."""
    g = make_grid(grid.height, grid.width, lanes, grid.dx, grid.dy, grid.boundary)
    place = (g.pad_x, g.pad_y, g.stride, g.first, g.visited, g.size)
    return Grid(
        *(g.height, g.width, lanes, grid.most, g.dx, g.dy),
        *(g.shift_x, g.shift_y, g.boundary),
        *place,
    )


@kernel
def load(source: Array, start: int, apart: int, buffer: Array, grid: Grid) -> None:
    """Copy maps into a buffer, its halo left as it is.

    Args:
        source: Maps, each row by row.
        start: Element of the first map.
        apart: Elements from one map to the next.
        buffer: Where they go.
        grid: Its layout.
    """
    lanes, width = index(grid.lanes), index(grid.width)
    for m in range(lanes):
        at, row = index(start) + m * index(apart), index(grid.first) + m
        for _ in range(grid.height):
            if lanes == index(1):
                for j in range(width):
                    buffer[row + j] = source[at + j]
            else:
                for j in range(width):
                    buffer[row + j * lanes] = source[at + j]
            at += width
            row += index(grid.stride)


@kernel
def unload(buffer: Array, to: Array, start: int, apart: int, grid: Grid) -> None:
    """Copy the maps in a buffer out, the other way round than `load`."""
    lanes, width = index(grid.lanes), index(grid.width)
    for m in range(lanes):
        at, row = index(start) + m * index(apart), index(grid.first) + m
        for _ in range(grid.height):
            if lanes == index(1):
                for j in range(width):
                    to[at + j] = buffer[row + j]
            else:
                for j in range(width):
                    to[at + j] = buffer[row + j * lanes]
            at += width
            row += index(grid.stride)


@kernel
def mark(buffer: Array, grid: Grid) -> None:
    """One where a cell of a map is, zero elsewhere."""
    for k in range(index(grid.first), index(grid.first + grid.visited)):
        buffer[k] = 1
    clear_halo(buffer, grid)


@kernel
def copy(source: Array, to: Array) -> None:
    """Copy a whole buffer."""
    for k in range(source.shape[0]):
        to[k] = source[k]


@kernel
def clear(buffer: Array) -> None:
    """Zeros everywhere."""
    for k in range(buffer.shape[0]):
        buffer[k] = 0


@kernel
def clear_halo(buffer: Array, grid: Grid) -> None:
    """Zeros wherever no cell of a map is."""
    row, gap = index(grid.first), index(2 * grid.pad_y * grid.lanes)
    for k in range(row):
        buffer[k] = 0
    for _ in range(grid.height):
        row += index(grid.stride)
        for k in range(row - gap, row):
            buffer[k] = 0
    for k in range(row, index(grid.size)):
        buffer[k] = 0


@kernel
def fill_halo(buffer: Array, grid: Grid) -> None:
    """Values beyond the edge, as the boundary condition says; a corner is nobody's neighbour."""
    lanes, stride, first = index(grid.lanes), index(grid.stride), index(grid.first)
    for k in range(grid.pad_y):
        left = beyond(k - grid.pad_y, grid.width, grid.boundary)
        right = beyond(grid.width + k, grid.width, grid.boundary)
        to_left, to_right = index(k - grid.pad_y) * lanes, index(grid.width + k) * lanes
        _fill_column(buffer, first + to_left, first + index(left) * lanes, left < 0, grid)
        _fill_column(buffer, first + to_right, first + index(right) * lanes, right < 0, grid)
    for k in range(grid.pad_x):
        above = beyond(k - grid.pad_x, grid.height, grid.boundary)
        below = beyond(grid.height + k, grid.height, grid.boundary)
        to_above, to_below = index(k - grid.pad_x) * stride, index(grid.height + k) * stride
        _fill_row(buffer, first + to_above, first + index(above) * stride, above < 0, grid)
        _fill_row(buffer, first + to_below, first + index(below) * stride, below < 0, grid)


@kernel
def _fill_column(buffer: Array, to: Any, source: Any, is_zero: bool, grid: Grid) -> None:
    lanes, stride = index(grid.lanes), index(grid.stride)
    for _ in range(grid.height):
        if is_zero:
            for k in range(lanes):
                buffer[to + k] = 0
        else:
            for k in range(lanes):
                buffer[to + k] = buffer[source + k]
        to += stride
        source += stride


@kernel
def _fill_row(buffer: Array, to: Any, source: Any, is_zero: bool, grid: Grid) -> None:
    length = index(grid.width * grid.lanes)
    if is_zero:
        for k in range(length):
            buffer[to + k] = 0
    else:
        for k in range(length):
            buffer[to + k] = buffer[source + k]


@kernel
def fold_halo(buffer: Array, grid: Grid) -> None:
    """The adjoint of `fill_halo`: what arrived in the halo goes back to where it came from."""
    lanes, stride, first = index(grid.lanes), index(grid.stride), index(grid.first)
    for k in range(grid.pad_x):
        above = beyond(k - grid.pad_x, grid.height, grid.boundary)
        below = beyond(grid.height + k, grid.height, grid.boundary)
        of_above, of_below = index(k - grid.pad_x) * stride, index(grid.height + k) * stride
        if above >= 0:
            _fold_row(buffer, first + index(above) * stride, first + of_above, grid)
        if below >= 0:
            _fold_row(buffer, first + index(below) * stride, first + of_below, grid)
    for k in range(grid.pad_y):
        left = beyond(k - grid.pad_y, grid.width, grid.boundary)
        right = beyond(grid.width + k, grid.width, grid.boundary)
        of_left, of_right = index(k - grid.pad_y) * lanes, index(grid.width + k) * lanes
        if left >= 0:
            _fold_column(buffer, first + index(left) * lanes, first + of_left, grid)
        if right >= 0:
            _fold_column(buffer, first + index(right) * lanes, first + of_right, grid)


@kernel
def _fold_row(buffer: Array, to: Any, source: Any, grid: Grid) -> None:
    for k in range(index(grid.width * grid.lanes)):
        buffer[to + k] += buffer[source + k]


@kernel
def _fold_column(buffer: Array, to: Any, source: Any, grid: Grid) -> None:
    lanes, stride = index(grid.lanes), index(grid.stride)
    for _ in range(grid.height):
        for k in range(lanes):
            buffer[to + k] += buffer[source + k]
        to += stride
        source += stride


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


@kernel
def relu(x: float, floor: float) -> float:
    """max(x, floor), NaN kept; `floor` is zero in the type of x, so that no wider one comes in."""
    return floor if x < floor else x
