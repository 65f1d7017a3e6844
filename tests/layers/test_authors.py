"""Options and weights of the authors' code, beyond what their golden vectors hold."""

from typing import Any

import pytest
import torch
from torch import nn

from condense.errors import CheckpointError, ConfigError
from condense.layers import GlobalLayer, authors_options, from_authors
from condense.layers.authors_names import to_authors, to_ours

GENOTYPE = {
    "normal": [["sep_conv_3x3", 0], ["skip_connect", 1]] * 2,
    "normal_concat": [2, 3],
    "reduce": [["max_pool_3x3", 0], ["skip_connect", 1]] * 2,
    "reduce_concat": [2, 3],
}
RESIDUAL = {"cell_type": "InvertedResidualCell", "exp_ratio": 2.0, "act_layer": "swish"}
CELL = {"cell_type": "DartCell", "genotype": GENOTYPE, "C_prev_prev": 6, "C_prev": 8, "C_curr": 4}
CONFIGS: list[dict[str, Any]] = [
    {},
    {"K": 0, "old_style": True, "use_diff_eps": False},
    {"constant_Dxy": True, "cDx": 2, "cDy": 3.0, "dx": 2, "use_f_for_g": True},
    {"custom_uv": "FullConv", "custom_dxy": "PwConv", "cell_type": "DwConv"},
    {"custom_uv": "BasicBlock", "custom_dxy": "Bottleneck", "separable": True},
    {"custom_uv": "BasicDense", "custom_dxy": "identity", "cell_type": "Bottleneck"},
    {"cell_type": "BasicBlock", "separable": True, "init_h0_h": True, "stride": 2},
    {"cell_type": "", "custom_uv": "default", "dilation": 2, "dw_kernel_size": 5},
    RESIDUAL | {"in_chs": 4, "out_chs": 8, "stride": 2, "use_res": True},
    RESIDUAL | {"noskip": True, "se_layer": {"kind": "effnet", "rd_ratio": 0.1}},
    RESIDUAL | {"custom_uv": "InvertedResidualCell", "stride": 2, "se_layer": {"kind": "mbv3"}},
    CELL,
    CELL | {"reduction_prev": True, "constant_Dxy": True},
    CELL | {"reduction": True},
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_layer_goes_to_their_names_and_back(config: dict[str, Any]) -> None:
    channels, options = authors_options(8, config)
    torch.manual_seed(0)
    layer = GlobalLayer(channels, **options).eval()
    weights = {name: tensor.detach() for name, tensor in layer.authors_state_dict().items()}
    again = from_authors(8, config, weights).eval()
    assert to_ours(to_authors(layer.state_dict())).keys() == layer.state_dict().keys()
    inputs = [torch.randn(2, config.get("in_chs", 8), 8, 8)]
    if config.get("cell_type") == "DartCell":
        size = 16 if config.get("reduction_prev") else 8
        inputs = [torch.randn(2, 6, size, size), torch.randn(2, 8, 8, 8)]
    torch.testing.assert_close(again(*inputs), layer(*inputs), rtol=0, atol=0)


def test_their_names_of_nested_parts() -> None:
    _, options = authors_options(8, CELL | {"reduction_prev": True, "constant_Dxy": True})
    names = {name for name in GlobalLayer(8, **options).authors_state_dict() if "init_h" in name}
    assert "init_h.preprocess0.conv_1.weight" in names
    assert "init_h.preprocess1.op.1.weight" in names
    assert "init_h._ops.2.op.7.bias" in names
    _, options = authors_options(8, {"cell_type": "BasicBlock", "separable": True})
    names = set(GlobalLayer(8, **options).authors_state_dict())
    assert {"init_h.conv1.spatialConv.weight", "init_h.conv2.pointConv.weight"} <= names


def test_gradients_are_read_off_their_names() -> None:
    layer = GlobalLayer(4)
    layer(torch.randn(2, 4, 5, 5)).square().sum().backward()
    found = layer.authors_state_dict()
    assert found["convg1.weight"].grad is layer.coefficients.conv_v.weight.grad
    assert found["bnDx.running_mean"] is layer.coefficients.bn_diff_x.running_mean


def test_the_weights_keep_their_precision() -> None:
    weights = GlobalLayer(4).double().authors_state_dict()
    assert from_authors(4, {}, weights).bn_out.weight.dtype == torch.float64


def test_default_may_be_the_plain_convolution() -> None:
    config = {"custom_uv": "default", "custom_dxy": "default"}
    layer = from_authors(4, config, GlobalLayer(4).authors_state_dict())
    assert isinstance(layer.coefficients.conv_u, nn.Conv2d)
    assert isinstance(layer.coefficients.conv_diff_x, nn.Conv2d)


def test_squeezed_widths() -> None:
    """An EfficientNet rounds to the nearest; a MobileNetV3 to a multiple of 8."""
    for kind, width in (("effnet", 5), ("mbv3", 8)):
        se = {"kind": kind, "rd_ratio": 0.2}
        _, options = authors_options(12, RESIDUAL | {"se_layer": se})
        assert options["init"]["squeeze"]["channels"] == width


def test_an_unknown_option_that_is_off_is_no_matter() -> None:
    assert authors_options(4, {"debug": False, "extra": None}) == authors_options(4, {})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dott": True}, "the authors' layer has no option 'use_dott'"),
        ({"nonlinear_pde": False}, "nonlinear_pde=False is not defined by the papers"),
        ({"norm_layer": "GroupNorm"}, "norm_layer must be one of BatchNorm2d, got 'GroupNorm'"),
        ({"pad_type": "same"}, "pad_type must be empty, got 'same'"),
        ({"custom_uv": "Dwconv"}, "block type must be one of .*got 'Dwconv'"),
        (RESIDUAL | {"se_layer": {"kind": "x"}}, "se_layer kind must be one of effnet, mbv3"),
    ],
)
def test_options_that_the_papers_do_not_define(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_authors(4, config, {})


def test_weights_that_do_not_fit() -> None:
    weights = GlobalLayer(4).authors_state_dict()
    with pytest.raises(CheckpointError, match=r"missing \['convDx.bias', .*unexpected \[\]"):
        from_authors(4, {"old_style": True}, weights)
    with pytest.raises(CheckpointError, match=r"has shape \(4.*, the options ask for \(5"):
        from_authors(5, {}, weights)
