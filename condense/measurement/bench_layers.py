"""Every layer against the residual block of its shape."""

from collections.abc import Sequence

import torch
from torch import nn

from condense.errors import ConfigError
from condense.measurement.bench_cases import (
    Bench,
    Conditions,
    Figure,
    Skipped,
    layer_cases,
    summed,
    time_cases,
)
from condense.models.cifar_resnet import BasicBlock

Shape = tuple[int, int, int]
SHAPES: tuple[Shape, ...] = ((16, 32, 32), (32, 16, 16), (64, 8, 8))
"""The stages of the ResNets for CIFAR."""
BLOCK = "residual block"


def bench_layers(
    shapes: Sequence[Shape] = SHAPES,
    *,
    layers: Sequence[str] | None = None,
    steps: Sequence[int] = (1, 5),
    conditions: Conditions | None = None,
    device: torch.device | str = "cpu",
) -> Bench:
    """Time layers against a BasicBlock on maps of each shape.

    Args:
        shapes: (C, H, W).
        layers: Names in `condense.layers.LAYERS`; by default all.
        steps: Numbers of steps, for the layers that make steps.
        conditions: How to time.
        device: Where.

    Raises:
        ConfigError: If there is no such layer, or nothing to time.
    """
    if not shapes:
        raise ConfigError("a benchmark needs at least one shape", hint="for example 16x32x32")
    figures: list[Figure] = []
    skipped: list[Skipped] = []
    for shape in shapes:
        channels = shape[0]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            block: nn.Module = BasicBlock(channels, channels, 1).to(device)
            cases = layer_cases(channels, layers=layers, steps=steps)
        cases = {name: case.to(device) for name, case in cases.items()}
        place = "x".join(map(str, shape))
        found, lost = time_cases(place, {BLOCK: block}, cases, shape, conditions or Conditions())
        figures += found
        skipped += lost
    sums = summed(figures, f"all {len(shapes)} shapes") if len(set(shapes)) > 1 else []
    return Bench(
        kind="layers",
        subject=f"layers against the {BLOCK} of their shape",
        figures=tuple(figures),
        sums=tuple(sums),
        skipped=tuple(skipped),
    )
