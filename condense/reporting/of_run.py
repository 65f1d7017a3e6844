"""The report of a run folder: whatever it holds that still fits, and a word on what does not."""

from collections.abc import Sequence
from typing import Any

import torch

from condense.checkpoint.in_run import ORIGINAL, latest, left_out, load_artefact
from condense.checkpoint.origin import settled_input_size
from condense.errors import CondenseError
from condense.reporting.fields import fields_svg
from condense.reporting.on_data import data_for, images_of, stability_warnings, test_accuracy
from condense.reporting.report import ROLES, Entry, build_report
from condense.run import Run


def report_run(  # noqa: PLR0913 - one keyword per condition of the measurement
    run: Run,
    *,
    data: str | None = None,
    device: torch.device | str = "cpu",
    runtimes: Sequence[Any] = ("torch", "onnxruntime"),
    repeats: int = 20,
    command: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure the models of a run, each in the same way.

    Args:
        run: The run folder.
        data: For the accuracy; none leaves it out.
        device: Where to time and to classify.
        runtimes: What to time with.
        repeats: Rounds of timing.
        command: What the user ran.
        seed: Of the held-out part of the data.

    Returns:
        The report's keys; artefacts that no longer fit are named among the `warnings`.

    Raises:
        CondenseError: If the run holds nothing to report on.
    """
    roles, warnings = _fitting(run)
    models = {role: load_artefact(run, role).to(device) for role in roles}
    original = models[ORIGINAL]
    found = None if data is None else data_for(original, data, seed=seed)
    entries = []
    for role, model in models.items():
        score = None if found is None else test_accuracy(model, found)
        file = run.path(str((run.artefact(role) or {})["file"]))
        entries.append(Entry(role=role, model=model, file=file, accuracy=score))
        if found is not None:
            warnings += [f"{role}, {text}" for text in stability_warnings(model, found)]
    return build_report(
        entries,
        settled_input_size(original),
        runtimes=runtimes,
        repeats=repeats,
        command=command,
        warnings=warnings,
    )


def run_pictures(run: Run, *, data: str | None, seed: int = 0) -> dict[str, str]:
    """What the Global layers of the most finished model do with a held-out image, as SVG by title.

    Args:
        run: The run folder.
        data: Where the image is from; without data there are no pictures.
        seed: Of the held-out part.
    """
    if data is None:
        return {}
    role = latest(run)
    model = load_artefact(run, role)
    found = data_for(model, data, seed=seed)
    picture = fields_svg(model, images_of(model, found, found.validation, 1))
    title = f"What the Global layers of the {role} model do with a held-out image"
    return {} if picture is None else {title: picture}


def _fitting(run: Run) -> tuple[list[Any], list[str]]:
    """Roles that fit the run, and why others are left out."""
    if ORIGINAL not in run:
        raise CondenseError(
            f"{run.folder} holds no model yet", hint="start with: condense analyze MODEL"
        )
    if run.why_stale(ORIGINAL):
        load_artefact(run, ORIGINAL)  # which says what to do
    fitting = [role for role in ROLES if role in run and run.why_stale(role) is None]
    return fitting, left_out(run)
