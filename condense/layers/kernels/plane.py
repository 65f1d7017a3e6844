"""One channel's map in a flat, padded buffer: how it gets there, and what lies beyond its edge.

Cell (i, j) of an (H, W) map is element `first + i * stride + j`. Rows follow each other with the
halo's columns between them, so that a stencil over the map is one loop over `visited` elements, and
vectorises whatever the width of the map. What such a loop writes into the halo is rubbish and is
replaced before it is read.
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
    """Layout of a padded map.

    Args:
        height: H.
        width: W.
        shift_x: dx, the rows that a neighbour is away.
        shift_y: dy, the columns that a neighbour is away.
        boundary: PERIODIC, ZERO or REPLICATE.
        pad_x: Halo rows above and below.
        pad_y: Halo columns left and right.
        stride: Elements from one row to the next.
        first: Element of cell (0, 0).
        visited: Elements that a loop over the map visits.
        size: Elements of a buffer.
    """

    height: int
    width: int
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
def make_grid(height: int, width: int, shift_x: int, shift_y: int, boundary: int) -> Grid:
    """The layout of a map whose neighbours are `shift_x` rows and `shift_y` columns away."""
    pad_x, pad_y = max(1, shift_x), max(1, shift_y)
    stride = width + 2 * pad_y
    # Room for a loop that visits the halo itself to look one shift further.
    margin = pad_x * stride + pad_y
    first = margin + pad_x * stride + pad_y
    visited = (height * stride - 2 * pad_y + BLOCK - 1) // BLOCK * BLOCK
    size = first + visited + 2 * margin + BLOCK
    return Grid(
        height, width, shift_x, shift_y, boundary, pad_x, pad_y, stride, first, visited, size
    )


@kernel
def load(source: Array, buffer: Array, grid: Grid) -> None:
    """Copy a map, row by row (H W,), into a buffer, its halo left as it is."""
    width = index(grid.width)
    for i in range(grid.height):
        start, row = index(i) * width, index(grid.first + i * grid.stride)
        for j in range(width):
            buffer[row + j] = source[start + j]


@kernel
def unload(buffer: Array, to: Array, grid: Grid) -> None:
    """Copy the map in a buffer out, row by row (H W,)."""
    width = index(grid.width)
    for i in range(grid.height):
        start, row = index(i) * width, index(grid.first + i * grid.stride)
        for j in range(width):
            to[start + j] = buffer[row + j]


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
    """Zeros wherever no cell of the map is."""
    buffer[: grid.first] = 0
    for i in range(grid.height - 1):
        end = grid.first + i * grid.stride + grid.width
        for k in range(2 * grid.pad_y):
            buffer[end + k] = 0
    buffer[grid.first + (grid.height - 1) * grid.stride + grid.width :] = 0


@kernel
def fill_halo(buffer: Array, grid: Grid) -> None:
    """Values beyond the edge, as the boundary condition says."""
    pad_x, pad_y, stride = grid.pad_x, grid.pad_y, grid.stride
    for k in range(pad_y):
        left = beyond(k - pad_y, grid.width, grid.boundary)
        right = beyond(grid.width + k, grid.width, grid.boundary)
        for i in range(grid.height):
            row = grid.first + i * stride
            buffer[row - pad_y + k] = buffer[row + left] if left >= 0 else 0
            buffer[row + grid.width + k] = buffer[row + right] if right >= 0 else 0
    top = grid.first - pad_y
    for k in range(pad_x):
        above = beyond(k - pad_x, grid.height, grid.boundary)
        below = beyond(grid.height + k, grid.height, grid.boundary)
        to_above, to_below = top + (k - pad_x) * stride, top + (grid.height + k) * stride
        for j in range(stride):
            buffer[to_above + j] = buffer[top + above * stride + j] if above >= 0 else 0
            buffer[to_below + j] = buffer[top + below * stride + j] if below >= 0 else 0


@kernel
def fold_halo(buffer: Array, grid: Grid) -> None:
    """The adjoint of `fill_halo`: what arrived in the halo goes back to where it came from."""
    pad_x, pad_y, stride = grid.pad_x, grid.pad_y, grid.stride
    top = grid.first - pad_y
    for k in range(pad_x):
        above = beyond(k - pad_x, grid.height, grid.boundary)
        below = beyond(grid.height + k, grid.height, grid.boundary)
        of_above, of_below = top + (k - pad_x) * stride, top + (grid.height + k) * stride
        for j in range(stride):
            if above >= 0:
                buffer[top + above * stride + j] += buffer[of_above + j]
            if below >= 0:
                buffer[top + below * stride + j] += buffer[of_below + j]
    for k in range(pad_y):
        left = beyond(k - pad_y, grid.width, grid.boundary)
        right = beyond(grid.width + k, grid.width, grid.boundary)
        for i in range(grid.height):
            row = grid.first + i * stride
            if left >= 0:
                buffer[row + left] += buffer[row - pad_y + k]
            if right >= 0:
                buffer[row + right] += buffer[row + grid.width + k]


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
