"""Whether an ONNX file is valid and computes what PyTorch computes."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from condense.errors import SelfCheckError
from condense.export.graph import INPUT

SIGNAL_TOLERANCE, ROUNDING_TOLERANCE = 1e-4, 1e-5
SINGLES, BATCH = 100, 64
"""How many images are also checked one at a time, and the batch size of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCheck:
    """How an exported graph compares with the model.

    Args:
        max_difference: Largest absolute difference of an output.
        tolerance: What it was allowed to be: 1e-4 of the largest distance of an output from its
            mean over the images, and 1e-5 of the largest output for rounding in float32.
        argmax_agreement: Share of images with the same highest output.
        n: Images.
        batch_sizes: At which the graph was run.
        opset: Of the graph.
        inputs: Whether the images were given or seeded noise.
    """

    max_difference: float
    tolerance: float
    argmax_agreement: float
    n: int
    batch_sizes: tuple[int, ...]
    opset: int
    inputs: Literal["given", "random"]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"batch_sizes": list(self.batch_sizes)}


def check_graph(
    path: Path, model: nn.Module, images: Tensor, *, opset: int, inputs: Literal["given", "random"]
) -> ExportCheck:
    """Validate a file and compare its outputs with the model's, one image at a time and in batches.

    Raises:
        SelfCheckError: If the file is no valid ONNX, its outputs or the model's are not numbers,
            or they differ by more than rounding.
    """
    _check_format(path)
    expected = _torch_outputs(model, images)
    if not np.isfinite(expected).all():
        raise SelfCheckError(
            "the model's own outputs are not all numbers, so that nothing can be compared",
            hint="look for NaN in the weights or an unstable layer: condense analyze MODEL",
        )
    session = open_session(path)
    sizes = tuple(sorted({1, min(BATCH, len(images))}))
    worst, agreeing = 0.0, 1.0
    for size in sizes:
        rows = slice(0, SINGLES if size == 1 < sizes[-1] else len(images))
        found = _onnx_outputs(session, images[rows], size)
        worst = max(worst, _difference(found, expected[rows]))
        agreeing = min(agreeing, float((found.argmax(1) == expected[rows].argmax(1)).mean()))
    check = ExportCheck(
        max_difference=worst,
        tolerance=_tolerance(expected),
        argmax_agreement=agreeing,
        n=len(images),
        batch_sizes=sizes,
        opset=opset,
        inputs=inputs,
    )
    if check.max_difference > check.tolerance:
        raise SelfCheckError(
            f"ONNX Runtime and PyTorch disagree by {worst:.3g} on {check.n} {inputs} inputs, "
            f"at most {check.tolerance:.3g} is rounding; {agreeing:.1%} of the classes agree",
            hint="no file was written; try another --opset, and please report the model",
        )
    return check


def open_session(path: Path, *, threads: int | None = None) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU.

    Args:
        path: An ONNX file.
        threads: Within an operator; by default as many as torch uses.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads() if threads is None else threads
    options.inter_op_num_threads = 1
    # Threads wait for work by spinning; after a run they would take the processor from whatever
    # runs next, another session included.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no class of their own
        raise SelfCheckError(
            f"ONNX Runtime cannot open the graph: {str(error).splitlines()[0]}",
            hint="try an older --opset; this version of ONNX Runtime may not know it yet",
        ) from error


def _check_format(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise SelfCheckError(f"the exported graph is not valid ONNX: {error}") from error


def _torch_outputs(model: nn.Module, images: Tensor) -> NDArray[Any]:
    with torch.no_grad():
        parts = [model(part).numpy() for part in images.split(BATCH)]
    return np.concatenate(parts)


def _onnx_outputs(session: onnxruntime.InferenceSession, images: Tensor, size: int) -> NDArray[Any]:
    parts = [session.run(None, {INPUT: part.numpy()})[0] for part in images.split(size)]
    return np.concatenate(parts)


def _difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max())


def _tolerance(expected: NDArray[Any]) -> float:
    signal = np.abs(expected - expected.mean(0)).max()
    return float(SIGNAL_TOLERANCE * signal + ROUNDING_TOLERANCE * np.abs(expected).max())
