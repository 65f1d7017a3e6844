"""Export: write a graph, check it, and only then give it its name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from condense.errors import ConfigError, DataError
from condense.export.agreement import ExportCheck, check_graph
from condense.export.graph import NEWEST_OPSET, OLDEST_OPSET, plain_copy, write_graph
from condense.run import written_whole

RANDOM_INPUTS = 128


def export_onnx(  # noqa: PLR0913 - the contract's keywords
    model: nn.Module,
    path: str | Path,
    input_size: Sequence[int],
    *,
    inputs: Tensor | None = None,
    opset: int = 20,
    force: bool = False,
) -> ExportCheck:
    """Export a model as one ONNX file with its weights and a dynamic batch size, checked.

    The graph takes `images` (N, C, H, W), normalised as the model expects them, and gives
    `logits`. It computes in float32.

    Args:
        model: Copied; left as it was.
        path: The file; written whole after the check, or not at all.
        input_size: (C, H, W).
        inputs: Real images for the check, normalised; by default 128 of seeded noise.
        opset: Version of the ONNX operators, 18 to 25.
        force: Overwrite.

    Returns:
        What the check found.

    Raises:
        ConfigError: If the opset is too old or too new.
        DataError: If `inputs` are not images of that size.
        CondenseError: If the model cannot be traced or the file cannot be written.
        SelfCheckError: If the file does not compute what the model does.
    """
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ConfigError(f"opset must be {OLDEST_OPSET} to {NEWEST_OPSET}, got {opset}")
    kind: Literal["given", "random"] = "random" if inputs is None else "given"
    images = _noise(input_size) if inputs is None else _checked(inputs, input_size)
    plain = plain_copy(model)
    with written_whole(path, force=force) as partial:
        write_graph(plain, partial, images[:2], opset=opset)
        return check_graph(partial, plain, images, opset=opset, inputs=kind)


def _noise(input_size: Sequence[int]) -> Tensor:
    return torch.randn(RANDOM_INPUTS, *input_size, generator=torch.Generator().manual_seed(0))


def _checked(inputs: Tensor, input_size: Sequence[int]) -> Tensor:
    if inputs.ndim != 4 or tuple(inputs.shape[1:]) != tuple(input_size) or len(inputs) < 2:
        raise DataError(
            f"the inputs for the check have shape {tuple(inputs.shape)}, "
            f"expected at least 2 images of {tuple(input_size)}"
        )
    return inputs.detach().cpu().float()
