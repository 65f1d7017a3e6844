"""Looking at a model without leaving a trace: one image, eval mode, every operator seen."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from condense.errors import ConfigError


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode without gradients; afterwards every module is in its former mode."""
    before = {module: module.training for module in model.modules()}
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operator, which no counter knows
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
        for module, training in before.items():
            module.training = training


def random_images(model: nn.Module, input_size: Sequence[int], count: int = 1) -> Tensor:
    """Seeded noise of the shape, device and floating type that the model takes.

    Args:
        model: Whose first parameter says where and in which type.
        input_size: (C, H, W).
        count: N.

    Raises:
        ConfigError: If `input_size` is not three positive numbers.
    """
    if len(input_size) != 3 or any(size < 1 for size in input_size):
        raise ConfigError(
            f"input_size must be three positive numbers (C, H, W), got {tuple(input_size)}",
            hint="for example --input-size 3x32x32",
        )
    like = next(model.parameters(), torch.empty(0))
    noise = torch.randn(count, *input_size, generator=torch.Generator().manual_seed(0))
    return noise.to(device=like.device, dtype=like.dtype)


def plain_name(op: Any) -> str:
    """An operator's bare name: `aten::relu_.default` is `relu`, as in place is no other work."""
    name = op.name().split("::")[-1].split(".")[0]
    return str(name[:-1] if name.endswith("_") else name)


class OperatorMode(TorchDispatchMode, ABC):
    """Calls `see(op, args, kwargs, result)` for every ATen operator that runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.see(func, args, kwargs, result)
        return result

    @abstractmethod
    def see(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Take note of one operator.

        Args:
            op: The overload, for example `torch.ops.aten.add.Tensor`.
            args: What it was given.
            kwargs: What it was given by name.
            result: What came out.
        """
