"""Every layer against the repeats of a model's stages that it would replace."""

from collections.abc import Sequence

import torch
from torch import nn

from condense.analysis.stages import Stages
from condense.errors import NothingToConvertError
from condense.measurement.bench_cases import (
    Bench,
    Conditions,
    Figure,
    Skipped,
    layer_cases,
    summed,
    time_cases,
)

REMOVED = "removed repeats"


def bench_stages(  # noqa: PLR0913 - what is compared, and how
    model: nn.Module,
    stages: Stages,
    *,
    layers: Sequence[str] | None = ("global",),
    steps: Sequence[int] = (1, 5),
    keep: int = 1,
    conditions: Conditions | None = None,
) -> Bench:
    """Time layers against the blocks that they would replace, stage by stage.

    Args:
        model: What was analyzed; left as it was.
        stages: From `analyze`.
        layers: Names in `condense.layers.LAYERS`; None for all.
        steps: Numbers of steps, for the layers that make steps.
        keep: Blocks that stay in each stage.
        conditions: How to time.

    Raises:
        NothingToConvertError: If no stage has blocks that could go.
    """
    figures: list[Figure] = []
    skipped: list[Skipped] = []
    like = next(model.parameters())
    going = [stage for stage in stages.convertible if stage.repeats[keep - 1 :]]
    for stage in going:
        removed = [model.get_submodule(name) for name in stage.repeats[keep - 1 :]]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            cases = layer_cases(stage.out_shape[0], layers=layers, steps=steps)
        found, lost = time_cases(
            stage.name,
            {REMOVED: nn.Sequential(*removed)},
            {name: case.to(like) for name, case in cases.items()},
            stage.out_shape,
            conditions or Conditions(),
        )
        figures += found
        skipped += lost
    if not going:
        raise NothingToConvertError(
            "no stage has repeats to hold a layer against", hint="condense analyze says why not"
        )
    return Bench(
        kind="stages",
        subject=f"layers against the {REMOVED} of each stage, {keep} block{'s' * (keep > 1)} kept",
        figures=tuple(figures),
        sums=tuple(summed(figures, f"all {len(going)} stages") if len(going) > 1 else ()),
        skipped=tuple(skipped),
        notes=tuple(_left_out(stages, keep)),
    )


def _left_out(stages: Stages, keep: int) -> list[str]:
    return [
        f"{stage.name} is left out: {stage.reason or f'it has no more than {keep} blocks to keep'}"
        for stage in stages
        if not (stage.convertible and stage.repeats[keep - 1 :])
    ]
