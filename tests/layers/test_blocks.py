"""The blocks against what their papers draw, and what they refuse."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.errors import ConfigError, UnknownNameError
from condense.layers import BLOCKS, DartsCell, FactorizedReduce, GlobalLayer, InvertedResidual
from condense.layers.inverted_residual import drop_path, round_channels
from condense.layers.options import build_block

GENOTYPE = {
    "normal": [["sep_conv_3x3", 0], ["dil_conv_3x3", 1], ["skip_connect", 2], ["sep_conv_5x5", 0]],
    "normal_concat": [2, 3],
    "reduce": [["max_pool_3x3", 0], ["skip_connect", 1], ["avg_pool_3x3", 0], ["dil_conv_5x5", 2]],
    "reduce_concat": [2, 3],
}
SHAPE_KEEPERS = sorted(set(BLOCKS) - {"darts-cell"})


def seeded(module: nn.Module) -> nn.Module:
    """In float64 and eval mode, with statistics that are not those of a new network."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.double().state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 0.5)
        if "running_var" in name:
            tensor.add_(1)
    return module.eval()


def normalised(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    factor, mean = norm.weight / (norm.running_var + norm.eps).sqrt(), norm.running_mean
    return (x - mean[:, None, None]) * factor[:, None, None] + norm.bias[:, None, None]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 4, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SHAPE_KEEPERS)
def test_a_block_keeps_the_shape(name: str, x: Tensor) -> None:
    assert seeded(build_block(name, 4))(x).shape == x.shape


@pytest.mark.parametrize("name", SHAPE_KEEPERS)
def test_a_block_serves_in_every_place(name: str, x: Tensor) -> None:
    coefficients = {"velocity": name, "diffusion": name}
    layer = GlobalLayer(4, coefficients=coefficients, init=name).double()
    layer(x).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_depthwise_is_one_zero_padded_stencil_per_channel(x: Tensor) -> None:
    conv = seeded(build_block({"block": "depthwise", "kernel_size": 5, "dilation": 2}, 4))
    expected = F.conv2d(F.pad(x, (4, 4, 4, 4)), conv.weight, dilation=2, groups=4)
    torch.testing.assert_close(conv(x), expected)


def test_basic_block(x: Tensor) -> None:
    block = seeded(build_block("basic", 4))
    inner = normalised(F.conv2d(x, block.conv1.weight, padding=1), block.bn1).relu()
    outer = normalised(F.conv2d(inner, block.conv2.weight, padding=1), block.bn2)
    torch.testing.assert_close(block(x), (outer + x).relu())


def test_separable_basic_block_is_one_with_kernels_of_low_rank(x: Tensor) -> None:
    separable = seeded(build_block({"block": "basic", "separable": True}, 4))
    block = seeded(build_block("basic", 4))
    full = dict(separable.state_dict())
    for conv in ("conv1", "conv2"):
        spatial, point = full.pop(f"{conv}.spatial.weight"), full.pop(f"{conv}.point.weight")
        full[f"{conv}.weight"] = point * spatial[:, 0]
    block.load_state_dict(full)
    torch.testing.assert_close(separable(x), block(x))


def test_bottleneck(x: Tensor) -> None:
    block = seeded(build_block("bottleneck", 4))
    inner = normalised(F.conv2d(x, block.conv1.weight), block.bn1).relu()
    inner = normalised(F.conv2d(inner, block.conv2.weight, padding=1), block.bn2).relu()
    outer = normalised(F.conv2d(inner, block.conv3.weight), block.bn3)
    torch.testing.assert_close(block(x), (outer + x).relu())


def test_dense_block(x: Tensor) -> None:
    block = seeded(build_block("dense", 4))
    inner = F.conv2d(normalised(x, block.norm1).relu(), block.conv1.weight)
    assert inner.shape[1] == 8
    expected = F.conv2d(normalised(inner, block.norm2).relu(), block.conv2.weight, padding=1)
    torch.testing.assert_close(block(x), expected)


SQUEEZE = {"channels": 3, "activation": "silu", "gate": "hardsigmoid"}


@pytest.mark.parametrize(
    ("options", "adds_input"),
    [
        ({}, True),
        ({"skip": False}, False),
        ({"stride": 2}, False),
        ({"in_channels": 6, "squeeze": SQUEEZE}, False),
        ({"kernel_size": 5, "dilation": 2, "squeeze": SQUEEZE}, True),
    ],
)
def test_inverted_residual(options: dict[str, Any], adds_input: bool) -> None:
    block = seeded(InvertedResidual(4, activation="hardswish", expansion=2, **options))
    x = torch.randn(2, options.get("in_channels", 4), 6, 5, dtype=torch.float64)
    middle = block.conv_pw.out_channels
    inner = F.hardswish(normalised(F.conv2d(x, block.conv_pw.weight), block.bn1))
    spread = {"stride": options.get("stride", 1), "dilation": options.get("dilation", 1)}
    reach = spread["dilation"] * (options.get("kernel_size", 3) - 1) // 2
    inner = F.conv2d(inner, block.conv_dw.weight, padding=reach, groups=middle, **spread)
    inner = F.hardswish(normalised(inner, block.bn2))
    if "squeeze" in options:
        reduce, expand = block.se.conv_reduce, block.se.conv_expand
        mean = inner.mean((2, 3)) @ reduce.weight[:, :, 0, 0].T + reduce.bias
        gate = F.hardsigmoid(F.silu(mean) @ expand.weight[:, :, 0, 0].T + expand.bias)
        inner = inner * gate[:, :, None, None]
    expected = normalised(F.conv2d(inner, block.conv_pwl.weight), block.bn3)
    torch.testing.assert_close(block(x), expected + x if adds_input else expected)


@pytest.mark.parametrize(("channels", "rounded"), [(1, 8), (12, 16), (20, 24), (92, 96), (19, 24)])
def test_channels_are_multiples_of_eight_and_never_far_below(channels: int, rounded: int) -> None:
    assert round_channels(channels) == rounded
    assert rounded >= 0.9 * channels


def test_dropped_paths_keep_the_mean_and_whole_images() -> None:
    torch.manual_seed(0)
    x = torch.ones(4000, 1, 2, 2)
    dropped = drop_path(x, 0.25)
    assert torch.unique(dropped).tolist() == pytest.approx([0.0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert (dropped.amax((1, 2, 3)) == dropped.amin((1, 2, 3))).all()
    block = InvertedResidual(4, drop_path=0.9).eval()
    y = torch.randn(8, 4, 3, 3)
    torch.testing.assert_close(block(y), block(y))
    block.train()
    assert (block(y) == y).all((1, 2, 3)).any()


def test_an_init_block_that_changes_the_shape_replaces_the_source() -> None:
    init = {"block": "inverted-residual", "in_channels": 3, "stride": 2}
    layer = GlobalLayer(6, steps=2, init=init, residual=True).eval()
    x = torch.randn(2, 3, 8, 8)
    h, f = layer.initial_state(x)
    assert f is h
    assert layer(x).shape == (2, 6, 4, 4)


def test_darts_cell_node_by_node() -> None:
    cell = seeded(DartsCell(4, genotype=GENOTYPE, in_channels=3))
    s0, s1 = (torch.randn(2, c, 6, 6, dtype=torch.float64) for c in (3, 4))
    a, b = cell.preprocess0(s0), cell.preprocess1(s1)
    first = cell.ops[0](a) + cell.ops[1](b)
    second = first + cell.ops[3](a)
    torch.testing.assert_close(cell(s0, s1), torch.cat([first, second], 1))
    relu, depth, point, norm = cell.ops[1]
    inner = F.conv2d(relu(b), depth.weight, padding=2, dilation=2, groups=2)
    torch.testing.assert_close(cell.ops[1](b), normalised(F.conv2d(inner, point.weight), norm))
    twice = cell.ops[0][4:](cell.ops[0][:4](a))
    torch.testing.assert_close(cell.ops[0](a), twice)


def test_a_reduction_halves_the_map_and_replaces_the_source() -> None:
    init = {"block": "darts-cell", "genotype": GENOTYPE, "reduction": True}
    layer = GlobalLayer(4, init={**init, "reduction_before": True}).double()
    s0, s1 = (torch.randn(2, 4, n, n, dtype=torch.float64) for n in (16, 8))
    assert layer(s0, s1).shape == (2, 4, 4, 4)


def test_factorized_reduce_sees_the_shifted_map() -> None:
    reduce = seeded(FactorizedReduce(4, 5))
    x = torch.randn(1, 4, 6, 8, dtype=torch.float64)
    even = F.conv2d(x.relu()[:, :, ::2, ::2], reduce.conv_1.weight)
    odd = F.conv2d(x.relu()[:, :, 1::2, 1::2], reduce.conv_2.weight)
    torch.testing.assert_close(reduce(x), normalised(torch.cat([even, odd], 1), reduce.bn))
    with pytest.raises(ConfigError, match="a reduction needs a map with even sides, got 7x8"):
        reduce(torch.zeros(1, 4, 7, 8, dtype=torch.float64))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"block": "depthwise", "kernel_size": 4}, "kernel_size must be odd, got 4"),
        ({"block": "depthwise", "dilation": 0}, "dilation must be a whole number >= 1, got 0"),
        ({"block": "full", "size": 3}, "block 'full' has no option 'size'"),
        ({"block": "inverted-residual", "stride": 0}, "stride must be a whole number >= 1"),
        ({"block": "inverted-residual", "expansion": 0}, "expansion must be a finite number > 0"),
        ({"block": "inverted-residual", "drop_path": 1}, "drop_path must lie below 1, got 1"),
        ({"block": "inverted-residual", "squeeze": {}}, "squeeze needs the number of its channels"),
        ({"block": "inverted-residual", "squeeze": {"width": 1}}, "squeeze has no option 'width'"),
        ({"block": "darts-cell"}, "block 'darts-cell' needs the option 'genotype', got none"),
        ({"block": "darts-cell", "genotype": "DARTS"}, "a genotype must be a mapping"),
        ({"block": "darts-cell", "genotype": {"normal": []}}, "the genotype has no 'normal' and"),
        (
            {"block": "darts-cell", "genotype": {"normall": []}},
            "a genotype has no option 'normall'",
        ),
    ],
)
def test_what_blocks_refuse(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_block(spec, 8)


@pytest.mark.parametrize(
    ("normal", "listed", "message"),
    [
        ([["skip_connect", 0]], [2], "a cell needs two edges for each node, got 1 edges"),
        ([["skip_connect", 0], ["skip_connect", 2]], [2], "edge 1 .skip_connect. starts at node 2"),
        ([["skip_connect", 0], ["skip_connect", 1]], [3], r"lists nodes \(3,\), but there are 3"),
        ([["skip_conect", 0], ["skip_connect", 1]], [2], "no DARTS operation named 'skip_conect'"),
    ],
)
def test_what_a_cell_refuses(normal: list[Any], listed: list[int], message: str) -> None:
    genotype = {"normal": normal, "normal_concat": listed}
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        DartsCell(4, genotype=genotype)
