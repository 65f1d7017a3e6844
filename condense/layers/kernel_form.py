"""Whether a Global layer is, as it stands, what the fused kernels compute.

Modules are open to everybody: a part may have been replaced, frozen, reconfigured or hooked since
the last call. So each call asks anew, and asks in few steps: on a small map they would show.
"""

from operator import attrgetter
from typing import Any

import torch
from torch import nn
from torch.utils import _python_dispatch

_HOOKS = attrgetter("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")


def coefficient_maps(layer: Any) -> list[tuple[Any, Any]]:
    """Convolution and BatchNorm of each learnt coefficient: u, v and, where learnt, Dx, Dy."""
    parts = layer._modules["coefficients"]._modules  # a plain attribute costs ten times as much
    maps = [(parts["conv_u"], parts["bn_u"]), (parts["conv_v"], parts["bn_v"])]
    if "conv_diff_x" in parts:
        maps.append((parts["conv_diff_x"], parts["bn_diff_x"]))
        maps.append((parts["conv_diff_y"], parts["bn_diff_y"]))
    return maps


def has_kernel_form(layer: Any) -> bool:
    """Plain 3x3 stencils for each channel, BatchNorms and ReLUs, and an explicit scheme."""
    parts = layer._modules
    coefficients = parts["coefficients"]
    options = coefficients.options
    is_relu = type(parts["activation"]) is type(coefficients._modules["activation"]) is nn.ReLU
    if layer.scheme == "implicit" or options.product or options.velocity_from == "f" or not is_relu:
        return False
    maps = coefficient_maps(layer)
    is_biased, eps = maps[0][0]._parameters.get("bias") is not None, maps[0][1].eps
    for conv, norm in maps:
        if not _is_stencil(conv, layer.channels) or not _is_usual(norm, layer.training):
            return False
        if norm.eps != eps or (conv._parameters["bias"] is not None) != is_biased:
            return False
    return _is_usual(parts["bn_out"], layer.training)


def _is_stencil(conv: Any, channels: int) -> bool:
    """One 3x3 kernel for each channel, zero-padded."""
    return (
        type(conv) is nn.Conv2d
        and conv.groups == conv.in_channels == conv.out_channels == channels
        and conv.kernel_size == (3, 3)
        and conv.padding == conv.stride == conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
    )


def _is_usual(norm: Any, training: bool) -> bool:  # noqa: FBT001
    """A BatchNorm with the moments of the batch in training, and with its averages otherwise."""
    return (
        type(norm) is nn.BatchNorm2d
        and norm.affine
        and norm.track_running_stats
        and norm.training == training
        and norm.momentum is not None
    )


def is_observed(layer: Any) -> bool:
    """Whether something looks into the layer, which must then do what it says, part by part."""
    if torch.compiler.is_compiling():
        return False
    if _python_dispatch.is_in_torch_dispatch_mode() or torch._C._are_functorch_transforms_active():
        return True
    coefficients = layer._modules["coefficients"]
    parts = (coefficients, *coefficients._modules.values(), *layer._modules.values())
    return any(map(any, map(_HOOKS, parts)))
