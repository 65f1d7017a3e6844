"""Plan and surgery in one call."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from condense.conversion.plan import Scope
from condense.conversion.planning import Selection, make_plan
from condense.conversion.surgery import apply


def convert(  # noqa: PLR0913 - the layer's own options come beside ours
    model: nn.Module,
    stages: Selection = "all",
    *,
    layer: str = "global",
    scope: Scope = "stage",
    keep: int = 1,
    seed: int = 0,
    target: str | None = None,
    input_size: Sequence[int] | None = None,
    **options: Any,
) -> nn.Module:
    """A new module in which the repeats of `stages`, or convolutions, have given way to PDE layers.

    Args:
        model: The original; left as it was.
        stages: `all`, `auto`, names, or what `condense.analyze` found.
        layer: Name in `condense.layers.LAYERS`.
        scope: `stage` replaces repeats; `conv`, for `linear-mix`, each fitting convolution in the
            stages, with `all` anywhere in the network.
        keep: Blocks that stay in each stage.
        seed: Of the new layers' first values.
        target: For example `latency=60%`.
        input_size: (C, H, W), if neither the model nor `stages` says it.
        options: Of each new layer, checked by name.

    Returns:
        The converted module; its attribute `plan` rebuilds it.

    Raises:
        NothingToConvertError: If no stage, or no convolution, is left.
        TargetNotMetError: If the target is out of reach.
        ConfigError: If a name, an option or a number is not what it has to be.
    """
    plan = make_plan(
        model,
        stages,
        layer=layer,
        scope=scope,
        keep=keep,
        options=options,
        seed=seed,
        target=target,
        input_size=input_size,
    )
    return apply(plan, model)
