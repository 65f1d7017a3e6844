"""Time steps that are too long for the operators they were given to."""

from torch import nn

from condense.layers import CirculantReactionDiffusion, ExplicitReactionDiffusion


def steps_beyond_bound(model: nn.Module) -> tuple[str, ...]:
    """A sentence for each explicit layer whose dt its operator, as it is now, does not allow.

    Such a layer is stable all the same: it cuts dt down in each step.
    """
    return tuple(
        f"{name}: dt {layer.dt.start:.3g} is beyond {layer.largest_dt():.3g}, the bound of its "
        "operator, and is cut down to it"
        for name, layer in model.named_modules()
        if isinstance(layer, ExplicitReactionDiffusion | CirculantReactionDiffusion)
        and layer.dt.start > layer.largest_dt()
    )
