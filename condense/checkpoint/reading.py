"""A file's content, with nothing in it run unless that was asked for."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from condense.checkpoint import archives, pickles
from condense.checkpoint.files import Kind, kind_of
from condense.errors import CheckpointError, UntrustedFileError

SHOWN = 12  # imports that a message lists before it only counts
HINT_TRUST = "open it with --trust (in Python: trust=True) only if you know who made it"


def read(path: Path, *, trust: bool = False) -> Any:
    """What a file holds: tensors in dicts, and with `trust` anything at all.

    Args:
        path: Where it is.
        trust: Let the file import and call what it wants.

    Raises:
        UntrustedFileError: If it wants more than tensors and plain types, with what that is.
        CheckpointError: If it cannot be read.
    """
    kind = kind_of(path)
    try:
        return READERS[kind](path, trust)
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # foreign files fail in foreign ways, with any error there is
        raise CheckpointError(
            f"{path} cannot be read as {kind.value}: {_first_line(error)}",
            hint="it is damaged, cut off, or needs a package that is not installed here",
        ) from error


def _torch_file(path: Path, trust: bool) -> Any:  # noqa: FBT001
    if trust:
        return torch.load(path, map_location="cpu", weights_only=False)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        _refuse_code(path)
        raise


def _plain_pickle(path: Path, trust: bool) -> Any:  # noqa: FBT001
    if trust:
        with path.open("rb") as file:
            return pickle.load(file)  # the user vouched for it
    _refuse_code(path)
    raise CheckpointError(f"{path} is a plain pickle, not a file of torch.save", hint=HINT_TRUST)


def _refuse_code(path: Path) -> None:
    names = pickles.beyond_weights(_imports(path))
    if not names:
        return
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    raise UntrustedFileError(
        f"{path} holds more than weights; opening it would import and may call: "
        f"{', '.join(names[:SHOWN])}{more}",
        hint=HINT_TRUST,
    )


def _imports(path: Path) -> list[str]:
    if not zipfile.is_zipfile(path):
        return pickles.imports(path.read_bytes(), pickles=pickles.PICKLES_OF_A_LEGACY_FILE)
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.endswith(".pkl")]
        found = [name for member in members for name in pickles.imports(archive.read(member))]
    return list(dict.fromkeys(found))


def _safetensors(path: Path, _trust: bool) -> Any:  # noqa: FBT001
    return safetensors.torch.load_file(path)


def _torchscript(path: Path, _trust: bool) -> Any:  # noqa: FBT001
    return archives.read_torchscript(path)


def _exported(path: Path, _trust: bool) -> Any:  # noqa: FBT001
    return archives.read_exported(path)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


READERS: dict[Kind, Callable[[Path, bool], Any]] = {
    Kind.ZIP: _torch_file,
    Kind.LEGACY: _torch_file,
    Kind.PICKLE: _plain_pickle,
    Kind.SAFETENSORS: _safetensors,
    Kind.TORCHSCRIPT: _torchscript,
    Kind.EXPORTED: _exported,
}
