"""A whole Global layer in eval mode on the CPU, with little between the caller and the loops.

On one small image the arithmetic takes less than a torch operator's way through the dispatcher, or
than numpy's view of twenty parameters. So all that depends on the shape alone is made once, and
tensors are handed over by their addresses.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from condense.layers.kernels import LANES, cpu
from condense.layers.kernels.batches import Forward, forward, forward_threaded
from condense.layers.kernels.memory import memory_format
from condense.layers.kernels.per_channel import table_of
from condense.layers.kernels.plane import Array, Grid, kernel
from condense.layers.kernels.vectors import array_at

GIVEN = 3
"""Addresses before those of the parameters: h, f, the output."""


class _Fixed(NamedTuple):
    """What a layer and a shape decide.

    Args:
        layout: Of the batch.
        tensors: So many are handed over.
        numbers: So many are in all of them together.
        whole: N C, C, patterns, coefficients that are learnt, whether their convolutions have
            biases; scheme, same, at_rest and steps of `Physics`; the `Grid`; C of a `Group`.
        real: 2 dt or 0, the two eps, Dx and Dy where they are numbers.
        factors: Of `cpu.Evolution`.
    """

    layout: cpu.Layout
    tensors: int
    numbers: int
    whole: Array
    real: Array
    factors: Array


def global_layer(
    h: Tensor,
    f: Tensor | None,
    parameters: list[Tensor],
    constants: list[float],
    has_bias: bool,
    coefficient_eps: float,
    out_eps: float,
    *numbers: Any,
) -> Tensor:
    """As `ops.global_layer`, of whose operator it is the implementation on the CPU."""
    layout = memory_format(h, f)
    state = h.contiguous(memory_format=layout)
    source = state if f is None else f.contiguous(memory_format=layout)
    out = torch.empty_like(h, memory_format=layout)
    if not all(map(Tensor.is_contiguous, parameters)):
        parameters = [parameter.contiguous() for parameter in parameters]
    of_layer = (tuple(constants), has_bias, coefficient_eps, out_eps, numbers)
    fixed = _fixed(h.shape, h.dtype, f is None, layout is torch.channels_last, *of_layer)
    tensors = [state, source, out, *parameters]
    _check(tensors, fixed, h.dtype)
    addresses = np.array(list(map(Tensor.data_ptr, tensors)))
    arguments = (addresses, fixed.whole, fixed.real, fixed.factors, fixed.layout.cells)
    threads = cpu.threads_for(fixed.layout)
    if threads == 1:
        _whole(*arguments)
    else:
        # Not called by `_whole`: loaded from numba's cache, which does not know that threads are
        # needed then, that would crash.
        job, grid, groups = _job(*arguments)
        job = job._replace(source=fixed.factors.dtype.type(job.source))  # it came out as a float
        cpu.run_threaded(forward_threaded, job, grid, groups, threads)
    return out


def _check(tensors: list[Tensor], fixed: _Fixed, dtype: torch.dtype) -> None:
    """That nobody reads what is not there.

    Raises:
        ValueError: If they are not as many numbers of this type in the processor's memory.
    """
    numbers, of_type = sum(map(Tensor.numel, tensors)), [t.dtype for t in tensors].count(dtype)
    if (
        (len(tensors), of_type, numbers) != (fixed.tensors, fixed.tensors, fixed.numbers)
        or not all([t.is_cpu for t in tensors])  # noqa: C419 - a generator takes twice as long
    ):
        kinds = ", ".join(sorted({f"{t.dtype} on {t.device}" for t in tensors}))
        raise ValueError(
            f"a Global layer wants {fixed.tensors} tensors with {fixed.numbers} numbers, {dtype} "
            f"on cpu; got {len(tensors)} with {numbers}, {kinds}"
        )


@lru_cache
def _fixed(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    same: bool,
    is_channels_last: bool,
    constants: tuple[float, ...],
    has_bias: bool,
    coefficient_eps: float,
    out_eps: float,
    numbers: tuple[Any, ...],
) -> _Fixed:
    steps, dt, dx, dy, scheme, boundary, source, at_rest = numbers
    kind = np.float32 if dtype == torch.float32 else np.float64
    layout = cpu.layout(tuple(shape), dx, dy, boundary)
    physics, factors = cpu.evolution(kind, same, steps, dt, dx, dy, scheme, source, at_rest)
    of_batch = (layout.maps, layout.channels, layout.patterns, 4 - len(constants), has_bias)
    whole = np.array(
        [*of_batch, *physics[1:], *layout.grid, layout.channels if is_channels_last else 0],
        np.int64,
    )
    real = np.array([physics.source, coefficient_eps, out_eps, *(constants or (0, 0))])
    learnt = 4 - len(constants)
    tensors = GIVEN + learnt * (5 + has_bias) + 4
    of_channel = learnt * (9 + has_bias + 4) + 4
    numbers_in_all = GIVEN * math.prod(shape) + layout.channels * of_channel
    return _Fixed(layout, tensors, numbers_in_all, whole, real, factors)


@kernel
def _whole(addresses: Array, whole: Array, real: Array, factors: Array, cells: Array) -> None:
    job, grid, groups = _job(addresses, whole, real, factors, cells)
    forward(job, grid, 0, groups)


@kernel
def _job(
    addresses: Array, whole: Array, real: Array, factors: Array, cells: Array
) -> tuple[Forward, Grid, int]:
    """What `forward` is to do, where, and for how many groups."""
    maps, channels, patterns, learnt, has_bias = whole[0], whole[1], whole[2], whole[3], whole[4]
    grid = Grid(
        *(whole[9], whole[10], whole[11], whole[12]), *(whole[13], whole[14], whole[15], whole[16])
    )
    values = np.zeros((channels, 42), factors.dtype)
    values[:, 38], values[:, 39] = real[3], real[4]
    fold(addresses, learnt, has_bias != 0, real[1], real[2], values)
    table = np.empty((patterns, 42, LANES), factors.dtype)
    table_of(values, factors, table)
    size = maps * grid.height * grid.width
    job = Forward(
        array_at(addresses[0], size, factors),
        array_at(addresses[1], size, factors),
        table,
        array_at(addresses[2], size, factors),
        np.empty((0, 2 * LANES), factors.dtype),
        maps,
        whole[17],
        cells,
        factors.dtype.type(real[0]),
        whole[5],
        whole[6] != 0,
        whole[7] != 0,
        whole[8],
    )
    return job, grid, (maps + LANES - 1) // LANES


@kernel
def fold(
    addresses: Array,
    learnt: int,
    has_bias: bool,
    coefficient_eps: float,
    out_eps: float,
    values: Array,
) -> None:
    """Weights, biases, scale and shift of each channel, BatchNorms folded in: rows of `values`.

    Where Dx and Dy are numbers, their convolutions are zero and their biases those numbers.
    """
    n = values.shape[0]
    place = GIVEN
    for i in range(learnt):
        weight = array_at(addresses[place], 9 * n, values)
        own = array_at(addresses[place + 1], n, values)  # read only if it is the bias
        place += 2 if has_bias else 1
        slope, shift = _norm(addresses, place, coefficient_eps, values)
        place += 4
        for c in range(n):
            for k in range(9):
                values[c, 9 * i + k] = slope[c] * weight[9 * c + k]
            values[c, 36 + i] = shift[c] + slope[c] * own[c] if has_bias else shift[c]
    slope, shift = _norm(addresses, place, out_eps, values)
    values[:, 40] = slope
    values[:, 41] = shift


@kernel
def _norm(addresses: Array, place: int, eps: float, like: Array) -> tuple[Array, Array]:
    """Of the BatchNorm whose weight, bias, mean and variance are there: x -> slope x + shift."""
    n = like.shape[0]
    weight, bias = array_at(addresses[place], n, like), array_at(addresses[place + 1], n, like)
    mean, variance = (
        array_at(addresses[place + 2], n, like),
        array_at(addresses[place + 3], n, like),
    )
    slope, shift = np.empty(n), np.empty(n)
    for c in range(n):
        slope[c] = weight[c] / math.sqrt(variance[c] + eps)
        shift[c] = bias[c] - slope[c] * mean[c]
    return slope, shift
