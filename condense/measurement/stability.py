"""Which PDE layers of a network let their state grow, seen on one batch of its own data."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from condense.layers import GlobalLayer
from condense.layers.stability import Stability
from condense.measurement.observe import evaluating

GROWTH_LIMIT = 10.0
"""Times the rms of h(0) that H(K) may have before it is worth a warning."""


def stability(model: nn.Module, images: Tensor) -> dict[str, Stability]:
    """The diagnosis of every Global layer, by its name, on the maps that reach it.

    Args:
        model: Left as it was.
        images: One batch as the model takes it.
    """
    seen: dict[str, tuple[Any, ...]] = {}
    layers = {name: m for name, m in model.named_modules() if isinstance(m, GlobalLayer)}
    with evaluating(model), _inputs_noted(layers, seen):
        model(images)
    return {name: layers[name].stability(*inputs) for name, inputs in seen.items()}


def growth_warnings(
    model: nn.Module, images: Tensor, *, limit: float = GROWTH_LIMIT
) -> list[str]:
    """One sentence for each layer whose state grows more than `limit` times over its K steps."""
    return [
        f"{name}: H grows {found.growth:.3g} times over its steps, {found.beyond:.0%} of its values are "
        f"beyond the stability bound; a smaller dt or a larger coefficient_eps tames it"
        for name, found in stability(model, images).items()
        if not found.growth <= limit
    ]


@contextmanager
def _inputs_noted(
    layers: dict[str, GlobalLayer], seen: dict[str, tuple[Any, ...]]
) -> Iterator[None]:
    def note(name: str) -> Any:
        def hook(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen[name] = inputs

        return hook

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(note(name)).remove)
        yield
