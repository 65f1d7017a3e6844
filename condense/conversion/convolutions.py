"""Convolutions that become Kdw + M, a depthwise and a 1x1 convolution with the weights that fit.

Which ones: of `nn.Conv2d`, every one with as many outputs as inputs, no groups, and a square kernel
larger than 1x1 that has a centre. Stride, padding, dilation and bias stay as they are.
"""

from collections.abc import Mapping, Sequence

from torch import nn

from condense.analysis import Stage, Stages
from condense.analysis.trace import trace
from condense.conversion.plan import MIX, Plan, Replacement
from condense.errors import CondenseError, ConfigError, NothingToConvertError
from condense.layers import MixedConv

NOT_ASKED = "not asked for"


def check_conv_scope(layer: str, keep: int, options: Mapping[str, object], count: int) -> None:
    """Refuse what has no meaning for single convolutions.

    Raises:
        ConfigError: Naming it.
    """
    if layer != MIX:
        raise ConfigError(
            f"scope 'conv' needs the layer {MIX}, got {layer!r}", hint=f"--layer {MIX}"
        )
    if keep != 1:
        raise ConfigError(f"scope 'conv' removes no blocks, so it cannot keep {keep} of them")
    if options or count != 1:
        given = ", ".join(sorted(options)) or "a number of layers"
        raise ConfigError(f"scope 'conv' takes no options of the layer, got {given}")


def plan_convolutions(
    model: nn.Module, found: Stages, asked: Sequence[Stage] | None, *, seed: int
) -> Plan:
    """Choose convolutions and write down what becomes of them.

    Args:
        model: The original.
        found: All of its stages.
        asked: Those whose convolutions are wanted; None for all of the network.
        seed: To write down.

    Raises:
        NothingToConvertError: If no convolution fits.
    """
    spatial = {name: conv for name, conv in _convolutions(model) if max(conv.kernel_size) > 1}
    called = {call.module for call in trace(model, found.input_size).calls}
    homes = {name: _stage_of(name, found) for name in spatial}
    wanted = None if asked is None else {stage.name for stage in asked}
    refused: dict[str, str] = {}
    for name, conv in spatial.items():
        if wanted is not None and homes[name] not in wanted:
            refused[name] = NOT_ASKED
        elif reason := why_not(conv):
            refused[name] = reason
        elif conv not in called:
            refused[name] = "it does not run on an image in eval mode"
    chosen = [name for name in spatial if name not in refused]
    if not chosen:
        raise _nothing(refused)
    return Plan(
        replacements=tuple(
            Replacement(
                stage=homes[name] or name,
                blocks=(name,),
                layer=MIX,
                channels=spatial[name].in_channels,
            )
            for name in chosen
        ),
        input_size=found.input_size,
        seed=seed,
        scope="conv",
        verdicts=tuple(
            {
                "stage": homes[name],
                "convolution": name,
                "convert": name not in refused,
                "reason": refused.get(name),
                "replacement": None,
            }
            for name in spatial
        ),
    )


def why_not(conv: nn.Module) -> str | None:
    """Why a module cannot become Kdw + M, in one clause; None if it can."""
    if type(conv) is not nn.Conv2d:
        return f"it is a {type(conv).__name__}, not a plain convolution"
    rows, columns = conv.kernel_size
    kernel, channels = f"its {rows}x{columns} kernel", conv.in_channels
    is_own = "weight" in dict(conv.named_parameters(recurse=False))
    reasons = (
        (conv.groups != 1, f"it has {conv.groups} groups"),
        (
            channels != conv.out_channels,
            f"it leads from {channels} channels to {conv.out_channels}",
        ),
        (rows != columns, f"{kernel} is not square"),
        (rows % 2 == 0, f"{kernel} has no centre"),
        (not is_own, "its kernel is computed from other parameters"),
    )
    return next((reason for holds, reason in reasons if holds), None)


def mixed(conv: nn.Module, name: str) -> MixedConv:
    """Kdw + M with what fits of the weights of a convolution.

    Raises:
        CondenseError: If the module of that name is no convolution that can become one.
    """
    reason = why_not(conv)
    if reason is not None or not isinstance(conv, nn.Conv2d):
        raise CondenseError(
            f"the plan replaces the convolution {name!r}, which cannot be: {reason}",
            hint="was the plan made for another model?",
        )
    return MixedConv.of(conv)


def _convolutions(model: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    return [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Conv2d)]


def _stage_of(name: str, found: Stages) -> str | None:
    """The stage that a module lies in."""
    for stage in found:
        if any(name == block or name.startswith(f"{block}.") for block in stage.blocks):
            return stage.name
    return None


def _nothing(refused: Mapping[str, str]) -> NothingToConvertError:
    by_reason: dict[str, list[str]] = {}
    for name, reason in refused.items():
        if reason != NOT_ASKED:
            by_reason.setdefault(reason, []).append(name)
    reasons = "; ".join(
        f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {reason}"
        for reason, names in by_reason.items()
    )
    return NothingToConvertError(
        f"no convolution can be converted ({reasons or 'there is none larger than 1x1'})",
        hint="it takes a square kernel with a centre, no groups, and as many outputs as inputs",
    )
