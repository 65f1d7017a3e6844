"""The models of a run folder: put there, and found again if they still fit."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from condense.checkpoint.artefact import is_known, restore_onto, save
from condense.checkpoint.loading import is_name, load
from condense.checkpoint.origin import origin_of
from condense.errors import CheckpointError, CondenseError
from condense.run import Run, sha256

ORIGINAL = "original"
TRAINED = "trained.pt"


def open_original(
    run: Run, source: str | Path, *, force: bool = False, seed: int = 0, **how: Any
) -> nn.Module:
    """Load a model and make it the run's original.

    A file is remembered by its place and hash; a network without a file is saved in the run, as its
    random weights would be others next time.

    Args:
        run: The run folder; other artefacts of it become stale if the model is another one.
        source: As for `load`.
        force: Replace another original.
        seed: Of the random weights of a network without a file.
        how: Options of `load`, remembered too.

    Raises:
        CondenseError: If the run has another original and `force` is not given.
    """
    asked = {key: _plain(value) for key, value in how.items() if value}
    if is_name(source):
        return _drawn(run, str(source), force=force, asked={**asked, "seed": seed}, how=how)
    model = load(source, **how)
    _check_same(run, sha256(source), force=force)
    name = os.path.relpath(source, run.folder)
    run.record(ORIGINAL, name, made_from={}, source=str(source), how=asked)
    return model


def check_trainable(run: Run, *, force: bool) -> None:
    """Make sure that a network that is trained here will not take another one's place.

    Raises:
        CondenseError: If the run has another original and `force` is not given.
    """
    if (run.artefact(ORIGINAL) or {}).get("file") != TRAINED:
        _check_same(run, "", force=force)


def store_trained(run: Run, model: nn.Module, **details: Any) -> Path:
    """Save a network that was trained from scratch: the run's original, to be converted or shown.

    Args:
        run: The run folder; other artefacts of it become stale.
        model: What to save.
        details: Plain values to keep in the manifest.
    """
    path = run.path(TRAINED)
    save(model, path, force=True)
    origin = origin_of(model)
    name = origin.architecture if origin else None
    remembered = {} if is_known(model) else {"arch": name}
    run.record(ORIGINAL, TRAINED, made_from={}, source=name, how=remembered, trained=details)
    return path


def load_original(run: Run) -> nn.Module:
    """The run's original, as it was opened.

    Raises:
        CondenseError: If there is none yet, or its file is no longer what it was.
    """
    return load_artefact(run, ORIGINAL)


def load_artefact(run: Run, role: str) -> nn.Module:
    """A model of the run.

    Raises:
        CheckpointError: If there is none of that role, or it no longer fits.
    """
    entry = run.artefact(role)
    if entry is None:
        raise CheckpointError(
            f"{run.folder} has no {role} model yet", hint=f"make it with: {MAKER[role]}"
        )
    if (reason := run.why_stale(role)) is not None:
        raise CheckpointError(
            f"the {role} model of {run.folder} no longer fits: {reason}",
            hint=f"make it again with: {MAKER[role]}",
        )
    path = run.path(entry["file"])
    if role != ORIGINAL:
        original = load_original(run)
        if not is_known(original):
            return restore_onto(original, path)
    return load(path, **_options(entry.get("how", {})))


def open_student(run: Run, source: str | Path, *, force: bool = False, **how: Any) -> nn.Module:
    """Load a model of the user's own to be trained in the run, in the place of the converted one.

    Raises:
        CondenseError: If the run has another one and `force` is not given.
    """
    model, digest = load(source, **how), sha256(source)
    if (run.artefact("converted") or {}).get("source_sha256") == digest:
        return load_artefact(run, "converted")
    details = {"source": str(source), "source_sha256": digest}
    store(run, "converted", model, made_from=(ORIGINAL,), force=force, **details)
    return model


def store(
    run: Run,
    role: str,
    model: nn.Module,
    *,
    made_from: tuple[str, ...],
    force: bool = False,
    **details: Any,
) -> Path:
    """Save a model as an artefact of the run.

    Args:
        run: The run folder.
        role: Also the file's name.
        model: What to save.
        made_from: Roles of what it was made from, as they are now.
        force: Overwrite.
        details: Plain values to keep in the manifest.
    """
    path = run.path(f"{role}.pt")
    save(model, path, force=force)
    run.record(role, path.name, made_from={r: run.hash_of(r) for r in made_from}, **details)
    return path


def latest(run: Run) -> str:
    """The role of the most finished model that still fits."""
    for role in ("finetuned", "converted"):
        if run.artefact(role) is not None and run.why_stale(role) is None:
            return role
    return ORIGINAL


def left_out(run: Run, *roles: str) -> list[str]:
    """A sentence for each of these artefacts (all, if none is named) that no longer fits."""
    found = [(role, run.why_stale(role)) for role in run if role in (roles or DERIVED)]
    return [f"{role} is left out: {reason}" for role, reason in found if reason]


DERIVED = ("converted", "control", "finetuned", "control_finetuned", "onnx")
MAKER = {
    ORIGINAL: "condense analyze MODEL",
    "converted": "condense convert",
    "control": "condense convert",
    "finetuned": "condense finetune --data DATA",
    "control_finetuned": "condense finetune --data DATA",
}


def _drawn(
    run: Run, source: str, *, force: bool, asked: Mapping[str, Any], how: Mapping[str, Any]
) -> nn.Module:
    """A network with random weights: the run's own if it is the same, else a new one."""
    entry = run.artefact(ORIGINAL) or {}
    if entry.get("source") == source and entry.get("drawn") == asked and not force:
        return load_original(run)
    _check_same(run, "", force=force)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked["seed"])
        model = load(source, **how)
    save(model, run.path("original.pt"), force=force)
    remembered = {} if is_known(model) else {"arch": source}
    details = {"source": source, "drawn": dict(asked), "how": remembered}
    run.record(ORIGINAL, "original.pt", made_from={}, **details)
    return model


def _check_same(run: Run, digest: str, *, force: bool) -> None:
    entry = run.artefact(ORIGINAL)
    if entry is None or force or entry["sha256"] == digest:
        return
    raise CondenseError(
        f"{run.folder} is about another model, {entry.get('source', entry['file'])}",
        hint="name another folder with --run, or replace that model with --force",
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _options(how: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in how.items()}
