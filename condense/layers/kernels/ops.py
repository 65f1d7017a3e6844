"""The fused kernels as torch operators, differentiable, known to torch.compile and torch.export.

`global_layer` is a whole layer in eval mode. Two operators and their gradients make one in
training; the BatchNorms between them are ordinary torch arithmetic on (C, 4) tensors:

    moments(h, weight)            mean and variance of the four convolutions' results
    evolve(h, f, weight, bias)    h(K), with the BatchNorms folded into weight and bias

A. Kag, V. Saligrama: Condensing CNNs With Partial Differential Equations, CVPR 2022.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor


@torch.library.custom_op("condense::global_layer", mutates_args=(), device_types="cpu")
def global_layer(
    h: Tensor,
    f: Tensor | None,
    parameters: Tensor,
    constants: list[float],
    has_bias: bool,
    coefficient_eps: float,
    out_eps: float,
    steps: int,
    dt: float,
    dx: int,
    dy: int,
    scheme: str,
    boundary: str,
    source: bool,
    at_rest: bool,
) -> Tensor:
    """A whole Global layer in eval mode, relu(BN(h(K))); without a gradient.

    Args:
        h: h(0).
        f: The source and h(-1); None if it is h.
        parameters: One after the other, for each of u, v and, where they are learnt, Dx, Dy: the
            3x3 weights, the bias if there is one, the BatchNorm's weight, bias, mean, variance; at
            the end those of the BatchNorm of h(K).
        constants: Dx and Dy where they are numbers; else empty.
        has_bias: Whether the convolutions have biases.
        coefficient_eps: Of the coefficients' BatchNorms.
        out_eps: Of the BatchNorm of h(K).
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
    from condense.layers.kernels import cpu  # noqa: PLC0415 - numba takes a second

    out = torch.empty_like(h, memory_format=torch.contiguous_format)
    maps = _maps(h)
    source_maps = maps if f is None else _maps(f)
    folded = cpu.fold(_array(parameters), h.shape[1], constants, has_bias, coefficient_eps, out_eps)
    layout = cpu.layout(h.shape, dx, dy, boundary)
    physics = cpu.physics(maps.dtype.type, f is None, dt, dx, dy, scheme, source, at_rest)
    cpu.forward(maps, source_maps, *folded, 0.0, _maps(out), layout, physics, steps)
    return out


@global_layer.register_fake
def _(h: Tensor, *_rest: Any) -> Tensor:
    return torch.empty_like(h, memory_format=torch.contiguous_format)


@torch.library.custom_op("condense::evolve", mutates_args=(), device_types="cpu")
def evolve(
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
    source: bool,
    at_rest: bool,
) -> Tensor:
    """h(K) of every plane.

    Args:
        h: As in `global_layer`; so are all others.
        f: The source and h(-1); None if it is h.
        weight: (C, 4, 9), the 3x3 convolutions of u, v, Dx, Dy, BatchNorms folded in.
        bias: (C, 4).
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
    from condense.layers.kernels import cpu  # noqa: PLC0415

    out = torch.empty_like(h, memory_format=torch.contiguous_format)
    maps = _maps(h)
    source_maps = maps if f is None else _maps(f)
    one, zero = np.ones(h.shape[1], maps.dtype), np.zeros(h.shape[1], maps.dtype)
    folded = (_array(weight), _array(bias), one, zero)
    layout = cpu.layout(h.shape, dx, dy, boundary)
    physics = cpu.physics(maps.dtype.type, f is None, dt, dx, dy, scheme, source, at_rest)
    cpu.forward(maps, source_maps, *folded, -math.inf, _maps(out), layout, physics, steps)
    return out


@evolve.register_fake
def _(h: Tensor, *_rest: Any) -> Tensor:
    return torch.empty_like(h, memory_format=torch.contiguous_format)


@torch.library.custom_op("condense::evolve_backward", mutates_args=(), device_types="cpu")
def evolve_backward(
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
    source: bool,
    at_rest: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of h, f, weight and bias from that of h(K); the states are computed anew."""
    from condense.layers.kernels import cpu  # noqa: PLC0415

    maps = _maps(h)
    source_maps = maps if f is None else _maps(f)
    to_h = torch.empty_like(h, memory_format=torch.contiguous_format)
    to_f = torch.empty_like(h if f is not None else h[:0], memory_format=torch.contiguous_format)
    layout = cpu.layout(h.shape, dx, dy, boundary)
    physics = cpu.physics(maps.dtype.type, f is None, dt, dx, dy, scheme, source, at_rest)
    given = (maps, source_maps, _array(weight), _array(bias), _maps(grad))
    sums = cpu.backward(*given, _maps(to_h), _maps(to_f), layout, physics, steps)
    return to_h, to_f, _tensor(sums[0], weight), _tensor(sums[1], bias)


@evolve_backward.register_fake
def _(
    _grad: Tensor, h: Tensor, f: Tensor | None, weight: Tensor, bias: Tensor, *_rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    to_h = torch.empty_like(h, memory_format=torch.contiguous_format)
    to_f = torch.empty_like(h if f is not None else h[:0], memory_format=torch.contiguous_format)
    return to_h, to_f, torch.empty_like(weight), torch.empty_like(bias)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    h, f, weight, bias, *numbers = inputs
    ctx.save_for_backward(h, f, weight, bias)
    ctx.numbers = numbers


def _evolve_gradients(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    h, f, weight, bias = ctx.saved_tensors
    to_h, to_f, to_weight, to_bias = evolve_backward(grad, h, f, weight, bias, *ctx.numbers)
    nothing = [None] * len(ctx.numbers)
    return (to_h, None if f is None else to_f, to_weight, to_bias, *nothing)


evolve.register_autograd(_evolve_gradients, setup_context=_remember)


@torch.library.custom_op("condense::moments", mutates_args=(), device_types="cpu")
def moments(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of zero-padded 3x3 depthwise convolutions over batch and map.

    Shape:
        h (N, C, H, W), weight (C, 4, 9) -> two of (C, 4).
    """
    from condense.layers.kernels import cpu  # noqa: PLC0415

    sums, squares = cpu.moments(_maps(h), _array(weight), cpu.layout(h.shape))
    count = h.shape[0] * h.shape[2] * h.shape[3]
    mean = sums / count
    variance = np.maximum(squares / count - mean**2, 0)
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
    from condense.layers.kernels import cpu  # noqa: PLC0415

    count = h.shape[0] * h.shape[2] * h.shape[3]
    to_h = torch.empty_like(h, memory_format=torch.contiguous_format)
    gradient = (_array(-mean), _array(2 * to_variance / count), _array(to_mean / count))
    to_weight = cpu.moments_backward(
        _maps(h), _array(weight), *gradient, _maps(to_h), cpu.layout(h.shape)
    )
    return to_h, _tensor(to_weight, weight)


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
    grads: tuple[Tensor, Tensor] = moments_backward(to_mean, to_variance, mean, h, weight)
    return grads


moments.register_autograd(_moments_gradients, setup_context=_remember_moments)


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().contiguous().numpy()


def _maps(maps: Tensor) -> np.ndarray[Any, Any]:
    """All values in one row; a view if the maps are contiguous."""
    return _array(maps).reshape(-1)


def _tensor(values: np.ndarray[Any, Any], like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.dtype)
