"""Deciding which stages become which layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch import nn

from condense.analysis import Stage, Stages, analyze, measure_stages
from condense.analysis.measuring import new_layers, split_steps
from condense.conversion.budget import OutOfReachError, Target, amount, fewest, parse_target
from condense.conversion.convolutions import check_conv_scope, plan_convolutions
from condense.conversion.plan import SCOPES, Plan, Replacement, Scope
from condense.errors import ConfigError, NothingToConvertError
from condense.layers.options import check_choice

Selection = str | Stages | Stage | Sequence[str | Stage]
"""`all`, `auto`, names (also joined by commas), or stages of an analysis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What takes the place of the repeats, in every stage alike.

    Args:
        layer: Name in `condense.layers.LAYERS`.
        keep: Blocks that stay in each stage, at least 1.
        count: New layers, one behind the other.
        options: Of each layer.
    """

    layer: str = "global"
    keep: int = 1
    count: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.keep, bool) or not isinstance(self.keep, int) or self.keep < 1:
            raise ConfigError(f"keep must be a whole number >= 1, got {self.keep!r}")


def make_plan(  # noqa: PLR0913 - the command's options, one to one
    model: nn.Module,
    stages: Selection = "all",
    *,
    layer: str = "global",
    scope: Scope = "stage",
    keep: int = 1,
    options: Mapping[str, Any] | None = None,
    count: int = 1,
    seed: int = 0,
    target: str | Target | None = None,
    input_size: Sequence[int] | None = None,
    fresh: bool = False,
) -> Plan:
    """Choose stages and write down what becomes of them.

    Args:
        model: The original; left as it was.
        stages: `all` (every convertible one), `auto` (those whose replacement measured faster
            here), names, or stages of an analysis. Measured stages are not measured again.
        layer: Name in `condense.layers.LAYERS`.
        scope: `stage` replaces the repeats of stages; `conv` leaves all blocks where they are and
            replaces each fitting convolution in the stages (with `all`, anywhere in the network)
            by a cheaper one with what fits of its weights. That is for `linear-mix`.
        keep: Blocks that stay in each stage.
        options: Of each new layer; `steps` is their number if the layer has no such option.
        count: New layers in each stage.
        seed: Of the new layers' first values.
        target: For example `latency=60%`: the fewest stages that bring the model there.
        input_size: (C, H, W); by default the analysis's, or that of the model's architecture.
        fresh: Measure again what was measured on this machine before.

    Raises:
        NothingToConvertError: If no stage is left.
        TargetNotMetError: If the target is out of reach; its `plan` comes nearest.
        ConfigError: If a name, an option or a number is not what it has to be.
    """
    check_choice("scope", scope, SCOPES)
    own, count = split_steps(layer, options, count)
    if scope == "conv":
        check_conv_scope(layer, keep, options or {}, count)
        _check_unmeasured(stages, target)
    recipe = Recipe(layer=layer, keep=keep, count=count, options=own)
    found = (
        stages if isinstance(stages, Stages) else analyze(model, _size(model, stages, input_size))
    )
    if scope == "conv":
        return plan_convolutions(model, found, _asked(found, stages), seed=seed)
    allowed, refused = _selected(found, stages, recipe)
    wanted = parse_target(target) if isinstance(target, str) else target
    if wanted is not None or stages == "auto":
        found = _measured(model, found, recipe, fresh=fresh)
        allowed = tuple(stage for stage in found if stage.name in {s.name for s in allowed})
    if stages == "auto":
        refused |= {s.name: _slower(s) for s in allowed if not _is_faster(s)}
        allowed = tuple(stage for stage in allowed if _is_faster(stage))
    chosen, expected = allowed, None
    if wanted is not None:
        chosen, expected = fewest(allowed, found.totals, wanted)
        refused |= {s.name: f"not needed for {wanted}" for s in allowed if s not in chosen}
    _require(chosen, refused)
    plan = _write(found, chosen, refused, recipe, seed)
    if wanted is not None and expected is not None and expected > wanted.limit(found.totals):
        raise _out_of_reach(plan, found, wanted, expected)
    return plan


def _check_unmeasured(stages: Selection, target: str | Target | None) -> None:
    """Convolutions are chosen by name, not by what was measured."""
    for name, is_given in (("stages 'auto'", stages == "auto"), ("a target", target is not None)):
        if is_given:
            raise ConfigError(
                f"scope 'conv' does not go with {name}, which compares what replaces whole stages",
                hint="use --stages all, or name stages",
            )


def _size(model: nn.Module, stages: Selection, given: Sequence[int] | None) -> Sequence[int]:
    listed = [stages] if isinstance(stages, Stage) else stages
    known = [part.input_size for part in listed if isinstance(part, Stage)]
    size = (
        given
        or (known[0] if known else None)
        or getattr(getattr(model, "origin", None), "input_size", None)
    )
    if size is None:
        raise ConfigError(
            "the model does not say what size of image it takes",
            hint="pass condense.analyze(model, (3, 32, 32)) as stages, or input_size=(3, 32, 32)",
        )
    return cast("Sequence[int]", size)


def _selected(
    found: Stages, stages: Selection, recipe: Recipe
) -> tuple[tuple[Stage, ...], dict[str, str]]:
    """The stages asked for that can be converted, and why not the others."""
    asked = _asked(found, stages)
    is_explicit = asked is not None
    refused: dict[str, str] = {}
    allowed = []
    for stage in found:
        if asked is not None and stage not in asked:
            refused[stage.name] = "not asked for"
        elif not stage.convertible:
            refused[stage.name] = str(stage.reason)
        elif not stage.repeats[recipe.keep - 1 :]:
            refused[stage.name] = f"it has no more than the {recipe.keep} blocks to keep"
        else:
            allowed.append(stage)
    if is_explicit:
        _require_all(asked or (), refused)
    return tuple(allowed), refused


def _asked(found: Stages, stages: Selection) -> tuple[Stage, ...] | None:
    """The stages that were named; None for all."""
    if isinstance(stages, Stages) or stages in ("all", "auto"):
        return None
    parts = stages.split(",") if isinstance(stages, str) else stages
    listed = [parts] if isinstance(parts, Stage) else list(parts)
    names = [part.name if isinstance(part, Stage) else part.strip() for part in listed]
    return found.select(names)


def _require_all(asked: Sequence[Stage], refused: Mapping[str, str]) -> None:
    for stage in asked:
        if stage.name in refused:
            raise NothingToConvertError(
                f"stage {stage.name!r} cannot be converted: {refused[stage.name]}",
                hint="name other stages, or use --stages all",
            )


def _require(chosen: Sequence[Stage], refused: Mapping[str, str]) -> None:
    if chosen:
        return
    if not refused:
        raise NothingToConvertError(
            "the model has no repeats: no blocks follow one another at one resolution",
            hint="`condense analyze` shows what there is",
        )
    reasons = "; ".join(f"{name}: {why}" for name, why in refused.items())
    raise NothingToConvertError(
        f"no stage can be converted ({reasons})", hint="choose other stages, or a smaller --keep"
    )


def _measured(model: nn.Module, found: Stages, recipe: Recipe, *, fresh: bool) -> Stages:
    needed = [s for s in found if s.convertible and s.repeats[recipe.keep - 1 :]]
    fits = recipe.keep == recipe.count == 1 and not recipe.options
    is_done = found.totals.latency_ms is not None and all(
        stage.replacement is not None and stage.replacement.layer == recipe.layer
        for stage in needed
    )
    if fits and is_done:
        return found
    return measure_stages(
        model,
        found,
        layer=recipe.layer,
        options=recipe.options,
        keep=recipe.keep,
        count=recipe.count,
        fresh=fresh,
    )


def _is_faster(stage: Stage) -> bool:
    return stage.replacement is not None and stage.replacement.is_faster


def _slower(stage: Stage) -> str:
    low, mid, high = stage.replacement.ratio if stage.replacement else (0.0, 0.0, 0.0)
    return f"its replacement is not faster here: {mid:.2f} of the time ({low:.2f} to {high:.2f})"


def _write(
    found: Stages, chosen: Sequence[Stage], refused: Mapping[str, str], recipe: Recipe, seed: int
) -> Plan:
    replacements = tuple(
        Replacement(
            stage=stage.name,
            blocks=stage.repeats[recipe.keep - 1 :],
            layer=recipe.layer,
            count=recipe.count,
            channels=stage.out_shape[0],
            options=dict(recipe.options),
        )
        for stage in chosen
    )
    for channels in {item.channels for item in replacements}:  # a wrong option shows here
        new_layers(recipe.layer, channels, recipe.options, count=1)
    verdicts = tuple(
        {
            "stage": stage.name,
            "convert": stage.name not in refused,
            "reason": refused.get(stage.name),
            "replacement": stage.replacement.to_dict() if stage.replacement else None,
        }
        for stage in found
    )
    return Plan(
        replacements=replacements, input_size=found.input_size, seed=seed, verdicts=verdicts
    )


def _out_of_reach(plan: Plan, found: Stages, wanted: Target, expected: float) -> OutOfReachError:
    share = expected / amount(found.totals, wanted.quantity)
    names = ", ".join(item.stage for item in plan.replacements)
    return OutOfReachError(
        f"{wanted} is out of reach: converting {names} gives {wanted.quantity}={100 * share:.0f}% "
        f"({expected:.4g})",
        plan,
        hint=f"try {wanted.quantity}={100 * share + 1:.0f}%, a cheaper layer or a smaller --keep",
    )
