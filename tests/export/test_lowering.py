"""The lean form against the layer as it reads: in double precision, and through ONNX Runtime."""

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from condense.export import export_onnx, open_session
from condense.export.lowering import LoweredLayer, can_be_lowered, lowered
from condense.export.products import LoweredStep
from condense.layers import GlobalLayer, build_layer
from condense.models.cifar_resnet import PaddedShortcut, cifar_resnet

C, SIZE = 6, (5, 7)
SCHEMES = ("reference", "conservative")
BOUNDARIES = ("periodic", "zero", "replicate")


def trained(layer: nn.Module, seed: int = 0) -> Any:
    """As after training: no BatchNorm is the identity, and some scales are negative."""
    generator = torch.Generator().manual_seed(seed)
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in filter(
                torch.is_tensor, (module.weight, module.bias, module.running_mean)
            ):
                tensor.data.copy_(torch.randn(tensor.shape, generator=generator))
            module.running_var.uniform_(0.5, 2.0, generator=generator)
        elif isinstance(module, nn.Conv2d):
            module.weight.data.copy_(torch.randn(module.weight.shape, generator=generator))
    return layer.eval()


def maps(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def assert_same(layer: GlobalLayer, x: Tensor) -> None:
    lean = lowered(layer, x)
    assert isinstance(lean, LoweredLayer)
    with torch.no_grad():
        torch.testing.assert_close(lean(x), layer(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
@pytest.mark.parametrize(("dx", "dy"), [(1, 1), (2, 3)])
def test_every_scheme_boundary_and_number_of_steps(
    scheme: Any, boundary: Any, steps: int, dx: int, dy: int
) -> None:
    layer = GlobalLayer(C, steps, 0.3, scheme, boundary, dx=dx, dy=dy)
    assert_same(trained(layer.double()), maps(3, C, *SIZE))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"init": "basic"},
        {"init": "basic", "before": "h"},
        {"init": "basic", "replace_source": True},
        {"init": "basic", "before": "h", "source": False},
        {"init": "basic", "coefficients": {"velocity_from": "f", "bias": True}},
        {"source": False, "residual": True},
        {"coefficient_eps": 1e-5, "coefficients": {"bias": True}},
    ],
)
def test_every_option(scheme: Any, steps: int, options: dict[str, Any]) -> None:
    layer = GlobalLayer(C, steps, scheme=scheme, **options)
    assert_same(trained(layer.double()), maps(3, C, *SIZE))


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("options", [{}, {"init": "basic"}, {"source": False}])
def test_constant_diffusion(boundary: Any, steps: int, options: dict[str, Any]) -> None:
    coefficients = {"diffusion": [0.7, 1.3]}
    layer = GlobalLayer(
        C, steps, boundary=boundary, dx=2, dy=3, coefficients=coefficients, **options
    )
    assert_same(trained(layer.double()), maps(3, C, *SIZE))


@given(
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    dx=st.integers(1, 6),
    dy=st.integers(1, 6),
    scheme=st.sampled_from(SCHEMES),
    boundary=st.sampled_from(BOUNDARIES),
    seed=st.integers(0, 100),
)
def test_maps_smaller_than_the_shift(
    height: int, width: int, dx: int, dy: int, scheme: Any, boundary: Any, seed: int
) -> None:
    layer = trained(GlobalLayer(2, 2, 0.2, scheme, boundary, dx=dx, dy=dy).double(), seed)
    assert_same(layer, maps(2, 2, height, width, seed=seed))


@pytest.mark.parametrize(
    "layer",
    [
        GlobalLayer(C),
        GlobalLayer(C, activation="silu").eval(),
        GlobalLayer(C, coefficients={"product": True}).eval(),
        GlobalLayer(C, coefficients={"velocity": "pointwise"}).eval(),
        GlobalLayer(C, coefficients={"diffusion": "full"}).eval(),
        GlobalLayer(C, scheme="conservative", coefficients={"diffusion": 1.0}).eval(),
        GlobalLayer(C, scheme="implicit").eval(),
        nn.ReLU().eval(),
    ],
    ids=["training", "silu", "product", "velocity", "diffusion", "constant", "implicit", "other"],
)
def test_other_forms_stay_as_they_read(layer: nn.Module) -> None:
    assert not can_be_lowered(layer)
    assert type(lowered(nn.Sequential(layer), maps(1, C, *SIZE))[0]) is type(layer)  # type: ignore[index]


def test_a_subclass_stays_as_it_reads() -> None:
    class Other(GlobalLayer):
        pass

    assert not can_be_lowered(Other(C).eval())


def test_the_model_itself_is_left_alone() -> None:
    model = nn.Sequential(nn.Sequential(GlobalLayer(C)), nn.ReLU()).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    copy = lowered(model, maps(1, C, *SIZE))
    assert isinstance(model[0][0], GlobalLayer)
    assert isinstance(copy[0][0], LoweredLayer)  # type: ignore[index]
    torch.testing.assert_close(model.state_dict(), before)
    assert all(not module.training for module in copy.modules())


def exported(layer: nn.Module, path: Path, opset: int = 20, channels: int = 16) -> Counter[str]:
    """The operators of a network with `layer` in it, after the export has checked its numbers."""
    torch.manual_seed(0)
    stem = nn.Conv2d(3, channels, 3, padding=1)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)]
    export_onnx(nn.Sequential(stem, trained(layer), *head), path, (3, *SIZE), opset=opset)
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize(("before", "after"), [(2, 4), (3, 8), (4, 4), (3, 4), (5, 2)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_padded_shortcut_is_one_convolution(before: int, after: int, stride: int) -> None:
    shortcut, x = PaddedShortcut(before, after, stride).eval(), torch.randn(2, before, 5, 6)
    lean = lowered(nn.Sequential(shortcut), x)
    assert [type(module) for module in lean] == [nn.Conv2d]  # type: ignore[attr-defined]
    torch.testing.assert_close(lean(x), shortcut(x), rtol=0, atol=0)


def test_resnets_for_cifar_keep_the_blocked_layout(tmp_path: Path) -> None:
    export_onnx(cifar_resnet(1).eval(), tmp_path / "model.onnx", (3, 32, 32))
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    assert {node.op_type for node in nodes} == {
        *("Conv", "Add", "Relu", "ReduceMean", "Reshape", "Gemm")
    }


@pytest.mark.parametrize("opset", [18, 20])
def test_the_default_layer_keeps_the_blocked_layout(tmp_path: Path, opset: int) -> None:
    operators = exported(GlobalLayer(16), tmp_path / "model.onnx", opset)
    network = Counter(["Conv", "ReduceMean", "Reshape", "Gemm"])
    assert set(operators - network) == {"Conv", "Add", "Mul", "Relu", "Div"}
    assert (operators["Mul"], operators["Div"]) == (5, 1)


def test_what_the_steps_share_is_computed_once(tmp_path: Path) -> None:
    two, five = (exported(GlobalLayer(16, steps), tmp_path / f"{steps}.onnx") for steps in (2, 5))
    assert (five["Reciprocal"], five["Div"], two["Reciprocal"]) == (1, 0, 1)
    assert (five - two)["Conv"] <= 3 * 8  # two edges, four stencils, the source, one sum


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_onnx_runtime_agrees_at_any_batch_size(tmp_path: Path, scheme: Any, boundary: Any) -> None:
    layer = GlobalLayer(16, 2, scheme=scheme, boundary=boundary, dx=2, init="basic")
    exported(layer, tmp_path / "model.onnx")
    session = open_session(tmp_path / "model.onnx", threads=1)
    (logits,) = session.run(["logits"], {"images": maps(5, 3, *SIZE).float().numpy()})
    assert logits.shape == (5, 5)
    assert torch.from_numpy(logits).isfinite().all()


def test_other_forms_are_exported_too(tmp_path: Path) -> None:
    assert "Sigmoid" in exported(GlobalLayer(16, activation="silu"), tmp_path / "model.onnx")


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_implicit_scheme_is_exported_as_products(tmp_path: Path, boundary: Any) -> None:
    layer = GlobalLayer(16, 2, 0.5, "implicit", boundary, init="basic")
    operators = exported(layer, tmp_path / "model.onnx")
    assert operators["MatMul"] == 2 * 4
    assert not operators.keys() & {"DFT", "Cos", "Sin", "Range", "Mod"}


@pytest.mark.parametrize("name", ["rd-implicit", "rd-circulant"])
def test_reaction_and_diffusion_are_exported_as_products(tmp_path: Path, name: str) -> None:
    operators = exported(build_layer(name, 16), tmp_path / "model.onnx")
    assert operators["MatMul"] >= 4
    assert operators["DFT"] == 0


@pytest.mark.parametrize("size", [(3, 4, 5), (2, 5, 6), (4, 2, 2), (3, 1, 1), (1, 1, 4)])
@pytest.mark.parametrize("options", [{"dt": 2.0}, {"dt": 0.3, "learn_dt": True}])
@pytest.mark.parametrize("name", ["rd-implicit", "rd-circulant"])
def test_lowered_filters_compute_the_same(
    name: str, options: dict[str, Any], size: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    layer, x = trained(build_layer(name, size[0], options).double()), maps(2, *size)
    lean = lowered(layer, x)
    assert isinstance(lean, LoweredStep)
    torch.testing.assert_close(lean(x), layer(x), rtol=0, atol=1e-10)


class TwoSizes(nn.Module):
    """One layer at two resolutions."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.pool(self.layer(x)))
        return out


@pytest.mark.parametrize("name", ["rd-implicit", "rd-circulant"])
def test_a_filter_for_two_sizes_stays_as_it_reads(tmp_path: Path, name: str) -> None:
    layer = TwoSizes(build_layer(name, 16))
    assert type(lowered(layer, torch.zeros(1, 16, *SIZE)).layer) is type(layer.layer)
    assert exported(layer, tmp_path / "model.onnx")["DFT"] > 0
