"""The moments of a training layer's convolutions as a torch operator, differentiable, on a GPU.

There a training layer is two operators with their gradients, and between them the BatchNorms are
ordinary torch arithmetic on (C, 4) tensors:

    moments(h, weight)            mean and variance of the four convolutions' results
    evolve(h, f, weight, bias)    h(K), with the BatchNorms folded into weight and bias
"""

from typing import Any

import torch
from torch import Tensor

from condense.layers.kernels import gpu


@torch.library.custom_op("condense::moments", mutates_args=(), device_types="cuda")
def moments(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of zero-padded 3x3 depthwise convolutions over batch and map.

    Shape:
        h (N, C, H, W), weight (C, 4, 9) -> two of (C, 4).
    """
    return gpu.moments(h, weight)


@moments.register_fake
def _(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    shape = (h.shape[1], 4)
    return weight.new_empty(shape), weight.new_empty(shape)


@torch.library.custom_op("condense::moments_backward", mutates_args=(), device_types="cuda")
def moments_backward(
    to_mean: Tensor, to_variance: Tensor, mean: Tensor, h: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of h and weight from those of the moments."""
    return gpu.moments_backward(to_mean, to_variance, mean, h, weight)


@moments_backward.register_fake
def _(
    _to_mean: Tensor, _to_variance: Tensor, _mean: Tensor, h: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(h, memory_format=torch.contiguous_format), torch.empty_like(weight)


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[0])


def _gradients(ctx: Any, to_mean: Tensor, to_variance: Tensor) -> tuple[Tensor, Tensor]:
    h, weight, mean = ctx.saved_tensors
    grads: tuple[Tensor, Tensor] = moments_backward(to_mean, to_variance, mean, h, weight)
    return grads


moments.register_autograd(_gradients, setup_context=_remember)
