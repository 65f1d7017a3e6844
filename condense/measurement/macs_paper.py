"""Multiply–accumulates as the papers print them: the convention of thop 0.0.31, module by module.

- convolution, transposed too: `C_in / groups · kernel` for each output value, and 1 more for a
  bias;
- batch normalisation: 2 for each input value;
- linear: `C_in` for each output value, nothing for a bias;
- average pooling: 1 for each output value; adaptive: `window + 1`, the window in whole pixels;
- PReLU, LeakyReLU: 1 for each value; softmax: `3 n - 1` for each row of n;
- all else: nothing. That leaves out the arithmetic inside a PDE layer, functional calls, matrix
  products, and the pooling of a squeeze-excite gate, which the papers' code did not do by a
  module.

A subclass of one of these classes counts like the class: thop looks classes up by identity, and
so did not see timm's linear layers. For ONE image in eval mode.
"""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import thop
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AvgPoolNd
from torch.utils._pytree import tree_leaves

from condense.measurement.observe import evaluating, random_images

Rule = Callable[[Any, Any, Any], None]


def count_macs_paper(model: nn.Module, input_size: Sequence[int]) -> int:
    """Multiply–accumulates of one image by thop 0.0.31's rules.

    Args:
        model: Copied; the copy runs once on noise, in eval mode.
        input_size: (C, H, W).
    """
    image = random_images(model, input_size)
    copy = deepcopy(model)
    with evaluating(copy):
        rules = _rules(copy, _gate_pools(copy, image))
        total, _ = thop.profile(copy, inputs=(image,), custom_ops=rules, verbose=False)
    return int(total)


def _rules(model: nn.Module, skipped: set[nn.Module]) -> dict[type[nn.Module], Rule]:
    """A rule for every class that computes; one for a container would hide its children."""

    def rule(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if module not in skipped:
            module.total_ops += sum(
                cost(module, inputs[0], output)
                for kind, cost in COUNTED.items()
                if isinstance(module, kind)
            )

    def silent(module: nn.Module, inputs: Any, output: Any) -> None:
        del module, inputs, output

    containers = {type(module) for module in model.modules() if next(module.children(), None)}
    leaves = {type(module) for module in model.modules()} - containers
    counted = {type(module) for module in model.modules() if isinstance(module, tuple(COUNTED))}
    return dict.fromkeys(leaves, silent) | dict.fromkeys(counted, rule)


def _gate_pools(model: nn.Module, image: Tensor) -> set[nn.Module]:
    """Adaptive pools whose parent gives back the shape that it takes: squeeze-excite gates."""
    pools: set[nn.Module] = set()

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        shapes = [leaf.shape for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
        if isinstance(output, Tensor) and output.shape in shapes:
            own = (child for child in module.children() if isinstance(child, _AdaptiveAvgPoolNd))
            pools.update(own)

    handles = [module.register_forward_hook(note) for module in model.modules()]
    model(image)
    for handle in handles:
        handle.remove()
    return pools


def _conv(module: Any, x: Tensor, y: Tensor) -> int:
    del x
    fan_in = module.in_channels // module.groups * math.prod(module.kernel_size)
    return int(y.numel() * (fan_in + (module.bias is not None)))


def _batch_norm(module: Any, x: Tensor, y: Tensor) -> int:
    del module, y
    return 2 * x.numel()


def _linear(module: Any, x: Tensor, y: Tensor) -> int:
    del x
    return int(module.in_features) * y.numel()


def _pool(module: Any, x: Tensor, y: Tensor) -> int:
    del module, x
    return y.numel()


def _adaptive_pool(module: Any, x: Tensor, y: Tensor) -> int:
    del module
    axes = range(2, y.ndim)
    return y.numel() * (math.prod(x.shape[axis] // y.shape[axis] for axis in axes) + 1)


def _leaky(module: Any, x: Tensor, y: Tensor) -> int:
    del module, y
    return x.numel()


def _softmax(module: Any, x: Tensor, y: Tensor) -> int:
    del y
    length = x.shape[module.dim]
    return int(x.numel() // length * (3 * length - 1))


COUNTED: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], int]] = {
    _ConvNd: _conv,
    _BatchNorm: _batch_norm,
    nn.Linear: _linear,
    _AvgPoolNd: _pool,
    _AdaptiveAvgPoolNd: _adaptive_pool,
    nn.PReLU: _leaky,
    nn.LeakyReLU: _leaky,
    nn.Softmax: _softmax,
}
"""What each class costs, from the module, its input and its output."""
