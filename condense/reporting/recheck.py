"""Measuring again: counts must come out the same anywhere, times are set side by side."""

from collections.abc import Mapping
from typing import Any

from condense.errors import SelfCheckError
from condense.reporting.figures import milliseconds, times
from condense.reporting.rows import conditions_of

EXACT = (
    "params",
    "macs",
    "macs_paper",
    "macs_thop",
    "elementwise_ops",
    "depth_blocks",
    "depth_layers",
)


def recheck(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Hold a report that was made here against a recorded one.

    Args:
        recorded: The report as it was saved.
        here: The same, measured again.

    Returns:
        A sentence for each time and accuracy that both have.

    Raises:
        SelfCheckError: If a count differs, naming all that do.
    """
    known = {model["role"]: model for model in recorded["models"]}
    pairs = [(model, known[model["role"]]) for model in here["models"] if model["role"] in known]
    faults = [
        f"{new['role']} {key} {old[key]} became {new[key]}"
        for new, old in pairs
        for key in EXACT
        if new[key] != old[key]
    ]
    if faults:
        raise SelfCheckError(
            f"counts differ from the recorded report: {'; '.join(faults)}",
            hint="the files or the version of condense are not those of the report",
        )
    return [line for new, old in pairs for line in _lines(new, old)]


def _lines(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    before = dict(conditions_of(old))
    lines = [
        f"{new['role']}, {runtime}, batch {batch}: {milliseconds(record['median_ms'])} ms here, "
        f"{milliseconds(before[runtime, batch]['median_ms'])} ms recorded "
        f"({times(record['median_ms'] / before[runtime, batch]['median_ms'])})"
        for (runtime, batch), record in conditions_of(new)
        if (runtime, batch) in before
    ]
    if new["accuracy"] and old["accuracy"]:
        lines.append(
            f"{new['role']}, top-1: {new['accuracy']['top1']:.4f} here, "
            f"{old['accuracy']['top1']:.4f} recorded"
        )
    return lines
