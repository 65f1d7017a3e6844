"""One channel's maps on a GPU: how a program holds them, and what lies beyond their edge.

A Triton program holds whole planes of one channel, as tensors (images, cells): `problem.planes` images
at once, and each plane's cells flat, padded to a power of two. Neighbours come by `tl.gather`, which stays on
the chip. Cells of the padding stand in for the last cell of the map, so that no index leaves it.
"""

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
        cells: H W, rounded up to a power of two.
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
    cells: int
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
def place(images, channels, p: tl.constexpr):  # type: ignore[no-untyped-def]
    """Which planes and cells this program holds.

    Returns:
        The channel; the group of images; the first element of each plane (planes, 1); row and column of each
        cell (1, cells); and which are in the map and the batch (planes, cells).
    """
    channel = tl.program_id(0) % channels
    group = tl.program_id(0) // channels
    image = group * p.planes + tl.arange(0, p.planes)[:, None]
    index = tl.arange(0, p.cells)[None, :]
    cell = tl.minimum(index, p.height * p.width - 1)
    first = (image.to(tl.int64) * channels + channel) * (p.height * p.width)
    inside = (index < p.height * p.width) & (image < images)
    return channel, group, first, cell // p.width, cell % p.width, inside


@triton.jit
def along(i, offset: tl.constexpr, length: tl.constexpr, boundary: tl.constexpr):  # type: ignore[no-untyped-def]
    """The index that `i + offset` stands for: never one outside the map."""
    if boundary == "periodic":
        j = i + offset % length
        j = tl.where(j >= length, j - length, j)
    else:
        j = tl.minimum(tl.maximum(i + offset, 0), length - 1)
    return j


@triton.jit
def is_between(i, offset: tl.constexpr, length: tl.constexpr):  # type: ignore[no-untyped-def]
    """Whether `i + offset` is in the map."""
    return (i + offset >= 0) & (i + offset < length)


@triton.jit
def read(pointer, first, row, col, inside, a: tl.constexpr, b: tl.constexpr, p: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: PLR0913
    """The map's value at [row + a, col + b], zero beyond the edge, out of global memory."""
    is_there = inside & is_between(row, a, p.height) & is_between(col, b, p.width)
    offset: tl.constexpr = a * p.width + b
    cell = first + (row * p.width + col)
    return tl.load(pointer + cell + offset, mask=is_there, other=0.0).to(p.kind)


@triton.jit
def write(pointer, first, row, col, inside, values, p: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: PLR0913
    """Store a map in the type that `pointer` is of."""
    cell = first + (row * p.width + col)
    tl.store(pointer + cell, values.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
def shifted(values, row, col, a: tl.constexpr, b: tl.constexpr, p: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: PLR0913
    """The map as its boundary condition shows it from [row + a, col + b], one of them 0."""
    i = along(row, a, p.height, p.boundary)
    j = along(col, b, p.width, p.boundary)
    result = tl.gather(values, tl.broadcast_to(i * p.width + j, values.shape), 1)
    if p.boundary == "zero":
        is_there = is_between(row, a, p.height) & is_between(col, b, p.width)
        result = tl.where(is_there, result, 0.0)
    return result


@triton.jit
def moved(values, row, col, a: tl.constexpr, b: tl.constexpr, p: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: PLR0913
    """The map's value at [row + a, col + b], zero beyond the edge."""
    i = along(row, a, p.height, "zero")
    j = along(col, b, p.width, "zero")
    result = tl.gather(values, tl.broadcast_to(i * p.width + j, values.shape), 1)
    is_there = is_between(row, a, p.height) & is_between(col, b, p.width)
    return tl.where(is_there, result, 0.0)


@triton.jit
def returned(values, row, col, a: tl.constexpr, b: tl.constexpr, p: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: PLR0913
    """The adjoint of `shifted`: every value goes back to the cell that it was read from."""
    if p.boundary == "periodic":
        result = shifted(values, row, col, -a, -b, p)
    else:
        result = moved(values, row, col, -a, -b, p)
        if p.boundary == "replicate":
            # The cell at the edge was read from every place beyond it as well.
            for t in tl.static_range(min(abs(a), p.height)):
                edge_row: tl.constexpr = p.height - 1 if a > 0 else 0
                from_row: tl.constexpr = p.height - 1 - t if a > 0 else t
                extra = tl.gather(
                    values, tl.broadcast_to(from_row * p.width + col, values.shape), 1
                )
                result += tl.where(row == edge_row, extra, 0.0)
            for t in tl.static_range(min(abs(b), p.width)):
                edge_col: tl.constexpr = p.width - 1 if b > 0 else 0
                from_col: tl.constexpr = p.width - 1 - t if b > 0 else t
                extra = tl.gather(
                    values, tl.broadcast_to(row * p.width + from_col, values.shape), 1
                )
                result += tl.where(col == edge_col, extra, 0.0)
    return result
