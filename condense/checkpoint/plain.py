"""Files of ours with plain types and tensors only."""

import pickle
from pathlib import Path
from typing import Any

import torch

from condense.errors import CheckpointError


def read_plain(path: str | Path) -> dict[str, Any]:
    """Open a file that condense wrote, on the CPU; nothing in it is ever run.

    Raises:
        CheckpointError: If it is missing, damaged, or holds more than plain types and tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist, expected a file that condense wrote")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {(str(error) or 'it is empty').splitlines()[0]}",
            hint="it is damaged or not a file of condense; make it again",
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a dict")
    return content
