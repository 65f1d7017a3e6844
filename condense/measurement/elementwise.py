"""Elementwise work: what runs once per element, which no count of multiply–accumulates sees.

Convention, for ONE image in the readable eval form:
- one for each element of the result of an elementwise ATen operator: addition, product, power,
  comparison, activation (whole, whatever is inside it);
- two for each element of a normalisation: scale and shift. Statistics taken at run time
  (LayerNorm, GroupNorm) are reductions and are not in it;
- two for an operator that fuses two (`addcmul`, `addcdiv`, `lerp`, `add` with a factor);
- nothing for memory traffic: copies, rolls, padding, concatenation, views.

Every time step of a PDE layer is a sequence of such operators, so each one shows.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from condense.measurement.observe import OperatorMode, evaluating, plain_name, random_images

NORMALISATIONS = frozenset(
    {"native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit",
     "_batch_norm_no_update", "cudnn_batch_norm", "miopen_batch_norm",
     "native_layer_norm", "native_group_norm", "_fused_rms_norm"}
)  # fmt: skip
FUSED_PAIRS = frozenset({"addcmul", "addcdiv", "lerp"})
UNTAGGED = frozenset({"hardswish", "prelu", "_prelu_kernel", "rsub", "where", "masked_fill"})
"""Elementwise, but without torch's `pointwise` tag as of torch 2.15."""
TAGGED_COPIES = frozenset({"clone", "copy", "_to_copy"})
"""Tagged `pointwise`, but they compute nothing."""


def count_elementwise(model: nn.Module, input_size: Sequence[int]) -> int:
    """Scalar elementwise operations for one image.

    Args:
        model: Run once, on noise, in eval mode; left as it was.
        input_size: (C, H, W).
    """
    with evaluating(model), _ElementwiseMode() as mode:
        model(random_images(model, input_size))
    return sum(mode.by_op.values())


def elementwise_ops_of(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """Scalar operations of one ATen operator, 0 if it is not elementwise."""
    name = plain_name(op)
    first = result[0] if isinstance(result, tuple | list) and result else result
    if not isinstance(first, Tensor):
        return 0
    if name in NORMALISATIONS or name in FUSED_PAIRS:
        return 2 * first.numel()
    if name in UNTAGGED or (torch.Tag.pointwise in op.tags and name not in TAGGED_COPIES):
        has_factor = name in {"add", "sub", "rsub"} and _alpha(args, kwargs) != 1
        return (2 if has_factor else 1) * first.numel()
    return 0


class _ElementwiseMode(OperatorMode):
    def __init__(self) -> None:
        super().__init__()
        self.by_op: Counter[str] = Counter()

    def see(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        self.by_op[plain_name(op)] += elementwise_ops_of(op, args, kwargs, result)


def _alpha(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kwargs.get("alpha", args[2] if len(args) > 2 else 1)
