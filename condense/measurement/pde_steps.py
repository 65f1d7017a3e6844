"""Time steps K of the PDE layers: work that no depth counts, so it is shown beside the depth."""

from torch import nn

from condense.layers import LAYERS


def pde_steps(model: nn.Module) -> tuple[int, ...]:
    """K of each PDE layer in the order of the modules; 1 for a layer that has no steps."""
    kinds = tuple(LAYERS[name] for name in LAYERS)
    found = (module for module in model.modules() if isinstance(module, kinds))
    return tuple(int(getattr(layer, "steps", 1)) for layer in found)
