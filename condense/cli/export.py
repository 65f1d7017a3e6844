"""`condense export`: one ONNX file, checked before it gets its name."""

from pathlib import Path
from typing import Annotated, Any

import typer

from condense.cli.options import DataOption, Loading, ModelArgument, OutputOption
from condense.cli.session import Session
from condense.errors import CondenseError

CHECKED = 1000
"""Test images that the exported file is compared on."""


def export(
    session: Session,
    loading: Loading,
    model: ModelArgument = None,
    output: OutputOption = None,
    data: DataOption = None,
    opset: Annotated[int, typer.Option(help="Version of the ONNX operators.")] = 20,
) -> None:
    """Export a model to ONNX and compare it with PyTorch on real images."""
    from condense.checkpoint import load
    from condense.checkpoint.in_run import latest, left_out, load_artefact
    from condense.checkpoint.origin import settled_input_size
    from condense.export import export_onnx
    from condense.reporting.on_data import data_for, images_of

    run = session.run
    role = None if model else latest(run)
    path = output or (run.path("model.onnx") if role else Path("model.onnx"))
    if path.exists() and not session.force:
        raise CondenseError(f"{path} exists already", hint="--force overwrites it")
    if role is None:
        network = load(str(model), **loading.to_dict())
    else:
        for warning in left_out(run, "finetuned", "converted"):
            session.warn(warning)
        network = load_artefact(run, role)
    size = settled_input_size(network)
    inputs = None
    if spec := data or run.remembered_path("data"):
        images = data_for(network, spec, seed=session.seed)
        inputs = images_of(network, images, images.test, CHECKED)
    check = export_onnx(network, path, size, inputs=inputs, opset=opset, force=session.force)
    if role is not None and output is None:
        run.record("onnx", path.name, made_from={role: run.hash_of(role)}, check=check.to_dict())
    document = {"file": str(path), "model": model or role, **check.to_dict()}
    session.emit(document, _text(document))
    session.next("report")


def _text(check: dict[str, Any]) -> str:
    kind = (
        "test images" if check["inputs"] == "given" else "random inputs (give --data for real ones)"
    )
    sizes = " and ".join(map(str, check["batch_sizes"]))
    return (
        f"{check['file']}: opset {check['opset']}, dynamic batch, checked against PyTorch on "
        f"{check['n']:,} {kind} at batch {sizes}\n"
        f"largest difference {check['max_difference']:.2g} (allowed {check['tolerance']:.2g}), "
        f"same class on {check['argmax_agreement']:.2%}"
    )
