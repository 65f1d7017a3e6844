"""The fused kernels as torch operators, differentiable, known to torch.compile and torch.export.

Two operators and their gradients make a Global layer in training; the BatchNorms between them are ordinary
torch arithmetic on (C, 4) tensors, so that autograd joins the two:

    moments(h, weight)                            mean and variance of the four convolutions' results
    evolve(h, f, weight, bias, scale, shift, …)   max(scale h(K) + shift, floor)

A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense.layers.kernels import cpu
from condense.layers.kernels.forward import CONSERVATIVE, REFERENCE, Physics
from condense.layers.kernels.plane import PERIODIC, REPLICATE, ZERO, Grid, make_grid

BOUNDARIES = {"periodic": PERIODIC, "zero": ZERO, "replicate": REPLICATE}
SCHEMES = {"reference": REFERENCE, "conservative": CONSERVATIVE}


@torch.library.custom_op("condense::evolve", mutates_args=(), device_types="cpu")
def evolve(  # noqa: PLR0913 - torch operators take no structures
    h: Tensor,
    f: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    steps: int,
    dt: float,
    dx: int,
    dy: int,
    scheme: str,
    boundary: str,
    source: bool,  # noqa: FBT001
    at_rest: bool,  # noqa: FBT001
) -> Tensor:
    """h(K) of every plane; with `scale` and `shift`, relu(scale h(K) + shift).

    Args:
        h: h(0).
        f: The source and h(-1); None if it is h.
        weight: (C, 4, 9), the 3x3 convolutions of u, v, Dx, Dy, BatchNorms folded in.
        bias: (C, 4).
        scale: (C,) or None.
        shift: (C,) or None.
        steps: K.
        dt: Time step.
        dx: Shift and spacing along the rows.
        dy: The same along the columns.
        scheme: As in `condense.layers.schemes`.
        boundary: As in `condense.layers.stencil`.
        source: Whether f drives the equation.
        at_rest: Whether h(-1) is h(0).

    Shape:
        (N, C, H, W) -> (N, C, H, W).
    """
    out = torch.empty_like(h, memory_format=torch.contiguous_format)
    maps = _array(h)
    kind = maps.dtype.type
    floor = kind(-math.inf if scale is None else 0)
    channels = h.shape[1]
    slope = np.ones(channels, maps.dtype) if scale is None else _array(scale)
    offset = np.zeros(channels, maps.dtype) if shift is None else _array(shift)
    grid, physics = _layout(h, f, dt, dx, dy, scheme, boundary, source, at_rest)
    source_maps = maps if f is None else _array(f)
    arguments = (maps, source_maps, _array(weight), _array(bias), slope, offset, floor, out.numpy())
    cpu.forward(cpu.parts_of(maps, torch.get_num_threads()), *arguments, grid, physics, steps)
    return out


@evolve.register_fake
def _(h: Tensor, *_rest: Any) -> Tensor:
    return torch.empty_like(h, memory_format=torch.contiguous_format)


@torch.library.custom_op("condense::evolve_backward", mutates_args=(), device_types="cpu")
def evolve_backward(  # noqa: PLR0913
    grad: Tensor,
    h: Tensor,
    f: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    steps: int,
    dt: float,
    dx: int,
    dy: int,
    scheme: str,
    boundary: str,
    source: bool,  # noqa: FBT001
    at_rest: bool,  # noqa: FBT001
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of h, f, weight and bias from that of h(K); the states are computed anew."""
    maps = _array(h)
    to_h = torch.empty_like(h, memory_format=torch.contiguous_format)
    to_f = torch.empty_like(h if f is not None else h[:0], memory_format=torch.contiguous_format)
    to_weight = np.zeros((h.shape[0], h.shape[1], 4, 9))
    to_bias = np.zeros((h.shape[0], h.shape[1], 4))
    grid, physics = _layout(h, f, dt, dx, dy, scheme, boundary, source, at_rest)
    source_maps = maps if f is None else _array(f)
    arguments = (maps, source_maps, _array(weight), _array(bias), _array(grad))
    results = (to_h.numpy(), to_f.numpy(), to_weight, to_bias)
    parts = cpu.parts_of(maps, torch.get_num_threads())
    cpu.backward(parts, *arguments, *results, grid, physics, steps)
    return to_h, to_f, _summed(to_weight, weight), _summed(to_bias, bias)


@evolve_backward.register_fake
def _(
    _grad: Tensor, h: Tensor, f: Tensor | None, weight: Tensor, bias: Tensor, *_rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    to_h = torch.empty_like(h, memory_format=torch.contiguous_format)
    to_f = torch.empty_like(h if f is not None else h[:0], memory_format=torch.contiguous_format)
    return to_h, to_f, torch.empty_like(weight), torch.empty_like(bias)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    h, f, weight, bias, scale, shift, *numbers = inputs
    if scale is not None or shift is not None:
        raise ValueError("the fused BatchNorm has no gradient: pass scale=None, shift=None")
    ctx.save_for_backward(h, f, weight, bias)
    ctx.numbers = numbers


def _evolve_gradients(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    h, f, weight, bias = ctx.saved_tensors
    to_h, to_f, to_weight, to_bias = evolve_backward(grad, h, f, weight, bias, *ctx.numbers)
    nothing = [None] * (2 + len(ctx.numbers))
    return (to_h, None if f is None else to_f, to_weight, to_bias, *nothing)


evolve.register_autograd(_evolve_gradients, setup_context=_remember)


@torch.library.custom_op("condense::moments", mutates_args=(), device_types="cpu")
def moments(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of zero-padded 3x3 depthwise convolutions over batch and map.

    Shape:
        h (N, C, H, W), weight (C, 4, 9) -> two of (C, 4).
    """
    maps = _array(h)
    sums, squares = (np.zeros((h.shape[0], h.shape[1], 4)) for _ in range(2))
    parts = cpu.parts_of(maps, torch.get_num_threads())
    cpu.moments(parts, maps, _array(weight), sums, squares, _plain_grid(h))
    count = h.shape[0] * h.shape[2] * h.shape[3]
    mean = sums.sum(axis=0) / count
    variance = np.maximum(squares.sum(axis=0) / count - mean**2, 0)
    return _tensor(mean, weight), _tensor(variance, weight)


@moments.register_fake
def _(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    shape = (h.shape[1], 4)
    return weight.new_empty(shape), weight.new_empty(shape)


@torch.library.custom_op("condense::moments_backward", mutates_args=(), device_types="cpu")
def moments_backward(
    to_mean: Tensor, to_variance: Tensor, mean: Tensor, h: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of h and weight from those of the moments."""
    maps = _array(h)
    count = h.shape[0] * h.shape[2] * h.shape[3]
    to_h = torch.empty_like(h, memory_format=torch.contiguous_format)
    to_weight = np.zeros((h.shape[0], h.shape[1], 4, 9))
    arguments = (maps, _array(weight), _array(-mean), _array(2 * to_variance / count))
    parts = cpu.parts_of(maps, torch.get_num_threads())
    results = (_array(to_mean / count), to_h.numpy(), to_weight)
    cpu.moments_backward(parts, *arguments, *results, _plain_grid(h))
    return to_h, _summed(to_weight, weight)


@moments_backward.register_fake
def _(
    _to_mean: Tensor, _to_variance: Tensor, _mean: Tensor, h: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(h, memory_format=torch.contiguous_format), torch.empty_like(weight)


def _remember_moments(
    ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]
) -> None:
    ctx.save_for_backward(*inputs, output[0])


def _moments_gradients(ctx: Any, to_mean: Tensor, to_variance: Tensor) -> tuple[Tensor, Tensor]:
    h, weight, mean = ctx.saved_tensors
    return moments_backward(to_mean, to_variance, mean, h, weight)


moments.register_autograd(_moments_gradients, setup_context=_remember_moments)


def _layout(  # noqa: PLR0913
    h: Tensor, f: Tensor | None, dt: float, dx: int, dy: int, scheme: str, boundary: str,
    source: bool, at_rest: bool,  # noqa: FBT001
) -> tuple[Grid, Physics]:
    kind = np.float64 if h.dtype == torch.float64 else np.float32
    numbers = (dt / dx, dt / dy, dt / dx**2, dt / dy**2, 2 * dt if source else 0, 1, 0.5, 0)
    physics = Physics(*map(kind, numbers), SCHEMES[scheme], f is None, at_rest)
    return make_grid(h.shape[2], h.shape[3], dx, dy, BOUNDARIES[boundary]), physics


def _plain_grid(h: Tensor) -> Grid:
    grid: Grid = make_grid(h.shape[2], h.shape[3], 1, 1, ZERO)
    return grid


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().contiguous().numpy()


def _tensor(values: np.ndarray[Any, Any], like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.dtype)


def _summed(values: np.ndarray[Any, Any], like: Tensor) -> Tensor:
    return _tensor(values.sum(axis=0), like)
