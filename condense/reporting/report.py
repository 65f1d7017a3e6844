"""The report: every model of a run measured alike, side by side, with what it amounts to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from condense.conversion import Plan
from condense.errors import ConfigError
from condense.measurement import (
    Accuracy,
    Latency,
    Runtime,
    environment,
    measure,
    measure_latency,
)
from condense.reporting.comparison import compare, latency_ratios

SCHEMA = 1
Role = Literal["original", "converted", "control", "finetuned", "control_finetuned"]
ROLES: tuple[Role, ...] = get_args(Role)
PAIRS: tuple[tuple[Role, Role], ...] = (
    *((role, "original") for role in ROLES if role != "original"),
    ("converted", "control"),
    ("finetuned", "control_finetuned"),
)
"""Which verdicts there are: everything against the original, and each against its control."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model to report on.

    Args:
        role: What it is in its run.
        model: Loaded, on the device where it is to be timed.
        file: Its file, for the size; None if it has none.
        accuracy: As measured; None if it was not.
        split: What the accuracy was measured on.
    """

    role: Role
    model: nn.Module
    file: Path | None = None
    accuracy: Accuracy | None = None
    split: str = "test"


def build_report(  # noqa: PLR0913 - one keyword per condition of the measurement
    entries: Sequence[Entry],
    input_size: Sequence[int],
    *,
    runtimes: Sequence[Runtime] = ("torch", "onnxruntime"),
    batch_sizes: Sequence[int] = (1, 64),
    repeats: int = 20,
    command: str | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure models and compare them.

    All models take turns within every runtime and batch size, so that their latencies compare.

    Args:
        entries: One for each role at most.
        input_size: (C, H, W).
        runtimes: What to time with; none at all leaves the latency out.
        batch_sizes: To time at.
        repeats: Rounds of the timing.
        command: What the user ran, to print beside the figures.
        warnings: What the reader must know: stale artefacts that were left out, for example.

    Returns:
        Plain values by the design's keys: `models`, `environment`; also `input_size`, `command`,
        `verdicts`, `warnings`.

    Raises:
        ConfigError: If there is nothing to report on, or a role occurs twice.
    """
    by_role = _by_role(entries)
    latency = measure_latency(
        {role: entry.model for role, entry in by_role.items()},
        input_size,
        runtimes=runtimes,
        batch_sizes=batch_sizes,
        repeats=repeats,
    )
    models = [_record(entry, input_size, latency[role]) for role, entry in by_role.items()]
    verdicts = _verdicts({model["role"]: model for model in models}, latency)
    return {
        "schema": SCHEMA,
        "input_size": list(input_size),
        "command": command,
        "models": models,
        "verdicts": verdicts,
        "warnings": [*warnings, *_uncounted(models), *_without_control(by_role)],
        "environment": environment(),
    }


def _by_role(entries: Sequence[Entry]) -> dict[str, Entry]:
    if not entries:
        raise ConfigError(
            "there is nothing to report on yet", hint="start with: condense analyze MODEL"
        )
    by_role: dict[str, Entry] = {
        role: entry for role in ROLES for entry in entries if entry.role == role
    }
    if len(by_role) != len(entries):
        given = ", ".join(entry.role for entry in entries)
        raise ConfigError(
            f"a report takes each of these roles once: {', '.join(ROLES)}; got {given}"
        )
    return by_role


def _record(
    entry: Entry, input_size: Sequence[int], latency: Mapping[str, list[Latency]]
) -> dict[str, Any]:
    measured = measure(entry.model, input_size, latency=False).to_dict()
    score = entry.accuracy
    return {
        "role": entry.role,
        **measured,
        "latency": {
            runtime: [record.to_dict() for record in records]
            for runtime, records in latency.items()
        },
        "accuracy": None if score is None else {"split": entry.split, **score.to_dict()},
        "file_bytes": None if entry.file is None else entry.file.stat().st_size,
    }


def _verdicts(
    models: Mapping[str, dict[str, Any]], latency: Mapping[str, Mapping[str, list[Latency]]]
) -> list[dict[str, Any]]:
    return [
        compare(models[new], models[old], latency_ratios(latency[new], latency[old]))
        for new, old in PAIRS
        if new in models and old in models
    ]


def _uncounted(models: Sequence[Mapping[str, Any]]) -> list[str]:
    names = sorted({name for model in models for name in model["uncounted"]})
    return [f"in no count, as there is no rule for them: {', '.join(names)}"] if names else []


def _without_control(roles: Mapping[str, Entry]) -> list[str]:
    return [
        _no_control(roles[role], control)
        for role, control in (("converted", "control"), ("finetuned", "control_finetuned"))
        if role in roles and control not in roles
    ]


def _no_control(entry: Entry, control: str) -> str:
    plan = getattr(entry.model, "plan", None)
    if isinstance(plan, Plan) and not plan.has_control:
        return (
            f"{entry.role} has no control, as its conversion changed convolutions and removed no "
            "block: it is held against the original only"
        )
    return f"no {control} to hold {entry.role} against: whether the PDE layers help is not shown"
