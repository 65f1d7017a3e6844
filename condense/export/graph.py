"""From a module to the bytes of an ONNX graph: weights inside, any batch size."""

import logging
import warnings
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from condense.errors import CondenseError
from condense.export.lowering import lowered

INPUT, OUTPUT = "images", "logits"
OLDEST_OPSET = 18  # what torch's exporter itself writes
NEWEST_OPSET = 25  # what onnxscript 0.7 converts it to; it leaves the graph alone beyond


def plain_copy(model: nn.Module) -> nn.Module:
    """The model as it is exported: a copy on the CPU, in float32, in eval mode."""
    return deepcopy(model).cpu().float().eval()


def write_graph(model: nn.Module, path: Path, images: Tensor, *, opset: int) -> None:
    """Write a model as one ONNX file.

    Args:
        model: As `plain_copy` gives it.
        path: Where; overwritten.
        images: At least two, so that the batch size is not taken for a constant.
        opset: Version of the ONNX operators.

    Raises:
        CondenseError: If torch cannot trace it, or the weights exceed the 2 GB of one file.
    """
    batch = torch.export.Dim("batch")
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():  # deprecations inside torch and onnxscript
            warnings.simplefilter("ignore")
            torch.onnx.export(
                lowered(model, images),
                (images,),
                path,
                dynamo=True,
                external_data=False,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: batch},),
                verbose=False,
            )
    except Exception as error:  # torch.export has dozens of kinds; any of them means the same here
        own = _own_error(error)
        if own is not None:  # a model of ours that says why
            raise CondenseError(str(own), hint=own.hint) from error
        reason = str(error).strip().splitlines()
        raise CondenseError(
            f"torch could not turn {type(model).__name__} into an ONNX graph: "
            f"{reason[0] if reason else type(error).__name__}",
            hint="a model that branches on its data or fixes its batch size cannot be exported",
        ) from error
    finally:
        logger.setLevel(level)


def _own_error(error: BaseException | None) -> CondenseError | None:
    """The first error of ours among those that led to one of torch's."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, CondenseError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
