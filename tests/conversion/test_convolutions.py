"""Convolutions become Kdw + M with what fits of their weights."""

from collections.abc import Iterator
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import condense
from condense.analysis import analyze
from condense.conversion import Plan, apply, convert, make_plan
from condense.conversion.convolutions import why_not
from condense.conversion.fit import FitOptions, fit
from condense.errors import (
    CondenseError,
    ConfigError,
    NothingToConvertError,
    UnknownNameError,
)
from condense.layers import MixedConv
from condense.models import create

SIZE = (3, 32, 32)
HOW: dict[str, Any] = {"layer": "linear-mix", "scope": "conv", "input_size": SIZE}


def masked(kernel: Tensor) -> Tensor:
    """Tap by tap: what a sum of a depthwise and a 1x1 convolution can hold."""
    kept, centre = torch.zeros_like(kernel), kernel.shape[2] // 2
    for i, j, a, b in product(*map(range, kernel.shape)):
        if i == j or (a == b == centre):
            kept[i, j, a, b] = kernel[i, j, a, b]
    return kept


def convolutions(model: nn.Module) -> Iterator[nn.Conv2d]:
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and why_not(module) is None and module.kernel_size[0] > 1:
            yield module


@pytest.fixture(scope="module")
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = create("resnet20").double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return network


@given(
    kernel_size=st.sampled_from([1, 3, 5]),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.one_of(
        st.tuples(st.integers(0, 4), st.integers(0, 4)), st.just("valid"), st.just("same")
    ),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    mode=st.sampled_from(["zeros", "circular", "reflect", "replicate"]),
    bias=st.booleans(),
)
def test_the_mix_is_the_masked_convolution(
    kernel_size: int, stride: Any, padding: Any, dilation: Any, mode: str, bias: bool
) -> None:
    torch.manual_seed(0)
    if padding == "same":
        stride = 1
    conv = nn.Conv2d(
        *(3, 3, kernel_size, stride, padding, dilation), bias=bias, padding_mode=mode
    ).double()
    mix, x = MixedConv.of(conv), torch.randn(2, 3, 11, 12, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.copy_(masked(conv.weight))
    torch.testing.assert_close(mix(x), conv(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(mix(x[0]), conv(x[0]), rtol=0, atol=1e-10)


def test_less_padding_than_the_kernel_reaches_by_hand() -> None:
    """Unpadded, with stride 2: M sees the pixels under the centres, no others."""
    conv = nn.Conv2d(2, 2, 3, stride=2, bias=False).double()
    x = torch.randn(1, 2, 7, 5, dtype=torch.float64)
    found = MixedConv.of(conv)(x)
    assert found.shape == (1, 2, 3, 2)
    k = conv.weight
    patch = x[0, 0, 2:5, 2:5]
    expected = (k[0, 0] * patch).sum() + k[0, 1, 1, 1] * x[0, 1, 3, 3]
    torch.testing.assert_close(found[0, 0, 1, 1], expected)


def test_a_network_that_has_such_kernels_already_stays_the_same(model: nn.Module) -> None:
    special = deepcopy(model)
    for conv in convolutions(special):
        with torch.no_grad():
            conv.weight.copy_(masked(conv.weight))
    images = torch.randn(2, *SIZE, dtype=torch.float64)
    student = convert(special, "all", **HOW)
    assert len(student.plan.replacements) == 16
    torch.testing.assert_close(student(images), special(images), rtol=0, atol=1e-10)
    other = convert(model, "all", **HOW)
    assert (other(images) - model(images)).abs().max() > 1e-3


def test_all_else_keeps_every_bit_and_the_original_too(model: nn.Module) -> None:
    before = deepcopy(model.state_dict())
    student = convert(model, "all", **HOW)
    names = {item.blocks[0] for item in student.plan.replacements}
    after = student.state_dict()
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value)
        if name.rpartition(".")[0] not in names:
            assert torch.equal(after.pop(name), value)
    assert {name.rpartition(".")[0].rpartition(".")[0] for name in after} == names
    assert not student.get_submodule("layer1.0.conv1").training
    assert student.get_submodule("layer1.0.conv1.pointwise").weight.dtype == torch.float64


def test_the_generator_does_not_move_and_the_plan_repeats_the_bits(model: nn.Module) -> None:
    state = torch.get_rng_state()
    student = convert(model, "all", **HOW)
    assert torch.equal(torch.get_rng_state(), state)
    again = apply(Plan.from_dict(student.plan.to_dict()), model).state_dict()
    assert all(torch.equal(again[name], value) for name, value in student.state_dict().items())


def test_named_stages_restrict_it(model: nn.Module) -> None:
    plan = make_plan(model, "layer2", **HOW)
    assert {item.stage for item in plan.replacements} == {"layer2"}
    assert [item.blocks[0] for item in plan.replacements] == [
        f"layer2.{block}.conv{number}" for block, number in [(0, 2), (1, 1), (1, 2), (2, 1), (2, 2)]
    ]
    reasons = {item["convolution"]: item["reason"] for item in plan.verdicts}
    assert reasons["layer2.0.conv1"] == "it leads from 16 channels to 32"
    assert reasons["layer2.0.conv2"] is None
    assert reasons["conv1"] == reasons["layer1.0.conv1"] == "not asked for"
    stages = analyze(model, SIZE)
    assert make_plan(model, stages["layer2"], **HOW) == plan
    assert make_plan(model, stages, **HOW) == make_plan(model, "all", **HOW)


def test_stride_and_what_lies_outside_all_stages() -> None:
    network = torchvision.models.resnet50(weights=None, num_classes=5).eval()
    student = convert(network, "all", **HOW | {"input_size": (3, 64, 64)})
    mix = student.get_submodule("layer2.0.conv2")
    assert isinstance(mix, MixedConv)
    assert mix.depthwise.stride == mix.pointwise.stride == (2, 2)
    vgg = torchvision.models.vgg11(weights=None, num_classes=5).eval()
    plan = make_plan(vgg, "all", **HOW | {"input_size": (3, 64, 64)})
    chosen = [item.blocks[0] for item in plan.replacements]
    assert chosen == ["features.8", "features.13", "features.16", "features.18"]
    assert apply(plan, vgg)(torch.randn(1, 3, 64, 64)).shape == (1, 5)


class Odd(nn.Module):
    """A convolution for each reason, and one that fits."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 4, 3)
        self.point = nn.Conv2d(4, 4, 1)
        self.even = nn.Conv2d(4, 4, 2)
        self.flat = nn.Conv2d(4, 4, (1, 3))
        self.grouped = nn.Conv2d(4, 4, 3, groups=2)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, bias=False))
        self.computed = nn.Conv2d(4, 4, 3, bias=False)
        kernel = nn.Parameter(self.computed.weight.detach().clone())
        del self.computed.weight
        self.computed.kernel = kernel
        self.computed.register_forward_pre_hook(
            lambda module, _: setattr(module, "weight", module.kernel * 2)
        )
        self.good = nn.Conv2d(4, 4, 3)
        self.unused = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for name, part in self.named_children():
            x = x if name == "unused" else part(x)
        return x.mean((2, 3))


def test_the_verdicts_say_why_not() -> None:
    network = Odd()
    student = convert(network, "all", **HOW)
    assert {v["convolution"]: v["reason"] for v in student.plan.verdicts} == {
        "wide": "it leads from 3 channels to 4",
        "even": "its 2x2 kernel has no centre",
        "flat": "its 1x3 kernel is not square",
        "grouped": "it has 2 groups",
        "normed": "it is a ParametrizedConv2d, not a plain convolution",
        "computed": "its kernel is computed from other parameters",
        "good": None,
        "unused": "it does not run on an image in eval mode",
    }
    assert [item.stage for item in student.plan.replacements] == ["good"]


def test_nothing_that_fits_is_an_error(model: nn.Module) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Conv2d(5, 6, 2))
    text = r"no convolution can be converted \(0: it leads from 3 channels to 4; 1: it leads .*; 2"
    with pytest.raises(NothingToConvertError, match=text):
        convert(network, "all", **HOW)
    with pytest.raises(NothingToConvertError, match="there is none larger than 1x1"):
        convert(nn.Conv2d(3, 3, 1), "all", **HOW)
    mobile = torchvision.models.mobilenet_v2(weights=None)
    with pytest.raises(NothingToConvertError, match=r"features\.17.*: it has 960 groups"):
        convert(mobile, ["features.17"], **HOW | {"input_size": (3, 64, 64)})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scope": "convs"}, ConfigError, "scope must be one of stage, conv, got 'convs'"),
        ({"layer": "global"}, ConfigError, "scope 'conv' needs the layer linear-mix, got 'global'"),
        ({"keep": 2}, ConfigError, "removes no blocks, so it cannot keep 2 of them"),
        ({"dt": 0.1}, ConfigError, "takes no options of the layer, got dt"),
        ({"steps": 2}, ConfigError, "takes no options of the layer, got steps"),
        ({"target": "params=50%"}, ConfigError, "does not go with a target"),
        ({"stages": "auto"}, ConfigError, "does not go with stages 'auto'"),
        ({"stages": ["layer9"]}, UnknownNameError, "no stage named 'layer9'"),
    ],
)
def test_what_has_no_meaning_is_refused(
    model: nn.Module, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        convert(model, **({"stages": "all"} | HOW | options))


def test_a_plan_for_another_network_is_refused(model: nn.Module) -> None:
    values = make_plan(model, "layer1", **HOW).to_dict()
    values["replacements"][0]["blocks"] = ["layer1.0.bn1"]
    with pytest.raises(CondenseError, match=r"'layer1\.0\.bn1', which cannot be: it is a BatchN"):
        apply(Plan.from_dict(values), model)
    values["replacements"][0] |= {"blocks": ["layer1.0.conv1"], "channels": 7}
    with pytest.raises(CondenseError, match="has 7 channels for layer1, the maps there have 16"):
        apply(Plan.from_dict(values), model)


def test_a_network_that_reads_the_kernel_itself_is_refused() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) * self.conv.weight.norm()

    with pytest.raises(CondenseError, match="does not run without the blocks that the plan remov"):
        convert(Reads(), "all", **HOW)


def test_the_file_alone_rebuilds_it(tmp_path: Path) -> None:
    original = condense.load("condense:resnet_digits")
    student = condense.convert(original, "all", layer="linear-mix", scope="conv")
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1)
    condense.save(student, tmp_path / "small.pt")
    again = condense.load(tmp_path / "small.pt")
    assert again.plan == student.plan
    images = torch.randn(2, *student.plan.input_size)
    assert torch.equal(again(images), student.eval()(images))
    check = condense.export_onnx(again, tmp_path / "small.onnx", student.plan.input_size)
    assert check.argmax_agreement == 1.0


def test_gradients_reach_every_parameter(model: nn.Module) -> None:
    student = convert(model, "all", **HOW).train()
    student(torch.randn(2, *SIZE, dtype=torch.float64)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_fitting_comes_closer_than_the_projection(model: nn.Module) -> None:
    student = convert(model, "layer3", **HOW)
    images = torch.randn(8, *SIZE, dtype=torch.float64)
    fits = fit(student, model, images, FitOptions(steps=20, batch_size=8, lr=0.01))
    assert len(fits) == 5
    assert all(item.after < item.before for item in fits)


def test_a_kernel_without_a_centre_is_refused() -> None:
    with pytest.raises(ConfigError, match="kernel_size must be odd, got 4"):
        MixedConv(3, 4)


def test_only_one_channel_and_a_kernel_of_one_tap() -> None:
    conv = nn.Conv2d(1, 1, 3, padding=1)
    x = torch.randn(1, 1, 5, 5)
    torch.testing.assert_close(
        MixedConv.of(conv)(x), F.conv2d(x, conv.weight, conv.bias, padding=1)
    )
