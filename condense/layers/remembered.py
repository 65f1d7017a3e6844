"""What was computed from some weights, until they change.

A spectrum depends on the weights and on the size of the map, not on the images; for one image it
costs about as much as the rest of its layer. Weights are compared by value: an optimiser's step,
`load_state_dict`, `.to`, and an assignment through `.data`, which no version counter sees, are all
noticed, and comparing takes microseconds.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils import _python_dispatch


class Remembered:
    """The latest result of a computation, good for the same weights and sizes.

    Only on the CPU and without gradients: comparing would make a GPU wait, and a result with a
    gradient belongs to its graph. Whatever counts, traces, compiles or exports sees the computation
    itself. Copies and pickles start empty.
    """

    def __init__(self) -> None:
        self._last: tuple[tuple[Tensor | float, ...], Tensor] | None = None

    def __call__(self, compute: Callable[[], Tensor], *given: Tensor | float) -> Tensor:
        """What `compute` gives; `given` is all that it depends on."""
        if not _may_remember(given):
            return compute()
        last = self._last  # read once: another thread may replace it
        if last is not None and all(map(_is_same, last[0], given)):
            return last[1]
        result = compute()
        kept = tuple(item.clone() if isinstance(item, Tensor) else item for item in given)
        self._last = kept, result
        return result

    def __reduce__(self) -> tuple[type["Remembered"], tuple[()]]:
        return Remembered, ()


def _may_remember(given: tuple[Tensor | float, ...]) -> bool:
    return (
        not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and not _python_dispatch.is_in_torch_dispatch_mode()
        and all(item.device.type == "cpu" for item in given if isinstance(item, Tensor))
    )


def _is_same(one: Tensor | float, other: Tensor | float) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return not isinstance(one, Tensor) and not isinstance(other, Tensor) and one == other
