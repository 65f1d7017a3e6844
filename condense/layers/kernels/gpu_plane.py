"""One channel's maps on a GPU: how a program holds them, and what lies beyond their edge.

A Triton program holds whole planes of one channel, as tensors (images, rows, columns), each axis
padded to a power of two. Neighbours come by `tl.gather` along the rows or the columns, which stays
on the chip; over flat planes it would cost a shuffle per 32 cells of the plane (Triton 3.9). Cells
of the padding stand in for the last row or column of the map, so that no index leaves it.
"""

# Triton gives arguments their types when it compiles.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a kernel is compiled for.

    Args:
        height: H.
        width: W.
        planes: Images that a program holds at once, a power of two.
        rows: H, rounded up to a power of two.
        cols: W, rounded up to a power of two.
        kind: Type of the arithmetic.
        dx: The rows that a neighbour is away.
        dy: The columns that a neighbour is away.
        boundary: As in `condense.layers.stencil`.
        scheme: As in `condense.layers.schemes`.
        steps: K.
        rate_x: dt / dx.
        rate_y: dt / dy.
        diffusion_x: dt / dx².
        diffusion_y: dt / dy².
        source: 2 dt, or 0 without the source term.
        same: Whether f and h(0) are one map.
        at_rest: Whether h(-1) is h(0), not f.
        epilogue: Whether relu(scale h(K) + shift) is wanted, not h(K).
    """

    height: int
    width: int
    planes: int
    rows: int
    cols: int
    kind: Any
    dx: int = 1
    dy: int = 1
    boundary: str = "zero"
    scheme: str = "reference"
    steps: int = 0
    rate_x: float = 0
    rate_y: float = 0
    diffusion_x: float = 0
    diffusion_y: float = 0
    source: float = 0
    same: bool = True
    at_rest: bool = False
    epilogue: bool = False


@triton.jit
def place(images, channels, p: tl.constexpr):
    """Which planes and cells this program holds.

    Returns:
        The channel; the group of images; the first element of each plane (planes, 1, 1); row
        (1, rows, 1) and column (1, 1, cols) of the cells; and which are in the map and the batch
        (planes, rows, cols).
    """
    channel = tl.program_id(0) % channels
    group = tl.program_id(0) // channels
    image = (group * p.planes + tl.arange(0, p.planes))[:, None, None]
    row, col = tl.arange(0, p.rows)[None, :, None], tl.arange(0, p.cols)[None, None, :]
    inside = (row < p.height) & (col < p.width) & (image < images)
    first = (image.to(tl.int64) * channels + channel) * (p.height * p.width)
    row, col = tl.minimum(row, p.height - 1), tl.minimum(col, p.width - 1)
    return channel, group, first, row, col, inside


@triton.jit
def along(i, offset: tl.constexpr, length: tl.constexpr, boundary: tl.constexpr):
    """The index that `i + offset` stands for: never one outside the map."""
    if boundary == "periodic":
        j = i + offset % length
        j = tl.where(j >= length, j - length, j)
    else:
        j = tl.minimum(tl.maximum(i + offset, 0), length - 1)
    return j


@triton.jit
def is_between(i, offset: tl.constexpr, length: tl.constexpr):
    """Whether `i + offset` is in the map."""
    return (i + offset >= 0) & (i + offset < length)


@triton.jit
def read(pointer, first, row, col, inside, a: tl.constexpr, b: tl.constexpr, p: tl.constexpr):
    """The map's value at [row + a, col + b], zero beyond the edge, out of global memory."""
    is_there = inside & is_between(row, a, p.height) & is_between(col, b, p.width)
    offset: tl.constexpr = a * p.width + b
    cell = first + (row * p.width + col)
    return tl.load(pointer + cell + offset, mask=is_there, other=0.0).to(p.kind)


@triton.jit
def write(pointer, first, row, col, inside, values, p: tl.constexpr):
    """Store a map in the type that `pointer` is of."""
    cell = first + (row * p.width + col)
    tl.store(pointer + cell, values.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
def row_of(values, i):
    """The values at rows i."""
    return tl.gather(values, tl.broadcast_to(i, values.shape), 1)


@triton.jit
def col_of(values, j):
    """The values at columns j."""
    return tl.gather(values, tl.broadcast_to(j, values.shape), 2)


@triton.jit
def shifted(values, row, col, a: tl.constexpr, b: tl.constexpr, p: tl.constexpr):
    """The map as its boundary condition shows it from [row + a, col + b]; a or b is 0."""
    if p.boundary == "zero":
        result = moved(values, row, col, a, b, p)
    elif a != 0:
        result = row_of(values, along(row, a, p.height, p.boundary))
    else:
        result = col_of(values, along(col, b, p.width, p.boundary))
    return result


@triton.jit
def moved(values, row, col, a: tl.constexpr, b: tl.constexpr, p: tl.constexpr):
    """The map's value at [row + a, col + b], zero beyond the edge; a or b is 0."""
    result = values
    if a != 0:
        result = row_of(values, along(row, a, p.height, "zero"))
        result = tl.where(is_between(row, a, p.height), result, 0.0)
    elif b != 0:
        result = col_of(values, along(col, b, p.width, "zero"))
        result = tl.where(is_between(col, b, p.width), result, 0.0)
    return result


@triton.jit
def returned(values, row, col, a: tl.constexpr, b: tl.constexpr, p: tl.constexpr):
    """The adjoint of `shifted`: every value goes back to the cell that it was read from."""
    if p.boundary == "periodic":
        result = shifted(values, row, col, -a, -b, p)
    else:
        result = moved(values, row, col, -a, -b, p)
    if p.boundary == "replicate":
        # The edge was read from every place beyond it as well.
        last_row: tl.constexpr = p.height - 1
        last_col: tl.constexpr = p.width - 1
        for t in tl.static_range(times(a, p.height)):
            i = last_row - t if a > 0 else t
            result += tl.where(row == (last_row if a > 0 else 0), row_of(values, row * 0 + i), 0.0)
        for t in tl.static_range(times(b, p.width)):
            j = last_col - t if b > 0 else t
            result += tl.where(col == (last_col if b > 0 else 0), col_of(values, col * 0 + j), 0.0)
    return result


@triton.constexpr_function
def times(offset, length):
    """How many cells of a line look beyond its edge."""
    return min(abs(offset), length)
