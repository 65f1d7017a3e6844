"""`condense export`."""

import json
from pathlib import Path

import onnx
import pytest
import torch

from condense.errors import SelfCheckError


def test_the_most_finished_model_is_checked_on_the_runs_data(finished, hashes) -> None:
    Path("condense-run/model.onnx").unlink()
    result = finished("export")
    assert result.exit_code == 0
    assert result.stdout.startswith("condense-run/model.onnx: opset ")
    assert "400 test images at batch 1 and 64" in result.stdout
    assert "same class on 100.00%" in result.stdout
    assert result.stderr == "next: condense report\n"
    graph = onnx.load("condense-run/model.onnx", load_external_data=False)
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_json_has_the_whole_check(finished) -> None:
    result = finished("export", "--json", "--quiet", "-o", "sub/small.onnx")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert (found["schema"], found["model"]) == (1, "finetuned")
    assert found["file"] == "sub/small.onnx"
    assert found["max_difference"] <= found["tolerance"]
    assert (found["argmax_agreement"], found["n"], found["inputs"]) == (1.0, 400, "given")
    assert found["batch_sizes"] == [1, 64]
    assert Path("sub/small.onnx").stat().st_size > 50_000


def test_without_data_the_inputs_are_stated_to_be_random(converted) -> None:
    result = converted("export")
    assert result.exit_code == 0
    assert "128 random inputs (give --data for real ones)" in result.stdout


def test_a_file_without_a_run(condense) -> None:
    result = condense("export", "model.safetensors", "--data", "digits", "--json", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["file"] == "model.onnx"
    assert Path("model.onnx").exists()
    assert not Path("condense-run").exists()


def test_nothing_is_overwritten_without_force(finished, hashes) -> None:
    before = hashes(Path("condense-run"))
    result = finished("export")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        "error: condense-run/model.onnx exists already\nhint: --force overwrites it\n"
    )
    assert hashes(Path("condense-run")) == before


def test_a_corrupted_weight_is_1_and_leaves_no_file(finished, monkeypatch, hashes) -> None:
    """The graph is what torch's exporter gave, but for one weight."""
    before = hashes(Path("condense-run"))
    real = torch.onnx.export

    def corrupting(model, args, path, **options):
        real(model, args, path, **options)
        graph = onnx.load(path)
        weight = max(graph.graph.initializer, key=lambda item: len(item.raw_data))
        values = onnx.numpy_helper.to_array(weight).copy()
        values.flat[0] += 1.0
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(graph, path)

    monkeypatch.setattr(torch.onnx, "export", corrupting)
    result = finished("export", "--force")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ONNX Runtime and PyTorch disagree by ")
    assert "Traceback" not in result.stderr
    assert hashes(Path("condense-run")) == before


def test_a_failed_check_has_a_code_of_its_own() -> None:
    assert SelfCheckError("x").exit_code == 1


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--opset", "7"], 2, "opset must be 18 to 25, got 7"),
        (["--opset", "26"], 2, "opset must be 18 to 25, got 26"),
        (["-o", "."], 3, "exists already"),
        (["nowhere.pt"], 3, "nowhere.pt does not exist"),
        (["--data", "nowhere.npz", "-o", "x.onnx"], 3, "nowhere.npz does not exist"),
    ],
)
def test_what_cannot_be_exported(converted, words, code: int, complaint: str) -> None:
    result = converted("export", *words)
    assert result.stdout == ""
    assert result.exit_code == code
    assert result.stderr.startswith("error: ")
    assert complaint in result.stderr
    assert not list(Path().rglob("*.onnx"))


def test_a_stale_finetuned_model_is_named_and_left_out(finished) -> None:
    assert finished("convert", "--keep", "2", "--force").exit_code == 0
    result = finished("export", "--json", "--force")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["model"] == "converted"
    assert "warning: finetuned is left out: converted was made again since\n" in result.stderr
