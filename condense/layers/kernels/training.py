"""A whole Global layer in training as one torch operator, its BatchNorms with the batch's moments.

Torch's own BatchNorm and ReLU would read and write the maps as often again as all the rest.
Forward, the state is read twice (moments, evolution), h(K) is written, read once more and written
as relu(BN(h(K))); backward, the state evolves anew.

With r a coefficient's convolution of h(0), z = γ (r − mean) / σ + β and g = ∂L/∂z, BatchNorm gives

    ∂L/∂γ = Σ g (r − mean) / σ,  ∂L/∂β = Σ g,  ∂L/∂r = γ/σ (g − (∂L/∂β + (r − mean)/σ ∂L/∂γ) / n)

and Σ g r follows from the gradient of the convolution's weights, so that r is never stored.

S. Ioffe, C. Szegedy: Batch Normalization, ICML 2015.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense.layers.kernels.memory import as_array, as_maps, as_tensor


@torch.library.custom_op("condense::layer_in_training", mutates_args=(), device_types="cpu")
def layer_in_training(
    h: Tensor,
    f: Tensor | None,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    out_gamma: Tensor,
    out_beta: Tensor,
    constants: list[float],
    eps: float,
    out_eps: float,
    steps: int,
    dt: float,
    dx: int,
    dy: int,
    scheme: str,
    boundary: str,
    source: bool,
    at_rest: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """relu(BN(h(K))), h(K) and the batch's moments, by which the BatchNorms normalised.

    Args:
        h: As in `ops.global_layer`; so are the numbers from `steps` on.
        f: The source and h(-1); None if it is h.
        weight: (C, M, 9), the 3x3 convolutions of the M coefficients that are learnt: u, v and, but
            for `constants`, Dx, Dy. A bias would vanish in the BatchNorms.
        gamma: (C, M), weights of their BatchNorms.
        beta: (C, M), biases of these.
        out_gamma: (C,), weight of the BatchNorm of h(K).
        out_beta: (C,), its bias.
        constants: Dx and Dy where they are numbers; else empty.
        eps: Of the coefficients' BatchNorms.
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
        (N, C, H, W) -> twice the same; mean and (biased) variance of what the BatchNorms of u, v,
        Dx, Dy are given, (C, 4), and of h(K), (C,).
    """
    from condense.layers.kernels import cpu  # noqa: PLC0415 - numba takes a second

    maps, layout = as_maps(h), cpu.layout(tuple(h.shape), dx, dy, boundary)
    stencils = _filled(weight)
    mean, variance = cpu.moments(maps, stencils, cpu.layout(tuple(h.shape)))
    folded = _fold(stencils, gamma, beta, mean, variance, eps, constants)
    last, out = (torch.empty_like(h, memory_format=torch.contiguous_format) for _ in range(2))
    evolution = cpu.evolution(
        maps.dtype.type, f is None, steps, dt, dx, dy, scheme, source, at_rest
    )
    source_maps = maps if f is None else as_maps(f)
    given = (maps, source_maps, *folded)
    out_mean, out_variance = cpu.evolve(*given, as_maps(last), layout, evolution)
    scale = as_array(out_gamma) / np.sqrt(out_variance + out_eps)
    shift = as_array(out_beta) - scale * out_mean
    kind = maps.dtype
    cpu.rectify(as_maps(last), scale.astype(kind), shift.astype(kind), as_maps(out), layout)
    moments = (mean, variance, out_mean, out_variance)
    a, b, c, d = (as_tensor(values, weight) for values in moments)
    return out, last, a, b, c, d


@layer_in_training.register_fake
def _(
    h: Tensor, _f: Tensor | None, weight: Tensor, *_rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    out, last = (torch.empty_like(h, memory_format=torch.contiguous_format) for _ in range(2))
    of_maps, of_state = (h.shape[1], 4), (h.shape[1],)
    a, b, c, d = (weight.new_empty(shape) for shape in (of_maps, of_maps, of_state, of_state))
    return out, last, a, b, c, d


@torch.library.custom_op(
    "condense::layer_in_training_backward", mutates_args=(), device_types="cpu"
)
def layer_in_training_backward(
    grad: Tensor,
    last: Tensor,
    mean: Tensor,
    variance: Tensor,
    out_mean: Tensor,
    out_variance: Tensor,
    h: Tensor,
    f: Tensor | None,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    out_gamma: Tensor,
    out_beta: Tensor,
    constants: list[float],
    eps: float,
    out_eps: float,
    steps: int,
    dt: float,
    dx: int,
    dy: int,
    scheme: str,
    boundary: str,
    source: bool,
    at_rest: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of h, f, weight, gamma, beta, out_gamma and out_beta from that of the output."""
    from condense.layers.kernels import cpu  # noqa: PLC0415

    maps, layout = as_maps(h), cpu.layout(tuple(h.shape), dx, dy, boundary)
    kind, learnt = maps.dtype, weight.shape[1]
    to_h = torch.empty_like(h, memory_format=torch.contiguous_format)
    to_f = torch.empty_like(h if f is not None else h[:0], memory_format=torch.contiguous_format)
    out_norm = (out_gamma, out_beta, out_mean, out_variance)
    norm, to_out_gamma, to_out_beta = _through_out_norm(grad, last, *out_norm, out_eps)
    stencils, means, variances = _filled(weight), _wide(mean), _wide(variance)
    folded = _fold(stencils, gamma, beta, means, variances, eps, constants)
    evolution = cpu.evolution(kind.type, f is None, steps, dt, dx, dy, scheme, source, at_rest)
    given = (maps, maps if f is None else as_maps(f), *folded, as_maps(grad), norm)
    to_folded, to_beta = cpu.backward(*given, as_maps(to_h), as_maps(to_f), layout, evolution)
    sigma, slope = np.sqrt(variances + eps), np.zeros_like(means)
    slope[:, :learnt] = _wide(gamma) / sigma[:, :learnt]
    to_gamma = ((to_folded * stencils).sum(2) - means * to_beta) / sigma
    at_r, at_one = _affine(slope, sigma, to_gamma, to_beta, h.numel() // h.shape[1])
    centre, at_r, at_one = (values.astype(kind) for values in (-means, at_r, at_one))
    line = (maps, stencils, centre, at_r, at_one, as_maps(to_h))
    to_weight = cpu.moments_backward(*line, cpu.layout(tuple(h.shape)))
    to_weight += slope[..., None] * to_folded
    learnable = (to_weight[:, :learnt], to_gamma[:, :learnt], to_beta[:, :learnt])
    parameters = map(np.ascontiguousarray, (*learnable, to_out_gamma, to_out_beta))
    a, b, c, d, e = (as_tensor(values, weight) for values in parameters)
    return to_h, to_f, a, b, c, d, e


@layer_in_training_backward.register_fake
def _(
    _grad: Tensor,
    _last: Tensor,
    _mean: Tensor,
    _variance: Tensor,
    _out_mean: Tensor,
    _out_variance: Tensor,
    h: Tensor,
    f: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    to_h = torch.empty_like(h, memory_format=torch.contiguous_format)
    to_f = torch.empty_like(h if f is not None else h[:0], memory_format=torch.contiguous_format)
    a, b, c, d, e = (torch.empty_like(parameter) for parameter in rest[:5])
    return to_h, to_f, a, b, c, d, e


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    tensors, numbers = inputs[:7], inputs[7:]
    ctx.save_for_backward(*output[1:], *tensors)
    ctx.numbers = numbers
    ctx.set_materialize_grads(False)  # nobody differentiates the others: spare their zeros


def _gradients(ctx: Any, grad: Tensor | None, *_others: None) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    if grad is None:
        return (None,) * (7 + len(ctx.numbers))
    to_h, to_f, *rest = layer_in_training_backward(grad, *saved, *ctx.numbers)
    nothing = [None] * len(ctx.numbers)
    return (to_h, None if saved[6] is None else to_f, *rest, *nothing)


layer_in_training.register_autograd(_gradients, setup_context=_remember)


def _through_out_norm(
    grad: Tensor,
    last: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
) -> tuple[Any, Any, Any]:
    """The `norm` of `cpu.backward`; gradients of gamma and beta of the BatchNorm of h(K)."""
    from condense.layers.kernels import cpu  # noqa: PLC0415

    states, sigma = as_maps(last), np.sqrt(_wide(variance) + eps)
    scale = _wide(gamma) / sigma
    shift = _wide(beta) - scale * _wide(mean)
    rectified = (states, scale.astype(states.dtype), shift.astype(states.dtype), as_maps(grad))
    to_beta, product = cpu.rectify_backward(*rectified, cpu.layout(tuple(last.shape)))
    to_gamma = (product - _wide(mean) * to_beta) / sigma
    at_h, at_one = _affine(scale, sigma, to_gamma, to_beta, last.numel() // last.shape[1])
    rows = [scale, shift, scale, at_h, at_one - at_h * _wide(mean)]
    return np.stack(rows, 1).astype(states.dtype), to_gamma, to_beta


def _affine(slope: Any, sigma: Any, to_gamma: Any, to_beta: Any, count: int) -> tuple[Any, Any]:
    """What reaches r through the moments: the first times (r − mean), plus the second."""
    return -slope * to_gamma / (count * sigma), -slope * to_beta / count


def _filled(weight: Tensor) -> Any:
    """(C, M, 9) as (C, 4, 9): a coefficient that is a number has no stencil."""
    stencils = as_array(weight)
    return np.pad(stencils, ((0, 0), (0, 4 - stencils.shape[1]), (0, 0)))


def _fold(
    stencils: Any,
    gamma: Tensor,
    beta: Tensor,
    mean: Any,
    variance: Any,
    eps: float,
    constants: list[float],
) -> tuple[Any, Any]:
    """Weight (C, 4, 9) and bias (C, 4) with the BatchNorms folded in."""
    learnt = gamma.shape[1]
    slope, bias = np.zeros_like(mean), np.zeros_like(mean)
    slope[:, :learnt] = _wide(gamma) / np.sqrt(variance[:, :learnt] + eps)
    bias[:, :learnt] = _wide(beta) - slope[:, :learnt] * mean[:, :learnt]
    bias[:, learnt:] = constants
    kind = stencils.dtype
    return (slope[..., None] * stencils).astype(kind), bias.astype(kind)


def _wide(tensor: Tensor) -> Any:
    return as_array(tensor).astype(np.float64)
