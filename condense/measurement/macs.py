"""Multiply–accumulates, counted operator by operator as the model runs.

Convention: half of torch's FLOP count (`torch.utils.flop_counter`) for ONE image in eval mode:
convolutions, matrix products and attention, whoever calls them. A bias costs nothing. Everything
elementwise is counted apart, as `elementwise_ops`; counting by module, as thop does, sees none of
the arithmetic inside a PDE layer's loop.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_flop_count

from condense.measurement.elementwise import elementwise_ops_of
from condense.measurement.observe import OperatorMode, evaluating, plain_name, random_images

MOVEMENT = frozenset(
    {"clone", "copy", "_to_copy", "fill", "zero", "roll", "flip", "cat", "stack", "constant_pad_nd",
     "reflection_pad2d", "replication_pad2d", "_pad_enum", "index", "index_select", "index_put",
     "_unsafe_index", "gather", "scatter", "embedding", "repeat", "pixel_shuffle",
     "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle",
     "upsample_nearest2d", "slice_scatter",
     "select_scatter", "tril", "triu", "im2col", "_local_scalar_dense", "lift_fresh",
     "_unsafe_view", "_reshape_copy", "_reshape_alias", "as_strided", "squeeze", "unsqueeze",
     "transpose", "t", "detach", "bernoulli", "dropout"}
)  # fmt: skip
"""Operators that move values and compute none; views (but for those in place) and new tensors are
recognised as such."""


def _attention_flops(query: Any, key: Any, value: Any, *_rest: Any, **_keywords: Any) -> int:
    flops: int = sdpa_flop_count(query, key, value)
    return flops


RULES = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
"""What torch's counter has no rule for before torch 2.15."""


@dataclass(frozen=True, slots=True)
class MacCount:
    """Multiply–accumulates of one image.

    Args:
        total: All of them.
        by_op: By ATen operator.
        uncounted: Operators that computed something but have a rule neither here nor among the
            elementwise ones, with the number of values that they gave: pooling, softmax, Fourier
            transforms, solvers, other people's kernels. A report must show these.
    """

    total: int
    by_op: dict[str, int]
    uncounted: dict[str, int]


def count_macs(model: nn.Module, input_size: Sequence[int]) -> MacCount:
    """Multiply–accumulates for one image.

    Args:
        model: Run once, on noise, in eval mode; left as it was.
        input_size: (C, H, W).
    """
    image = random_images(model, input_size)
    # The mode that is entered first sees what the counter runs, composite operators taken apart.
    counter = FlopCounterMode(display=False, custom_mapping=RULES)
    with evaluating(model), _UncountedMode() as rest, counter:
        model(image)
    flops = counter.get_flop_counts().get("Global", {})
    by_op = {str(op).removeprefix("aten."): int(count) // 2 for op, count in flops.items()}
    return MacCount(sum(by_op.values()), by_op, dict(rest.found))


class _UncountedMode(OperatorMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def see(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        packet = getattr(op, "_overloadpacket", op)
        has_rule = packet in flop_registry or packet in RULES
        if has_rule or _moves_only(op, args, kwargs):
            return
        if not elementwise_ops_of(op, args, kwargs, result):
            values = sum(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
            if values:
                self.found[plain_name(op)] += values


def _moves_only(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    takes_tensors = any(isinstance(leaf, Tensor) for leaf in tree_leaves((args, kwargs)))
    name = plain_name(op)
    is_factory = not takes_tensors or name.startswith(("new_", "empty", "zeros", "ones", "full"))
    aliases = [value.alias_info for value in op._schema.returns]
    is_view = any(alias is not None and not alias.is_write for alias in aliases)
    return is_factory or is_view or name in MOVEMENT
