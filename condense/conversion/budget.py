"""A target such as `latency=60%`, and the fewest stages that reach it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from condense.analysis import Stage, Totals, Trial
from condense.errors import ConfigError, TargetNotMetError

Quantity = Literal["latency", "macs", "params"]
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "ms": 1.0}
HINT = "for example latency=60%, macs=20M or params=500K"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How small a model shall become.

    Args:
        quantity: What is limited.
        value: The limit: a fraction of the original, or an absolute number (of milliseconds).
        is_fraction: Which of the two.
    """

    quantity: Quantity
    value: float
    is_fraction: bool

    def limit(self, totals: Totals) -> float:
        """The limit as an absolute number."""
        return self.value * amount(totals, self.quantity) if self.is_fraction else self.value

    def __str__(self) -> str:
        shown = f"{100 * self.value:g}%" if self.is_fraction else f"{self.value:g}"
        return f"{self.quantity}={shown}"


def parse_target(text: str) -> Target:
    """Read `latency=60%`, `macs=20M`, `params=50%`, `latency=5ms`.

    Raises:
        ConfigError: If it is none of these.
    """
    match = re.fullmatch(r"(\w+)\s*=\s*(\d+(?:\.\d+)?)\s*(%|[KMGB]|ms)?", text.strip())
    if match is None:
        raise ConfigError(f"a target must read QUANTITY=VALUE, got {text!r}", hint=HINT)
    quantity, number, unit = match[1], float(match[2]), match[3] or ""
    if quantity not in get_args(Quantity):
        raise ConfigError(
            f"a target limits {', '.join(get_args(Quantity))}, got {quantity!r}", hint=HINT
        )
    if (unit == "ms") != (quantity == "latency" and unit != "%"):
        raise ConfigError(
            f"latency is given in ms or %, counts in numbers or %, got {text!r}", hint=HINT
        )
    if number == 0 or (unit == "%" and number >= 100):
        raise ConfigError(f"a target must lie between 0 and the original, got {text!r}", hint=HINT)
    value = number / 100 if unit == "%" else number * UNITS[unit]
    return Target(quantity=cast(Quantity, quantity), value=value, is_fraction=unit == "%")


def amount(totals: Totals, quantity: Quantity) -> float:
    """The whole model's parameters, multiply–accumulates or milliseconds."""
    by_name = {"params": totals.params, "macs": totals.macs, "latency": totals.latency_ms}
    found = by_name[quantity]
    if found is None:
        raise ValueError("the stages have not been measured: call measure_stages first")
    return float(found)


def saving(trial: Trial, quantity: Quantity) -> float:
    """What a replacement takes off the whole; negative if it costs more."""
    if quantity == "params":
        return trial.removed_params - trial.params
    if quantity == "macs":
        return trial.removed_macs - trial.macs
    return trial.removed_latency_ms - trial.latency_ms


def fewest(
    stages: Sequence[Stage], totals: Totals, target: Target
) -> tuple[tuple[Stage, ...], float]:
    """The fewest stages that bring the model to the target, largest saving first.

    Args:
        stages: Measured ones.
        totals: Of the original.
        target: To reach.

    Returns:
        The stages, in their order, and what the model is expected to need then. If the target is
        out of reach, all stages that save anything.
    """
    rest = amount(totals, target.quantity)
    savings = [(saving(s.replacement, target.quantity), s) for s in stages if s.replacement]
    chosen = []
    for saved, stage in sorted(savings, key=lambda pair: -pair[0]):
        if rest <= target.limit(totals) or saved <= 0:
            break
        rest -= saved
        chosen.append(stage)
    return tuple(stage for stage in stages if stage in chosen), rest


class OutOfReachError(TargetNotMetError):
    """The target cannot be reached; `plan` is the plan that comes nearest."""

    def __init__(self, message: str, plan: object, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.plan = plan
