"""Depth in layers: convolutions and linear maps on the longest path from the image to the output.

The path is followed through the tensors themselves: every operator's result lies as deep as the
deepest of its operands, and one deeper if it is a convolution or the product of a signal with
weights. A product of two signals (attention) is no layer. A PDE layer (any class of
`condense.layers.LAYERS`) counts one, plus its init block.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from condense.layers import LAYERS
from condense.measurement.observe import OperatorMode, evaluating, plain_name, random_images

CONVOLUTIONS = frozenset(
    {"convolution", "_convolution", "cudnn_convolution", "_slow_conv2d_forward"}
)
PRODUCTS = frozenset({"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "_scaled_mm"})


def depth_layers(model: nn.Module, input_size: Sequence[int]) -> int:
    """Weighted layers on the longest path.

    Args:
        model: Run once, on noise, in eval mode; left as it was.
        input_size: (C, H, W).
    """
    image = random_images(model, input_size)
    with evaluating(model), _DepthMode() as mode, _pde_layers_count_one(model, mode):
        mode.set_depth(image, 0)
        return max((mode.depth_of(leaf) or 0 for leaf in _tensors(model(image))), default=0)


class _DepthMode(OperatorMode):
    """Depth of every storage that depends on the image; weights are in none."""

    def __init__(self) -> None:
        super().__init__()
        self._depths: dict[int, int] = {}
        self._kept: list[Tensor] = []  # a storage that is freed could give its address to another

    def depth_of(self, tensor: Tensor) -> int | None:
        return self._depths.get(tensor.untyped_storage()._cdata)

    def set_depth(self, tensor: Tensor, depth: int) -> None:
        self._depths[tensor.untyped_storage()._cdata] = depth
        self._kept.append(tensor)

    def see(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        operands = [self.depth_of(tensor) for tensor in _tensors((args, kwargs))]
        signals = [depth for depth in operands if depth is not None]
        if not signals:
            return
        depth = max(signals) + self._is_layer(op, args)
        for tensor in _tensors(result):
            self.set_depth(tensor, depth)

    def _is_layer(self, op: Any, args: tuple[Any, ...]) -> bool:
        name = plain_name(op)
        if name in PRODUCTS:
            factors = args[1:3] if name in {"addmm", "baddbmm", "addmv"} else args[:2]
            return sum(self.depth_of(factor) is None for factor in factors) == 1
        return name in CONVOLUTIONS


@contextlib.contextmanager
def _pde_layers_count_one(model: nn.Module, mode: _DepthMode) -> Iterator[None]:
    """Whatever is inside a PDE layer, its output lies one deeper than its init block's."""
    kinds = tuple(LAYERS[name] for name in LAYERS)
    entered: dict[nn.Module, int] = {}

    def enter(module: nn.Module, inputs: Any) -> None:
        entered[module] = max((mode.depth_of(leaf) or 0 for leaf in _tensors(inputs)), default=0)

    def leave_init(layer: nn.Module) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            del module, inputs
            entered[layer] = max((mode.depth_of(leaf) or 0 for leaf in _tensors(output)), default=0)

        return hook

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        del inputs
        for leaf in _tensors(output):
            mode.set_depth(leaf, entered[module] + 1)

    handles = []
    for layer in (module for module in model.modules() if isinstance(module, kinds)):
        handles += [layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)]
        init = getattr(layer, "init", None)
        if isinstance(init, nn.Module):
            handles.append(init.register_forward_hook(leave_init(layer)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
