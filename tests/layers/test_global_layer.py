"""The Global layer: shapes, options, what it refuses."""

import json
from copy import deepcopy
from itertools import product
from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.nn.functional import silu

from condense.errors import ConfigError, UnknownNameError
from condense.layers import (
    LAYERS,
    Boundary,
    CoefficientOptions,
    Coefficients,
    GlobalLayer,
    Grid,
    Scheme,
    build_layer,
    evolve,
    fused,
)

DENSE = {"block": "dense"}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"steps": 0},
    {"steps": 3, "dx": 2, "dy": 3, "scheme": "conservative", "boundary": "zero"},
    {"coefficients": {"bias": True, "product": True, "velocity_from": "f"}},
    {"coefficients": {"diffusion": 0.5}},
    {"coefficients": {"diffusion": [2.0, 0]}, "source": False},
    {"coefficients": {"velocity": DENSE, "diffusion": {"block": "depthwise", "dilation": 2}}},
    {"init": {"block": "basic", "separable": True}, "before": "h", "residual": True},
    {"activation": "silu", "coefficient_eps": 1e-5},
    {"init": "bottleneck", "replace_source": True},
]


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("options", OPTIONS, ids=json.dumps)
def test_options_are_plain_data_and_keep_the_shape(options: dict[str, Any]) -> None:
    layer = build_layer("global", 4, json.loads(json.dumps(options)))
    x = torch.randn(2, 4, 6, 5, requires_grad=True)
    out = layer(x)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert all(p.grad is not None for name, p in layer.named_parameters() if "bn_out" in name)
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_the_designs_call_is_the_default() -> None:
    assert type(LAYERS["global"](64)) is GlobalLayer
    layer = GlobalLayer(channels=64, steps=1, dt=0.2, scheme="reference", boundary="periodic")
    assert fused.kernel_for(layer, torch.zeros(1, 64, 8, 8)) == "cpu"
    assert str(layer).startswith("GlobalLayer(\n  64, steps=1, dt=0.2, scheme='reference'")


def test_parameters_are_those_of_the_published_networks() -> None:
    assert parameters(GlobalLayer(16)) == 4 * 9 * 16 + 5 * 2 * 16
    assert sum(parameters(GlobalLayer(c)) for c in (16, 32, 64)) == 5_152
    biased = GlobalLayer(16, coefficients=CoefficientOptions(bias=True))
    assert parameters(biased) == parameters(GlobalLayer(16)) + 4 * 16


def test_names_of_the_weights_are_stable() -> None:
    names = {name.rsplit(".", 1)[0] for name in GlobalLayer(2).state_dict()}
    heads = ("u", "v", "diff_x", "diff_y")
    expected = {f"coefficients.{part}_{head}" for part in ("conv", "bn") for head in heads}
    assert names == expected | {"bn_out"}


def test_coefficient_norms_have_eps_c_by_default() -> None:
    layer = GlobalLayer(12)
    assert layer.coefficients.bn_u.eps == 12
    assert layer.bn_out.eps == 1e-5
    assert GlobalLayer(12, coefficient_eps=1e-5).coefficients.bn_diff_y.eps == 1e-5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"steps": 5, "dt": 0.1, "dx": 2, "coefficient_eps": 1e-5, "residual": True}, True),
        ({"coefficients": {"bias": True}, "scheme": "conservative"}, True),
        ({"coefficients": {"velocity": {"block": "depthwise"}}}, True),
        ({"coefficients": {"velocity": {"block": "depthwise", "kernel_size": 5}}}, False),
        ({"coefficients": {"diffusion": 1}}, True),
        ({"coefficients": {"product": True}}, False),
        ({"activation": "silu"}, False),
        ({"init": "basic"}, True),
    ],
)
def test_plain_stencils_with_relu_run_fused(options: dict[str, Any], expected: bool) -> None:
    kernel = fused.kernel_for(GlobalLayer(4, **options), torch.zeros(1, 4, 8, 8))
    assert (kernel == "cpu") is expected


@pytest.mark.parametrize("before", ["f", "h"])
@pytest.mark.parametrize("velocity_from", ["f", "h"])
@pytest.mark.parametrize("is_product", [False, True])
@pytest.mark.parametrize(("source", "residual"), [(True, False), (False, True)])
def test_options_act_as_the_equations_say(
    before: str, velocity_from: str, is_product: bool, source: bool, residual: bool
) -> None:
    """Each option against one written-out pass through the layer's own parts."""
    torch.manual_seed(0)
    coefficients = {"velocity_from": velocity_from, "product": is_product}
    options = {"before": before, "source": source, "residual": residual, "activation": "silu"}
    layer = GlobalLayer(3, steps=2, init="dense", coefficients=coefficients, **options)
    layer, f = layer.double().eval(), torch.randn(2, 3, 5, 4).double()
    maps, h = layer.coefficients, layer.init(f)
    velocity = f if velocity_from == "f" else h
    a, b = maps.bn_u(maps.conv_u(velocity)), maps.bn_v(maps.conv_v(velocity))
    p, q = maps.bn_diff_x(maps.conv_diff_x(h)), maps.bn_diff_y(maps.conv_diff_y(h))
    if is_product:
        a = b = a * silu(b)
        p = q = p * silu(q)
    c = Coefficients(silu(a), silu(b), silu(p), silu(q))
    state = evolve(
        h,
        f if source else None,
        c,
        before=f if before == "f" else h,
        dt=0.2,
        steps=2,
        grid=Grid(),
        scheme="reference",
    )
    expected = silu(layer.bn_out(state)) + (f if residual else 0)
    torch.testing.assert_close(layer(f), expected)


@pytest.mark.parametrize(
    ("scheme", "boundary"), list(product(get_args(Scheme), get_args(Boundary)))
)
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3)])
def test_maps_smaller_than_the_shift_work(
    scheme: Scheme, boundary: Boundary, size: tuple[int, int]
) -> None:
    shifts = {} if (scheme, boundary) == ("implicit", "replicate") else {"dx": 4, "dy": 3}
    layer = GlobalLayer(3, steps=3, scheme=scheme, boundary=boundary, **shifts).eval()
    out = layer(torch.randn(2, 3, *size))
    assert out.shape == (2, 3, *size)
    assert out.isfinite().all()


def test_one_pixel_has_no_neighbours_but_itself() -> None:
    """Periodic and replicate then agree: each neighbour is the pixel."""
    torch.manual_seed(0)
    layer = GlobalLayer(3, steps=2, dx=2).double().eval()
    other = GlobalLayer(3, steps=2, dx=2, boundary="replicate").double().eval()
    other.load_state_dict(layer.state_dict())
    x = torch.randn(1, 3, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(layer(x), other(x))


@pytest.mark.parametrize("boundary", get_args(Boundary))
def test_nan_spreads_and_nothing_raises(boundary: Boundary) -> None:
    x = torch.zeros(1, 2, 6, 6)
    x[0, 0, 3, 3] = torch.nan
    out = GlobalLayer(2, boundary=boundary).eval()(x)
    assert out[0, 0].isnan().any()
    assert out[0, 1].isfinite().all()


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_pixel_sees_steps_plus_one_pixels_far(steps: int) -> None:
    torch.manual_seed(0)
    layer = GlobalLayer(1, steps=steps, activation="silu").double().eval()
    x = torch.randn(1, 1, 15, 15, dtype=torch.float64, requires_grad=True)
    layer(x)[0, 0, 7, 7].backward()
    rows = torch.nonzero(x.grad[0, 0])[:, 0]
    radius = steps + 1 if steps else 0
    assert (rows.min().item(), rows.max().item()) == (7 - radius, 7 + radius)


def test_constant_diffusion_is_learnt_diffusion_of_that_value() -> None:
    torch.manual_seed(0)
    learnt = GlobalLayer(2, steps=2, scheme="conservative", boundary="zero").double().eval()
    for conv, norm, value in (("conv_diff_x", "bn_diff_x", 0.5), ("conv_diff_y", "bn_diff_y", 2.0)):
        nn.init.zeros_(getattr(learnt.coefficients, conv).weight)
        nn.init.constant_(getattr(learnt.coefficients, norm).bias, value)
    options = {"steps": 2, "scheme": "conservative", "boundary": "zero"}
    constant = GlobalLayer(2, **options, coefficients={"diffusion": [0.5, 2.0]}).double().eval()
    kept = {n: t for n, t in learnt.state_dict().items() if "diff" not in n}
    constant.load_state_dict(kept)
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(constant(x), learnt(x))


def test_gradients_of_the_whole_layer() -> None:
    torch.manual_seed(0)
    layer = GlobalLayer(2, steps=2, scheme="conservative", boundary="replicate").double()
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))


def test_a_copy_is_the_same_layer() -> None:
    layer = GlobalLayer(2, steps=2, coefficients={"velocity": "pointwise"}).eval()
    x = torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(deepcopy(layer)(x), layer(x), rtol=0, atol=0)


def test_it_survives_tracing() -> None:
    """As an export sees it: no branch on data, any batch size."""
    layer = GlobalLayer(2, steps=2, boundary="replicate", coefficients={"diffusion": 1.0}).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        layer, (torch.randn(3, 2, 5, 5),), dynamic_shapes={"x": {0: batch}}
    )
    x = torch.randn(7, 2, 5, 5)
    torch.testing.assert_close(program.module()(x), layer(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps must be a whole number >= 0, got -1"),
        ({"steps": 1.5}, "steps must be a whole number >= 0, got 1.5"),
        ({"steps": True}, "steps must be a whole number >= 0, got True"),
        ({"dt": 0}, "dt must be a finite number > 0, got 0"),
        ({"dt": float("nan")}, "dt must be a finite number > 0, got nan"),
        ({"dt": "fast"}, "dt must be a finite number > 0, got 'fast'"),
        ({"dx": 0}, "dx must be a whole number >= 1, got 0"),
        ({"dy": 0.5}, "dy must be a whole number >= 1, got 0.5"),
        ({"boundary": "mirror"}, "boundary must be one of periodic, zero, replicate, got 'mirror'"),
        (
            {"scheme": "referense"},
            "scheme must be one of reference, conservative, implicit, got 'referense'",
        ),
        (
            {"scheme": "implicit", "boundary": "replicate", "dx": 2},
            "scheme implicit with boundary replicate needs dx = dy = 1, got dx = 2, dy = 1",
        ),
        ({"before": "x"}, "before must be one of f, h, got 'x'"),
        ({"source": "no"}, "source must be true or false, got 'no'"),
        ({"residual": 1}, "residual must be true or false, got 1"),
        ({"replace_source": "yes"}, "replace_source must be true or false, got 'yes'"),
        ({"coefficient_eps": 0}, "coefficient_eps must be a finite number > 0, got 0"),
        ({"activation": "rleu"}, "no activation named 'rleu'"),
        ({"stpes": 2}, "layer 'global' has no option 'stpes'"),
        ({"coefficients": {"velocty": 2}}, "coefficients has no option 'velocty'"),
        ({"coefficients": {"diffusion": -1}}, "diffusion must be a finite number >= 0, got -1"),
        ({"coefficients": {"diffusion": [1]}}, "diffusion must be one number or two"),
        ({"coefficients": {"diffusion": None}}, "diffusion must be one number or two"),
        ({"coefficients": {"velocity_from": "x"}}, "velocity_from must be one of h, f"),
        ({"coefficients": {"bias": 3}}, "bias must be true or false, got 3"),
        ({"coefficients": 3}, "coefficients must be a mapping of options, got 3"),
        ({"init": "basik"}, "no block named 'basik'"),
        ({"init": 7}, "a block must be a name or a mapping with 'block', got 7"),
        ({"init": {"size": 3}}, "a block must be a name or a mapping with 'block'"),
    ],
)
def test_what_it_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message.replace('[', '.')}"):
        build_layer("global", 4, options)


@pytest.mark.parametrize(
    ("options", "nearest"),
    [
        ({"scheme": "referense"}, "did you mean 'reference'?"),
        ({"stpes": 2}, "did you mean 'steps'?"),
        ({"boundary": "xyz"}, None),
        ({"zzz": 2}, None),
    ],
)
def test_the_nearest_name_is_the_hint(options: dict[str, Any], nearest: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        build_layer("global", 4, options)
    assert caught.value.hint == nearest


@pytest.mark.parametrize("channels", [0, -3, 2.0, "8"])
def test_it_refuses_to_have_no_channels(channels: Any) -> None:
    with pytest.raises(ConfigError, match="channels must be a whole number >= 1"):
        GlobalLayer(channels)
    with pytest.raises(ConfigError, match="channels must be a whole number >= 1"):
        build_layer("global", channels)


def test_an_unknown_layer_lists_those_that_exist() -> None:
    with pytest.raises(UnknownNameError, match=r"no layer named .globel.; there are: .*global"):
        build_layer("globel", 4)
