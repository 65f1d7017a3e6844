"""Do the PDE layers of a model stay stable on real images?"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from condense.layers import Stability
from condense.measurement.observe import evaluating

GROWTH_LIMIT = 30.0  # of the rms of H over the steps; the source alone gives about 1 + K dt


@runtime_checkable
class Diagnosable(Protocol):
    """A layer that can say how its scheme fares on a batch."""

    def stability(self, *inputs: Tensor) -> Stability:
        """See `GlobalLayer.stability`."""


def growing_layers(model: nn.Module, images: Tensor) -> dict[str, float]:
    """Layers in which H grows more than `GROWTH_LIMIT`-fold on `images`, and by how much.

    Args:
        model: In any mode; measured in eval mode.
        images: Normalised as the model expects.
    """
    layers = {k: m for k, m in model.named_modules() if isinstance(m, Diagnosable)}
    inputs: dict[str, tuple[Any, ...]] = {}
    with _noted(layers, inputs), evaluating(model):
        if layers:
            model(images)
    growths = {name: layers[name].stability(*given).growth for name, given in inputs.items()}
    return {name: growth for name, growth in growths.items() if not growth <= GROWTH_LIMIT}


@contextmanager
def _noted(layers: dict[str, Any], inputs: dict[str, tuple[Any, ...]]) -> Iterator[None]:
    def note(name: str) -> Any:
        return lambda _, given: inputs.setdefault(name, given) and None

    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
