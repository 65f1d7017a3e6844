from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from condense.errors import CondenseError, ConfigError, DataError, SelfCheckError
from condense.export import ExportCheck, export_onnx, onnx_file, open_session
from condense.export.graph import write_graph
from condense.layers import GlobalLayer

SIZE = (3, 12, 10)


def network(*inside: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    stem = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)]
    return nn.Sequential(*stem, *inside, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def damaged_writer(monkeypatch: pytest.MonkeyPatch, damage: object) -> None:
    """Let the exporter write, then let `damage` change the graph on disk."""

    def write(model: nn.Module, path: Path, images: Tensor, *, opset: int) -> None:
        write_graph(model, path, images, opset=opset)
        graph = onnx.load(str(path))
        damage(graph)  # type: ignore[operator]
        onnx.save(graph, str(path))

    monkeypatch.setattr(onnx_file, "write_graph", write)


def weight_of(graph: onnx.ModelProto) -> onnx.TensorProto:
    return next(tensor for tensor in graph.graph.initializer if len(tensor.dims) == 4)


def change(entry: float) -> object:
    def damage(graph: onnx.ModelProto) -> None:
        tensor = weight_of(graph)
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[0] = entry
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    return damage


def test_one_file_with_any_batch_size_that_agrees(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = network().train()
    check = export_onnx(model, path, SIZE)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert (check.n, check.batch_sizes, check.inputs, check.opset) == (128, (1, 64), "random", 20)
    assert check.max_difference <= check.tolerance < 1e-3
    assert check.argmax_agreement == 1
    assert all(module.training for module in model.modules())
    session = open_session(path, threads=1)
    images = torch.randn(7, *SIZE)
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), model.eval()(images).detach())


def test_given_images_are_what_is_checked(tmp_path: Path) -> None:
    images = torch.rand(101, *SIZE, dtype=torch.float64)
    check = export_onnx(network(), tmp_path / "model.onnx", SIZE, inputs=images, opset=18)
    assert (check.n, check.inputs, check.opset) == (101, "given", 18)
    opsets = {item.domain: item.version for item in onnx.load(tmp_path / "model.onnx").opset_import}
    assert opsets[""] == 18


def test_few_images_are_one_batch(tmp_path: Path) -> None:
    check = export_onnx(network(), tmp_path / "m.onnx", SIZE, inputs=torch.randn(5, *SIZE))
    assert (check.n, check.batch_sizes) == (5, (1, 5))


@pytest.mark.parametrize("scheme", ["reference", "conservative"])
@pytest.mark.parametrize("boundary", ["periodic", "zero", "replicate"])
def test_pde_layers_of_every_boundary(tmp_path: Path, scheme: str, boundary: str) -> None:
    layer = GlobalLayer(8, steps=3, scheme=scheme, boundary=boundary, dx=2)  # type: ignore[arg-type]
    check = export_onnx(network(layer), tmp_path / "model.onnx", SIZE)
    assert check.argmax_agreement == 1


def test_a_double_model_is_exported_in_single(tmp_path: Path) -> None:
    model = network().double()
    export_onnx(model, tmp_path / "model.onnx", SIZE)
    assert next(model.parameters()).dtype == torch.float64
    assert weight_of(onnx.load(tmp_path / "model.onnx")).data_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("entry", [1.0, float("nan")])
def test_a_corrupted_weight_fails_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: float
) -> None:
    damaged_writer(monkeypatch, change(entry))
    with pytest.raises(
        SelfCheckError, match=r"ONNX Runtime and PyTorch disagree by .* on 128 random"
    ):
        export_onnx(network(), tmp_path / "model.onnx", SIZE)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_check_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("old")
    damaged_writer(monkeypatch, change(1.0))
    with pytest.raises(SelfCheckError) as caught:
        export_onnx(network(), path, SIZE, force=True)
    assert (path.read_text(), caught.value.exit_code) == ("old", 1)


def test_an_invalid_graph_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(graph: onnx.ModelProto) -> None:
        graph.graph.node[0].input[0] = "nothing"

    damaged_writer(monkeypatch, cut)
    with pytest.raises(SelfCheckError, match="not valid ONNX"):
        export_onnx(network(), tmp_path / "model.onnx", SIZE)


def test_outputs_of_another_shape_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(model: nn.Module, path: Path, images: Tensor, *, opset: int) -> None:
        write_graph(nn.Sequential(model, nn.Linear(5, 4)), path, images, opset=opset)

    monkeypatch.setattr(onnx_file, "write_graph", write)
    with pytest.raises(SelfCheckError, match="disagree by inf"):
        export_onnx(network(), tmp_path / "model.onnx", SIZE)


def test_a_model_that_gives_no_numbers_fails(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(SelfCheckError, match="own outputs are not all numbers"):
        export_onnx(model, tmp_path / "model.onnx", SIZE)


def test_a_small_signal_on_a_large_bias_is_held_to_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative to the outputs alone, a wrong weight would hide behind the bias."""
    model = network()
    with torch.no_grad():
        model[-1].bias += 100.0
    damaged_writer(monkeypatch, change(3.0))
    with pytest.raises(SelfCheckError, match="disagree"):
        export_onnx(model, tmp_path / "model.onnx", SIZE)


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("old")
    with pytest.raises(CondenseError, match="exists already"):
        export_onnx(network(), path, SIZE)
    assert path.read_text() == "old"


@pytest.mark.parametrize("shape", [(4, 3, 12, 11), (1, *SIZE), SIZE])
def test_inputs_must_be_images_of_that_size(tmp_path: Path, shape: tuple) -> None:
    with pytest.raises(DataError, match=r"expected at least 2 images of \(3, 12, 10\)"):
        export_onnx(network(), tmp_path / "model.onnx", SIZE, inputs=torch.zeros(shape))


def test_an_old_opset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="opset must be 18 to 25, got 11"):
        export_onnx(network(), tmp_path / "model.onnx", SIZE, opset=11)


def test_a_model_that_branches_on_its_data_says_so(tmp_path: Path) -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) if x.sum() > 0 else -x.flatten(1)

    with pytest.raises(CondenseError, match="could not turn Branching into an ONNX graph"):
        export_onnx(Branching(), tmp_path / "model.onnx", SIZE)
    assert list(tmp_path.iterdir()) == []


def test_the_check_as_plain_values() -> None:
    check = ExportCheck(
        max_difference=1e-6,
        tolerance=1e-4,
        argmax_agreement=1.0,
        n=100,
        batch_sizes=(1, 64),
        opset=20,
        inputs="given",
    )
    assert check.to_dict()["batch_sizes"] == [1, 64]


def test_the_session_runs_on_as_many_threads_as_torch_and_lets_them_rest(tmp_path: Path) -> None:
    export_onnx(network(), tmp_path / "model.onnx", SIZE)
    session = open_session(tmp_path / "model.onnx")
    options = session.get_session_options()
    assert options.intra_op_num_threads == torch.get_num_threads()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert isinstance(session, onnxruntime.InferenceSession)
    assert np.isfinite(session.run(None, {"images": np.zeros((2, *SIZE), np.float32)})[0]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet50",
        "wide_resnet50_2",
        "resnext50_32x4d",
        "mobilenet_v2",
        "mobilenet_v3_large",
        "efficientnet_b0",
        "regnet_y_400mf",
        "convnext_tiny",
    ],
)
def test_torchvision_networks_export(tmp_path: Path, name: str) -> None:
    from torchvision import models

    torch.manual_seed(0)
    model = getattr(models, name)(num_classes=7)
    images = torch.randn(100, 3, 32, 32)
    check = export_onnx(model, tmp_path / "model.onnx", (3, 32, 32), inputs=images)
    assert check.max_difference <= check.tolerance
