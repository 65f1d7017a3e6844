"""What a stage takes on this machine, and what a layer in the place of its repeats would.

A stage's latency is the time spent in its blocks while the whole model runs. A replacement is
timed against the blocks that it removes, both alone on noise of the recorded shape, in
alternating rounds. What was measured on this machine before is not measured again.
"""

import inspect
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from condense.analysis.stages import Stage, Stages, Totals, Trial
from condense.errors import ConfigError
from condense.layers import LAYERS, build_layer
from condense.measurement import count_macs, count_params, interleave, ratio_interval
from condense.measurement.cache import (
    LatencyCache,
    kernels_of,
    latency_cache,
    machine_facts,
    structure_of,
)
from condense.measurement.observe import evaluating, random_images

REPEATS = 20


def measure_stages(  # noqa: PLR0913 - what is measured, and how
    model: nn.Module,
    stages: Stages,
    *,
    layer: str = "global",
    options: Mapping[str, Any] | None = None,
    keep: int = 1,
    count: int = 1,
    batch_size: int = 1,
    repeats: int = REPEATS,
    fresh: bool = False,
) -> Stages:
    """The same stages with latencies, and a measured replacement for each convertible one.

    Args:
        model: What was analyzed; left as it was.
        stages: From `analyze`.
        layer: A name in `condense.layers.LAYERS`.
        options: Of the layer; `steps` is the number of layers if it has no such option.
        keep: Blocks that stay in each stage; with no repeat beyond them there is no replacement.
        count: New layers in each stage, one behind the other.
        batch_size: Images at a time.
        repeats: Rounds of timing.
        fresh: Measure again what was measured on this machine before.
    """
    options, count = split_steps(layer, options, count)
    measured = []
    with latency_cache(fresh=fresh) as cache:
        how = machine_facts(random_images(model, stages.input_size)) | {
            "batch_size": batch_size,
            "repeats": repeats,
        }
        latencies = _latencies(model, stages, cache, how)
        for stage in stages:
            trial = None
            if stage.convertible and (removed := stage.repeats[keep - 1 :]):
                blocks = nn.Sequential(*(model.get_submodule(name) for name in removed))
                new = new_layers(layer, stage.out_shape[0], options, count=count)
                recipe = {"layer": layer, "options": options, "count": count, "keep": keep}
                trial = _trial(blocks, new, stage, cache, how | recipe)
            measured.append(replace(stage, latency_ms=latencies[stage.name], replacement=trial))
    totals = Totals(
        params=stages.totals.params, macs=stages.totals.macs, latency_ms=latencies[WHOLE]
    )
    return replace(stages, stages=tuple(measured), totals=totals)


WHOLE = ""
"""The whole model among the names of stages."""


def _latencies(
    model: nn.Module, stages: Stages, cache: LatencyCache, how: Mapping[str, Any]
) -> dict[str, float]:
    """By the stage's name, from the cache or measured."""
    groups = {stage.name: stage.blocks for stage in stages}
    facts = {
        **how,
        "model": structure_of(model),
        "kernels": kernels_of(model),
        "groups": groups,
        "input_size": stages.input_size,
    }

    def read(found: Mapping[str, float]) -> dict[str, float]:
        return {name: float(found[name]) for name in (*groups, WHOLE)}

    known = cache.get(facts, read)
    if known is None:
        known = time_in_modules(
            model,
            groups,
            stages.input_size,
            batch_size=how["batch_size"],
            repeats=how["repeats"],
        )
        cache.put(facts, known)
    return known


def _trial(
    removed: nn.Module, new: nn.Module, stage: Stage, cache: LatencyCache, how: Mapping[str, Any]
) -> Trial:
    """Of `new` against `removed`, from the cache or measured."""
    like = next(removed.parameters(), torch.empty(0))
    new = new.to(device=like.device, dtype=like.dtype)
    facts = {
        **how,
        "new": structure_of(new),
        "removed": structure_of(removed),
        "kernels": [kernels_of(new), kernels_of(removed)],
        "shape": stage.out_shape,
    }
    known = cache.get(facts, Trial.from_dict)
    if known is None:
        conditions = {name: how[name] for name in ("layer", "batch_size", "repeats")}
        known = try_layer(removed, new, stage, **conditions)
        cache.put(facts, known.to_dict())
    return known


def split_steps(
    layer: str, options: Mapping[str, Any] | None, count: int = 1
) -> tuple[dict[str, Any], int]:
    """Where a layer has no option `steps`, that many layers are meant.

    Returns:
        The layer's own options, and the number of layers.

    Raises:
        ConfigError: If the number of layers is not a whole number >= 1.
    """
    own = dict(options or {})
    if "steps" in own and "steps" not in inspect.signature(LAYERS[layer]).parameters:
        count = own.pop("steps")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(
            f"the number of {layer} layers must be a whole number >= 1, got {count!r}"
        )
    return own, count


def new_layers(
    layer: str,
    channels: int,
    options: Mapping[str, Any] | None = None,
    *,
    count: int = 1,
    seed: int = 0,
) -> nn.Sequential:
    """`count` layers in a row, drawn with `seed`; the global generators stay as they are.

    Raises:
        ConfigError: If there is no such layer, or it has no such option.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(*(build_layer(layer, channels, options) for _ in range(count)))


def try_layer(  # noqa: PLR0913 - both sides of a comparison, and how it is made
    removed: nn.Module,
    new: nn.Module,
    stage: Stage,
    *,
    layer: str,
    batch_size: int = 1,
    repeats: int = REPEATS,
) -> Trial:
    """Count and time `new` against `removed` on maps of the stage's output shape.

    Everything that is measured of a replacement is measured here.
    """
    like = next(removed.parameters(), torch.empty(0))
    new = new.to(device=like.device, dtype=like.dtype)
    maps = random_images(removed, stage.out_shape, batch_size)
    with evaluating(removed), evaluating(new):
        timings = interleave(
            {"new": lambda: new(maps), "removed": lambda: removed(maps)},
            repeats=repeats,
            device=like.device,
        )
    return Trial(
        layer=layer,
        params=count_params(new),
        macs=count_macs(new, stage.out_shape).total,
        latency_ms=timings["new"].median_ms,
        removed_params=count_params(removed),
        removed_macs=count_macs(removed, stage.out_shape).total,
        removed_latency_ms=timings["removed"].median_ms,
        ratio=ratio_interval(timings["new"], timings["removed"]),
    )


def time_in_modules(
    model: nn.Module,
    groups: Mapping[str, Sequence[str]],
    input_size: Sequence[int],
    *,
    batch_size: int = 1,
    repeats: int = REPEATS,
) -> dict[str, float]:
    """Median milliseconds that a run of the model spends in each group of modules.

    Args:
        model: Left as it was.
        groups: Names of modules, by the name of the group.
        input_size: (C, H, W) of one image.
        batch_size: Images at a time.
        repeats: Rounds of timing.

    Returns:
        One number per group, and the whole model's under `WHOLE`.
    """
    images = random_images(model, input_size, batch_size)
    spent: dict[str, float] = dict.fromkeys(groups, 0.0)
    rounds: dict[str, list[float]] = {name: [] for name in groups}

    def run() -> None:
        spent.update(dict.fromkeys(groups, 0.0))
        model(images)
        for name, seconds in spent.items():
            rounds[name].append(1000 * seconds)

    with evaluating(model), _clocks(model, groups, spent, _barrier(images)):
        whole = interleave({WHOLE: run}, repeats=repeats, device=images.device)[WHOLE]
    kept = {name: samples[-repeats * whole.calls :] for name, samples in rounds.items()}
    return {name: statistics.median(samples) for name, samples in kept.items()} | {
        WHOLE: whole.median_ms
    }


@contextmanager
def _clocks(
    model: nn.Module,
    groups: Mapping[str, Sequence[str]],
    spent: dict[str, float],
    wait: Callable[[], None],
) -> Iterator[None]:
    begun: dict[nn.Module, float] = {}
    group_of = {model.get_submodule(name): group for group in groups for name in groups[group]}

    def start(module: nn.Module, inputs: Any) -> None:
        del inputs
        wait()
        begun[module] = time.perf_counter()

    def stop(module: nn.Module, inputs: Any, output: Any) -> None:
        del inputs, output
        wait()
        spent[group_of[module]] += time.perf_counter() - begun[module]

    handles = []
    for module in group_of:
        handles += [module.register_forward_pre_hook(start), module.register_forward_hook(stop)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _barrier(images: Tensor) -> Callable[[], None]:
    if images.is_cuda:
        return lambda: torch.cuda.synchronize(images.device)
    return lambda: None
